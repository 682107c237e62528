"""The common part of all worker processes: they report their progress, and end when nobody needs them."""

import argparse
import os
import signal
import time
from pathlib import Path
from typing import Any

from e2crf_core.errors import Cancelled, LabError
from e2crf_core.io.locks import claimed
from pages.ui.jobs.job import JobState, write_file

HEARTBEAT_S = 0.5
FIRST_ESTIMATE = 0.05
"""Share of a phase that must be finished before its remaining time can be estimated."""


class Worker:
    """A worker on one job folder (see `processes`): a process, because a thread would block the pages."""

    def __init__(self, job: Path, parent: int) -> None:
        self.job, self.parent = job, parent
        self.progress = JobState(status="preparing")
        self.signaled = False
        self.beat = 0.0
        self.phase = (time.monotonic(), 0.0)

    def say(self, **changes: Any) -> None:
        """Change fields of the progress file; the pace of the current phase gives the remaining time."""
        now = time.monotonic()
        if changes.get("status", self.progress.status) != self.progress.status:
            changes = {"share": 0.0, **changes}
            self.phase = (now, changes["share"])
        begin, first = self.phase
        share = min(1.0, changes.get("share", self.progress.share))
        left = (now - begin) * (1 - share) / (share - first) if share - first > FIRST_ESTIMATE else None
        told = {**changes, "share": share, "seconds": now - begin, "seconds_left": left}
        self.progress = self.progress.model_copy(update=told)
        write_file(self.job / "progress.json", self.progress)
        self.beat = now

    def say_now_and_then(self, **changes: Any) -> None:
        """Do the same, but at most once a heartbeat."""
        if time.monotonic() - self.beat > HEARTBEAT_S:
            self.say(**changes)

    @property
    def left_alone(self) -> bool:
        """Whether the server that started the worker is gone, or the machine is shutting down."""
        return self.signaled or os.getppid() != self.parent

    @property
    def unwanted(self) -> bool:
        """Whether the job should end."""
        return self.left_alone or (self.job / "stop").exists()

    def cancelled(self) -> bool:
        """Return whether to end; the core asks at every step, which keeps the progress file fresh."""
        self.say_now_and_then()
        return self.unwanted

    def report(self, done: int, total: int) -> None:
        """Report progress of the current phase. Raises Cancelled when the job is no longer needed."""
        if self.unwanted:
            raise Cancelled
        self.say_now_and_then(share=done / max(1, total))

    def run(self) -> None:
        """Do the task in the job file."""
        raise NotImplementedError

    def work(self) -> None:
        """Run the job and report its end, good or bad, in the progress file.

        Raises LabError, and touches no file, when another process is at work on the job.
        """
        with claimed(self.job, "job"):
            self._work()

    def _work(self) -> None:
        try:
            self.say()
            self.run()
        except Cancelled:
            self.say(status="interrupted" if self.left_alone else "stopped")
        except LabError as fault:
            self.say(status="failed", error=str(fault))
        except Exception as fault:
            self.say(status="failed", error=f"{type(fault).__name__}: {fault}")
            raise


def main(kind: type[Worker], arguments: list[str] | None = None) -> None:
    """Run the command line of a worker: JOB --parent PID."""
    parser = argparse.ArgumentParser(description=kind.__doc__)
    parser.add_argument("job", type=Path)
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args(arguments)
    worker = kind(options.job, options.parent)

    def stop(*_: object) -> None:
        worker.signaled = True

    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, stop)
    worker.work()
