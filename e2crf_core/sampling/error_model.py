"""Predict what reusing each band from one call to another costs (E5), from what was measured once per checkpoint.

The outputs F of every call of an uncached pilot run, together with the influence W of `influence.py`, scaled by
the measured amplification, predict the error of any schedule of refreshes; `schedules.py` plans with `tables`, and
`error_measurement.py` measures. All errors are relative: 1 is the error of a sample that shares only the
mean with its uncached twin. `detail` 0 gives all errors equal weight, in units of the data's standard
deviation; 1 first divides each coordinate's error by its own variance, so that weak high bands have the same
weight as strong low ones; values in between mix the two squared errors.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from e2crf_core.caching.policy import CLOCKS
from e2crf_core.sampling.schedules import ErrorTables, RefreshSchedule

DETAILS = (0.0, 1.0)
"""The values of `detail` that are measured; all others are mixed from them."""


@dataclass(frozen=True, eq=False)
class ErrorModel:
    """The results of a pilot run for one checkpoint and plan.

    The plan has `steps` calls; `candidates` (K,) are those that may refresh, and `ticks` (2, K) their times
    on the clocks of CLOCKS. `edges` are upper edges of the bands, and `cost` (bands,) the cost of running the
    tokens below an edge, in whole forwards. `outputs` (K, B, n, 2M) is F at the candidates; `weight` (2, K + 1,
    n, 2M), `moment` (2, clocks, K + 1, n, 2M), and `change` (2, K + 1, B, n, 2M) are sums of W, of W times the
    clock, and of W F over calls before each candidate, and over all, with W amplified for each of DETAILS.
    `variance` (n, 2M) is that of the data's tokens, 0 for a masked coordinate. `amplification` (2, points, bands)
    belongs to `points` (points,) on log(a/s). `trials` (2, T, 2) are predicted and measured errors, both increasing, of
    plans that were tried, for each of DETAILS; (2, 0, 2) if none was.
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
    trials: np.ndarray

    @property
    def bands(self) -> list[tuple[int, int]]:
        """Return first and last-plus-one token of each band."""
        return list(zip((0, *self.edges[:-1]), self.edges, strict=True))

    def corrected(self, error: np.ndarray | float, detail: float = 0.0) -> np.ndarray:
        """Return predicted errors, corrected by the trials: their ratios are interpolated over the logarithm."""
        errors = np.asarray(error, dtype=np.float64)
        if not self.trials.size:
            return errors
        logarithm = np.log(np.maximum(errors, np.finfo(np.float64).tiny))
        for which, share in shares(detail):
            predicted, measured = np.log(self.trials[which]).T
            errors = errors * np.exp(share * np.interp(logarithm, predicted, measured - predicted))
        return errors

    @functools.lru_cache(maxsize=8)  # noqa: B019 (an error model lives as long as the process)
    def tables(self, detail: float = 0.0, linear: bool = True, clock: str = "profile") -> ErrorTables:
        """Return squared relative errors of every stretch; `linear`: outputs are extrapolated, not held."""
        end, count = len(self.candidates), len(self.edges)
        start = np.zeros((count, end + 1))
        error = np.zeros((count, end + 1, end, end + 1))
        for which, share in shares(detail):
            root = np.sqrt(error_weights(self.variance, DETAILS[which]))
            for band in range(count):
                first, rest = self._band_tables(which, band, root, linear, CLOCKS.index(clock))
                start[band] += share * first
                error[band] += share * rest
        return ErrorTables(self.steps, self.candidates, self.edges, self.cost, start, error)

    def _band_tables(
        self, which: int, place: int, root: np.ndarray, linear: bool, clock: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the tables of one band (see schedules.T). Square roots of weights are folded into W."""
        band, samples, end = slice(*self.bands[place]), self.outputs.shape[1], len(self.candidates)
        root = root[band]
        f = self.outputs[:, :, band].astype(np.float64).reshape(end, samples, -1)
        a0 = (self.weight[which][:, band] * root).reshape(end + 1, 1, -1)
        a1 = (self.moment[which, clock][:, band] * root).reshape(end + 1, 1, -1)
        af = (self.change[which][:, :, band] * root).reshape(end + 1, samples, -1)
        ticks, error = self.ticks[clock], np.full((end + 1, end, end + 1), np.inf)
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
        return np.square(af).sum((1, 2)) / samples, error

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
        total = 0.0
        for which, share in shares(detail):
            weights = error_weights(self.variance, DETAILS[which])
            squares = self._squares(computed, which, weights, linear, clock, signed=signed)
            total += share * float(squares.sum())
        return float(self.corrected(total**0.5, detail))

    def by_token(self, computed: np.ndarray, linear: bool = True, clock: str = "profile") -> np.ndarray:
        """Predict the mean square error (n,) of each token over the data's variance; arguments as for `predicted`."""
        known = self.variance > 0
        squares = self._squares(computed, 0, error_weights(self.variance, 1.0), linear, clock)
        plain = self._squares(computed, 0, error_weights(self.variance, 0.0), linear, clock).sum() ** 0.5
        ratio = float(self.corrected(plain)) / plain if plain else 1.0
        return ratio**2 * squares * known.sum() / np.maximum(known.sum(1), 1)

    def _squares(
        self,
        computed: np.ndarray,
        which: int,
        weights: np.ndarray,
        linear: bool,
        clock: str,
        *,
        signed: bool = False,
    ) -> np.ndarray:
        """Return the weighted square errors (n,) of all tokens, means over the pilot's samples."""
        starts = [*self.candidates, self.steps]
        refreshed = np.stack([computed[a:b].any(0) for a, b in pairwise(starts)])
        paths, owner = np.unique(refreshed, axis=1, return_inverse=True)
        squares = np.zeros(len(weights))
        for column, path in enumerate(paths.T):
            tokens = np.flatnonzero(owner == column)
            refreshes = np.flatnonzero(path).tolist()
            stretches = self._stretches(which, tokens, refreshes, linear, CLOCKS.index(clock))
            for part in [sum(stretches)] if signed else stretches:
                squares[tokens] += (np.square(part) * weights[tokens]).sum((0, 2))
        return squares / self.outputs.shape[1]

    def _stretches(
        self, which: int, tokens: np.ndarray, path: list[int], linear: bool, clock: int
    ) -> Iterator[np.ndarray]:
        """Yield errors (B, t, 2M) of finished tokens for each stretch between refreshes in `path`."""
        end, ticks, moment = len(self.candidates), self.ticks[clock], self.moment[which, clock][:, tokens]
        weight, change = self.weight[which][:, tokens], self.change[which][:, :, tokens]
        outputs = self.outputs[:, :, tokens]
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
        schedules = self.tables(detail, linear, clock).frontier()
        return tuple(replace(each, error=float(self.corrected(each.error, detail))) for each in schedules)

    def schedule(
        self, tau: float, detail: float = 0.0, linear: bool = True, clock: str = "profile"
    ) -> RefreshSchedule:
        """Return the frontier's cheapest schedule with predicted error at most tau, else the best one."""
        frontier = self.frontier(detail, linear, clock)
        return next((s for s in frontier if s.error <= tau), frontier[-1])


def _gap(way: np.ndarray) -> np.ndarray:
    """Return distances on the clock; infinite between two calls at one time, which give no slope."""
    return np.where(way > 0, way, np.inf)


def shares(detail: float) -> list[tuple[int, float]]:
    """Return the places in DETAILS that make up a `detail`, each with its share of the squared error."""
    return [(which, share) for which, share in enumerate((1.0 - detail, detail)) if share > 0]


def error_weights(variance: np.ndarray, detail: float) -> np.ndarray:
    """Return (n, 2M) weights of squared errors; they sum to 1 over a data-sized error for any `detail`."""
    known = variance > 0
    white = np.where(known, 1.0 / np.where(known, variance, 1.0), 0.0) / known.sum()
    return (1.0 - detail) * known / variance.sum() + detail * white


def sample_errors(
    tokens: np.ndarray, twin: np.ndarray, variance: np.ndarray, detail: float = 0.0
) -> np.ndarray:
    """Return (B,) relative errors of finished tokens (B, n, 2M) against uncached twins, as in the tables."""
    missed = np.asarray(tokens, dtype=np.float64) - twin
    return np.sqrt((np.square(missed) * error_weights(variance, detail)).sum((1, 2)))
