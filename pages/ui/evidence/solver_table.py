"""The solver study: solvers with and without the cache, as `benchmarks.solver_study` measured them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import AliasChoices, Field

from e2crf_core.quality.interval import Interval
from e2crf_core.quality.intervals import seed_spread
from e2crf_core.quality.pareto import pareto_front
from pages.ui.common import library
from pages.ui.evidence.files import Stored, read_each

COMMAND = "python -m benchmarks.solver_study"
CONVERGED = "to_converged"
"""Relative L2 to the converged solution on the same noise, for rows that add no noise at their steps."""


class StoredValue(Stored):
    """A measured value in the result file."""

    value: float = Field(validation_alias=AliasChoices("value", "median"))
    low: float
    high: float

    @property
    def interval(self) -> Interval:
        """The value with its interval."""
        return Interval(self.value, self.low, self.high)


class StoredPolicy(Stored):
    """The part of a policy that the page names."""

    trigger: str


class StoredConfig(Stored):
    """The configuration of a row."""

    name: str
    solver: str
    grid: str
    steps: int = Field(gt=0)
    policy: StoredPolicy | None = None


class StoredRated(Stored):
    """A row of the result file."""

    config: StoredConfig
    token_share: float = Field(gt=0)
    flops: float = Field(gt=0)
    seconds: StoredValue
    speedup: StoredValue
    metrics: dict[str, StoredValue]


class EqualError(Stored):
    """How many times as long the fastest solver alone takes for the error of a cached row."""

    row: str
    faster: float | None


class StoredTable(Stored):
    """The evaluation of one checkpoint in the result file."""

    dataset: str
    num: int
    repeats: int
    reference: str
    machine: dict[str, Any]
    titles: dict[str, str]
    units: dict[str, str]
    floors: dict[str, StoredValue]
    reading: tuple[str, ...]
    rows: tuple[StoredRated, ...]
    to_converged: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    equal_error: tuple[EqualError, ...] = ()


@dataclass(frozen=True)
class RatedSolver:
    """A row: its cost, and a value for each metric."""

    name: str
    solver: str
    grid: str
    steps: int
    trigger: str
    token_share: float
    flops: float
    seconds: Interval
    speedup: Interval
    values: dict[str, Interval]


@dataclass(frozen=True)
class SolverTable:
    """The evaluation of one checkpoint. `floors` are those of real data by metric, for all but `CONVERGED`."""

    checkpoint: str
    dataset: str
    num: int
    repeats: int
    reference: str
    machine: dict[str, Any]
    titles: dict[str, str]
    units: dict[str, str]
    floors: dict[str, Interval]
    reading: tuple[str, ...]
    rows: tuple[RatedSolver, ...]

    @property
    def call_flops(self) -> float:
        """Operations of one uncached network call for one sample, from the reference."""
        row = next(r for r in self.rows if r.name == self.reference)
        return row.flops / (row.steps * row.token_share)

    def calls(self, row: RatedSolver) -> float:
        """Return the uncached network calls that a row's operations amount to."""
        return row.flops / self.call_flops

    def rated(self, metric: str) -> tuple[RatedSolver, ...]:
        """Return the rows that have a value."""
        return tuple(row for row in self.rows if metric in row.values)

    def front(self, cost: Callable[[RatedSolver], float], metric: str) -> set[str]:
        """Return the names of the rows that no other row beats in both cost and mean value."""
        return pareto_front({row.name: (cost(row), row.values[metric].value) for row in self.rated(metric)})


def _rated(row: StoredRated, converged: dict[str, tuple[float, ...]]) -> RatedSolver:
    config = row.config
    values = {name: stored.interval for name, stored in row.metrics.items()}
    if config.name in converged:
        values[CONVERGED] = seed_spread(converged[config.name])
    return RatedSolver(
        name=config.name,
        solver=config.solver,
        grid=config.grid,
        steps=config.steps,
        trigger="none" if config.policy is None else config.policy.trigger,
        token_share=row.token_share,
        flops=row.flops,
        seconds=row.seconds.interval,
        speedup=row.speedup.interval,
        values=values,
    )


def _equal_error_sentence(errors: tuple[EqualError, ...]) -> list[str]:
    """Describe what solvers without a cache need for each cached row's error; [] when nothing was measured."""
    factors = [f"{e.faster:.2f} ({e.row})" for e in errors if e.faster is not None]
    if not factors:
        return []
    return [
        "To come as near to the converged solution as a cached row, the fastest solver alone, on the better "
        f"of its time grids, takes this many times as long: {', '.join(factors)}."
    ]


def _table(checkpoint: str, stored: StoredTable) -> SolverTable:
    rows = tuple(_rated(row, stored.to_converged) for row in stored.rows)
    titles, units = dict(stored.titles), dict(stored.units)
    if not all(set(titles) <= set(row.values) for row in rows):
        raise ValueError("rows lack values")
    if any(CONVERGED in row.values for row in rows):
        titles[CONVERGED], units[CONVERGED] = "relative L2 to the converged solution", "same noise"
    if stored.reference not in {row.name for row in rows}:
        raise ValueError(f"the reference row {stored.reference!r} is missing")
    return SolverTable(
        checkpoint=checkpoint,
        dataset=stored.dataset,
        num=stored.num,
        repeats=stored.repeats,
        reference=stored.reference,
        machine=stored.machine,
        titles=titles,
        units=units,
        floors={name: floor.interval for name, floor in stored.floors.items()},
        reading=(*stored.reading, *_equal_error_sentence(stored.equal_error)),
        rows=rows,
    )


@lru_cache(maxsize=8)
def _tables(path: Path, _: library.Stamp) -> dict[str, SolverTable]:
    return read_each(path, COMMAND, StoredTable, _table)


def read_tables(path: Path) -> dict[str, SolverTable]:
    """Read the evaluations of a file by checkpoint. Raises LabError that names the file."""
    return _tables(path, library.stamp(path))


def table_frame(table: SolverTable) -> pd.DataFrame:
    """Return every row of an evaluation with its values, fast ones first."""
    rows = []
    for row in sorted(table.rows, key=lambda r: r.seconds.value):
        line: dict[str, Any] = {
            "name": row.name,
            "solver": row.solver,
            "grid": row.grid,
            "network calls": row.steps,
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
