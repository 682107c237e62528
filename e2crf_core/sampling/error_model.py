"""Calibration of E5: what reusing each band from one call to another costs, measured once for a checkpoint and a plan.

One uncached pilot run, on seeds that no user draws from, gives the outputs F of every call. With the influence W of
`influence.py`, scaled by the measured amplification, they foretell the error of any schedule of refreshes: `tables`
are what `schedules.py` plans with. All errors are relative: 1 is the error of a sample that has nothing in common with
its uncached twin but the mean. `detail` 0 weighs all errors alike, in units of the data's standard deviation; 1
divides each coordinate's error by its own variance first, so that weak high bands count like strong low ones.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from e2crf_core.caching.state import Problem
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.network.flops import prefix_flops
from e2crf_core.network.forward import band_edges_of
from e2crf_core.progress import Progress, silent
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.influence import amplification, influence, measure_points, run_pilot
from e2crf_core.sampling.sampler import Sampler
from e2crf_core.sampling.schedules import ErrorTables, Schedule

PILOT_SEED = 0x5EED_0000_0000_0001
PILOT_SAMPLES = 16
AMPLIFICATION_SAMPLES = 8
CANDIDATES = 50
"""Refresh times are chosen among this many calls at most, evenly spread on the model's clock."""
SHORT = 60
"""Plans of more calls than this take their amplification from a plan of 40 calls, at equal log(a/s)."""
OVERHEAD = 0.05
"""Share of a whole forward that running any prefix costs: preparing inputs and calling many small operations."""


@dataclass(frozen=True, eq=False)
class ErrorModel:
    """What a pilot run says about one checkpoint and plan.

    `digest` names the model, `plan` is (solver, grid, steps). `levels` and `ticks` (steps,) are log(a/s) and the
    profile clock; `candidates` (K,) calls that may refresh, `edges` upper edges of the bands, `cost` (bands,) whole
    forwards that running the tokens below an edge costs. `outputs` (K, B, n, 2M) is F at the candidates; `weight`,
    `moment` (K + 1, n, 2M) and `change` (K + 1, B, n, 2M) are sums of W, W t and W F over calls before each
    candidate, and over all. `variance` (n, 2M) is that of the data's tokens, 0 where a coordinate is masked.
    `amplification` (points, bands) belongs to `points` (points,) on log(a/s).
    """

    digest: str
    plan: tuple[str, str, int]
    levels: np.ndarray
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
        """First and last-plus-one token of each band."""
        return list(zip((0, *self.edges[:-1]), self.edges, strict=True))

    @functools.lru_cache(maxsize=8)  # noqa: B019 (an error model lives as long as the process)
    def tables(self, detail: float = 0.0, linear: bool = True) -> ErrorTables:
        """Squared relative errors of every stretch; `linear`: outputs are continued, not held."""
        weights = error_weights(self.variance, detail)
        end, count = len(self.candidates), len(self.edges)
        start = np.zeros((count, end + 1))
        error = np.full((count, end + 1, end, end + 1), np.inf)
        for band, (low, high) in enumerate(self.bands):
            self._band_tables(slice(low, high), np.sqrt(weights[low:high]), linear, start[band], error[band])
        return ErrorTables(self.plan[2], self.candidates, self.edges, self.cost, start, error)

    def _band_tables(
        self, band: slice, root: np.ndarray, linear: bool, start: np.ndarray, error: np.ndarray
    ) -> None:
        """Fill the tables of one band; see schedules.T. Square roots of weights are folded into W."""
        samples, end = self.outputs.shape[1], len(self.candidates)
        f = self.outputs[:, :, band].astype(np.float64).reshape(end, samples, -1)
        a0 = (self.weight[:, band] * root).reshape(end + 1, 1, -1)
        a1 = (self.moment[:, band] * root).reshape(end + 1, 1, -1)
        af = (self.change[:, :, band] * root).reshape(end + 1, samples, -1)
        ticks = self.ticks[list(self.candidates)]
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

    def predicted(self, prefixes: Sequence[int], detail: float = 0.0, linear: bool = True) -> float:
        """Relative error of a schedule of refreshes at candidates, stretches added up with their signs.

        Exact where outputs do not depend on the state; the tables, which add up squares, are not.
        """
        weights = error_weights(self.variance, detail)
        end, ticks, total = len(self.candidates), self.ticks[list(self.candidates)], 0.0
        for low, high in self.bands:
            band = slice(low, high)
            path = [k for k, call in enumerate(self.candidates) if prefixes[call] >= high]
            missed = -self.change[path[0] if path else end, :, band]
            for before, a, until in zip([None, *path], path, [*path[1:], end], strict=False):
                f, total_w = self.outputs[a, :, band], self.weight[until, band] - self.weight[a, band]
                missed = missed + total_w * f - (self.change[until, :, band] - self.change[a, :, band])
                if linear and before is not None:
                    slope = (f - self.outputs[before, :, band]) / _gap(ticks[a] - ticks[before])
                    lean = self.moment[until, band] - self.moment[a, band] - ticks[a] * total_w
                    missed = missed + lean * slope
            total += float((np.square(missed) * weights[band]).sum() / self.outputs.shape[1])
        return total**0.5

    @functools.lru_cache(maxsize=8)  # noqa: B019
    def frontier(self, detail: float = 0.0, linear: bool = True) -> tuple[Schedule, ...]:
        """Best schedules of nested bands, cheapest first, each with less error than all before it."""
        return self.tables(detail, linear).frontier()

    def schedule(self, tau: float, detail: float = 0.0, linear: bool = True) -> Schedule:
        """The cheapest schedule of the frontier whose predicted relative error is at most tau, else the best one."""
        frontier = self.frontier(detail, linear)
        return next((s for s in frontier if s.error <= tau), frontier[-1])


def _gap(way: np.ndarray) -> np.ndarray:
    """Distances on the clock; infinite between two calls at one time, whose outputs give no slope."""
    return np.where(way > 0, way, np.inf)


def error_weights(variance: np.ndarray, detail: float) -> np.ndarray:
    """(n, 2M) weights of squared errors: their sum over a data-sized error is 1, whatever `detail`."""
    known = variance > 0
    weights = np.where(known, np.where(known, variance, 1.0) ** -detail, 0.0)
    return weights / (weights * variance).sum()


def candidate_calls(ticks: np.ndarray, most: int = CANDIDATES) -> tuple[int, ...]:
    """Calls that may refresh: all of a short plan, else `most` evenly spread on the clock."""
    if len(ticks) <= most:
        return tuple(range(len(ticks)))
    even = np.interp(np.linspace(ticks[0], ticks[-1], most), ticks, np.arange(len(ticks)))
    return tuple(np.unique(np.round(even).astype(int)).tolist())


def prefix_costs(model: ScoreModel, edges: tuple[int, ...]) -> np.ndarray:
    """(bands,) cost of running the tokens below each edge, in whole forwards."""
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
    ticks = problem.clocks["profile"].numpy()
    candidates = candidate_calls(ticks)
    weights = influence(*Sampler.of(model, config.twin).begin(1, seed)).numpy()
    for band, (low, high) in enumerate(bands):
        weights[:, low:high] *= np.interp(levels, points, factors[:, band])[:, None, None]
    outputs = pilot.outputs.numpy()
    ends = [*candidates, len(levels)]

    def sums(values: np.ndarray) -> np.ndarray:
        return np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, axis=0)])[ends]

    return ErrorModel(
        digest=model.digest(),
        plan=config.plan,
        levels=levels,
        ticks=ticks,
        candidates=candidates,
        edges=edges,
        cost=prefix_costs(model, edges),
        outputs=outputs[list(candidates)],
        weight=sums(weights),
        moment=sums(weights * ticks[:, None, None]),
        change=_sums_of_products(weights, outputs, ends),
        variance=(model.v * model.mask).double().cpu().numpy(),
        points=points,
        amplification=factors,
    )


def _sums_of_products(weights: np.ndarray, outputs: np.ndarray, ends: list[int]) -> np.ndarray:
    """(len(ends), B, n, 2M) sums of W F over the calls before each end, without a copy of the run."""
    total = np.zeros((len(ends), *outputs.shape[1:]))
    for row, (first, last) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        total[row] = total[row - 1] if row else 0.0
        total[row] += np.einsum("ikc,ibkc->bkc", weights[first:last], outputs[first:last].astype(np.float64))
    return total


def _measure_amplification(
    model: ScoreModel, config: SamplerConfig, bands: list[tuple[int, int]], seed: int, progress: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """Points (P,) on log(a/s), increasing, and factors (P, bands)."""
    sampler = Sampler.of(model, companion(config, model))
    weights = influence(*sampler.begin(1, seed))
    problem, state = sampler.begin(AMPLIFICATION_SAMPLES, seed)
    pilot = run_pilot(problem, state, set(measure_points(problem.plan.steps)))
    middle = [min(i + 2, problem.plan.steps - 1) for i in sorted(pilot.states)]
    return np.array([problem.levels[i] for i in middle]), amplification(pilot, weights, bands, progress)


def companion(config: SamplerConfig, model: ScoreModel) -> SamplerConfig:
    """The plan that amplification is measured on: the same if it is short, else 40 calls of its kind."""
    if config.steps <= SHORT:
        return config.twin
    stochastic = any(row.sigma for row in Sampler.of(model, config.twin).plan.rows)
    solver = "ancestral" if stochastic else "dpmpp_2m"
    return SamplerConfig(None, steps=40, solver=solver, grid="profile")


def finished_error(tokens: Tensor, twin: Tensor, variance: np.ndarray, detail: float = 0.0) -> float:
    """Relative error of finished tokens (B, n, 2M) against their uncached twins, in the units of the tables."""
    weights = torch.as_tensor(error_weights(variance, detail))
    return float(((tokens - twin).double().square() * weights).sum((1, 2)).mean().sqrt())


def check_fits(error_model: ErrorModel, problem: Problem) -> bool:
    """Whether an error model belongs to a problem's plan."""
    return error_model.plan == (problem.plan.solver, problem.plan.grid, problem.plan.steps)
