"""Answer what a policy does on one noise: its samples, their error to the uncached twin, and its price."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.diffusion.spectral import tokenize
from e2crf_core.network.flops import network_flops, prefix_flops
from e2crf_core.network.forward import band_edges_of
from e2crf_core.progress import Cancel, never
from e2crf_core.quality.interval import Interval
from e2crf_core.quality.protocol import RESAMPLES, TwinError, twin_error
from e2crf_core.runs.twin import TWINS, Twin
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.error_measurement import OVERHEAD
from e2crf_core.sampling.sampler import Sampler, check_request


@dataclass(frozen=True, eq=False)
class TracedRun:
    """One batch of a sampler: its tokens (num, n, 2M), compute time, and what it computed.

    `reasons` (steps, n) holds the Reason codes of the first sample, `computed` (steps, num) the tokens that each
    step ran for each sample.
    """

    tokens: np.ndarray
    seconds: float
    reasons: np.ndarray
    computed: np.ndarray


@dataclass(frozen=True, eq=False)
class Reply:
    """What `config` did to the samples of `seed`.

    `series` (num, N, M) are its samples in data units, `twin` its uncached twin, and `error` their distance.
    `band_units` splits `error.pooled` by the same bands as `error.bands`: relative L2 in data units, whose
    squares add up to that of all bands. `cost` is in whole forwards (all tokens of every sample once = 1),
    `seconds` is compute time, and `share` (steps,) the share of the batch's tokens that each step computed.
    `reasons` (steps, n) holds the Reason codes of the first sample.
    """

    config: SamplerConfig
    seed: int
    series: np.ndarray
    twin: Twin
    error: TwinError
    band_units: tuple[Interval, ...]
    cost: float
    seconds: float
    share: np.ndarray
    reasons: np.ndarray

    @property
    def tokens(self) -> float:
        """Return the tokens computed per sample."""
        return float(self.share.sum()) * self.reasons.shape[1]


def answer(
    model: ScoreModel,
    config: SamplerConfig,
    seed: int,
    num: int,
    *,
    twin: Twin | None = None,
    resamples: int = RESAMPLES,
    cancelled: Cancel = never,
) -> Reply:
    """Run `config` on `num` samples of `seed` in one batch, and compare them with their twin.

    `twin` saves the search for it. `resamples` are those of the intervals. Raises LabError for what cannot run,
    Cancelled before the next step once `cancelled()` is true.
    """
    check_request(num, seed)
    twin = TWINS.twin(model, config, num, seed, cancelled=cancelled) if twin is None else twin
    trace = trace_run(Sampler.of(model, config), num, seed, cancelled=cancelled)
    series = model.series(trace.tokens)
    cached, plain = (standardized(model, x) for x in (series, twin.series))
    error = twin_error(cached, plain, variance_pair(model), resamples=resamples)
    return Reply(
        config=config,
        seed=seed,
        series=series,
        twin=twin,
        error=error,
        band_units=_band_units(cached, plain, [a for a, _, _ in error.bands], resamples),
        cost=whole_forwards(model, trace.computed),
        seconds=trace.seconds,
        share=trace.computed.mean(1) / model.n,
        reasons=trace.reasons,
    )


def trace_run(sampler: Sampler, num: int, seed: int, *, cancelled: Cancel = never) -> TracedRun:
    """Run a sampler on `num` samples of `seed` in one batch. Raises Cancelled once `cancelled()` is true."""
    steps, count = sampler.plan.steps, sampler.model.n
    reasons, computed = np.zeros((steps, count), np.uint8), np.zeros((steps, num), np.int64)
    sampler.segments()  # made once for a plan, so no part of the time
    begin = time.perf_counter()
    with torch.inference_mode():
        problem, state = sampler.begin(num, seed)
    for leap in sampler.leaps(problem, state, cancelled=cancelled):
        codes, i, state = leap.reasons.expand(num, count).numpy(), state.step, leap.after
        reasons[i], computed[i] = codes[0], (codes > 0).sum(1)
    tokens = state.z.cpu().numpy()
    return TracedRun(tokens, time.perf_counter() - begin, reasons, computed)


def standardized(model: ScoreModel, series: np.ndarray) -> np.ndarray:
    """Return series (..., N, M) in standard deviations of the data, float64."""
    return (np.asarray(series, dtype=np.float64) - model.mean) / model.std


def variance_pair(model: ScoreModel) -> np.ndarray:
    """Return two standardized series (2, N, M) whose token variance is the model's own, that of its data."""
    mu, v, mask = (x.detach().double().cpu().numpy() for x in (model.mu, model.v, model.mask))
    return standardized(model, model.series(np.stack([mu + v**0.5, mu - v**0.5]) * mask))


def whole_forwards(model: ScoreModel, computed: np.ndarray) -> float:
    """Return the cost of a run that computed (steps, samples) tokens, in forwards of all tokens.

    Every sample that computes anything pays the overhead of a call (see `error_model.OVERHEAD`).
    """
    count = model.n
    edges = band_edges_of(model.network)

    def flops(m: int) -> int:
        if edges:
            return prefix_flops(model.network, m, count)
        return network_flops(model.network, m, count, 1)

    sizes, often = np.unique(computed[computed > 0], return_counts=True)
    each = [OVERHEAD + (1 - OVERHEAD) * flops(int(m)) / flops(count) for m in sizes]
    return float(np.dot(each, often)) / computed.shape[1]


def _band_units(cached: np.ndarray, plain: np.ndarray, starts: list[int], resamples: int) -> tuple[Any, ...]:
    """Return the relative L2 of each band in data units with a 95% bootstrap interval over samples."""
    squares = np.add.reduceat(np.square(tokenize(cached - plain)).sum(-1), starts, axis=1)
    energy = np.square(plain).sum((1, 2))
    picks = np.random.default_rng(0).integers(0, len(energy), (resamples, len(energy)))

    def over(pick: np.ndarray) -> np.ndarray:
        return np.sqrt(squares[pick].sum(-2) / np.maximum(energy[pick].sum(-1), 1e-300)[..., None])

    values = over(np.arange(len(energy)))
    low, high = np.quantile(over(picks), [0.025, 0.975], axis=0)
    return tuple(Interval(*map(float, each)) for each in zip(values, low, high, strict=True))
