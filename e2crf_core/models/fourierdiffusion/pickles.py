"""Read Lightning checkpoints without running anything in them.

The pickle program is first read as text, and rejected at the first name that is not allowed. Then torch's own
weights-only loader reads the file, with a stand-in for the one class that a checkpoint of the library needs.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from e2crf_core.errors import LabError
from e2crf_core.io.arrays import reason

LIMIT_BYTES = 1 << 30
_SCHEDULER = "fdiff.schedulers.sde.VPScheduler"
_STORAGES = ("FloatStorage", "DoubleStorage", "HalfStorage", "BFloat16Storage", "LongStorage", "IntStorage")
_ALLOWED = {
    "torch._utils._rebuild_tensor_v2",
    "collections.OrderedDict",
    _SCHEDULER,
    *(f"torch.{storage}" for storage in _STORAGES),
}
# Opcodes that fetch a callable by a name that is not written in the opcode itself.
_INDIRECT = {"STACK_GLOBAL", "EXT1", "EXT2", "EXT4", "PERSID", "OBJ"}


class VPScheduler:
    """A stand-in for the library's scheduler while a checkpoint is read; it only takes attributes."""


class _Broken(Exception):
    """A pickle program that cannot be read."""


def _refuse(name: str, what: str) -> LabError:
    return LabError(
        f"{name}: the checkpoint asks for {what}, which could run code: refused, nothing was loaded"
    )


def _scan(name: str, program: bytes) -> None:
    """Reject a pickle program at the first name that is not allowed, without running it."""
    strings: list[str] = []
    try:
        for code, argument in _opcodes(program):
            if code in ("GLOBAL", "INST"):
                target = str(argument).replace(" ", ".")
                if target not in _ALLOWED or code == "INST":
                    raise _refuse(name, repr(target))
            elif code in _INDIRECT:
                raise _refuse(name, repr(".".join(strings[-2:])) if code == "STACK_GLOBAL" else code)
            elif isinstance(argument, str):
                strings.append(argument)
    except _Broken as fault:
        raise LabError(f"{name} is no checkpoint: its pickle is broken ({fault})") from None


def _opcodes(program: bytes) -> Iterator[tuple[str, Any]]:
    steps = pickletools.genops(program)
    while True:
        try:
            opcode, argument, _ = next(steps)
        except StopIteration:
            return
        except (ValueError, IndexError, UnicodeDecodeError) as fault:
            raise _Broken(reason(fault)) from None
        yield opcode.name, argument


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a Lightning checkpoint as dicts and tensors. Raises LabError that names a forbidden class."""
    path = Path(path)
    if not path.is_file():
        raise LabError(f"there is no file {str(path)!r}", field="file", remedy="check the path")
    size = path.stat().st_size
    if size > LIMIT_BYTES:
        raise LabError(f"{path.name} takes {size / 1e6:.0f} MB: at most {LIMIT_BYTES / 1e6:.0f} MB are read")
    data = path.read_bytes()
    if not data.startswith(b"PK"):
        if data.startswith(b"\x80"):
            _scan(path.name, data)
        raise LabError(f"{path.name} is no checkpoint of PyTorch 1.6 or later: it is not a ZIP archive")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise LabError(f"{path.name} holds compressed members, which PyTorch never writes: refused")
            programs = [m for m in members if m.filename.endswith(".pkl")]
            if len(programs) != 1 or not programs[0].filename.endswith("data.pkl"):
                raise LabError(
                    f"{path.name} is no Lightning checkpoint: it has {len(programs)} pickles, not one"
                )
            _scan(path.name, archive.read(programs[0]))
        with torch.serialization.safe_globals([(VPScheduler, _SCHEDULER)]):
            checkpoint = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except LabError:
        raise
    except Exception as fault:  # the loader's own errors are of many classes
        raise LabError(f"{path.name} cannot be read: {reason(fault)}") from None
    if not isinstance(checkpoint, dict) or not {"state_dict", "hyper_parameters"} <= checkpoint.keys():
        raise LabError(f"{path.name} is no Lightning checkpoint: it lacks state_dict or hyper_parameters")
    return checkpoint
