"""Run the held-out protocol: one way to measure every checkpoint, with results stated in its model card."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from e2crf_core.data.datasets import Dataset, require_heldout
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.io.json_files import json_writer
from e2crf_core.io.sets import write_set
from e2crf_core.models.checkpoints import load_checkpoint
from e2crf_core.models.folders import CARD, WEIGHTS, checkpoint_folder, read_card
from e2crf_core.models.loss import heldout_loss
from e2crf_core.models.training_data import training_data
from e2crf_core.progress import Progress, silent
from e2crf_core.quality.distances import standard_metrics
from e2crf_core.sampling.calibration import calibrate
from e2crf_core.sampling.sampler import Sampler

SOLVER = {"solver": "dpmpp_2m", "grid": "log_snr", "steps": 60}
DRAWS = 40


def measure_card(checkpoint: str | Path, seed: int = 0, progress: Progress = silent) -> dict[str, Any]:
    """Calibrate a checkpoint's profile, run the held-out protocol, and write both into its card.

    Returns the main values. `progress` receives (done, total) of the protocol. Raises LabError.
    """
    model = load_checkpoint(checkpoint)
    dataset = training_data(model)
    measured = heldout_protocol(model, dataset, seed=seed, progress=progress)
    measured["command"] = f"python -m e2crf_core card --checkpoint {checkpoint} --seed {seed}"
    folder = checkpoint_folder(checkpoint)
    card = {**read_card(folder), "profile": asdict(calibrate(model)), "measured": measured}
    write_set(folder, {CARD: json_writer(card)}, beside=(WEIGHTS,))
    distance = measured["figures"]["sliced_wasserstein_time"]
    return {
        "sliced_wasserstein": distance["value"],
        "sliced_wasserstein_floor": distance["floor"],
        "ratio": distance["ratio"],
        "size": measured["size"],
    }


def heldout_protocol(
    model: ScoreModel,
    dataset: Dataset,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Compare generated with held-out series at equal sizes, beside the same comparison of real halves.

    Half of the held-out windows (h of them, at most 512) are drawn DRAWS times; each draw is compared with
    the other half (the floor) and with h of 2h generated series (the value). Values are means over draws, and
    low and high their 95% range; `ratio` is value over floor. Samples are uncached, drawn by SOLVER, so that
    the cards describe the model and not a cache. Series are standardized.
    """
    held = dataset.standardize(dataset.x[dataset.heldout])
    require_heldout(dataset)
    half = min(len(held) // 2, 512)
    sampler = Sampler(model, policy=None, **SOLVER)  # type: ignore[arg-type]
    made = dataset.standardize(sampler.sample(2 * half, seed, progress=progress).series)
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(held)) for _ in range(DRAWS)]
    real = [(order[:half], order[half : 2 * half]) for order in orders]
    fake = [(rng.permutation(2 * half)[:half], second) for _, second in real]
    figures = {}
    for metric in standard_metrics(len(model.channels)):
        value, floor = metric.values(made, held, fake), metric.values(held, held, real)
        figures[metric.name] = {
            "title": metric.title,
            "unit": metric.unit,
            "value": float(value.mean()),
            "low": float(np.quantile(value, 0.025)),
            "high": float(np.quantile(value, 0.975)),
            "floor": float(floor.mean()),
            "floor_low": float(np.quantile(floor, 0.025)),
            "floor_high": float(np.quantile(floor, 0.975)),
            "ratio": float(value.mean() / floor.mean()),
        }
    measured: dict[str, Any] = {"size": half, "draws": DRAWS, "seed": seed, **SOLVER, "figures": figures}
    if model.half_spectrum:
        measured["loss"] = heldout_loss(model, held, seed=seed)
    return measured
