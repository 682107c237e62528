"""Turn a checkpoint with full attention into a spectrally causal one (E6) by brief fine-tuning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from e2crf_core.data.datasets import Dataset, require_heldout
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import Cancelled, LabError
from e2crf_core.models.checkpoints import save_checkpoint
from e2crf_core.models.quality_change import NUM, QualityChange, quality_change
from e2crf_core.models.training import Trainer, TrainEvent, TrainSpec
from e2crf_core.network.transformer import ScoreTransformer, default_bands
from e2crf_core.progress import Cancel, Progress, never, silent

LEARNING_RATE = 1e-3
EMA = 0.99
"""Decay for a short training, which averages over its last hundred steps; a long one uses a thousand."""


def localize(
    model: ScoreModel,
    dataset: Dataset,
    out: Path,
    *,
    minutes: float = 5.0,
    steps: int = 0,
    bands: tuple[int, ...] | None = None,
    seed: int = 0,
    device: str = "cpu",
    num: int = NUM,
    report: Callable[[TrainEvent], None] = lambda event: None,
    progress: Progress = silent,
    cancelled: Cancel = never,
) -> tuple[ScoreModel, QualityChange]:
    """Fine-tune `model` with causal attention and measure what that cost -> (causal model, quality change).

    `steps` fixes the length of the training; with 0 it is derived from `minutes`. `bands` are inner edges
    (None: octaves), `num` series of each model are compared, and `progress` counts thousandths.
    The checkpoint in `out` states the change of quality in its card; a killed call resumes from `out`. Raises
    LabError for a model that is already causal or of another kind, Cancelled when `cancelled` returns True.
    """
    trainer = Trainer(
        spec_for(model, dataset, minutes, steps, bands, seed), dataset, out, device, start=model
    )
    for event in trainer.run(cancelled=cancelled, progress=lambda d, t: progress(700 * d // t, 1000)):
        report(event)
    if trainer.step < trainer.spec.steps:
        raise Cancelled
    causal = trainer.model()
    change = quality_change(
        model.to("cpu"),
        causal,
        dataset,
        num=num,
        seed=seed,
        progress=lambda d, t: progress(700 + 300 * d // t, 1000),
        cancelled=cancelled,
    )
    edges = ",".join(map(str, trainer.spec.bands))
    command = f"e2crf localize --checkpoint {model.name} --steps {trainer.spec.steps} --bands {edges}"
    meta = {
        **causal.meta,
        "command": f"{command} --seed {seed} --out {out.name}",
        "localized": {"from": model.name, "digest": model.digest(), "change": change.to_json()},
    }
    causal = replace(causal, profile=model.profile, meta=meta)
    save_checkpoint(causal, out)
    return causal, change


def spec_for(
    model: ScoreModel,
    dataset: Dataset,
    minutes: float,
    steps: int,
    bands: tuple[int, ...] | None,
    seed: int,
) -> TrainSpec:
    """Return the training that turns `model` into a causal one. Raises LabError if that is impossible."""
    require_heldout(dataset)
    network = model.network
    if not isinstance(network, ScoreTransformer):
        raise LabError(
            f"checkpoint {model.name!r} holds a network of another kind",
            field="checkpoint",
            remedy="choose one that this package trained",
        )
    if network.edges:
        raise LabError(
            f"checkpoint {model.name!r} is spectrally causal already",
            field="checkpoint",
            remedy="choose one with full attention",
        )
    if dataset.length != model.length or tuple(dataset.channels) != model.channels:
        raise LabError(
            f"data set {dataset.name!r} does not have the length and channels of checkpoint {model.name!r}",
            field="data",
            remedy=f"use the data set it was trained on, {model.dataset!r}",
        )
    sizes = network.config
    return TrainSpec(
        data=dataset.name,
        width=sizes.width,
        layers=sizes.layers,
        heads=sizes.heads,
        hidden=sizes.hidden,
        steps=steps,
        minutes=minutes,
        learning_rate=LEARNING_RATE,
        ema=EMA,
        seed=seed,
        evaluate_every=25,
        bands=default_bands(model.n) if bands is None else bands,
        start=model.digest(),
    )
