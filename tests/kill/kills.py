"""Kill a process at random moments while it saves, and look at what the next one finds."""

from __future__ import annotations

import os
import random
import select
import signal
import struct
import time
import traceback
from pathlib import Path

from e2crf_core import LabError
from tests.kill.stores import Store

LONGEST_S = 0.2
"""The longest time from a writer's first save to its end."""
PATIENCE_S = 120.0
TEMPORARY = (".tmp", "-journal", "-wal")


def kill(store: Store, folder: Path, rng: random.Random) -> str | None:
    """Kill one writer; return what is wrong then, None if nothing is."""
    process, reports = _fork(store, folder)
    try:
        last = _wait_for_report(reports)
        time.sleep(rng.uniform(0, LONGEST_S))
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    if last is None:
        os.close(reports)
        return "the writer saved nothing"
    last = _rest(reports, last)
    try:
        newest = store.newest(folder)
        if newest < last:
            return f"version {last} was reported as saved, {newest} is there"
        store.start(folder)
        if store.newest(folder) <= newest:
            return "nothing can be saved any more"
    except (LabError, AssertionError) as fault:
        return str(fault)
    left = [
        path.name for path in folder.rglob("*") if path.name.endswith(TEMPORARY) or path.name == ".committed"
    ]
    return f"{left} were left" if left else None


def _fork(store: Store, folder: Path) -> tuple[int, int]:
    """Start a writer as a copy of this process, which has imported everything; return it and its reports."""
    reports, sink = os.pipe()
    process = os.fork()
    if process:
        os.close(sink)
        return process, reports
    try:
        store.write_on(folder, lambda version: os.write(sink, struct.pack("q", version)))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def _wait_for_report(reports: int) -> int | None:
    ready, _, _ = select.select([reports], [], [], PATIENCE_S)
    body = os.read(reports, 8) if ready else b""
    return struct.unpack("q", body)[0] if len(body) == 8 else None


def _rest(reports: int, last: int) -> int:
    """Return the last version in what a dead writer has reported."""
    with os.fdopen(reports, "rb") as stream:
        body = stream.read()
    return struct.unpack("q", body[len(body) - 8 :])[0] if len(body) >= 8 else last
