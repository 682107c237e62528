"""Read a stored study without taking part in it: for pages and reports, during the study or long after."""

from __future__ import annotations

import os
import socket
import sqlite3
import threading
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from e2crf_core.errors import LabError
from e2crf_core.io.files import process_alive
from e2crf_core.tuning.measure import Point, StudySpec, with_more
from e2crf_core.tuning.space import SearchSpace
from e2crf_core.tuning.storage import STORE, connect, stored_study
from e2crf_core.tuning.stored import (
    CUT,
    SCHEMA,
    UNSEALED,
    guarded,
    measured_point,
    read_attributes,
    why_failed,
)

READABLE = (*UNSEALED, SCHEMA)
_MAGIC = b"SQLite format 3\0"


@dataclass(frozen=True)
class Record:
    """The current state of a study.

    `points` are in the order of their trials, `failed` holds (trial, why) of settings that could not run. `floor`
    and `no_network`, the distances of real series and of a model without its network, are None where they were not
    measured. `spent` counts seconds over all sessions, `driver` is the process on this machine that works on it.
    """

    digest: str
    dataset: str
    device: str
    spec: StudySpec
    space: SearchSpace
    reference: Point | None
    points: tuple[Point, ...]
    failed: tuple[tuple[int, str], ...]
    floor: float | None
    no_network: float | None
    spent: float
    driver: int | None

    def __post_init__(self) -> None:
        """Reject trials that cannot be compared with one another. Raises LabError."""
        rungs = [rung for point in self.known for rung in point.rungs]
        more = [point.more for point in self.known if point.more is not None]
        spectral = [[rung.spectral for rung in part if rung.spectral] for part in (rungs, more)]
        for replicates in ([r.replicates for r in rungs], [r.replicates for r in more], *spectral):
            if len({len(values) for values in replicates}) > 1:
                raise LabError("its trials were measured on different numbers of resamples")

    @property
    def known(self) -> list[Point]:
        """Return all measured points, the reference first."""
        return [self.reference, *self.points] if self.reference is not None else list(self.points)

    def point(self, number: int | None) -> Point | None:
        """Return a measured point by its trial; -1 is the reference."""
        return next((p for p in self.known if p.number == number), None)


def begun(folder: Path) -> bool:
    """Return whether `folder` holds a study whose storage is set up.

    Does not use optuna, which would set the storage up itself and so disturb the process that does. Raises
    LabError for a damaged file.
    """
    path = folder / STORE
    if not path.is_file() or not path.stat().st_size:
        return False
    try:
        with closing(connect(path)) as database:
            return database.execute("select 1 from study_user_attributes limit 1").fetchone() is not None
    except sqlite3.OperationalError:
        return False  # the table is not there yet
    except sqlite3.DatabaseError as fault:
        raise LabError(f"the study in {folder} is damaged: {fault}") from None


class StudyReader:
    """A reader of a study's folder that parses each ended trial once. Safe to call from any thread."""

    def __init__(self, folder: Path) -> None:
        """Open the study in `folder`. Raises LabError if there is none that can be read."""
        self.folder = folder
        self._lock = threading.Lock()
        self._points: dict[int, Point] = {}
        self._failed: dict[int, str] = {}
        self._checked: dict[str, Any] = {}
        path = folder / STORE
        try:
            with path.open("rb") as file:
                begin = file.read(len(_MAGIC))
        except OSError as fault:
            raise LabError(f"{path} cannot be read: {fault.strerror}") from None
        if begin != _MAGIC:
            raise LabError(f"{path} is no study: it is damaged, or another kind of file")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.study = guarded(folder, lambda: stored_study(folder))

    def read(self) -> Record | None:
        """Return the current study, or None until its settings are written. Raises LabError if damaged."""
        with self._lock:
            return guarded(self.folder, self._read)

    def _read(self) -> Record | None:
        attrs = read_attributes(self.study)
        if "fingerprint" not in attrs or "space" not in attrs:
            return None
        if self._checked.get("fingerprint") != attrs["fingerprint"]:
            self._checked = self._settings(attrs)
        cost, schema = self._checked["spec"].cost, attrs["fingerprint"]["schema"]
        for trial in self.study.get_trials(deepcopy=False):
            number = trial.number
            if number in self._points or number in self._failed or not trial.state.is_finished():
                continue
            point = measured_point(trial, cost, schema)
            if point is not None:
                self._points[number] = point
            elif (why := why_failed(trial, schema)) != CUT:
                self._failed[number] = why
        stored, floor = attrs.get("reference"), attrs.get("floor")
        driver: dict[str, Any] = attrs.get("driver") or {}
        settings = {name: value for name, value in self._checked.items() if name != "fingerprint"}
        here = bool(driver) and driver["host"] == socket.gethostname() and process_alive(int(driver["pid"]))
        return Record(
            **settings,
            reference=with_more(Point.from_json(stored), attrs) if stored else None,
            points=tuple(with_more(self._points[number], attrs) for number in sorted(self._points)),
            failed=tuple(sorted(self._failed.items())),
            floor=None if floor is None else float(floor),
            no_network=None if attrs.get("no_network") is None else float(attrs["no_network"]),
            spent=float(attrs.get("spent", 0.0)),
            driver=int(driver["pid"]) if here and driver["pid"] != os.getpid() else None,
        )

    @staticmethod
    def _settings(attrs: dict[str, Any]) -> dict[str, Any]:
        mark = attrs["fingerprint"]
        if mark["schema"] not in READABLE:
            raise LabError(f"it has schema {mark['schema']!r}, this version reads {SCHEMA}")
        return {
            "fingerprint": mark,
            "digest": str(mark["checkpoint"]),
            "dataset": str(mark["dataset"]),
            "device": str(mark["device"]),
            "spec": StudySpec(**mark["spec"]),
            "space": SearchSpace.from_json(attrs["space"]),
        }
