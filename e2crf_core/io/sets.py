"""Write files that belong together as one set, with digests that are checked when the set is read.

A set is first written to a hidden folder. Renaming that folder commits it; then each of its files takes its
place. A writer that is killed before the commit leaves the old set, and one killed after it leaves the
remaining moves to whoever opens the folder next. So no reader ever takes one set's file for another's.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from e2crf_core.errors import LabError
from e2crf_core.io.files import remove_leftovers, temporary_folder
from e2crf_core.io.json_files import read_model

DIGESTS = "digests.json"
_COMMITTED = ".committed"
_ATTEMPTS = 10

T = TypeVar("T")


class Digests(BaseModel):
    """The contents of `digests.json`: a SHA-256 of each file in its folder that was written as part of a set."""

    model_config = ConfigDict(extra="forbid", strict=True)

    schema_: Literal[1] = Field(1, alias="schema")
    files: dict[Annotated[str, Field(max_length=255)], Annotated[str, Field(pattern="^[0-9a-f]{64}$")]] = (
        Field(max_length=10_000)
    )


def write_set(
    folder: Path, writers: Mapping[str, Callable[[Path], object]], beside: Sequence[str] = ()
) -> None:
    """Write files as one set: each writer fills the path it is given, for the file it is named by.

    `beside` names files of the set that stay as they are. Files of a set that has no digests yet get them now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settle(folder)
    work = temporary_folder(folder, "set")
    try:
        for name, write in writers.items():
            write(work / name)
        known = _stored_digests(folder).files
        digests = {name: known.get(name) or file_digest(folder / name) for name in beside}
        digests |= {name: file_digest(work / name) for name in writers}
        _write_digests(work / DIGESTS, {**known, **digests})
        for path in work.iterdir():
            os.chmod(path, 0o644)
        _commit(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    settle(folder)


def read_set(folder: Path, names: Sequence[str], read: Callable[[], T]) -> T:
    """Return `read()` after checking the files it reads, all of them from the same set.

    Files without stored digests, such as those of the first release, are read unchecked. Raises LabError for
    a file that is not what was written, and whatever `read` raises.
    """
    for _ in range(_ATTEMPTS):
        settle(folder)
        before = _mark(folder)
        try:
            _verify(folder, names)
            value = read()
        except (LabError, OSError):
            if _mark(folder) == before:
                raise
            continue  # another process has just written a new set
        if _mark(folder) == before:
            return value
    raise LabError(f"{folder} is being written over and over: wait until that is done")


def settle(folder: Path) -> None:
    """Complete a committed set whose writer was killed, and remove what killed writers left. Raises LabError."""
    committed = folder / _COMMITTED
    if committed.is_dir() and not committed.is_symlink():
        try:
            # Digests go first: whoever reads while files move sees that the set has changed.
            for path in sorted(committed.iterdir(), key=lambda path: path.name != DIGESTS):
                if path.is_file() and not path.is_symlink():
                    with contextlib.suppress(FileNotFoundError):  # another process has moved it
                        os.replace(path, folder / path.name)
            with contextlib.suppress(OSError):  # removed by another process, or in use again for the next set
                committed.rmdir()
        except OSError as fault:
            raise LabError(
                f"{folder} holds files that an interrupted process wrote, which cannot be put in place:"
                f" {fault.strerror or fault}"
            ) from None
    remove_leftovers(folder)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits. Raises LabError if it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as fault:
        raise LabError(f"{path} cannot be read: {fault.strerror or fault}") from None


def _commit(work: Path, folder: Path) -> None:
    for attempt in range(_ATTEMPTS):
        try:
            os.rename(work, folder / _COMMITTED)
            return
        except OSError:  # another process has committed a set here that is not in place yet
            if attempt == _ATTEMPTS - 1:
                raise
            settle(folder)


def _write_digests(path: Path, files: Mapping[str, str]) -> None:
    text = json.dumps({"schema": 1, "files": dict(sorted(files.items()))}, indent=1) + "\n"
    path.write_text(text, encoding="utf-8")


def _stored_digests(folder: Path) -> Digests:
    path = folder / DIGESTS
    if not path.exists():
        return Digests(schema=1, files={})
    try:
        return read_model(Digests, path)
    except LabError as fault:
        raise LabError(fault.problem, remedy=_remedy()) from None


def _verify(folder: Path, names: Sequence[str]) -> None:
    stored = _stored_digests(folder).files
    if not stored.keys() & set(names):
        return
    for name in names:
        path = folder / name
        if name in stored and not path.exists():
            raise LabError(f"{path} is missing", remedy="restore it from a copy")
        if path.exists() and (name not in stored or file_digest(path) != stored[name]):
            raise LabError(f"{path} is damaged or was changed: it is not what was saved", remedy=_remedy())


def _remedy() -> str:
    return f"restore it from a copy, or delete {DIGESTS} beside it to accept the file as it is"


def _mark(folder: Path) -> bytes | None:
    try:
        return (folder / DIGESTS).read_bytes()
    except OSError:
        return None
