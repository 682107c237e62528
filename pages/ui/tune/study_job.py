"""Start, find, stop and resume this server's studies by name. Independent of Streamlit.

A study is the folder `studies/NAME` of the user folder, as `tune --out` writes it; the pages add `jobs/` (see
`jobs.processes`) and `cards/`. The pages therefore also find studies made on the command line.
"""

import shutil
import threading
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from e2crf_core.errors import LabError
from e2crf_core.io.userfiles import user_names
from e2crf_core.tuning.measure import StudySpec
from e2crf_core.tuning.record import STORE
from e2crf_core.tuning.space import SearchSpace
from pages.ui.common import library
from pages.ui.jobs.job import JobState, read_file, write_file
from pages.ui.jobs.processes import Processes
from pages.ui.tune.study_files import (
    advice_job,
    card_job,
    checkpoint_of,
    forget_readers,
    record_of,
    study_folder,
)

SEARCH = "search"
MORE_JOB = "more"
EXIT_S = 60
ORDER = "job.json"
MODULE = "pages.ui.tune.study_worker"


class SpaceOrder(BaseModel):
    """A search space without its measured ranges."""

    triggers: tuple[str, ...]
    fields: tuple[str, ...]
    solvers: tuple[str, ...]
    grids: tuple[str, ...]
    steps: tuple[int, int]

    @staticmethod
    def of(space: SearchSpace) -> "SpaceOrder":
        """Return the order for a search space."""
        return SpaceOrder(**{name: getattr(space, name) for name in SpaceOrder.model_fields})


class StudyOrder(BaseModel):
    """What a worker is asked to do with a study."""

    task: Literal["search", "advice", "card", "more"] = "search"
    checkpoint: str
    spec: StudySpec
    space: SpaceOrder
    minutes: float = 0.0
    reference_steps: int | None = None
    trial: int = 0
    num: int = 0
    seed: int = 0
    backend: str = "eager"


def job_folder(name: str, job: str = SEARCH) -> Path:
    """Return the folder of a job of a study. Raises LabError for a name that could escape."""
    return study_folder(name) / "jobs" / job


def order_of(name: str, job: str = SEARCH) -> StudyOrder | None:
    """Return what a job was asked to do; None when its job file is missing or damaged."""
    return read_file(job_folder(name, job) / ORDER, StudyOrder)


class StudyJobs:
    """Searches, advice and cards, one process at a time: two would spoil the times that both measure.

    Safe to call from any thread.
    """

    def __init__(self) -> None:
        self.processes = Processes()
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Return all studies of the user's folder, the newest first."""

        def age(name: str) -> float:
            files = (study_folder(name) / STORE, job_folder(name) / ORDER)
            return max((path.stat().st_mtime for path in files if path.exists()), default=0.0)

        return sorted({*user_names("studies", STORE), *user_names("studies", "jobs")}, key=age, reverse=True)

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
            raise LabError(f"there is already a study {name!r}", field="name", remedy="choose another name")
        if spec.quality == "relative_l2" and not space.one_plan:
            raise LabError("relative L2 needs one solver, one grid and one number of steps")
        library.model(checkpoint)
        order = StudyOrder(
            checkpoint=checkpoint,
            minutes=minutes,
            spec=spec,
            space=SpaceOrder.of(space),
            reference_steps=reference_steps,
        )
        self._begin(name, SEARCH, order)

    def resume(self, name: str, minutes: float) -> None:
        """Continue until `minutes` over all sessions are spent. Raises LabError when that is impossible."""
        self._begin(name, SEARCH, self._order(name).model_copy(update={"minutes": minutes}))

    def advise(self, name: str, trial: int) -> None:
        """Measure the warnings of a trial."""
        order = self._order(name).model_copy(update={"task": "advice", "trial": trial})
        self._begin(name, advice_job(trial), order)

    def make_card(self, name: str, trial: int, *, num: int, seed: int, backend: str = "eager") -> None:
        """Measure the policy card of a trial on `num` samples, with the network on a backend."""
        changes = {"task": "card", "trial": trial, "num": num, "seed": seed, "backend": backend}
        self._begin(name, card_job(trial), self._order(name).model_copy(update=changes))

    def measure_more(self, name: str, trial: int, num: int) -> None:
        """Measure a trial and the reference on `num` samples, where fewer could not decide."""
        changes = {"task": "more", "trial": trial, "num": num}
        self._begin(name, MORE_JOB, self._order(name).model_copy(update=changes))

    def stop(self, name: str, job: str = SEARCH) -> None:
        """Ask a job to end; nothing that was measured is lost."""
        self.processes.stop(job_folder(name, job))

    def state(self, name: str, job: str = SEARCH) -> JobState | None:
        """Return the progress of a job, None when there never was one."""
        order = order_of(name, job)
        if order is None:
            return None
        state = self.processes.state(job_folder(name, job))
        return state if state.minutes else state.model_copy(update={"minutes": order.minutes})

    def running(self) -> tuple[str, str] | None:
        """Return (study, job) of the running job."""
        return next(((job.parents[1].name, job.name) for job in self.processes.busy()), None)

    def remove(self, name: str) -> None:
        """Delete a study with everything that belongs to it. Raises LabError while a process works on it."""
        folder = study_folder(name)
        with self._lock:
            if any(job.parents[1] == folder for job in self.processes.busy()):
                raise LabError(f"the study {name!r} is running", remedy="stop it first")
            # A worker that has reported its end only has to exit.
            for job in self.processes.at_work():
                if job.parents[1] == folder:
                    self.processes.process(job).wait(EXIT_S)
            forget_readers()
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """End all processes and wait for them."""
        self.processes.close()

    def _order(self, name: str) -> StudyOrder:
        """Return the order that started a study, from its storage or from the pages' own file."""
        order, record = order_of(name), record_of(name)
        if record is None:
            if order is None:
                raise LabError(f"the study {name!r} holds nothing to continue from")
            return order
        checkpoint = checkpoint_of(record.digest)
        if checkpoint is None:
            raise LabError(f"the checkpoint of the study {name!r} is missing or has changed")
        return StudyOrder(checkpoint=checkpoint, spec=record.spec, space=SpaceOrder.of(record.space))

    def _begin(self, name: str, job: str, order: StudyOrder) -> None:
        with self._lock:
            busy = self.running()
            if busy is not None:
                raise LabError(
                    f"the study {busy[0]!r} is running, and only one measures at a time to keep times "
                    "accurate",
                    remedy="stop it, or wait until it is done",
                )
            folder = job_folder(name, job)
            write_file(folder / ORDER, order)
            self.processes.launch(MODULE, folder)


JOBS = StudyJobs()
