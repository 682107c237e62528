"""Write files completely or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

LEFT_BEHIND_S = 24 * 3600.0
"""Age in seconds after which a temporary file counts as abandoned, whoever wrote it."""
_TEMPORARY = re.compile(r"\..+\.(?P<host>[A-Za-z0-9-]*)-(?P<process>\d+)\.[^.]+\.tmp")
_HOST = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40]


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file atomically: `write` fills a temporary file beside `path`, which then takes its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.name[:100]}.{_HOST}-{os.getpid()}.", suffix=".tmp"
    )
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove temporary files in `folder` whose writer was killed, and return them.

    A writer on this machine is dead if no process has its number. For other machines on a shared folder, and
    for reused numbers, the file's age decides (one day).
    """
    removed = []
    for path in folder.glob(".*.tmp"):
        name = _TEMPORARY.fullmatch(path.name)
        with contextlib.suppress(OSError):
            old = time.time() - path.stat().st_mtime > LEFT_BEHIND_S
            if name and (old or (name["host"] == _HOST and not _runs(int(name["process"])))):
                path.unlink()
                removed.append(path)
    return removed


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
