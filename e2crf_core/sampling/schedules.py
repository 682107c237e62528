"""Find refresh times of bands by dynamic programming over tables of squared error (E5).

A band that was computed at call a (and p before it) and is predicted until call j leaves finished samples
with the squared error

    T(p, a, j) = mean over samples of  sum_k w_k | sum_{a <= i < j} W_i (P_i - F_i) |²
    P_i = F_a + (F_a - F_p) (t_i - t_a) / (t_a - t_p)

where t is the policy's clock, W the (amplified) influence, w the weights of coordinates, and F from one pilot
run; holding drops the second term of P. Before its first refresh a band has F = 0, the exact denoiser of
Gaussian data, so a late start is a choice like any other. Errors of different stretches and bands are assumed
to add up in squares.

For a price per whole forward, the best refresh times of a group of bands follow by dynamic programming over
(p, a). Bands are handled from low to high; a higher group chooses among the times of the group below it,
because a refresh of a band also runs all tokens below it. All ways to group neighboring bands are tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

PRICES = np.concatenate(
    [np.geomspace(3.0, 0.1, 10), np.geomspace(0.09, 3e-6, 80), np.geomspace(2e-6, 1e-7, 8)]
)
"""Prices of a whole forward, in units of squared relative error, that make up a frontier.

They are dense where plans have errors between 0.01 and 0.3.
"""


@dataclass(frozen=True)
class RefreshSchedule:
    """The prefix lengths to run at each call of a plan (0: none), with predicted relative error and cost.

    `error` is in units of the data (E5: of the weights); `cost` is in whole forwards.
    """

    prefixes: tuple[int, ...]
    error: float
    cost: float

    @property
    def calls(self) -> int:
        """Return the number of calls at which anything runs."""
        return sum(m > 0 for m in self.prefixes)


@dataclass(frozen=True)
class ErrorTables:
    """The squared errors of predicting each band between refreshes at candidate calls.

    `candidates` (K,) are calls, out of `steps`, at which a refresh may happen; `edges` are the bands' upper
    edges; `cost` (bands,) is the cost of running the tokens below an edge, in whole forwards. `start` (bands,
    K + 1) is the error of not running a band before candidate j (K: never), and `error` (bands, K + 1, K, K +
    1) that of predicting it from a (and p before it; K: none) until j (K: the end), inf unless p < a < j.
    """

    steps: int
    candidates: tuple[int, ...]
    edges: tuple[int, ...]
    cost: np.ndarray
    start: np.ndarray
    error: np.ndarray

    def predicted(self, prefixes: Sequence[int]) -> float:
        """Predict, from the tables, the relative error of a schedule that refreshes only at candidates."""
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
        """Return the cost of a schedule in whole forwards."""
        each = {0: 0.0, **dict(zip(self.edges, self.cost.tolist(), strict=True))}
        return sum(each[m] for m in prefixes)

    def best(
        self, bands: slice, price: float, allowed: tuple[int, ...] | None = None
    ) -> tuple[float, tuple[int, ...]]:
        """Return a band group's refresh times, within `allowed`, that minimize error + price * refreshes.

        Returns (squared error, indices of candidates).
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
        """Return the best schedule that runs all tokens or none, at a price of a whole forward."""
        return self._schedule([(len(self.edges), self.best(slice(None), price * self.cost[-1])[1])])

    def nested(self, price: float) -> RefreshSchedule:
        """Return the best schedule of nested bands at a price of a whole forward, over all groupings."""
        options = self._groupings(0, price, None)
        return self._schedule(min(options, key=lambda option: option[0])[1])

    def _groupings(
        self, first: int, price: float, allowed: tuple[int, ...] | None
    ) -> Iterator[tuple[float, list[tuple[int, tuple[int, ...]]]]]:
        """Yield (error + price, [(bands below group end, refreshes)]) of groupings from band `first` up."""
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
        """Return schedules of nested bands in order of cost, each with less error than all before it.

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
