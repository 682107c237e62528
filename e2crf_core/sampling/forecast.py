"""Predict the cost and error of a policy from a calibrated checkpoint, without a run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
import torch

from e2crf_core.caching.policy import CachePolicy
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.diffusion.spectral import band_edges
from e2crf_core.e2crf import advance
from e2crf_core.errors import LabError
from e2crf_core.network.forward import band_edges_of, plain_forward
from e2crf_core.progress import Progress, silent
from e2crf_core.sampling.calibrations import error_model_of
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.error_measurement import prefix_costs
from e2crf_core.sampling.sampler import Sampler
from e2crf_core.sampling.segments import decisions

UNCERTAINTY = 1.3
"""Factor by which measured errors differed from predicted ones, either way, at most, in 59 of 64 plans measured.

On the four causal checkpoints, `detail` 0 and 1; see docs/localization.md.
"""
ROUNDS = 3


@dataclass(frozen=True)
class Forecast:
    """The predicted error and cost of a policy.

    `error` is the relative error of finished samples against their uncached twins, in units of the data's
    standard deviation (with the policy's `detail`), between `low` and `high`. `cost` is in whole forwards,
    `calls` counts the calls that run anything, and `share` is the share of an uncached run's tokens.
    `prefixes` (steps,) are the tokens run at each call. `seconds` is the time of one batch on this machine,
    None without a batch size.
    """

    error: float
    low: float
    high: float
    cost: float
    calls: int
    share: float
    prefixes: tuple[int, ...]
    seconds: float | None


def predict(
    model: ScoreModel,
    policy: CachePolicy,
    *,
    steps: int = 40,
    solver: str = "dpmpp_2m",
    grid: str = "profile",
    batch: int | None = None,
    progress: Progress = silent,
) -> Forecast:
    """Predict error and cost, without a run, of a policy whose decisions depend only on the clock.

    With `batch`, a few forwards are timed to estimate the seconds per batch. A checkpoint without calibration
    for the plan is calibrated first, with `progress`. Raises LabError for a policy that needs a run to
    decide, and for one that runs single tokens of a network with full attention, whose kept keys and values
    become stale.
    """
    config = SamplerConfig(policy, steps=steps, solver=solver, grid=grid)
    sampler, computed = _known_decisions(model, config)
    errors = error_model_of(model, sampler.plan, progress)
    lengths, edges = computed.sum(1), (0, *(band_edges_of(model.network) or (model.n,)))
    error = errors.predicted(computed, policy.detail, policy.predictor != "hold", policy.clock)
    price = dict(zip(edges, (0.0, *prefix_costs(model, edges[1:])), strict=True))
    return Forecast(
        error=error,
        low=error / UNCERTAINTY,
        high=error * UNCERTAINTY,
        cost=float(sum(price[int(m)] for m in lengths)),
        calls=int((lengths > 0).sum()),
        share=float(computed.mean()),
        prefixes=tuple(int(m) for m in lengths),
        seconds=None if batch is None else _seconds(config, model, lengths, batch),
    )


def predict_bands(model: ScoreModel, config: SamplerConfig) -> tuple[tuple[int, int, float], ...]:
    """Predict the error by band, without a run, of a policy whose decisions depend only on the clock.

    The bands are those of `quality.protocol.twin_error`. One is its first token, its last plus one, and the error
    in standard deviations of each frequency. A checkpoint without calibration for the plan is calibrated first.
    Raises LabError as `predict` does.
    """
    policy = config.policy
    assert policy is not None
    sampler, computed = _known_decisions(model, config)
    errors = error_model_of(model, sampler.plan)
    squares = errors.by_token(computed, policy.predictor != "hold", policy.clock)
    cuts = sorted({0, *band_edges(model.n).tolist(), model.n})
    return tuple((a, b, float(squares[a:b].mean() ** 0.5)) for a, b in pairwise(cuts))


def _known_decisions(model: ScoreModel, config: SamplerConfig) -> tuple[Sampler, np.ndarray]:
    """Return the sampler and what it computes, (steps, n) bool. Raises LabError if only a run can tell."""
    policy = config.policy
    assert policy is not None
    if not policy.scheduled:
        raise LabError(
            f"trigger {policy.trigger!r} decides by what a run shows, so nothing can be said before it",
            field="trigger",
            remedy="choose a trigger that follows the clock, or record a run",
        )
    sampler = Sampler.of(model, config)
    with torch.inference_mode():
        decided = decisions(policy, *sampler.begin(1, 0))
        computed = np.stack([reasons[0].numpy() > 0 for reasons, _ in decided])
    edges = (0, *(band_edges_of(model.network) or (model.n,)))
    if not np.isin(computed.sum(1), edges).all():
        raise LabError(
            "the policy runs single tokens of a network with full attention, whose error depends on stale keys",
            field="trigger",
            remedy="choose a trigger that refreshes all tokens, or a spectrally causal checkpoint",
        )
    return sampler, computed


def _seconds(config: SamplerConfig, model: ScoreModel, lengths: np.ndarray, batch: int) -> float:
    """Return the time of one batch: each call's forward by its number of tokens, plus the update per call."""
    problem, state = Sampler.of(model, replace(config, batch=batch)).begin(batch, 0)
    network, u, level = model.network, problem.network_input(state), problem.level(0)
    output = torch.zeros_like(state.z)

    def forward(m: int) -> None:
        prepared = network.prepare(u, level)
        network.head(plain_forward(network, prepared[:, :m], network.condition(level)))

    with torch.inference_mode():
        update = _best(lambda: advance(problem, state, output, None))
        each = {m: _best(partial(forward, m)) for m in np.unique(lengths[lengths > 0]).tolist()}
    return update * len(lengths) + sum(each[int(m)] for m in lengths if m)


def _best(work: Callable[[], object]) -> float:
    """Return the shortest time of a few calls, after an uncounted one."""
    times = []
    for _ in range(ROUNDS + 1):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times[1:])
