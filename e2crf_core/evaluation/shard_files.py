"""Keep finished shards in files: each is written whole, and sealed with what it belongs to.

A folder of shards states in one JSON file what all of them share. A shard's digest covers that statement, the
shard's own name, and its arrays, so that neither a damaged nor a foreign file is taken for a result.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from e2crf_core.errors import LabError
from e2crf_core.io.arrays import read_npz
from e2crf_core.io.files import remove_leftovers, replace_file
from e2crf_core.io.json_files import read_json, write_json
from e2crf_core.io.locks import is_empty

SEAL = "seal"


def claim_folder(statement: Path, ours: dict[str, Any], holding: str) -> None:
    """Make the folder of the file `statement` that of `holding`, such as "an evaluation", with these settings.

    Raises LabError if the folder holds something else, or the same with other settings.
    """
    out, remedy = statement.parent, "name another folder"
    if statement.is_file():
        try:
            stored = read_json(statement)
        except LabError as fault:
            raise LabError(fault.problem, field="out", remedy=remedy) from None
        theirs = stored if isinstance(stored, dict) else {}
        differ = [key for key in ours if theirs.get(key) != ours[key]]
        if differ:
            problem = f"{out} holds {holding} that differs in {', '.join(differ)}"
            raise LabError(problem, field="out", remedy=f"{remedy}, or delete it")
        return
    if out.is_dir():
        remove_leftovers(out)
        if not is_empty(out):
            raise LabError(f"{out} is not empty and does not hold {holding}", field="out", remedy=remedy)
    write_json(statement, ours)


def write_arrays(path: Path, statement: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write the arrays of one shard."""
    seal = np.array(_digest(path.name, read_json(statement), arrays))

    def write(target: Path) -> None:
        with target.open("wb") as file:
            np.savez(file, **arrays, **{SEAL: seal})  # type: ignore[arg-type]

    replace_file(path, write)


def read_arrays(path: Path, statement: Path) -> dict[str, np.ndarray]:
    """Read the arrays of one shard. Raises LabError if the file is missing, damaged, or of another folder."""
    try:
        arrays = read_npz(path)
        seal = str(arrays.pop(SEAL))
    except (LabError, KeyError, OSError):
        raise _damaged(path) from None
    if seal != _digest(path.name, read_json(statement), arrays):
        raise _damaged(path)
    return arrays


def _damaged(path: Path) -> LabError:
    return LabError(f"shard {path} is damaged or from elsewhere", remedy="delete it and run again")


def _digest(name: str, shared: Any, arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(json.dumps([name, shared], sort_keys=True).encode())
    for key, array in sorted(arrays.items()):
        plain = np.ascontiguousarray(array)
        digest.update(f"{key}{plain.dtype.str}{plain.shape}".encode())
        digest.update(plain.tobytes())
    return digest.hexdigest()
