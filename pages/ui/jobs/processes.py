"""Worker processes of this server, and the files by which they and the pages speak. Knows nothing of Streamlit.

A job is a folder: `job.json` says what is wanted, `progress.json` how far it is, a file `stop` asks it to end, and
`log.txt` takes what it prints. So a reload, another visitor and a server that was started anew all see the same;
only whether a process is alive is known here.
"""

import json
import os
import subprocess
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from e2crf_core.io.files import replace_file

ROOT = Path(__file__).resolve().parents[3]


def read_json(path: Path) -> dict[str, Any] | None:
    """An object in a file, None where there is none that can be read."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write an object, as a whole or not at all."""
    text = json.dumps(value)
    replace_file(path, lambda temporary: temporary.write_text(text))


class Processes:
    """Processes that work on job folders, one each."""

    def __init__(self) -> None:
        self._of: dict[Path, subprocess.Popen[bytes]] = {}

    def launch(self, module: str, job: Path) -> None:
        """Start `python -m module JOB --parent PID`."""
        for name in ("stop", "progress.json"):
            (job / name).unlink(missing_ok=True)
        command = [sys.executable, "-m", module, str(job), "--parent", str(os.getpid())]
        with open(job / "log.txt", "ab") as log:
            self._of[job] = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def alive(self, job: Path) -> bool:
        """Whether a process of this server is at work on a job."""
        process = self._of.get(job)
        return process is not None and process.poll() is None

    def said(self, job: Path, running: Collection[str]) -> dict[str, Any]:
        """The progress file of a job, `status` among it: interrupted where it is one of `running` and nobody runs."""
        # Asked first: a worker that ends in between has written its last word by then.
        alive = self.alive(job)
        said = {"status": "starting", **(read_json(job / "progress.json") or {})}
        return {**said, "status": "interrupted"} if said["status"] in running and not alive else said

    def at_work(self) -> list[Path]:
        """Jobs with a living process."""
        return [job for job in list(self._of) if self.alive(job)]

    def stop(self, job: Path) -> None:
        """Ask a process to end."""
        if self.alive(job):
            with suppress(FileNotFoundError):
                (job / "stop").touch()

    def process(self, job: Path) -> subprocess.Popen[bytes]:
        """The process that was last started for a job."""
        return self._of[job]

    def close(self, seconds: float = 60) -> None:
        """Ask all to end, and wait for them."""
        for job in self.at_work():
            self.stop(job)
        for process in self._of.values():
            process.wait(seconds)
