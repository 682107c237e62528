"""What all worker processes of the pages have in common: they say how far they are, and end when nobody wants them."""

import argparse
import os
import signal
import time
from pathlib import Path
from typing import Any

from e2crf_core.errors import LabError
from pages.ui.jobs.processes import read_json, write_json

HEARTBEAT_S = 0.5


class Stopped(Exception):
    """The visitor asked for an end, or the server is gone."""


class Worker:
    """Works on one job folder (see `processes`). A process, for a thread would hold the interpreter of the pages."""

    def __init__(self, job: Path, parent: int) -> None:
        self.job, self.parent = job, parent
        self.progress: dict[str, Any] = {"status": "preparing", "error": ""}
        self.signaled = False
        self.beat = 0.0
        self.phase = time.monotonic()

    def say(self, **changes: Any) -> None:
        """Change some of the progress file; `seconds` in it are those since the status changed."""
        if changes.get("status", self.progress["status"]) != self.progress["status"]:
            self.phase = time.monotonic()
        self.progress |= {**changes, "seconds": time.monotonic() - self.phase}
        write_json(self.job / "progress.json", self.progress)
        self.beat = time.monotonic()

    def say_now_and_then(self, **changes: Any) -> None:
        """The same, but at most once a heartbeat."""
        if time.monotonic() - self.beat > HEARTBEAT_S:
            self.say(**changes)

    @property
    def left_alone(self) -> bool:
        """Whether the server that started it has gone, or the machine shuts down."""
        return self.signaled or os.getppid() != self.parent

    @property
    def wanted(self) -> bool:
        """Whether somebody still wants this job to go on."""
        return not (self.left_alone or (self.job / "stop").exists())

    def run(self, order: dict[str, Any]) -> None:
        """Do what the job file says."""
        raise NotImplementedError

    def work(self) -> None:
        """Run, and say every end, good or bad, in the progress file."""
        try:
            self.say()
            self.run(read_json(self.job / "job.json") or {})
        except Stopped:
            self.say(status="interrupted" if self.left_alone else "stopped")
        except LabError as fault:
            self.say(status="failed", error=str(fault))
        except Exception as fault:
            self.say(status="failed", error=f"{type(fault).__name__}: {fault}")
            raise


def main(kind: type[Worker], arguments: list[str] | None = None) -> None:
    """The command line of a worker: JOB --parent PID."""
    parser = argparse.ArgumentParser(description=kind.__doc__)
    parser.add_argument("job", type=Path)
    parser.add_argument("--parent", type=int, required=True)
    asked = parser.parse_args(arguments)
    worker = kind(asked.job, asked.parent)

    def stop(*_: object) -> None:
        worker.signaled = True

    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, stop)
    worker.work()
