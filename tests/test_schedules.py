"""Refresh schedules by dynamic programming (E5) are never worse than brute force, and predictions hold."""

import itertools

import numpy as np
import pytest

from e2crf_core.sampling.schedules import ErrorTables


def random_tables(seed: int, calls: int = 4, bands: int = 2) -> ErrorTables:
    """Return tables of arbitrary errors: the laws of the dynamic program hold for any table."""
    rng = np.random.default_rng(seed)
    error = np.full((bands, calls + 1, calls, calls + 1), np.inf)
    for p, a, j in itertools.product(range(calls + 1), range(calls), range(calls + 1)):
        if (p < a or p == calls) and a < j:
            error[:, p, a, j] = rng.exponential(size=bands) * (j - a - 1)
    start = np.cumsum(rng.exponential(size=(bands, calls + 1)), axis=1)
    edges = tuple(4 * (b + 1) for b in range(bands))
    cost = np.cumsum(rng.uniform(0.2, 1.0, bands))
    return ErrorTables(calls, tuple(range(calls)), edges, cost / cost[-1], start, error)


def objective(tables: ErrorTables, prefixes: tuple[int, ...], price: float) -> float:
    return tables.predicted(prefixes) ** 2 + price * tables.price(prefixes)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("price", [3.0, 0.5, 0.05])
def test_whole_refreshes_equal_brute_force(seed: int, price: float) -> None:
    tables = random_tables(seed)
    options = itertools.product((0, tables.edges[-1]), repeat=tables.steps)
    best = min(objective(tables, prefixes, price) for prefixes in options)
    assert objective(tables, tables.whole(price).prefixes, price) == pytest.approx(best)


@pytest.mark.parametrize("seed", range(8))
def test_one_band_equals_brute_force_and_two_come_close_from_above(seed: int) -> None:
    """Bands are planned one after the other: two may miss the optimum, but never lose to a whole schedule."""
    for bands, price in itertools.product((1, 2), (2.0, 0.3, 0.03)):
        tables = random_tables(seed, bands=bands)
        options = itertools.product((0, *tables.edges), repeat=tables.steps)
        best = min(objective(tables, prefixes, price) for prefixes in options)
        mine = objective(tables, tables.nested(price).prefixes, price)
        assert mine >= best - 1e-12
        assert mine <= objective(tables, tables.whole(price).prefixes, price) + 1e-12
        if bands == 1:
            assert mine == pytest.approx(best)


@pytest.mark.parametrize("seed", range(4))
def test_a_frontier_trades_cost_for_error_and_ends_without_error(seed: int) -> None:
    frontier = random_tables(seed, calls=6, bands=3).frontier()
    cost, error = [s.cost for s in frontier], [s.error for s in frontier]
    assert cost == sorted(cost) and error == sorted(error, reverse=True)
    assert len(set(cost)) == len(cost)
    # Everything is computed from the first call on, so only errors that no refresh removes remain.
    assert error[-1] == pytest.approx(min(error))


def test_higher_bands_are_refreshed_only_with_lower_ones() -> None:
    """Runs compute prefixes, so nesting holds by construction; schedules name prefixes ending at edges."""
    tables = random_tables(3, calls=6, bands=3)
    for schedule in tables.frontier():
        assert set(schedule.prefixes) <= {0, *tables.edges}
        assert schedule.cost == pytest.approx(tables.price(schedule.prefixes))
