"""Read untrusted NPY and NPZ files without unpickling and without trusting their stated sizes."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy_format

from e2crf_core.errors import LabError

LIMIT_BYTES = 1 << 30


def reason(fault: BaseException) -> str:
    """Return another library's error message as part of one line."""
    return " ".join(str(fault).split())[:160] or type(fault).__name__


def _header(stream: IO[bytes], label: str) -> tuple[tuple[int, ...], np.dtype]:
    try:
        version = npy_format.read_magic(stream)
        reader = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        shape, _, dtype = reader(stream)
    except Exception as fault:  # the parser of a damaged header raises whatever it stumbles over
        raise LabError(f"{label} is not a NumPy array: {reason(fault)}") from None
    if any(extent < 0 for extent in shape):
        raise LabError(f"{label} states shape {shape}: no extent can be negative")
    if dtype.hasobject:
        raise LabError(
            f"{label} holds Python objects, which only unpickling could read: save plain numbers instead"
        )
    return shape, dtype


def _check_size(shape: tuple[int, ...], dtype: np.dtype, stored: int, limit: int, label: str) -> None:
    size = dtype.itemsize
    for extent in shape:
        size *= extent
    if size > limit:
        raise LabError(
            f"{label} would take {size / 1e6:.0f} MB of memory, more than the {limit / 1e6:.0f} MB allowed"
        )
    if size > stored:
        raise LabError(
            f"{label} states a shape {shape} but holds only {stored} bytes: the file is cut off or forged"
        )


def read_npy(path: str | Path, *, limit: int = LIMIT_BYTES) -> np.ndarray:
    """Memory-map the array in an NPY file. Raises LabError for objects, forged headers, and oversize."""
    path = Path(path)
    with path.open("rb") as stream:
        shape, dtype = _header(stream, path.name)
        _check_size(shape, dtype, path.stat().st_size - stream.tell(), limit, path.name)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def parse_npy(body: bytes, label: str) -> np.ndarray:
    """Parse the bytes of an NPY file. Raises LabError for objects, forged headers, and truncated data."""
    stream = io.BytesIO(body)
    shape, dtype = _header(stream, label)
    _check_size(shape, dtype, len(body) - stream.tell(), LIMIT_BYTES, label)
    stream.seek(0)
    return np.load(stream, allow_pickle=False)


def read_npz(path: str | Path, *, limit: int = LIMIT_BYTES) -> dict[str, np.ndarray]:
    """Return all arrays in an NPZ file by name.

    Sizes are summed before anything is decompressed, so that a small file cannot fill the memory. Raises
    LabError for archives that are broken, too large, or hold anything but plain arrays.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            total = sum(member.file_size for member in members)
            if total > limit:
                raise LabError(
                    f"{path.name} inflates to {total / 1e6:.0f} MB: at most {limit / 1e6:.0f} MB are read"
                )
            for member in members:
                label = f"{path.name}: {member.filename}"
                if not member.filename.endswith(".npy"):
                    raise LabError(f"{label} is not an array: an NPZ file holds .npy members only")
                with archive.open(member) as stream:
                    shape, dtype = _header(stream, label)
                    _check_size(shape, dtype, member.file_size, limit, label)
        with np.load(path, allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}
    except LabError:
        raise
    except (
        Exception
    ) as fault:  # whatever a forged file makes the readers of ZIP, zlib, and NumPy stumble over
        raise LabError(f"{path.name} cannot be read as NPZ: {reason(fault)}") from None
