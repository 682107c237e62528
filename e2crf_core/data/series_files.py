"""Read files of whole series: arrays of ready windows, one series per row, and aeon or sktime `.ts` files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from e2crf_core.data.numbers import BadCell, NumberStyle, is_gap, numbers
from e2crf_core.data.sources import TABLE_SUFFIXES, ArraySource, CsvSource, ParquetSource, Source
from e2crf_core.errors import LabError
from e2crf_core.io.arrays import read_npy, read_npz

TABLE_BYTES = 500_000_000
_TS_BYTES = 1 << 30
AXES_HELP = "say the order of its axes, with S for series, N for steps and M for channels"


@dataclass(frozen=True)
class ReadySeries:
    """The series (S, N, M) of equal length, float64, NaN for gaps; `labels` (S,) if the file has classes."""

    path: Path
    x: np.ndarray
    names: tuple[str, ...]
    labels: tuple[str, ...] = ()
    notes: tuple[tuple[str, bool], ...] = ()


def open_file(
    path: str | Path, *, skip: int | None = None, header: int | None = None, axes: str = ""
) -> Source | ReadySeries:
    """Open a file by its suffix: a table to stream, or ready series. Raises LabError."""
    path = Path(path)
    if not path.is_file():
        raise LabError(f"there is no file {str(path)!r}", field="file", remedy="check the path")
    suffix = path.suffix.lower()
    if suffix == ".ts":
        return read_ts(path)
    if suffix in (".npy", ".npz"):
        return _from_arrays(path, axes)
    if suffix == ".parquet":
        source: Source = ParquetSource(path)
    elif suffix in (".csv", ".tsv", ".txt"):
        source = CsvSource(path, skip=skip, header=header)
    else:
        raise LabError(
            f"{path.name}: files of type {suffix!r} are not read",
            field="file",
            remedy=f"use {', '.join(TABLE_SUFFIXES)}",
        )
    if axes in ("SN", "MN"):
        return _turned(source, axes)
    if len(axes) == 3:
        raise LabError(f"{path.name} is a table of two axes", field="axes", remedy="use NM, MN or SN")
    return source


def _plain(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    """Return an array of a supported type, in native byte order. Raises LabError."""
    label = f"array {name!r}" if name else "its array"
    if array.dtype.kind == "c":
        raise LabError(
            f"{path.name}: {label} is complex",
            remedy="save real and imaginary parts as channels of their own",
        )
    if array.dtype.kind not in "biufUSM":
        raise LabError(f"{path.name}: {label} has type {array.dtype}: real numbers are needed")
    if array.dtype.kind == "f" and array.dtype.itemsize not in (4, 8):
        return array.astype(np.float64)
    if array.dtype.byteorder in "<>" and not array.dtype.isnative:
        return array.astype(array.dtype.newbyteorder("="))
    return array


def _from_arrays(path: Path, axes: str) -> Source | ReadySeries:
    stored = {"": read_npy(path)} if path.suffix.lower() == ".npy" else read_npz(path)
    arrays = {name: _plain(path, name, array) for name, array in stored.items()}
    if "X" in arrays and arrays["X"].ndim == 3:
        x = arrays["X"]
        if {"scale", "offset"} <= arrays.keys():
            x = x * arrays["scale"] + arrays["offset"]
        return _windows(path, x, axes)
    if len(arrays) == 1:
        name, array = next(iter(arrays.items()))
        if array.ndim == 3:
            return _windows(path, array, axes)
        if array.ndim == 2 and array.shape[1]:
            if axes == "SN":
                return ReadySeries(path, _doubles(path, array)[..., None], (name or "c1",))
            array = array.T if axes == "MN" else array
            return ArraySource(path, {f"{name or 'c'}{i + 1}": array[:, i] for i in range(array.shape[1])})
    if {array.ndim for array in arrays.values()} == {1} and len({len(a) for a in arrays.values()}) == 1:
        return ArraySource(path, {name or "c1": array for name, array in arrays.items()})
    shapes = ", ".join(f"{name or 'array'} {array.shape}" for name, array in arrays.items())
    raise LabError(
        f"{path.name} holds {shapes or 'nothing'}: (rows, columns), (S, N, M), or equally long columns are needed"
    )


def _doubles(path: Path, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "biuf":
        raise LabError(f"{path.name} holds {array.dtype}: real numbers are needed")
    if array.size * 4 > TABLE_BYTES:
        raise LabError(f"{path.name} takes more than {TABLE_BYTES / 1e6:.0f} MB as float32: cut the file")
    return np.asarray(array, dtype=np.float64)


def _windows(path: Path, x: np.ndarray, axes: str) -> ReadySeries:
    if axes and len(axes) != 3:
        raise LabError(
            f"{path.name} has three axes, of shape {x.shape}", field="axes", remedy="use SNM or SMN"
        )
    x = _doubles(path, x.transpose(0, 2, 1) if axes == "SMN" else x)
    return ReadySeries(path, x, tuple(f"c{i + 1}" for i in range(x.shape[2])))


def _turned(source: Source, axes: str) -> Source | ReadySeries:
    """Convert a table whose rows are series or channels."""
    blocks = []
    rows = 0
    try:
        for batch in source.batches(source.names):
            columns = [numbers(array, NumberStyle()) for array in batch]
            blocks.append(np.stack(columns, axis=1))
            rows += len(blocks[-1])
    except BadCell as bad:
        raise LabError(
            f"{source.path.name}: row {source.row(rows + bad.index)} holds {bad.text[:40]!r}, which is not a number",
            field="axes",
            remedy="a table whose rows are series or channels holds numbers only",
        ) from None
    table = np.concatenate(blocks) if blocks else np.zeros((0, len(source.names)))
    if axes == "SN":
        return ReadySeries(source.path, table[..., None], ("c1",), notes=source.notes)
    return ArraySource(source.path, {f"c{i + 1}": row for i, row in enumerate(table)})


def ask_for_axes(series: ReadySeries, window: int, axes: str) -> LabError | None:
    """Ask about axes if an array does not seem to hold (windows, steps, channels)."""
    _, length, width = series.x.shape
    if (
        axes
        or length == window
        or not (length < width and (width == window or length < 4 or _smoother(series.x)))
    ):
        return None
    return LabError(
        f"{series.path.name} has shape {series.x.shape}: read as (windows, steps, channels) it has windows of "
        f"{length} steps in {width} channels",
        field="axes",
        remedy=f"{AXES_HELP}: SNM as it is, or SMN for channels before steps",
    )


def _smoother(x: np.ndarray) -> bool:
    """Return whether neighbors along the last axis are far more alike than along the one before it."""
    part = x[: max(1, 200_000 // max(1, x[0].size))]
    along = [
        np.nanmean(np.abs(np.diff(part, axis=axis))) if part.shape[axis] > 1 else np.inf for axis in (1, 2)
    ]
    return bool(along[1] < 0.5 * along[0])


def ask_for_rows(source: Source, table: np.ndarray, names: Sequence[str], axes: str) -> LabError | None:
    """Ask if each row of a table without names looks like a series: (R, C) values in file order."""
    rows, columns = table.shape
    unnamed = all(re.fullmatch(r"\D?\d+", name) for name in names)
    if axes or columns < 16 or not unnamed or rows < 2:
        return None
    part = np.nan_to_num(table[:2000])
    down, across = np.abs(np.diff(part, axis=0)).mean(), np.abs(np.diff(part, axis=1)).mean()
    # In aligned series, such as heartbeats, rows differ little while columns differ in level.
    spread = part.std(axis=0).mean() < 0.7 * part.std()
    if not (across < 0.5 * down or (spread and across < 2 * down) or rows < columns):
        return None
    return LabError(
        f"{source.path.name} has {columns} columns without names, and each of its {rows} rows looks like a series",
        field="axes",
        remedy=f"{AXES_HELP}: SN for a series in each row, MN for a channel in each row, NM for rows of time",
    )


def read_ts(path: Path) -> ReadySeries:
    """Read series of equal length from an aeon or sktime `.ts` file: dimensions split by ':', class last."""
    if path.stat().st_size > _TS_BYTES:
        raise LabError(f"{path.name} takes more than {_TS_BYTES / 1e6:.0f} MB: cut the file")
    labeled, stamped, data = False, False, False
    rows: list[list[list[float]]] = []
    labels: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith(("#", "%")):
            continue
        if not data:
            words = line.lower().split()
            labeled |= words[0] in ("@classlabel", "@targetlabel") and words[1:2] == ["true"]
            stamped |= words[:2] == ["@timestamps", "true"]
            data = words[0] == "@data"
            continue
        parts = line.split(":")
        labels.append(parts.pop().strip() if labeled else "")
        try:
            rows.append([[np.nan if is_gap(c) else float(c) for c in part.split(",")] for part in parts])
        except ValueError:
            raise LabError(f"{path.name}: row {number} does not hold numbers only", row=number) from None
    if stamped:
        raise LabError(f"{path.name} has time stamps within its series: save it with equally spaced values")
    shapes = {tuple(len(part) for part in row) for row in rows}
    if len(shapes) != 1 or len(set(next(iter(shapes)))) != 1:
        what = "no series" if not rows else f"series of {len(shapes)} different shapes"
        raise LabError(f"{path.name} holds {what}: series of equal length are needed")
    x = np.asarray(rows, dtype=np.float64).transpose(0, 2, 1)
    names = tuple(f"c{i + 1}" for i in range(x.shape[2]))
    return ReadySeries(path, x, names, tuple(labels) if labeled else ())
