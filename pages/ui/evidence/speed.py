"""Where time goes, as `benchmarks.speed` measured it: a waterfall of ideas, parts of a step, the floor, and curves."""

from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field

from pages.ui.evidence.files import Stored, read_whole
from pages.ui.evidence.solver_table import Finite

COMMAND = "python -m benchmarks.speed"
CHAINS = {
    "balanced": "1000 steps, the published sampler",
    "few": "40 steps of DPM-Solver++",
}
AXES = {
    "length": "length N (steps of a series)",
    "channels": "channels M",
    "batch": "batch (samples run together)",
    "layers": "layers of the network",
}


class Idea(Stored):
    """A row of a waterfall: seconds of a run, and how many times faster it is than the first and the previous row."""

    name: str
    seconds: Finite
    over_first: Finite
    over_previous: Finite


class Waterfall(Stored):
    """The rows of each chain, in order; `bar` is the least speedup of `balanced` over the first row."""

    chains: dict[str, tuple[Idea, ...]]
    bar: float | None = None
    missing: dict[str, str] = Field(default_factory=dict)


class StepParts(Stored):
    """A step: its seconds, the share of each part, and the share of what is not measured alone."""

    seconds: Finite
    shares: dict[str, Finite]
    rest: float


class MachineFloor(Stored):
    """A whole call beside the least seconds that its operations and bytes take on this machine."""

    call: Finite
    over_floor: Finite


class BatchSpeed(Stored):
    """What was measured at one batch size; a part that was left out is None."""

    batch: int = Field(gt=0)
    waterfall: Waterfall | None = None
    parts: dict[str, StepParts] | None = None
    floor: MachineFloor | None = None


class DataSpeed(Stored):
    """The measurements of one data set's network."""

    length: int
    channels: int
    tokens: int
    batches: tuple[BatchSpeed, ...] = Field(min_length=1)


class CurvePoint(Stored):
    """One size: seconds of a call, speedup of ten steps with one call over ten calls, and bytes held at most."""

    value: int = Field(gt=0)
    call_s: Finite
    speedup: Finite
    held_bytes: int = Field(ge=0)


class Curves(Stored):
    """Points along each axis; one step of `every` calls the network."""

    every: int
    axes: dict[str, tuple[CurvePoint, ...]]


class Speed(Stored):
    """The whole file."""

    machine: dict[str, Any]
    peak: dict[str, float]
    data: dict[str, DataSpeed] = Field(min_length=1)
    curves: Curves | None = None


def read_speed(path: Path) -> Speed:
    """Read a file of the benchmark. Raises LabError that names it."""
    return read_whole(path, COMMAND, Speed)


def waterfall_sentence(rows: tuple[Idea, ...], bar: float | None) -> str:
    """Say how much faster the fastest row is than the public network."""
    best = min(rows, key=lambda row: row.seconds.value)
    over = best.over_first
    text = f"From the public network to {best.name}: {over.value:.0f} times as fast ({over.low:.0f} to {over.high:.0f})"
    if bar is None:
        return f"{text}."
    return (
        f"{text}; the goal of {bar:.0f} is {'reached' if over.low >= bar else 'not reached with certainty'}."
    )


def waterfall_frame(rows: tuple[Idea, ...]) -> pd.DataFrame:
    """Return the rows of a waterfall as a table."""
    return pd.DataFrame(
        {
            "idea": row.name,
            "seconds": row.seconds.value,
            "seconds low": row.seconds.low,
            "seconds high": row.seconds.high,
            "over the public network": row.over_first.value,
            "over the row before": row.over_previous.value,
        }
        for row in rows
    )


def parts_frame(parts: dict[str, StepParts]) -> pd.DataFrame:
    """Return the share of each part of each kind of step, with what is left."""
    rows = [
        {
            "step": kind,
            "part": name,
            "%": 100 * share.value,
            "low %": 100 * share.low,
            "high %": 100 * share.high,
        }
        for kind, step in parts.items()
        for name, share in step.shares.items()
    ]
    rows += [
        {"step": kind, "part": "all else", "%": 100 * max(0.0, step.rest)} for kind, step in parts.items()
    ]
    return pd.DataFrame(rows)


def curve_frame(points: tuple[CurvePoint, ...], axis: str) -> pd.DataFrame:
    """Return the points of an axis as a table."""
    return pd.DataFrame(
        {
            axis: point.value,
            "call, ms": 1e3 * point.call_s.value,
            "speed": point.speedup.value,
            "speed low": point.speedup.low,
            "speed high": point.speedup.high,
            "memory, MB": point.held_bytes / 1e6,
        }
        for point in points
    )
