"""Measure a policy for its card: speed and quality against the uncached twin, on noise unseen in tuning."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from e2crf_core.caching.policy import POLICY_SCHEMA
from e2crf_core.data.datasets import load_dataset
from e2crf_core.deploy.card import Measured, PolicyCard, Validity, profile_digest
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.io.provenance import machine
from e2crf_core.models.checkpoints import list_checkpoints
from e2crf_core.models.heldout import heldout_blocks
from e2crf_core.progress import Cancel, Progress, never, silent
from e2crf_core.quality.distances import relative_l2, sliced_wasserstein_metric
from e2crf_core.quality.interval import Interval
from e2crf_core.quality.intervals import Measurement, measure, measure_change, resample_picks
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.sampler import Part, Sampler, check_request, warm_up
from e2crf_core.version import __version__

DIRECTIONS = 500
RESAMPLES = 200
FLOOR_REPEATS = 10
# How far a remeasured value may lie outside the measured interval: other machines round differently.
QUALITY_SLACK = 1.25
LEAST_RELATIVE_L2 = 1e-3
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
            progress(len(parts[True]) + len(parts[False]), 2 * len(sizes))
    return _measured(model, config, num, seed, parts[True], parts[False])


def _measured(
    model: ScoreModel, config: SamplerConfig, num: int, seed: int, cached: list[Part], plain: list[Part]
) -> Measured:
    series, twin = (np.concatenate([p.series for p in parts]) for parts in (cached, plain))
    seconds, seconds_plain = ([p.seconds / len(p.series) for p in parts] for parts in (cached, plain))
    rows, prepared = sum(p.rows for p in cached), sum(p.prepared for p in cached)
    scaled, scaled_twin = (((x - model.mean) / model.std).astype(np.float64) for x in (series, twin))
    if not (np.isfinite(scaled).all() and np.isfinite(scaled_twin).all()):
        raise LabError("the samples are not finite: this policy and solver cannot be deployed")
    distance, change = _distances(model, series, twin)
    sampler = Sampler.of(model, config)
    return Measured(
        num=num,
        seed=seed,
        seconds=_range(seconds),
        seconds_uncached=_range(seconds_plain),
        speedup_wall=_range([b / a for a, b in zip(seconds, seconds_plain, strict=True)]),
        speedup_flops=sampler.full_flops(num) / sampler.flops(rows, prepared, num),
        token_share=rows / (num * model.n * config.steps),
        relative_l2=_relative_l2(scaled, scaled_twin, seed),
        sliced_wasserstein=_plain(distance),
        sliced_wasserstein_change=_plain(change),
        sliced_wasserstein_floor=None if distance is None else distance.floor,
        heldout=None if distance is None else distance.m,
    )


def _plain(measured: Measurement | None) -> Interval | None:
    return None if measured is None else Interval(measured.value, measured.low, measured.high)


def _range(values: Sequence[float]) -> Interval:
    return Interval(float(np.median(values)), float(min(values)), float(max(values)))


def _relative_l2(a: np.ndarray, b: np.ndarray, seed: int) -> Interval:
    error, energy = np.square(a - b).sum((1, 2)), np.square(b).sum((1, 2))
    picks = resample_picks(len(a), 1, resamples=RESAMPLES, seed=seed)
    replicates = [np.sqrt(error[i].sum() / max(energy[i].sum(), 1e-300)) for i, _ in picks]
    low, high = np.quantile(replicates, [0.025, 0.975])
    return Interval(relative_l2(a, b), float(low), float(high))


def _distances(
    model: ScoreModel, series: np.ndarray, twin: np.ndarray
) -> tuple[Measurement | None, Measurement | None]:
    """Return sliced Wasserstein to held-out data and its change from the twin; None without the data set."""
    try:
        data = load_dataset(model.dataset)
    except LabError:
        return None, None
    heldout, train = (data.standardize(data.x[i]) for i in (data.heldout, data.train))
    a, b = data.standardize(series), data.standardize(twin)
    metric, blocks = sliced_wasserstein_metric(directions=DIRECTIONS), heldout_blocks(data)
    distance = measure(
        a, heldout, metric, train=train, resamples=RESAMPLES, floor_repeats=FLOOR_REPEATS, blocks=blocks
    )
    return distance, measure_change(a, b, heldout, metric, resamples=RESAMPLES, blocks=blocks)


def valid_range(measured: Measured) -> Validity:
    """Return the bounds for a measurement: its intervals, with slack for other machines and loads."""
    change, distance = measured.sliced_wasserstein_change, measured.sliced_wasserstein
    return Validity(
        relative_l2_max=max(QUALITY_SLACK * measured.relative_l2.high, LEAST_RELATIVE_L2),
        sliced_wasserstein_change_max=None
        if change is None or distance is None
        else max(change.high, change.value + (QUALITY_SLACK - 1) * distance.value),
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

    Raises LabError for a configuration without a policy, or one that the model cannot run.
    """
    if config.policy is None:
        raise LabError(f"there is no policy to deploy: {config.describe()}", field="policy")
    Sampler.of(model, config)
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
    """List warnings for whoever deploys a card: it saves nothing, or costs more time than it saves."""
    measured, wall = card.measured, card.measured.speedup_wall
    if measured.token_share >= 1:
        return [
            "this policy reuses nothing: every token is recomputed at every step, so the cache only costs time"
        ]
    if wall.high < 1:
        return [
            f"this policy is slower than no cache: {wall.value:.3g} times as fast ({wall.low:.3g} to {wall.high:.3g})"
        ]
    if wall.value < 1:
        return [
            f"this policy may be slower than no cache: {wall.value:.3g} times as fast"
            f" ({wall.low:.3g} to {wall.high:.3g})"
        ]
    return []
