"""Say how long `benchmarks.localization` takes here, from the time of single forwards."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping

import numpy as np
import torch

from benchmarks.localization_rows import CALLS, CHEAP, CONVERGED, EULER, PILOT_CALLS, SOLVERS, WAYS
from e2crf_core import Sampler, SamplerConfig, ScoreModel
from e2crf_core.network.forward import band_edges_of
from e2crf_core.sampling.calibrations import is_calibrated
from e2crf_core.sampling.error_measurement import (
    AMPLIFICATION_SAMPLES,
    PILOT_SAMPLES,
    TRIAL_ERRORS,
    TRIAL_SAMPLES,
)
from e2crf_core.sampling.influence import GROUPS

PLANNED = {"full": 35.0, "causal": 45.0}
"""Forwards that all planned rows of a network make, about."""
COMPARED, CALLS_COMPARED = 14, 6.0
"""Rows that are timed, and the forwards of one, about."""
LONG = {"causal": 550.0, "full": 1500.0}
"""Forwards of the cached Euler-Maruyama rows of a network for 1000 steps, about."""


def seconds_of(model: ScoreModel, batch: int) -> float:
    """Return the median time of an uncached step of a batch."""
    sampler = Sampler.of(model, SamplerConfig(None, steps=10, solver="dpmpp_2m", grid="log_snr", batch=batch))
    times = []
    with torch.inference_mode():
        problem, state = sampler.begin(batch, 0)
        for _ in range(4):
            begin = time.perf_counter()
            sampler.step(problem, state, None)
            times.append(time.perf_counter() - begin)
    return float(np.median(times[1:]))


def calibration(model: ScoreModel, config: SamplerConfig) -> list[tuple[int, float]]:
    """Return (batch, forwards) of a calibration that is missing; none if it is there."""
    if is_calibrated(model, Sampler.of(model, config).plan):
        return []
    held = GROUPS * max(1, len(band_edges_of(model.network))) * 20 + 40
    tried = config.steps + 2 * len(TRIAL_ERRORS) * 5
    return [(AMPLIFICATION_SAMPLES, held), (PILOT_SAMPLES, config.steps), (TRIAL_SAMPLES, tried)]


def forwards(
    model: ScoreModel, kind: str, section: str, options: argparse.Namespace
) -> list[tuple[int, float]]:
    """Return (batch, forwards) of a section's work on one network."""
    if section == "cheap":
        grid = "profile" if model.profile.levels else "log_snr"
        work = calibration(model, SamplerConfig(None, **{**CHEAP, "grid": grid}))
        tried = CONVERGED.steps + sum(PILOT_CALLS) * len(WAYS)
        # About a third of the numbers of calls get two ways.
        each = CONVERGED.steps + 1.3 * sum(CALLS) + PLANNED[kind]
        work += [(options.pilot, tried), (options.num, each * options.seeds)]
        rounds = 3 if options.quick else 5
        return work + [(batch, rounds * COMPARED * CALLS_COMPARED) for batch in options.batch]
    if kind != ("causal" if section == "euler" else "full"):
        return []
    share = options.steps / EULER.steps
    work = [(options.num, options.steps + share * LONG[kind])]
    plan = SamplerConfig(None, steps=options.steps)
    return work + (calibration(model, plan) if kind == "causal" else [])


def announce(networks: Mapping[str, Mapping[str, ScoreModel]], options: argparse.Namespace) -> None:
    """Print the expected minutes of each section of each data set."""
    total = 0.0
    for data, models in networks.items():
        known: dict[tuple[str, int], float] = {}
        cells = []
        for section in options.sections:
            spent = 0.0
            for kind, model in models.items():
                for batch, count in forwards(model, kind, section, options):
                    if (kind, batch) not in known:
                        known[kind, batch] = seconds_of(model, batch)
                    spent += count * known[kind, batch]
            cells.append(f"{section} {spent / 60:.1f} min")
            total += spent
        print(f"{data}: {', '.join(cells)} ({' and '.join(sorted(models))})", flush=True)
    print(
        f"about {total / 60:.0f} minutes without what is finished already; {len(SOLVERS)} solvers,"
        f" {options.seeds} seeds of {options.num} samples, {options.threads} threads",
        flush=True,
    )
