"""Measure what a cache must beat: solvers alone with fewer steps, no network, and the twin's own error.

All distances are relative L2 to the uncached twin on the same noise, so they compare with a cache's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.diffusion.solvers import MAX_STEPS, fewest_steps
from e2crf_core.evaluation.anchors import deterministic, no_network
from e2crf_core.progress import Cancel, never
from e2crf_core.quality.distances import relative_l2
from e2crf_core.runs.answer import standardized
from e2crf_core.runs.twin import Twin, compute_twin
from e2crf_core.sampling.config import SamplerConfig

RIVALS = ("dpmpp_2m", "etd_ab2", "unipc_2")
CALLS = (3, 4, 5, 6, 8, 11, 15, 20, 28)
FINER = 4
"""How many times as many steps as the twin the run takes that shows the twin's own error."""


@dataclass(frozen=True)
class SolverAlone:
    """An uncached run of `steps` calls of `solver`: its relative L2 to the twin and its compute time."""

    solver: str
    steps: int
    error: float
    seconds: float


def solvers_alone(
    model: ScoreModel,
    config: SamplerConfig,
    seed: int,
    twin: Twin,
    *,
    rivals: Sequence[str] = RIVALS,
    calls: Sequence[int] = CALLS,
    cancelled: Cancel = never,
) -> Iterator[SolverAlone]:
    """Yield, for each number of calls below the plan's, the best rival without a cache.

    Yields nothing for a stochastic plan: other steps mean other noise, and nothing pairs the samples. Raises
    Cancelled when cancelled.
    """
    if not deterministic(config.solver):
        return
    for steps in calls:
        fits = [s for s in rivals if fewest_steps(s) <= steps < config.steps]
        runs = [
            _alone(model, replace(config, solver=solver, steps=steps), seed, twin, cancelled)
            for solver in fits
        ]
        if runs:
            yield min(runs, key=lambda run: run.error)


def own_error(
    model: ScoreModel, config: SamplerConfig, seed: int, twin: Twin, *, cancelled: Cancel = never
) -> float | None:
    """Return the twin's distance from a run of `FINER` times as many steps: below it, errors mean little.

    Returns None for a stochastic plan and for one too long to refine.
    """
    finer = FINER * config.steps
    if not deterministic(config.solver) or finer > MAX_STEPS:
        return None
    return _alone(model, replace(config, solver="dpmpp_2m", steps=finer), seed, twin, cancelled).error


def without_network(model: ScoreModel, config: SamplerConfig, seed: int, twin: Twin) -> float | None:
    """Return the distance of samples without any network from the twin; None for a stochastic plan."""
    if not deterministic(config.solver):
        return None
    plain = no_network(model, len(twin.series), seed)
    return relative_l2(standardized(model, plain), standardized(model, twin.series))


def _alone(model: ScoreModel, config: SamplerConfig, seed: int, twin: Twin, cancelled: Cancel) -> SolverAlone:
    run = compute_twin(model, config, len(twin.series), seed, cancelled=cancelled)
    error = relative_l2(standardized(model, run.series), standardized(model, twin.series))
    return SolverAlone(config.solver, config.steps, error, run.seconds)
