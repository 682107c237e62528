"""Recorded studies of the lessons, `assets/lessons/studies.json`: what the page shows before anybody measures."""

from __future__ import annotations

import time
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from e2crf_core.errors import LabError
from e2crf_core.io.json_files import read_model
from e2crf_core.io.provenance import Provenance
from e2crf_core.io.resources import assets_dir
from pages.ui.lessons.studies import SEED, STUDIES, LessonBench, StudyPoint


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
