"""Write files completely or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

LEFT_BEHIND_S = 24 * 3600.0
"""Age in seconds after which a temporary file counts as abandoned, whoever wrote it."""
_TEMPORARY = re.compile(r"\..+\.(?P<host>[A-Za-z0-9-]*)-(?P<process>\d+)\.[^.]+\.tmp")


def _place() -> str:
    """Return a name for the processes that share this one's numbers: the host, and the container on it."""
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40]
    with contextlib.suppress(OSError):  # not on Linux
        return f"{host}-{os.stat('/proc/self/ns/pid').st_ino}"
    return host


_HOST = _place()


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file atomically: `write` fills a temporary file beside `path`, which then takes its name.

    What killed writers left in the folder goes first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path.name), suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def text_writer(text: str) -> Callable[[Path], object]:
    """Return a function that writes a text to a path, in UTF-8."""
    return lambda path: path.write_text(text, encoding="utf-8")


def temporary_folder(parent: Path, label: str) -> Path:
    """Make a hidden folder in `parent`, which `remove_leftovers` removes if this process is killed."""
    return Path(tempfile.mkdtemp(dir=parent, prefix=_prefix(label), suffix=".tmp"))


def _prefix(label: str) -> str:
    return f".{label[:100]}.{_HOST}-{os.getpid()}."


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove temporary files and folders in `folder` whose writer was killed, and return them.

    A writer in this container or on this machine is dead if no process has its number. For other places that
    share the folder, and for reused numbers, the file's age decides (one day).
    """
    removed = []
    for path in folder.glob(".*.tmp"):
        name = _TEMPORARY.fullmatch(path.name)
        with contextlib.suppress(OSError):
            old = time.time() - path.stat().st_mtime > LEFT_BEHIND_S
            if name and (old or (name["host"] == _HOST and not process_alive(int(name["process"])))):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
                removed.append(path)
    return removed


def process_alive(process: int) -> bool:
    """Return whether a process on this machine has this number."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
