"""Let one process at a time work on a folder.

The operating system holds the lock and releases it when the process ends, however it ends. The package
filelock comes with torch, which requires it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from e2crf_core.errors import LabError

LOCK = ".lock"
WAIT_S = 1.0
"""Seconds that a process waits for another one that is just leaving a folder."""


def claim(folder: Path, what: str) -> FileLock:
    """Lock a folder, which is made if need be, until the lock's `release`.

    A process may claim a folder several times; each claim has its release. Raises LabError, which names the
    work as `what`, when another process has the folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _lock(folder)
        lock.acquire(timeout=WAIT_S)
    except Timeout:
        raise LabError(
            f"another process is at work on the {what} in {folder}",
            field="out",
            remedy="wait until it is done, or stop it",
        ) from None
    except OSError as fault:
        raise LabError(f"{folder} cannot be locked: {fault.strerror or fault}", field="out") from None
    return lock


@contextmanager
def claiming(folder: Path, what: str) -> Iterator[FileLock]:
    """Lock a folder beyond a block, unless the block fails: then it is free, and a folder made for it is gone."""
    made = not folder.exists()
    lock = claim(folder, what)
    try:
        yield lock
    except BaseException:
        lock.release()
        if made and is_empty(folder):
            (folder / LOCK).unlink(missing_ok=True)
            folder.rmdir()
        raise


@contextmanager
def claimed(folder: Path, what: str) -> Iterator[None]:
    """Lock a folder for the time of a block. Raises LabError like `claim`."""
    lock = claim(folder, what)
    try:
        yield
    finally:
        lock.release()


def in_use(folder: Path) -> bool:
    """Return whether a process, this one or another, is at work on a folder."""
    if not (folder / LOCK).is_file():
        return False
    lock = _lock(folder)
    if lock.is_locked:
        return True
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return True
    lock.release()
    return False


def is_empty(folder: Path) -> bool:
    """Return whether a folder is missing or holds nothing but its lock."""
    return not folder.is_dir() or all(path.name == LOCK for path in folder.iterdir())


def _lock(folder: Path) -> FileLock:
    return FileLock(folder.resolve() / LOCK, is_singleton=True, thread_local=False)
