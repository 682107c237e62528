"""Hold rows in memory: a table's chosen columns as float64, sorted by group and time, or on an even grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from e2crf_core.data.numbers import BadCell, NumberStyle, numbers
from e2crf_core.data.plan import TablePlan
from e2crf_core.data.sources import Source
from e2crf_core.data.steps import Regularity, regularity
from e2crf_core.data.times import to_utc
from e2crf_core.errors import LabError

TABLE_BYTES = 500_000_000
# Beyond these, float32 leaves no room for squares and gradients.
LARGEST = 1e30


@dataclass(frozen=True)
class Table:
    """The rows in memory: `values` (T, M) float64, `codes` (T,) of `groups`, `stamps` (T,) in µs or None.

    `first_gap` describes where the file has its first gap.
    """

    values: np.ndarray
    codes: np.ndarray
    groups: tuple[str, ...]
    stamps: np.ndarray | None
    first_gap: str = ""

    @cached_property
    def regular(self) -> Regularity:
        """Return the regularity of the time stamps in the longest group."""
        if self.stamps is None or not len(self.stamps):
            return Regularity(0.0, 0.0, 0.0)
        longest = max(group_slices(self.codes), key=lambda part: part.stop - part.start)
        return regularity(self.stamps[longest])


def read_table(source: Source, plan: TablePlan) -> Table:
    """Stream the chosen columns into memory, sorted by group and time. LabErrors name row and column."""
    clock, group, channels = plan.clock, plan.group, plan.channels
    extra = [*([group] if group else []), *(clock.columns if clock else ())]
    blocks: list[np.ndarray | None] = []
    codes: list[np.ndarray] = []
    stamps: list[np.ndarray] = []
    names: dict[str, int] = {}
    rows = 0
    row_bytes = 4 * len(channels) + (4 if group else 0) + (16 if clock else 0)
    for batch in source.batches([*channels, *extra]):
        keep = _filled(batch[: len(channels)], batch[len(batch) - len(clock.columns) :]) if clock else None
        kept = batch if keep is None else [array.filter(pa.array(keep)) for array in batch]
        block, code, stamp = _block(source, plan, kept, names, rows)
        blocks.append(block)
        codes += [code] if group else []
        stamps += [stamp] if clock else []
        rows += len(batch[0])
        if rows * row_bytes > TABLE_BYTES:
            raise LabError(
                f"{source.path.name}: {len(channels)} channels take more than {TABLE_BYTES / 1e6:.0f} MB by row "
                f"{rows}",
                field="channels",
                remedy="choose fewer, or cut the file",
            )
    values = _joined(blocks, len(channels))
    code = np.concatenate(codes) if codes else np.zeros(len(values), dtype=np.int32)
    moments = np.concatenate(stamps) if stamps else None
    if moments is not None and clock is not None and clock.tz:
        moments = to_utc(moments, clock.tz)
    first_gap = _first_gap(source, values, channels)
    return _sorted(Table(values, code, tuple(names) or ("all",), moments, first_gap))


def _filled(channels: Sequence[pa.Array], clock: Sequence[pa.Array]) -> np.ndarray | None:
    """Return (rows,) False for empty rows, such as spreadsheets add below a table; None if there are none."""
    empty = np.ones(len(clock[0]), dtype=bool)
    for array in [*clock, *channels]:
        if not empty.any():
            return None
        blank = pc.is_null(array)
        if pa.types.is_string(array.type):
            blank = pc.or_(blank, pc.fill_null(pc.equal(pc.utf8_trim_whitespace(array), ""), True))
        empty &= blank.to_numpy(zero_copy_only=False)
    return ~empty if empty.any() else None


def _block(
    source: Source, plan: TablePlan, batch: list[pa.Array], names: dict[str, int], first: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return values, group codes, and stamps of a block whose first row is record `first`."""
    column, clock = "", plan.clock
    code, stamp = np.zeros(0, np.int32), np.zeros(0, np.int64)
    block = np.empty((len(batch[0]), len(plan.channels)))
    try:
        for position, name in enumerate(plan.channels):
            column = name
            block[:, position] = values = numbers(batch[position], plan.styles.get(name, NumberStyle()))
            if len(values) and np.nanmax(np.abs(values), initial=0.0) > LARGEST:
                index = int(np.nanargmax(np.abs(values)))
                raise BadCell(index, str(batch[position][index].as_py()))
        if plan.group:
            column = plan.group
            code = _codes(batch[len(plan.channels)], names)
        if clock:
            column = clock.columns[0]
            stamp = clock.read(batch[len(batch) - len(clock.columns) :])
    except BadCell as bad:
        raise _refusal(source, first + bad.index, column, bad.text, plan) from None
    return block, code, stamp


def _joined(blocks: list[np.ndarray | None], width: int) -> np.ndarray:
    values = np.empty((sum(len(b) for b in blocks if b is not None), width))
    low = 0
    for position, part in enumerate(blocks):
        assert part is not None
        values[low : low + len(part)] = part
        low += len(part)
        # Two full copies of a large table would exceed the memory budget.
        blocks[position] = None
    return values


def _first_gap(source: Source, values: np.ndarray, channels: Sequence[str]) -> str:
    gapped = np.isnan(values).any(1)
    if not gapped.any():
        return ""
    record = int(np.argmax(gapped))
    return f"row {source.row(record)}, column {channels[int(np.argmax(np.isnan(values[record])))]!r}"


def _codes(array: pa.Array, names: dict[str, int]) -> np.ndarray:
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    text = pc.utf8_trim_whitespace(pc.cast(array, pa.string()))
    blank = pc.fill_null(pc.equal(text, ""), True)
    if pc.any(blank).as_py():
        raise BadCell(pc.index(blank, True).as_py(), "")
    encoded = text.dictionary_encode()
    lookup = np.array(
        [names.setdefault(str(name), len(names)) for name in encoded.dictionary.to_pylist()], np.int32
    )
    return lookup[encoded.indices.to_numpy()]


def _refusal(source: Source, record: int, column: str, text: str, plan: TablePlan) -> LabError:
    text = text if len(text) <= 40 else text[:37] + "..."
    row = source.row(record)
    where = f"{source.path.name}: row {row}, column {column!r}"
    if column == plan.group:
        return LabError(
            f"{where}: the group is empty", field="group", remedy="fill it in", row=row, column=column
        )
    if plan.clock and column in plan.clock.columns:
        return LabError(
            f"{where}: {text!r} is not a time stamp like the others",
            remedy="correct it",
            row=row,
            column=column,
        )
    return LabError(
        f"{where}: {text!r} is not a finite number like the others",
        field="missing",
        remedy="correct it, take it as missing, or leave the column out",
        row=row,
        column=column,
    )


def _sorted(table: Table) -> Table:
    if table.stamps is None and len(table.groups) == 1:
        return table
    keys = (table.codes,) if table.stamps is None else (table.stamps, table.codes)
    grows = np.diff(table.codes) >= 0
    if table.stamps is not None:
        grows &= (np.diff(table.stamps) >= 0) | (np.diff(table.codes) > 0)
    if grows.all():
        return table
    order = np.lexsort(keys)
    stamps = None if table.stamps is None else table.stamps[order]
    return replace(table, values=table.values[order], codes=table.codes[order], stamps=stamps)


def group_slices(codes: np.ndarray) -> list[slice]:
    """Return the runs of equal codes in a sorted array."""
    if not len(codes) or codes[0] == codes[-1]:
        return [slice(0, len(codes))]
    edges = np.flatnonzero(np.diff(codes)) + 1
    bounds = [0, *edges.tolist(), len(codes)]
    return [slice(a, b) for a, b in pairwise(bounds) if b > a]


MOST_EMPTY = 1000
"""A grid with more bins than this for each row is refused."""


def resampled(table: Table, step: float) -> Table:
    """Average over bins of `step` seconds from each group's first stamp; an empty bin is a gap (NaN).

    Raises LabError if the grid would not fit in memory, or is nearly empty: a step or a stamp is wrong.
    """
    assert table.stamps is not None
    width = max(round(step * 1e6), 1)
    values, codes, stamps = [], [], []
    total = 0
    for part in group_slices(table.codes):
        # Bins begin at round times, so that one-day windows begin at midnight.
        first = table.stamps[part.start] // width
        bins = table.stamps[part] // width - first
        length = int(bins[-1]) + 1
        total += length
        if total * table.values.shape[1] * 4 > TABLE_BYTES:
            raise LabError(
                f"a grid of {step:g} s has {total:,} rows or more",
                field="resample",
                remedy="choose a longer step",
            )
        if length > MOST_EMPTY * (len(bins) + MOST_EMPTY):
            raise LabError(
                f"a grid of {step:g} s has {length:,} rows for {len(bins):,} in the file",
                field="resample",
                remedy="choose a longer step, or correct the time stamp that is far from the others",
            )
        grid = np.empty((length, table.values.shape[1]))
        for channel in range(grid.shape[1]):
            column = table.values[part, channel]
            known = ~np.isnan(column)
            count = np.bincount(bins[known], minlength=length)
            sums = np.bincount(bins[known], weights=column[known], minlength=length)
            with np.errstate(invalid="ignore"):
                grid[:, channel] = sums / count
        values.append(grid)
        codes.append(np.full(length, table.codes[part.start], dtype=np.int32))
        stamps.append((first + np.arange(length)) * width)
    return replace(
        table, values=np.concatenate(values), codes=np.concatenate(codes), stamps=np.concatenate(stamps)
    )
