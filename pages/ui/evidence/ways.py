"""Other ways to run the network: outside Python, and in other precisions, as the benchmarks measured them."""

from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field

from e2crf_core.quality.interval import Interval
from pages.ui.evidence.files import Stored, read_whole
from pages.ui.evidence.solver_table import Finite

OUTSIDE_COMMAND = "python -m benchmarks.outside"
BACKENDS_COMMAND = "python -m benchmarks.backends"
NO_CACHE = "no cache"
EAGER = "eager"


class OutsideWay(Stored):
    """A way to draw one batch: its seconds, and how many times as fast as Python it is."""

    name: str
    seconds: Finite
    over_python: Finite


class OutsideBatch(Stored):
    """The ways at one batch size: drawing alone, and whole programs from their start to a file."""

    batch: int = Field(gt=0)
    rows: tuple[OutsideWay, ...] = Field(min_length=1)
    programs: tuple[OutsideWay, ...] = ()


class OutsidePlan(Stored):
    """What was drawn, on how many threads."""

    checkpoint: str
    policy: str
    steps: int
    threads: int


class Outside(Stored):
    """The whole file of `benchmarks.outside`; `equal` is each way's largest difference from Python's samples."""

    machine: dict[str, Any]
    plan: OutsidePlan
    equal: dict[str, float]
    bar: float
    batches: tuple[OutsideBatch, ...] = Field(min_length=1)


class Combination(Stored):
    """A backend with a policy: how many times as fast as float32 without a cache, and its error to that."""

    backend: str
    policy: str
    relative_l2: Finite
    speedup: Finite | None = None
    verdict: str | None = None


class NestedTime(Stored):
    """A backend's run with nested bands: how many times as fast as eager's it is."""

    backend: str
    batch: int
    over_eager: Finite


class DataCombinations(Stored):
    """The combinations of one checkpoint, its runs with nested bands, and why backends are missing."""

    errors: tuple[Combination, ...] = Field(min_length=1)
    nested: tuple[NestedTime, ...] = ()
    missing: dict[str, str] = Field(default_factory=dict)


class Combinations(Stored):
    """The part of the file of `benchmarks.backends` that is shown."""

    machine: dict[str, Any]
    data: dict[str, DataCombinations] = Field(min_length=1)


def read_outside(path: Path) -> Outside:
    """Read a file of the benchmark. Raises LabError that names it."""
    return read_whole(path, OUTSIDE_COMMAND, Outside)


def read_combinations(path: Path) -> Combinations:
    """Read a file of the benchmark. Raises LabError that names it."""
    return read_whole(path, BACKENDS_COMMAND, Combinations)


def outside_frame(measured: Outside) -> pd.DataFrame:
    """Return every way at every batch size as a table."""
    return pd.DataFrame(
        {
            "samples": one.batch,
            "what is timed": timed,
            "way": way.name,
            "seconds": way.seconds.value,
            "speed": way.over_python.value,
            "speed low": way.over_python.low,
            "speed high": way.over_python.high,
            "largest difference": measured.equal.get(way.name, 0.0),
        }
        for one in measured.batches
        for timed, ways in (("drawing", one.rows), ("program, start to file", one.programs))
        for way in ways
    )


def outside_sentence(measured: Outside) -> str:
    """Say how fast drawing is outside Python, and whether the samples are the same."""
    first = measured.batches[0]
    times = [
        f"{way.name} {spread(way.over_python, 3)} times as fast"
        for way in first.rows
        if way.name in measured.equal
    ]
    worst = max(measured.equal.values(), default=0.0)
    same = "the same" if worst <= measured.bar else "NOT the same"
    return (
        f"Drawing {first.batch} at a time, beside Python: {', '.join(times)}. Samples are {same}: they differ by at "
        f"most {worst:.1g} in units of standardized data (goal: {measured.bar:.0g})."
    )


def combinations_frame(rows: tuple[Combination, ...]) -> pd.DataFrame:
    """Return the combinations as a table."""
    return pd.DataFrame(
        {
            "backend": row.backend,
            "cache": row.policy,
            "speed": None if row.speedup is None else row.speedup.value,
            "speed low": None if row.speedup is None else row.speedup.low,
            "speed high": None if row.speedup is None else row.speedup.high,
            "relative L2": row.relative_l2.value,
            "relative L2 low": row.relative_l2.low,
            "relative L2 high": row.relative_l2.high,
            "verdict": row.verdict or "",
        }
        for row in rows
    )


def together_sentence(rows: tuple[Combination, ...], backend: str) -> str | None:
    """Say what a backend and the cache change alone and together; None if one of them was not measured."""
    found = {(row.backend, row.policy): row.relative_l2 for row in rows}
    for policy in dict.fromkeys(row.policy for row in rows if row.policy != NO_CACHE):
        three = [found.get(key) for key in ((EAGER, policy), (backend, NO_CACHE), (backend, policy))]
        if all(three):
            cache, precision, both = (spread(one) for one in three if one is not None)
            return (
                f"{backend}: the cache ({policy}) alone changes samples by {cache}, the precision alone by "
                f"{precision}, both together by {both}."
            )
    return None


def nested_sentence(rows: tuple[NestedTime, ...], backend: str) -> str | None:
    """Say how fast nested bands are on a backend beside eager; None if that was not measured."""
    times = [
        f"{spread(row.over_eager, 3)} with {row.batch} samples" for row in rows if row.backend == backend
    ]
    return (
        f"{backend}: nested bands run this many times as fast as eager: {', '.join(times)}."
        if times
        else None
    )


def spread(interval: Interval, digits: int = 2) -> str:
    """Return an interval in words."""
    value, low, high = (f"{x:.{digits}g}" for x in (interval.value, interval.low, interval.high))
    return f"{value} ({low} to {high})"
