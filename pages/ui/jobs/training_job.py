"""Trainings of this server: started, found again, stopped and resumed by name. Knows nothing of Streamlit.

What a training is stands in files of its checkpoint's folder, so that a reload, another visitor and a server that
was started anew all see the same; only whether its process is alive is known here.
"""

import os
import threading
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from e2crf_core.data.datasets import load_dataset
from e2crf_core.errors import LabError
from e2crf_core.io.userfiles import user_folder, user_names
from e2crf_core.models.checkpoints import list_checkpoints
from e2crf_core.models.training import TrainSpec
from pages.ui.jobs.processes import Processes, read_json, write_json

MODULE = "pages.ui.jobs.training_worker"
RUNNING = ("starting", "preparing", "training", "measuring")
SIDE = "training"
"""Folder of the job, in that of its checkpoint."""


@dataclass(frozen=True)
class JobState:
    """What is known of a training now. `status`: one of RUNNING, or done, stopped, failed, interrupted."""

    name: str
    status: str
    spec: TrainSpec
    error: str = ""
    note: str = ""
    step: int = 0
    steps: int = 0
    seconds_left: float | None = None
    measured: float = 0.0
    history: tuple[dict[str, float], ...] = field(default=())

    @property
    def running(self) -> bool:
        """Whether its process is at work."""
        return self.status in RUNNING

    @property
    def resumable(self) -> bool:
        """Whether steps are left that a resume would take."""
        return not self.running and (not self.steps or self.step < self.steps)

    @property
    def saved(self) -> bool:
        """Whether its checkpoint can be used."""
        return self.name in list_checkpoints()


def threads() -> int:
    """Processor threads of a training: one core is left to the pages."""
    return max(1, min(torch.get_num_threads(), (os.cpu_count() or 2) - 1))


def series_drawn(name: str) -> dict[int, np.ndarray]:
    """What a training drew at some of its steps, always out of the same noise: step -> (S, N, M), data units."""
    path = user_folder("checkpoints", name) / SIDE / "previews.npz"
    try:
        with np.load(path) as stored:
            return dict(zip(stored["steps"].tolist(), stored["series"], strict=True))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return {}


class TrainingJobs:
    """At most `limit` trainings at once. Safe to call from any thread."""

    def __init__(self, limit: int = 1) -> None:
        self._limit = limit
        self.processes = Processes()
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """All trainings of the user's folder, the youngest first."""

        def age(name: str) -> float:
            return (self._job(name) / "job.json").stat().st_mtime

        found = [n for n in user_names("checkpoints", SIDE) if self._read(n, "job.json") is not None]
        return sorted(found, key=age, reverse=True)

    def start(self, name: str, spec: TrainSpec) -> None:
        """Begin a training whose checkpoint will be called `name`. Raises LabError when it cannot begin."""
        folder = user_folder("checkpoints", name)
        if name in list_checkpoints() or folder.exists():
            raise LabError(f"there is a checkpoint {name!r} already: choose another name")
        load_dataset(spec.data)
        with self._lock:
            self._room()
            write_json(self._job(name) / "job.json", {"spec": asdict(spec), "threads": threads()})
            self.processes.launch(MODULE, self._job(name))

    def resume(self, name: str) -> None:
        """Go on where a stopped or interrupted training was left. Raises LabError when there is nothing to do."""
        state = self.state(name)
        if state is None or not state.resumable:
            raise LabError(f"there is no training {name!r} with steps left")
        with self._lock:
            self._room()
            self.processes.launch(MODULE, self._job(name))

    def stop(self, name: str) -> None:
        """Ask a training to end and to keep its best weights."""
        self.processes.stop(self._job(name))

    def state(self, name: str) -> JobState | None:
        """What is known of a training, or None when there is none of that name."""
        job = self._read(name, "job.json")
        if job is None:
            return None
        said = self.processes.said(self._job(name), RUNNING)
        known = {
            k: said[k] for k in ("error", "note", "step", "steps", "seconds_left", "measured") if k in said
        }
        return JobState(
            name,
            str(said["status"]),
            TrainSpec(**job["spec"]),
            history=tuple(said.get("history", ())),
            **known,
        )

    def running(self) -> str | None:
        """Name of a training that is at work."""
        with self._lock:
            return next(iter(self._busy()), None)

    def close(self) -> None:
        """End all trainings and wait for them."""
        self.processes.close()

    def _busy(self) -> list[str]:
        """Trainings at work: a process that has said its last word and only has to exit is not."""
        return [
            job.parent.name
            for job in self.processes.at_work()
            if self.processes.said(job, RUNNING)["status"] in RUNNING
        ]

    def _room(self) -> None:
        busy = self._busy()
        if len(busy) >= self._limit:
            raise LabError(f"{busy[0]!r} is being trained: stop it, or wait until it is done")

    def _job(self, name: str) -> Path:
        return user_folder("checkpoints", name) / SIDE

    def _read(self, name: str, file: str) -> dict[str, Any] | None:
        return read_json(self._job(name) / file)


JOBS = TrainingJobs()
