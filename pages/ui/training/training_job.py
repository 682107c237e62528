"""Start, find, stop and resume this server's trainings by name. Independent of Streamlit.

The state of a training lives in files in its checkpoint's folder (see `jobs.processes`).
"""

import os
import threading
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel

from e2crf_core.data.datasets import load_dataset
from e2crf_core.errors import LabError
from e2crf_core.io.arrays import read_npz
from e2crf_core.io.userfiles import user_folder, user_names
from e2crf_core.models.checkpoints import list_checkpoints
from e2crf_core.models.training import TrainSpec
from pages.ui.jobs.job import JobState, read_file, write_file
from pages.ui.jobs.processes import Processes

MODULE = "pages.ui.training.training_worker"
SIDE = "training"
"""Folder of the job, inside that of its checkpoint."""
ORDER = "job.json"
PREVIEWS = "previews.npz"


class TrainingOrder(BaseModel):
    """What a training was asked to do."""

    spec: TrainSpec
    threads: int = 1


def threads() -> int:
    """Return the processor threads of a training: one core is left to the pages."""
    return max(1, min(torch.get_num_threads(), (os.cpu_count() or 2) - 1))


def read_previews(job: Path) -> dict[int, np.ndarray]:
    """Read the series (S, N, M) in data units that a training generated, by step; {} without any."""
    try:
        stored = read_npz(job / PREVIEWS)
        return dict(zip(stored["steps"].tolist(), stored["series"], strict=True))
    except (LabError, ValueError, KeyError, TypeError):
        return {}


def job_folder(name: str) -> Path:
    """Return the job folder of a training. Raises LabError for a name that could escape."""
    return user_folder("checkpoints", name) / SIDE


def order_of(name: str) -> TrainingOrder | None:
    """Return what a training was asked to do; None when its job file is missing or damaged."""
    return read_file(job_folder(name) / ORDER, TrainingOrder)


class TrainingJobs:
    """At most `limit` trainings at once. Safe to call from any thread."""

    def __init__(self, limit: int = 1) -> None:
        self._limit = limit
        self.processes = Processes()
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Return all trainings of the user's folder, the newest first."""

        def age(name: str) -> float:
            return (job_folder(name) / ORDER).stat().st_mtime

        names = [name for name in user_names("checkpoints", SIDE) if order_of(name) is not None]
        return sorted(names, key=age, reverse=True)

    def start(self, name: str, spec: TrainSpec) -> None:
        """Begin a training whose checkpoint will be called `name`. Raises LabError when it cannot begin."""
        folder = user_folder("checkpoints", name)
        if name in list_checkpoints() or folder.exists():
            raise LabError(f"the name {name!r} is in use", field="name", remedy="choose another name")
        load_dataset(spec.data)
        with self._lock:
            self._make_room()
            write_file(job_folder(name) / ORDER, TrainingOrder(spec=spec, threads=threads()))
            self.processes.launch(MODULE, job_folder(name))

    def resume(self, name: str) -> None:
        """Continue a stopped or interrupted training. Raises LabError when there is nothing to do."""
        state = self.state(name)
        if state is None or not state.resumable:
            raise LabError(f"the training {name!r} has no steps left")
        with self._lock:
            self._make_room()
            self.processes.launch(MODULE, job_folder(name))

    def stop(self, name: str) -> None:
        """Ask a training to end and to keep its best weights."""
        self.processes.stop(job_folder(name))

    def state(self, name: str) -> JobState | None:
        """Return the progress of a training, or None if no training has that name."""
        return None if order_of(name) is None else self.processes.state(job_folder(name))

    def running(self) -> str | None:
        """Return the name of a running training."""
        with self._lock:
            return next((job.parent.name for job in self.processes.busy()), None)

    def close(self) -> None:
        """End all trainings and wait for them."""
        self.processes.close()

    def _make_room(self) -> None:
        busy = self.processes.busy()
        if len(busy) >= self._limit:
            raise LabError(
                f"the training {busy[0].parent.name!r} is running", remedy="stop it, or wait until it is done"
            )


JOBS = TrainingJobs()
