"""Measure a policy for its card: speed and quality against the uncached twin, on noise unseen in tuning."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from e2crf_core.caching.policy import POLICY_SCHEMA
from e2crf_core.deploy.card import Measured, PolicyCard, Validity, profile_digest
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.io.provenance import machine
from e2crf_core.models.checkpoints import list_checkpoints
from e2crf_core.progress import Cancel, Progress, never, silent
from e2crf_core.quality.interval import Interval
from e2crf_core.runs.quality import twin_quality
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.sampler import Part, Sampler, check_request, warm_up
from e2crf_core.tuning.space import idle
from e2crf_core.version import __version__

RESAMPLES = 200
ALONE = 3
"""Samples that are also run by themselves, for the latency of a single request."""
# How far a remeasured value may lie outside the measured interval: other machines round differently.
QUALITY_SLACK = 1.25
LEAST_RELATIVE_L2 = 1e-3
LEAST_CHANGE, LEAST_CHANGE_DB = 0.01, 0.1
WORK_SLACK = 0.9
WALL_SLACK = 0.7


def measure_policy(
    model: ScoreModel,
    config: SamplerConfig,
    *,
    num: int,
    seed: int,
    progress: Progress = silent,
    cancelled: Cancel = never,
) -> Measured:
    """Run a configuration and its uncached twin on the same noise, in alternating batches, and compare them.

    Distances are measured if the model's data set can be loaded. Raises LabError for samples that are not
    finite, Cancelled when `cancelled` asks to stop.
    """
    check_request(num, seed)
    if num < 2:
        raise LabError(f"num {num}: a card needs at least 2 samples", field="num")
    samplers = {True: Sampler.of(model, config), False: Sampler.of(model, config.twin)}
    sizes = [min(config.batch, num - first) for first in range(0, num, config.batch)]
    for sampler in samplers.values():
        warm_up(sampler, sizes[0], seed)
    parts: dict[bool, list[Part]] = {True: [], False: []}
    for index, size in enumerate(sizes):
        # Which of the two goes first alternates from batch to batch, so that neither has an advantage.
        for cached in (True, False) if index % 2 == 0 else (False, True):
            parts[cached].append(samplers[cached].draw(size, seed, index * config.batch, cancelled=cancelled))
            progress(len(parts[True]) + len(parts[False]), 2 * len(sizes) + ALONE)
    alone = []
    for first in range(ALONE):
        alone.append(samplers[True].draw(1, seed, first, cancelled=cancelled).seconds)
        progress(2 * len(sizes) + len(alone), 2 * len(sizes) + ALONE)
    return _measured(model, config, num, seed, parts[True], parts[False], alone)


def _measured(
    model: ScoreModel,
    config: SamplerConfig,
    num: int,
    seed: int,
    cached: list[Part],
    plain: list[Part],
    alone: list[float],
) -> Measured:
    series, twin = (np.concatenate([p.series for p in parts]) for parts in (cached, plain))
    seconds, seconds_plain = ([p.seconds / len(p.series) for p in parts] for parts in (cached, plain))
    rows, prepared = sum(p.rows for p in cached), sum(p.prepared for p in cached)
    scaled, scaled_twin = (((x - model.mean) / model.std).astype(np.float64) for x in (series, twin))
    if not (np.isfinite(scaled).all() and np.isfinite(scaled_twin).all()):
        raise LabError("the samples are not finite: this policy and solver cannot be deployed")
    quality = twin_quality(series, twin, model, resamples=RESAMPLES)
    distance, judgment = quality.distance, quality.judgment
    sampler = Sampler.of(model, config)
    return Measured(
        num=num,
        seed=seed,
        seconds=_range(seconds),
        seconds_uncached=_range(seconds_plain),
        seconds_alone=_range(alone),
        speedup_wall=_range([b / a for a, b in zip(seconds, seconds_plain, strict=True)]),
        speedup_flops=sampler.full_flops(num) / sampler.flops(rows, prepared, num),
        token_share=rows / (num * model.n * config.steps),
        relative_l2=quality.error.pooled,
        twin=quality.error,
        distance=None if distance is None else Interval(distance.value, distance.low, distance.high),
        floor=None if distance is None else distance.floor,
        change=None if judgment is None else judgment.primary.change,
        spectral_change=None if judgment is None or judgment.spectral is None else judgment.spectral.change,
        heldout=None if distance is None else distance.m,
    )


def _range(values: Sequence[float]) -> Interval:
    return Interval(float(np.median(values)), float(min(values)), float(max(values)))


def valid_range(measured: Measured) -> Validity:
    """Return the bounds for a measurement: its intervals, with slack for other machines and loads."""
    twin, change, spectral = measured.twin, measured.change, measured.spectral_change
    return Validity(
        relative_l2_max=max(QUALITY_SLACK * measured.relative_l2.high, LEAST_RELATIVE_L2),
        median_l2_max=None if twin is None else max(QUALITY_SLACK * twin.median.high, LEAST_RELATIVE_L2),
        change_max=None if change is None else max(change.high, change.value + LEAST_CHANGE),
        spectral_change_max=None
        if spectral is None
        else max(spectral.high, spectral.value + LEAST_CHANGE_DB),
        # A speedup beyond the saved operations is due to other load on the machine and must not become a
        # bound.
        speedup_wall_min=WALL_SLACK * min(measured.speedup_wall.low, measured.speedup_flops),
        speedup_flops_min=WORK_SLACK * measured.speedup_flops,
    )


def make_card(
    checkpoint: str,
    model: ScoreModel,
    config: SamplerConfig,
    *,
    num: int = 64,
    seed: int = 1000,
    progress: Progress = silent,
    cancelled: Cancel = never,
) -> PolicyCard:
    """Measure a configuration and make its card. Use a seed that no tuning has seen: winners look too good.

    The card names the backend that `auto` chooses here. Raises LabError for a configuration without a policy,
    or one that the model cannot run.
    """
    if config.policy is None:
        raise LabError(f"there is no policy to deploy: {config.describe()}", field="policy")
    config = Sampler.of(model, config).config
    measured = measure_policy(model, config, num=num, seed=seed, progress=progress, cancelled=cancelled)
    return PolicyCard(
        checkpoint=checkpoint if checkpoint in list_checkpoints() else str(Path(checkpoint).resolve()),
        digest=model.digest(),
        profile=profile_digest(model),
        dataset=model.dataset,
        config=config,
        device=model.device.type,
        measured=measured,
        valid=valid_range(measured),
        machine=machine(),
        versions={
            "e2crf": __version__,
            "policy_schema": str(POLICY_SCHEMA),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    )


def cautions(card: PolicyCard) -> list[str]:
    """List warnings for whoever deploys a card: it saves nothing, costs time, hardly computes, or costs quality."""
    measured, wall = card.measured, card.measured.speedup_wall
    notes = [text for _, text in idle(card.config, measured.token_share)]
    factor = f"{wall.value:.3g} times as fast ({wall.low:.3g} to {wall.high:.3g})"
    if wall.high < 1:
        notes.append(f"this policy is slower than no cache: {factor}")
    elif wall.value < 1:
        notes.append(f"this policy may be slower than no cache: {factor}")
    judgment = measured.judgment
    if judgment is not None and judgment.verdict != "as good":
        said = "worse than" if judgment.verdict == "worse" else "not certain to be as good as"
        notes.append(f"samples are {said} those without a cache: {judgment.describe()}")
    return notes
