"""Studies of this server: started, found again, stopped and resumed by name. Knows nothing of Streamlit.

A study is a folder `studies/NAME` of the user's own, as `tune --out` writes it; what the pages add stands in `jobs/`
(see `processes`) and `cards/`. So studies of the command line are found like those of the pages.
"""

import shutil
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from e2crf_core.errors import LabError
from e2crf_core.io.userfiles import user_folder, user_names
from e2crf_core.models.checkpoints import list_checkpoints
from e2crf_core.tuning.choice import importance
from e2crf_core.tuning.measure import StudySpec
from e2crf_core.tuning.record import STORE, Record, StudyReader, begun
from e2crf_core.tuning.space import SearchSpace
from e2crf_core.tuning.warnings import Caution, Inert
from pages.ui.common import library
from pages.ui.jobs.processes import Processes, read_json, write_json
from pages.ui.tune.study_worker import RESULT, advice_job, card_folder

RUNNING = ("starting", "preparing", "reference", "searching", "advising", "measuring")
SEARCH = "search"
MODULE = "pages.ui.tune.study_worker"
SPACE_FIELDS = ("triggers", "fields", "solvers", "grids", "steps")


@dataclass(frozen=True)
class JobState:
    """What is known of a job. `status`: one of RUNNING, or done, stopped, failed, interrupted.

    `spent` and `minutes` are a search's budget (seconds, minutes over all sessions), `share` is how much of the
    present phase is done where it can be said, after `seconds` in it.
    """

    status: str
    error: str = ""
    spent: float = 0.0
    minutes: float = 0.0
    share: float = 0.0
    seconds: float = 0.0

    @property
    def seconds_left(self) -> float | None:
        """Of the present phase, None while nothing can be said."""
        return self.seconds * (1 - self.share) / self.share if self.share > 0.05 else None

    @property
    def running(self) -> bool:
        """Whether its process is at work."""
        return self.status in RUNNING


@dataclass(frozen=True)
class Advice:
    """What was measured for the warnings of one point."""

    inert: tuple[Inert, ...]
    warnings: tuple[Caution, ...]


def space_of(space: SearchSpace) -> dict[str, Any]:
    """A search space as a job file says it: without what is measured."""
    return {name: list(getattr(space, name)) for name in SPACE_FIELDS}


# ---- what is stored


def study_folder(name: str) -> Path:
    """Folder of a study. Raises LabError for a name that could escape."""
    return user_folder("studies", name)


@lru_cache(maxsize=4)
def _reader(folder: Path, _: int) -> StudyReader:
    return StudyReader(folder)


def reader_of(name: str) -> StudyReader | None:
    """The reader of a study, None before its storage is there. Raises LabError for a damaged one."""
    folder = study_folder(name)
    return _reader(folder, (folder / STORE).stat().st_ino) if begun(folder) else None


def record_of(name: str) -> Record | None:
    """What is known of a study, None before anything is. Raises LabError for a damaged one."""
    reader = reader_of(name)
    return None if reader is None else reader.read()


def importance_of(name: str, ended: int) -> dict[str, dict[str, float]]:
    """Which knobs matter (see `importance`), asked again only when more trials have `ended`."""
    reader = reader_of(name)
    return {} if reader is None else _importance(reader, ended)


@lru_cache(maxsize=16)
def _importance(reader: StudyReader, _: int) -> dict[str, dict[str, float]]:
    return importance(reader.study)


def checkpoint_of(digest: str) -> str | None:
    """Name of the checkpoint with these weights, where it is here."""
    for name in list_checkpoints():
        with suppress(LabError):
            if _digest(name, library.model_stamp(name)) == digest:
                return name
    return None


@lru_cache(maxsize=64)
def _digest(name: str, _: library.Stamp) -> str:
    return library.model(name).digest()


def advice_of(name: str, trial: int) -> Advice | None:
    """The warnings that were measured for a trial, by the pages or by the command line; None where none were."""
    folder = study_folder(name)
    found = read_json(folder / "jobs" / advice_job(trial) / RESULT)
    try:
        if found is None:
            report = read_json(folder / "study.json")
            if report is None or report["choice"]["number"] != trial:
                return None
            found = report
        return Advice(
            tuple(Inert(**i) for i in found["inert"]), tuple(Caution(**w) for w in found["warnings"])
        )
    except (KeyError, TypeError):
        return None


def card_of(name: str, trial: int) -> Path | None:
    """The folder with the card of a trial, None where there is none."""
    folder = card_folder(study_folder(name), trial)
    return folder if (folder / "card.json").is_file() else None


# ---- jobs


class StudyJobs:
    """Searches, advices and cards, one process at a time: two would spoil the times that both measure.

    Safe to call from any thread.
    """

    def __init__(self) -> None:
        self.processes = Processes()
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """All studies of the user's folder, the youngest first."""

        def age(name: str) -> float:
            folder = study_folder(name)
            times = [p.stat().st_mtime for p in (folder / STORE, self._job(name) / "job.json") if p.exists()]
            return max(times, default=0.0)

        found = {*user_names("studies", STORE), *user_names("studies", "jobs")}
        return sorted(found, key=age, reverse=True)

    def start(
        self,
        name: str,
        checkpoint: str,
        minutes: float,
        spec: StudySpec,
        space: SearchSpace,
        reference_steps: int | None = None,
    ) -> None:
        """Begin a study. Raises LabError when it cannot begin."""
        if study_folder(name).exists():
            raise LabError(f"there is a study {name!r} already: choose another name")
        if spec.quality == "relative_l2" and not space.one_plan:
            raise LabError("relative L2 needs one solver, one grid and one number of steps")
        library.model(checkpoint)
        order = {
            "task": SEARCH,
            "checkpoint": checkpoint,
            "minutes": minutes,
            "spec": asdict(spec),
            "space": space_of(space),
            "reference_steps": reference_steps,
        }
        self._begin(name, SEARCH, order)

    def resume(self, name: str, minutes: float) -> None:
        """Search on until `minutes` over all sessions are spent. Raises LabError where that cannot be."""
        order = self._order(name)
        self._begin(name, SEARCH, {**order, "task": SEARCH, "minutes": minutes})

    def advise(self, name: str, trial: int) -> None:
        """Measure the warnings of a trial."""
        self._begin(name, advice_job(trial), {**self._order(name), "task": "advice", "trial": trial})

    def make_card(self, name: str, trial: int, *, num: int, seed: int, batch: int) -> None:
        """Measure the policy card of a trial."""
        order = {"task": "card", "trial": trial, "num": num, "seed": seed, "batch": batch}
        self._begin(name, f"card-{trial}", {**self._order(name), **order})

    def stop(self, name: str, job: str = SEARCH) -> None:
        """Ask a job to end; nothing that was measured is lost."""
        self.processes.stop(self._job(name, job))

    def state(self, name: str, job: str = SEARCH) -> JobState | None:
        """What is known of a job, None when there never was one."""
        folder = self._job(name, job)
        order = read_json(folder / "job.json")
        if order is None:
            return None
        said = self.processes.said(folder, RUNNING)
        return JobState(
            str(said["status"]),
            str(said.get("error", "")),
            float(said.get("spent", 0.0)),
            float(said.get("minutes", order.get("minutes", 0.0))),
            float(said.get("share", 0.0)),
            float(said.get("seconds", 0.0)),
        )

    def running(self) -> tuple[str, str] | None:
        """(study, job) at work: a process that has said its last word and only has to exit is not."""
        for folder in self.processes.at_work():
            name, job = folder.parents[1].name, folder.name
            state = self.state(name, job)
            if state is not None and state.running:
                return name, job
        return None

    def remove(self, name: str) -> None:
        """Delete a study with all that belongs to it. Raises LabError while a process is at work on it."""
        folder = study_folder(name)
        with self._lock:
            busy = [job for job in self.processes.at_work() if job.parents[1] == folder]
            if busy:
                raise LabError(f"study {name!r} is at work: stop it first")
            _reader.cache_clear()
            _importance.cache_clear()
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """End all processes and wait for them."""
        self.processes.close()

    def _job(self, name: str, job: str = SEARCH) -> Path:
        return study_folder(name) / "jobs" / job

    def _order(self, name: str) -> dict[str, Any]:
        """What a study was begun with: from the pages' own file, else from its storage."""
        order = read_json(self._job(name) / "job.json")
        record = record_of(name)
        if record is None:
            if order is None:
                raise LabError(f"the study {name!r} holds nothing to go on from")
            return order
        checkpoint = checkpoint_of(record.digest)
        if checkpoint is None:
            raise LabError(f"the checkpoint that study {name!r} was made on is not here, or has changed")
        return {"checkpoint": checkpoint, "spec": asdict(record.spec), "space": space_of(record.space)}

    def _begin(self, name: str, job: str, order: dict[str, Any]) -> None:
        with self._lock:
            busy = self.running()
            if busy is not None:
                raise LabError(
                    f"the study {busy[0]!r} is at work: one measures at a time, so that times are right."
                    " Stop it, or wait until it is done"
                )
            folder = self._job(name, job)
            write_json(folder / "job.json", order)
            self.processes.launch(MODULE, folder)


JOBS = StudyJobs()
