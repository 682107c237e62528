"""E5: refresh times of bands by dynamic programming over tables of squared error.

A band whose output was computed at calls a (and p before it) and is predicted until call j leaves finished samples
with the squared error

    T(p, a, j) = mean over samples of  sum_k w_k | sum_{a <= i < j} W_i (P_i - F_i) |²
    P_i = F_a + (F_a - F_p) (t_i - t_a) / (t_a - t_p)

with t the policy's clock, W the (amplified) influence, w the weights of coordinates and F taken from one pilot run;
holding drops the second term of P. Before its first refresh a band has F = 0, the exact denoiser of Gaussian data, so a
late start is a choice like any other. Errors of different stretches and bands are taken to add up in squares.

For a price per whole forward, the best refresh times of a group of bands follow by dynamic programming over (p, a).
Bands are treated from low to high; a higher group chooses among the times of the group below it, because a refresh of
a band runs all tokens below it, too. All ways to group neighboring bands are tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

PRICES = np.geomspace(3.0, 1e-7, 44)
"""Prices of a whole forward, in units of squared relative error, that make a frontier."""


@dataclass(frozen=True)
class RefreshSchedule:
    """Prefix lengths to run at each call of a plan, 0 for none, with predicted relative error and cost.

    `error` is in units of the data (E5: of the weights); `cost` is in whole forwards.
    """

    prefixes: tuple[int, ...]
    error: float
    cost: float

    @property
    def calls(self) -> int:
        """How often anything is run."""
        return sum(m > 0 for m in self.prefixes)


@dataclass(frozen=True)
class ErrorTables:
    """Squared errors of predicting each band between refreshes at candidate calls.

    `candidates` (K,) are calls at which a refresh may happen, out of `steps`; `edges` the bands' upper edges; `cost`
    (bands,) what running the tokens below an edge costs, in whole forwards. `start` (bands, K + 1) is the error of
    not running a band before candidate j (K: never), `error` (bands, K + 1, K, K + 1) that of predicting it from a
    (and p before it; K: none) until j (K: the end), inf where p < a < j does not hold.
    """

    steps: int
    candidates: tuple[int, ...]
    edges: tuple[int, ...]
    cost: np.ndarray
    start: np.ndarray
    error: np.ndarray

    def predicted(self, prefixes: Sequence[int]) -> float:
        """Relative error of any schedule that refreshes at candidates only, by the tables."""
        end = len(self.candidates)
        total = 0.0
        for band, edge in enumerate(self.edges):
            path = [k for k, call in enumerate(self.candidates) if prefixes[call] >= edge]
            if not path:
                total += float(self.start[band, end])
                continue
            total += float(self.start[band, path[0]])
            for before, a, until in zip([end, *path], path, [*path[1:], end], strict=False):
                total += float(self.error[band, before, a, until])
        return max(total, 0.0) ** 0.5

    def price(self, prefixes: Sequence[int]) -> float:
        """Cost of a schedule in whole forwards."""
        each = {0: 0.0, **dict(zip(self.edges, self.cost.tolist(), strict=True))}
        return sum(each[m] for m in prefixes)

    def best(
        self, bands: slice, price: float, allowed: tuple[int, ...] | None = None
    ) -> tuple[float, tuple[int, ...]]:
        """Refresh times of a group of bands, candidates among `allowed`, that minimize error + price * refreshes.

        -> (squared error, indices of candidates).
        """
        start, error = self.start[bands].sum(0), self.error[bands].sum(0)
        end = len(self.candidates)
        places = np.arange(end) if allowed is None else np.array(allowed, dtype=int)
        value = np.full((end + 1, end + 1), np.inf)  # [a, p]: cheapest way to refresh at p, then at a
        origin = np.full((end + 1, end + 1), end)
        value[places, end] = start[places] + price
        for a in places:
            later = np.append(places[places > a], end)
            through = value[a][:, None] + error[:, a, later]
            best = through.argmin(0)
            value[later, a] = through[best, np.arange(len(later))] + price * (later < end)
            origin[later, a] = best
        a = int(value[end, :end].argmin())
        if start[end] <= value[end, a]:
            return float(start[end]), ()
        total, path, until = float(value[end, a]), [], end
        while True:
            path.append(a)
            before = int(origin[until, a])
            if before == end:
                break
            until, a = a, before
        return total - price * len(path), tuple(reversed(path))

    def whole(self, price: float) -> RefreshSchedule:
        """The best schedule that runs all tokens or none, at a price of a whole forward."""
        return self._schedule([(len(self.edges), self.best(slice(None), price * self.cost[-1])[1])])

    def nested(self, price: float) -> RefreshSchedule:
        """The best schedule of nested bands at a price of a whole forward, over all groupings of bands."""
        options = self._groupings(0, price, None)
        return self._schedule(min(options, key=lambda option: option[0])[1])

    def _groupings(
        self, first: int, price: float, allowed: tuple[int, ...] | None
    ) -> Iterator[tuple[float, list[tuple[int, tuple[int, ...]]]]]:
        """(error + price, [(bands below the group's end, refreshes)]) of every grouping from band `first` up."""
        count = len(self.edges)
        if first == count:
            yield 0.0, []
            return
        if allowed == ():
            yield float(self.start[first:, -1].sum()), []
            return
        paid = self.cost[first - 1] if first else 0.0
        for last in range(first + 1, count + 1):
            each = price * (self.cost[last - 1] - paid)
            squared, path = self.best(slice(first, last), each, allowed)
            for rest, groups in self._groupings(last, price, path):
                yield squared + each * len(path) + rest, [(last, path), *groups]

    def _schedule(self, groups: list[tuple[int, tuple[int, ...]]]) -> RefreshSchedule:
        prefixes = [0] * self.steps
        for last, path in groups:
            for place in path:
                prefixes[self.candidates[place]] = self.edges[last - 1]
        return RefreshSchedule(tuple(prefixes), self.predicted(prefixes), self.price(prefixes))

    def frontier(self) -> tuple[RefreshSchedule, ...]:
        """Schedules of nested bands in order of cost, each with less error than all before it.

        The last one computes everything at every candidate.
        """
        full = [0] * self.steps
        for call in self.candidates:
            full[call] = self.edges[-1]
        found = [self.nested(float(price)) for price in PRICES]
        found.append(RefreshSchedule(tuple(full), self.predicted(full), self.price(full)))
        best: list[RefreshSchedule] = []
        for schedule in sorted(found, key=lambda s: (s.cost, s.error)):
            if not best or schedule.error < best[-1].error:
                best.append(schedule)
        return tuple(best)
