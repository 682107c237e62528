"""Measure, once per checkpoint and plan, what reusing each band from one call to another costs (E5).

One uncached pilot run, on seeds reserved for it, gives the outputs F of every call. With the influence W of
`influence.py`, scaled by the measured amplification, they predict the error of any schedule of refreshes;
`schedules.py` plans with `tables`. All errors are relative: 1 is the error of a sample that shares only the
mean with its uncached twin. `detail` 0 gives all errors equal weight, in units of the data's standard
deviation; 1 first divides each coordinate's error by its own variance, so that weak high bands have the same
weight as strong low ones.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from e2crf_core.caching.policy import CLOCKS
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.network.flops import prefix_flops
from e2crf_core.network.forward import band_edges_of
from e2crf_core.progress import Progress, silent
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.influence import amplification, influence, measure_points, run_pilot
from e2crf_core.sampling.sampler import Sampler
from e2crf_core.sampling.schedules import ErrorTables, RefreshSchedule

PILOT_SEED = 0x5EED_0000_0000_0001
PILOT_SAMPLES = 16
AMPLIFICATION_SAMPLES = 8
CANDIDATES = 50
"""The maximum number of calls considered as refresh times, evenly spaced on the model's clock."""
SHORT = 60
"""Plans of more calls than this take their amplification from a plan of 40 calls, at equal log(a/s)."""
OVERHEAD = 0.05
"""Share of a whole forward that any prefix costs: preparing inputs and calling many small operations."""


@dataclass(frozen=True, eq=False)
class ErrorModel:
    """The results of a pilot run for one checkpoint and plan.

    The plan has `steps` calls; `candidates` (K,) are those that may refresh, and `ticks` (2, K) their times
    on the clocks of CLOCKS. `edges` are upper edges of the bands, and `cost` (bands,) the cost of running the
    tokens below an edge, in whole forwards. `outputs` (K, B, n, 2M) is F at the candidates; `weight` (K + 1,
    n, 2M), `moment` (2, K + 1, n, 2M), and `change` (K + 1, B, n, 2M) are sums of W, of W times the clock,
    and of W F over calls before each candidate, and over all. `variance` (n, 2M) is that of the data's
    tokens, 0 for a masked coordinate. `amplification` (points, bands) belongs to `points` (points,) on
    log(a/s).
    """

    steps: int
    ticks: np.ndarray
    candidates: tuple[int, ...]
    edges: tuple[int, ...]
    cost: np.ndarray
    outputs: np.ndarray
    weight: np.ndarray
    moment: np.ndarray
    change: np.ndarray
    variance: np.ndarray
    points: np.ndarray
    amplification: np.ndarray

    @property
    def bands(self) -> list[tuple[int, int]]:
        """Return first and last-plus-one token of each band."""
        return list(zip((0, *self.edges[:-1]), self.edges, strict=True))

    @functools.lru_cache(maxsize=8)  # noqa: B019 (an error model lives as long as the process)
    def tables(self, detail: float = 0.0, linear: bool = True, clock: str = "profile") -> ErrorTables:
        """Return squared relative errors of every stretch; `linear`: outputs are extrapolated, not held."""
        weights = error_weights(self.variance, detail)
        end, count = len(self.candidates), len(self.edges)
        start = np.zeros((count, end + 1))
        error = np.full((count, end + 1, end, end + 1), np.inf)
        for band, (low, high) in enumerate(self.bands):
            root = np.sqrt(weights[low:high])
            self._band_tables(slice(low, high), root, linear, CLOCKS.index(clock), start[band], error[band])
        return ErrorTables(self.steps, self.candidates, self.edges, self.cost, start, error)

    def _band_tables(
        self, band: slice, root: np.ndarray, linear: bool, clock: int, start: np.ndarray, error: np.ndarray
    ) -> None:
        """Fill the tables of one band (see schedules.T). Square roots of weights are folded into W."""
        samples, end = self.outputs.shape[1], len(self.candidates)
        f = self.outputs[:, :, band].astype(np.float64).reshape(end, samples, -1)
        a0 = (self.weight[:, band] * root).reshape(end + 1, 1, -1)
        a1 = (self.moment[clock][:, band] * root).reshape(end + 1, 1, -1)
        af = (self.change[:, :, band] * root).reshape(end + 1, samples, -1)
        ticks = self.ticks[clock]
        start[:] = np.square(af).sum((1, 2)) / samples
        for a in range(end):
            total = a0[a + 1 :] - a0[a]
            lean = a1[a + 1 :] - a1[a] - ticks[a] * total
            held = total * f[a] - (af[a + 1 :] - af[a])
            base = np.square(held).sum((1, 2)) / samples
            error[end, a, a + 1 :] = base
            if not a or not linear:
                error[:a, a, a + 1 :] = base
                continue
            slope = (f[a] - f[:a]) / _gap(ticks[a] - ticks[:a])[:, None, None]
            cross = (lean * held).reshape(len(base), -1) @ slope.reshape(a, -1).T / samples
            square = np.square(lean)[:, 0] @ np.square(slope).mean(1).T
            error[:a, a, a + 1 :] = np.maximum(base[:, None] + 2 * cross + square, 0.0).T

    def predicted(
        self,
        computed: np.ndarray,
        detail: float = 0.0,
        linear: bool = True,
        clock: str = "profile",
        *,
        signed: bool = False,
    ) -> float:
        """Predict the relative error of computing the tokens in `computed` (steps, n) bool at each call.

        A recompute between two candidates counts as one at the earlier of them. Errors of different stretches
        add up as squares, as in `tables`, which is closest to how networks behave; `signed` adds the errors
        themselves, which is exact if the network does not respond to them.
        """
        weights = error_weights(self.variance, detail)
        return float(self._squares(computed, weights, linear, clock, signed=signed).sum()) ** 0.5

    def by_token(self, computed: np.ndarray, linear: bool = True, clock: str = "profile") -> np.ndarray:
        """Predict the mean square error (n,) of each token over the data's variance; arguments as for `predicted`."""
        known = self.variance > 0
        squares = self._squares(computed, error_weights(self.variance, 1.0), linear, clock)
        return squares * known.sum() / np.maximum(known.sum(1), 1)

    def _squares(
        self, computed: np.ndarray, weights: np.ndarray, linear: bool, clock: str, *, signed: bool = False
    ) -> np.ndarray:
        """Return the weighted square errors (n,) of all tokens, means over the pilot's samples."""
        starts = [*self.candidates, self.steps]
        refreshed = np.stack([computed[a:b].any(0) for a, b in pairwise(starts)])
        paths, owner = np.unique(refreshed, axis=1, return_inverse=True)
        squares = np.zeros(len(weights))
        for column, path in enumerate(paths.T):
            tokens = np.flatnonzero(owner == column)
            stretches = self._stretches(tokens, np.flatnonzero(path).tolist(), linear, CLOCKS.index(clock))
            for part in [sum(stretches)] if signed else stretches:
                squares[tokens] += (np.square(part) * weights[tokens]).sum((0, 2))
        return squares / self.outputs.shape[1]

    def _stretches(
        self, tokens: np.ndarray, path: list[int], linear: bool, clock: int
    ) -> Iterator[np.ndarray]:
        """Yield errors (B, t, 2M) of finished tokens for each stretch between refreshes in `path`."""
        end, ticks, moment = len(self.candidates), self.ticks[clock], self.moment[clock][:, tokens]
        weight, change, outputs = (
            self.weight[:, tokens],
            self.change[:, :, tokens],
            self.outputs[:, :, tokens],
        )
        yield -change[path[0] if path else end].astype(np.float64)
        for before, a, until in zip([None, *path], path, [*path[1:], end], strict=False):
            whole = weight[until] - weight[a]
            missed = whole * outputs[a] - (change[until] - change[a])
            if linear and before is not None:
                slope = (outputs[a] - outputs[before]) / _gap(ticks[a] - ticks[before])
                missed = missed + (moment[until] - moment[a] - ticks[a] * whole) * slope
            yield missed

    @functools.lru_cache(maxsize=8)  # noqa: B019
    def frontier(
        self, detail: float = 0.0, linear: bool = True, clock: str = "profile"
    ) -> tuple[RefreshSchedule, ...]:
        """Return the best schedules of nested bands, cheapest first, each with less error than all before."""
        return self.tables(detail, linear, clock).frontier()

    def schedule(
        self, tau: float, detail: float = 0.0, linear: bool = True, clock: str = "profile"
    ) -> RefreshSchedule:
        """Return the frontier's cheapest schedule with predicted error at most tau, else the best one."""
        frontier = self.frontier(detail, linear, clock)
        return next((s for s in frontier if s.error <= tau), frontier[-1])


def _gap(way: np.ndarray) -> np.ndarray:
    """Return distances on the clock; infinite between two calls at one time, which give no slope."""
    return np.where(way > 0, way, np.inf)


def error_weights(variance: np.ndarray, detail: float) -> np.ndarray:
    """Return (n, 2M) weights of squared errors; they sum to 1 over a data-sized error for any `detail`."""
    known = variance > 0
    weights = np.where(known, np.where(known, variance, 1.0) ** -detail, 0.0)
    return weights / (weights * variance).sum()


def candidate_calls(ticks: np.ndarray, most: int = CANDIDATES) -> tuple[int, ...]:
    """Return the calls that may refresh: all in a short plan, else `most` evenly spaced on the clock."""
    if len(ticks) <= most:
        return tuple(range(len(ticks)))
    even = np.interp(np.linspace(ticks[0], ticks[-1], most), ticks, np.arange(len(ticks)))
    return tuple(np.unique(np.round(even).astype(int)).tolist())


def prefix_costs(model: ScoreModel, edges: tuple[int, ...]) -> np.ndarray:
    """Return (bands,) the cost of running the tokens below each edge, in whole forwards."""
    flops = np.array([prefix_flops(model.network, edge, model.n) for edge in edges])
    return OVERHEAD + (1 - OVERHEAD) * flops / flops[-1]


def measure_error_model(
    model: ScoreModel,
    config: SamplerConfig,
    *,
    num: int = PILOT_SAMPLES,
    seed: int = PILOT_SEED,
    progress: Progress = silent,
) -> ErrorModel:
    """Run the pilot and measure amplification: 40 to 100 s on one CPU core for a shipped checkpoint.

    `progress` counts parts in thousandths.
    """
    edges = band_edges_of(model.network) or (model.n,)
    bands = list(zip((0, *edges[:-1]), edges, strict=True))
    points, factors = _measure_amplification(
        model, config, bands, seed, lambda d, t: progress(700 * d // t, 1000)
    )
    problem, state = Sampler.of(model, config.twin).begin(num, seed)
    pilot = run_pilot(problem, state, set(), lambda d, t: progress(700 + 300 * d // t, 1000))
    levels = np.array(problem.levels)
    ticks = np.stack([problem.clocks[clock].numpy() for clock in CLOCKS])
    candidates = candidate_calls(problem.clocks["profile"].numpy())
    weights = influence(*Sampler.of(model, config.twin).begin(1, seed)).numpy()
    for band, (low, high) in enumerate(bands):
        weights[:, low:high] *= np.interp(levels, points, factors[:, band])[:, None, None]
    outputs = pilot.outputs.numpy()
    ends = [*candidates, len(levels)]

    def sums(values: np.ndarray) -> np.ndarray:
        return np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, axis=0)])[ends]

    return ErrorModel(
        steps=len(levels),
        ticks=ticks[:, list(candidates)],
        candidates=candidates,
        edges=edges,
        cost=prefix_costs(model, edges),
        outputs=outputs[list(candidates)],
        weight=sums(weights),
        moment=np.stack([sums(weights * tick[:, None, None]) for tick in ticks]),
        change=_sums_of_products(weights, outputs, ends).astype(outputs.dtype),
        variance=(model.v * model.mask).double().cpu().numpy(),
        points=points,
        amplification=factors,
    )


def _sums_of_products(weights: np.ndarray, outputs: np.ndarray, ends: list[int]) -> np.ndarray:
    """Return (len(ends), B, n, 2M) sums of W F over the calls before each end, without copying the run."""
    total = np.zeros((len(ends), *outputs.shape[1:]))
    for row, (first, last) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        total[row] = total[row - 1] if row else 0.0
        total[row] += np.einsum("ikc,ibkc->bkc", weights[first:last], outputs[first:last].astype(np.float64))
    return total


def _measure_amplification(
    model: ScoreModel, config: SamplerConfig, bands: list[tuple[int, int]], seed: int, progress: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """Return increasing points (P,) on log(a/s) and factors (P, bands)."""
    sampler = Sampler.of(model, companion(config, model))
    weights = influence(*sampler.begin(1, seed))
    problem, state = sampler.begin(AMPLIFICATION_SAMPLES, seed)
    pilot = run_pilot(problem, state, set(measure_points(problem.plan.steps)))
    middle = [min(i + 2, problem.plan.steps - 1) for i in sorted(pilot.states)]
    return np.array([problem.levels[i] for i in middle]), amplification(pilot, weights, bands, progress)


def companion(config: SamplerConfig, model: ScoreModel) -> SamplerConfig:
    """Return the plan for measuring amplification: the same if short, else 40 calls of its kind."""
    if config.steps <= SHORT:
        return config.twin
    stochastic = any(row.sigma for row in Sampler.of(model, config.twin).plan.rows)
    solver = "ancestral" if stochastic else "dpmpp_2m"
    return SamplerConfig(None, steps=40, solver=solver, grid="profile")


def sample_errors(
    tokens: np.ndarray, twin: np.ndarray, variance: np.ndarray, detail: float = 0.0
) -> np.ndarray:
    """Return (B,) relative errors of finished tokens (B, n, 2M) against uncached twins, as in the tables."""
    missed = np.asarray(tokens, dtype=np.float64) - twin
    return np.sqrt((np.square(missed) * error_weights(variance, detail)).sum((1, 2)))
