"""The solver study: solvers with and without the cache, as `benchmarks.solver_study` measured them."""

import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import BeforeValidator, Field

from e2crf_core.quality.interval import Interval
from e2crf_core.quality.intervals import seed_spread
from e2crf_core.quality.pareto import pareto_front
from pages.ui.common import library
from pages.ui.evidence.files import Stored, read_each

COMMAND = "python -m benchmarks.solver_study"
CONVERGED = "to_converged"
"""Relative L2 to the converged solution on the same noise, for rows that add no noise at their steps."""


def _interval(stored: object) -> object:
    """Return the parts of an interval; a file calls its value `value` or `median`."""
    if not isinstance(stored, dict):
        return stored
    return {"value": stored.get("value", stored.get("median"))} | {k: stored.get(k) for k in ("low", "high")}


Finite = Annotated[Interval, BeforeValidator(_interval)]


class CachePart(Stored):
    """The part of a policy that the page names."""

    trigger: str


class SolverConfig(Stored):
    """The configuration of a row."""

    name: str
    solver: str
    grid: str
    steps: int = Field(gt=0)
    policy: CachePart | None = None


class RatedSolver(Stored):
    """A row: its configuration, its cost, and a value for each metric."""

    config: SolverConfig
    token_share: float = Field(gt=0)
    flops: float = Field(gt=0)
    seconds: Finite
    speedup: Finite
    values: dict[str, Finite] = Field(validation_alias="metrics")

    @property
    def trigger(self) -> str:
        """The rule of the cache, or `none`."""
        return "none" if self.config.policy is None else self.config.policy.trigger


class SolverTable(Stored):
    """The evaluation of one checkpoint. `floors` are those of real data by metric, for all but `CONVERGED`."""

    dataset: str
    num: int
    repeats: int
    reference: str
    machine: dict[str, Any]
    titles: dict[str, str]
    units: dict[str, str]
    floors: dict[str, Finite]
    reading: tuple[str, ...]
    rows: tuple[RatedSolver, ...]
    to_converged: dict[str, tuple[float, ...]] = Field(default_factory=dict)

    @property
    def call_flops(self) -> float:
        """Operations of one uncached network call for one sample, from the reference."""
        row = next(r for r in self.rows if r.config.name == self.reference)
        return row.flops / (row.config.steps * row.token_share)

    def calls(self, row: RatedSolver) -> float:
        """Return the uncached network calls that a row's operations amount to."""
        return row.flops / self.call_flops

    def rated(self, metric: str) -> tuple[RatedSolver, ...]:
        """Return the rows that have a value."""
        return tuple(row for row in self.rows if metric in row.values)

    def front(self, cost: Callable[[RatedSolver], float], metric: str) -> set[str]:
        """Return the names of the rows that no other row beats in both cost and mean value."""
        return pareto_front(
            {row.config.name: (cost(row), row.values[metric].value) for row in self.rated(metric)}
        )


def _with_converged(row: RatedSolver, converged: dict[str, tuple[float, ...]]) -> RatedSolver:
    """Add a row's distance to the converged solution to its values, if it was measured."""
    if row.config.name not in converged:
        return row
    return row.model_copy(
        update={"values": row.values | {CONVERGED: seed_spread(converged[row.config.name])}}
    )


def _table(_: str, stored: SolverTable) -> SolverTable:
    """Check a stored evaluation, and add what the page says beyond it."""
    rows = tuple(_with_converged(row, stored.to_converged) for row in stored.rows)
    titles, units = dict(stored.titles), dict(stored.units)
    if not all(set(titles) <= set(row.values) for row in rows):
        raise ValueError("rows lack values")
    if any(CONVERGED in row.values for row in rows):
        titles[CONVERGED], units[CONVERGED] = "relative L2 to the converged solution", "same noise"
    if stored.reference not in {row.config.name for row in rows}:
        raise ValueError(f"the reference row {stored.reference!r} is missing")
    return stored.model_copy(update={"rows": rows, "titles": titles, "units": units})


@lru_cache(maxsize=8)
def _tables(path: Path, _: library.Stamp) -> dict[str, SolverTable]:
    return read_each(path, COMMAND, SolverTable, _table)


def read_tables(path: Path) -> dict[str, SolverTable]:
    """Read the evaluations of a file by checkpoint. Raises LabError that names the file."""
    return _tables(path, library.stamp(path))


def table_frame(table: SolverTable) -> pd.DataFrame:
    """Return every row of an evaluation with its values, fast ones first."""
    rows = []
    for row in sorted(table.rows, key=lambda r: r.seconds.value):
        line: dict[str, Any] = {
            "name": row.config.name,
            "solver": row.config.solver,
            "grid": row.config.grid,
            "network calls": row.config.steps,
            "cache": row.trigger,
            "tokens %": 100 * row.token_share,
            "equivalent calls": table.calls(row),
            "seconds": row.seconds.value,
            "speed": row.speedup.value,
        }
        for metric, title in table.titles.items():
            value = row.values.get(metric, Interval(math.nan, math.nan, math.nan))
            line |= {title: value.value, f"{title} low": value.low, f"{title} high": value.high}
        rows.append(line)
    return pd.DataFrame(rows)
