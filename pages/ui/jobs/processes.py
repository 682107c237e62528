"""Worker processes of this server, and the files through which they communicate. Independent of Streamlit.

A job is a folder: `job.json` holds the task, `progress.json` the progress (see `job.JobState`), a file
`stop` asks the worker to end, and `log.txt` receives what it prints. A reload, another visitor and a
restarted server therefore see the same state. A lock on the folder tells whether a process is working on it.
"""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from e2crf_core.errors import LabError
from e2crf_core.io.locks import in_use
from pages.ui.jobs.job import JobState, read_file

ROOT = Path(__file__).resolve().parents[3]


class Processes:
    """At most one process for each job folder."""

    def __init__(self) -> None:
        self._of: dict[Path, subprocess.Popen[bytes]] = {}

    def launch(self, module: str, job: Path) -> None:
        """Start `python -m module JOB --parent PID`. Raises LabError when a process is at work on the job."""
        if in_use(job):
            raise LabError("another process is at work on it", remedy="wait until it is done, or stop it")
        for name in ("stop", "progress.json"):
            (job / name).unlink(missing_ok=True)
        command = [sys.executable, "-m", module, str(job), "--parent", str(os.getpid())]
        with open(job / "log.txt", "ab") as log:
            self._of[job] = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def alive(self, job: Path) -> bool:
        """Return whether a process is working on a job; it may be another server's, or a command's."""
        process = self._of.get(job)
        return (process is not None and process.poll() is None) or in_use(job)

    def state(self, job: Path) -> JobState:
        """Return the progress of a job; a job without a live process counts as interrupted."""
        # Liveness is read first: a worker that ends in between has already written its last state.
        alive = self.alive(job)
        state = read_file(job / "progress.json", JobState) or JobState()
        return state.model_copy(update={"status": "interrupted"}) if state.running and not alive else state

    def at_work(self) -> list[Path]:
        """Return the jobs whose process is alive."""
        return [job for job in list(self._of) if self.alive(job)]

    def busy(self) -> list[Path]:
        """Return the jobs that are still running: a worker that only has to exit is not."""
        return [job for job in self.at_work() if self.state(job).running]

    def stop(self, job: Path) -> None:
        """Ask a process to end."""
        if self.alive(job):
            with suppress(FileNotFoundError):
                (job / "stop").touch()

    def process(self, job: Path) -> subprocess.Popen[bytes]:
        """Return the process that was last started for a job."""
        return self._of[job]

    def close(self, seconds: float = 60) -> None:
        """Ask all processes to end, and wait for them."""
        for job in self.at_work():
            self.stop(job)
        for process in self._of.values():
            process.wait(seconds)
