"""Recorded studies of the lessons, `assets/lessons/studies.json`: what the page shows before anybody measures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from e2crf_core.errors import LabError
from e2crf_core.io.json_files import read_model
from e2crf_core.io.provenance import Provenance
from e2crf_core.io.resources import assets_dir
from e2crf_core.lessons.studies import SEED, STUDIES, LessonBench, StudyPoint

COMMAND = "python -m benchmarks.lessons"
"""What records the studies."""
COST = "cost: network calls of all tokens"
TO_TWIN = "relative L2 to the uncached run"
TO_CONVERGED = "relative L2 to the converged solution"


@dataclass(frozen=True)
class Axes:
    """Titles of a study's axes; `log` for a logarithmic vertical axis. `both`: all networks share one plot."""

    x: str
    y: str
    log: bool = True
    both: bool = False


AXES = {
    "change": Axes("steps for which it is kept", TO_TWIN),
    "events": Axes("frequency k, middle of a band", "error, in standard deviations of the frequency"),
    "feedback": Axes(COST, TO_TWIN),
    "fewer": Axes("network calls", TO_CONVERGED),
    "causality": Axes(
        "steps since the upper tokens were computed", "relative error of F, k < 16", False, True
    ),
    "solver": Axes(COST, TO_CONVERGED),
}


class LessonStudy(BaseModel):
    """A study of one network: its points, the number of samples, how long it took, and its provenance."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    checkpoint: str
    samples: int
    seconds: float
    points: tuple[StudyPoint, ...]
    provenance: dict[str, Any]


class LessonRecord(BaseModel):
    """All recorded studies, by lesson."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    studies: dict[str, tuple[LessonStudy, ...]] = {}


def record_file() -> Path:
    """Return where the record is."""
    return assets_dir() / "lessons" / "studies.json"


def recorded(lesson: str) -> tuple[LessonStudy, ...]:
    """Return the recorded studies of a lesson; none if nothing is recorded. Raises LabError for a damaged file."""
    path = record_file()
    return _read(path, path.stat().st_mtime_ns).studies.get(lesson, ()) if path.is_file() else ()


@lru_cache(maxsize=4)
def _read(path: Path, _: int) -> LessonRecord:
    try:
        return read_model(LessonRecord, path)
    except LabError as fault:
        raise LabError(f"the recorded measurements are damaged: {fault.problem}") from None


def measured(lesson: str, name: str, bench: LessonBench) -> LessonStudy:
    """Measure a lesson on the network of a bench, to be shown as `name`. Raises Cancelled."""
    begin = time.monotonic()
    points = STUDIES[lesson](bench)
    provenance = Provenance.now(
        data=bench.data.digest, checkpoint=bench.model.digest(), seeds=(SEED,), batch=bench.sizes.num
    )
    return LessonStudy(
        checkpoint=name,
        samples=bench.sizes.num,
        seconds=round(time.monotonic() - begin, 1),
        points=tuple(points),
        provenance=provenance.to_json(),
    )


def table(studies: Sequence[LessonStudy], axes: Axes) -> list[dict[str, str]]:
    """Return the points of studies as people read them, a row each."""
    points = [point for study in studies for point in study.points]
    far = any(point.distance is not None for point in points)
    return [_row(point, axes.x == COST, far) for point in points]


def _row(point: StudyPoint, priced: bool, far: bool) -> dict[str, str]:
    """Return the texts of one point; `priced` adds its cost, `far` its distance to real data."""
    row = {"What": point.family, "Setting": point.label}
    if priced:
        row["Cost"] = f"{point.x:.1f}"
    error, change = point.error, point.distance
    row["Error"] = f"{error.value:.3f} ({error.low:.3f} to {error.high:.3f})"
    if far:
        row["Distance to real data"] = (
            ""
            if change is None
            else f"{100 * change.value:+.1f}% ({100 * change.low:+.1f} to {100 * change.high:+.1f})"
        )
    return row
