"""Own files into data sets: gaps, uneven time stamps, groups and windows handled as the user chooses.

Nothing is guessed silently: what was dropped, filled or resampled stands in the report and in the card.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.lib.stride_tricks import sliding_window_view

from e2crf_core.data.datasets import block_split, moments
from e2crf_core.data.tables import BadCell, Clock, Source, find_clock, numbers, open_source, survey, times
from e2crf_core.errors import LabError

GAP_CHOICES = ("drop", "interpolate")
# A window may not run over a hole in time: business days and months pass, an outage does not.
JUMP = 5.0
TABLE_BYTES = 500_000_000
WINDOW_BYTES = 500_000_000
HELDOUT_SHARE = 0.2


@dataclass(frozen=True)
class ImportReport:
    """What an import did: `gaps` empty cells by channel, `dropped` windows, `filled` interpolated cells."""

    out: str
    windows: int
    train: int
    heldout: int
    channels: tuple[str, ...]
    gaps: dict[str, int]
    dropped: int
    filled: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Rows in memory: `values` (T, M) float32, `codes` (T,) of `groups`, `stamps` (T,) microseconds or None.

    `first_gap` says in words where the file has its first gap.
    """

    values: np.ndarray
    codes: np.ndarray
    groups: tuple[str, ...]
    stamps: np.ndarray | None
    first_gap: str = ""


@dataclass(frozen=True)
class Windows:
    """`x` (S, N, M), the group and first row (or time stamp) of each window, and how many were dropped."""

    x: np.ndarray
    group: np.ndarray
    start: np.ndarray
    place: np.ndarray
    span: float
    dropped: int


def _quoted(names: Sequence[str], limit: int = 12) -> str:
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _check_columns(source: Source, wanted: Sequence[str]) -> None:
    for name in wanted:
        if name not in source.names:
            raise LabError(
                f"{source.path.name} has no column {name!r}: its columns are {_quoted(source.names)}"
            )
    if len(set(wanted)) != len(wanted):
        raise LabError(f"{source.path.name}: a column is named twice among {_quoted(wanted)}: name each once")


def choose_channels(
    source: Source, clock: Clock | None, group: str | None
) -> tuple[tuple[str, ...], list[str]]:
    """All columns of numbers, and a note on each column left out. Raises LabError when there are none."""
    what = {"text": "holds text", "empty": "is empty"}
    whole = survey(source, clock)
    if not whole.rows:
        raise LabError(
            f"{source.path.name} has no rows below its columns {_quoted(source.names)}: bring data"
        )
    kept = tuple(c.name for c in whole.columns if c.kind == "number" and c.name != group)
    others = [
        c for c in whole.columns if c.name not in kept and c.kind in ("text", "empty") and c.name != group
    ]
    if not kept:
        first, last = source.row(0), source.row(whole.rows - 1)
        what = {"text": "holds text", "empty": "is empty"}
        faults = (
            ", ".join(f"column {c.name!r} {what[c.kind]}" for c in others[:4])
            or "there is only a time column"
        )
        more = f" and {len(others) - 4} more" if len(others) > 4 else ""
        raise LabError(f"{source.path.name} holds no numbers in rows {first} to {last}: {faults}{more}")
    return kept, [
        f"column {c.name!r} was left out: it {'is empty' if c.kind == 'empty' else 'holds text'}"
        for c in others
    ]


def read_table(source: Source, channels: Sequence[str], group: str | None, clock: Clock | None) -> Table:
    """Stream the wanted columns into memory, sorted by group and time. LabErrors name row and column."""
    extra = ([group] if group else []) + ([clock.name] if clock else [])
    _check_columns(source, [*channels, *extra])
    blocks: list[np.ndarray | None] = []
    codes: list[np.ndarray] = []
    stamps: list[np.ndarray] = []
    names: dict[str, int] = {}
    rows = 0
    row_bytes = 4 * len(channels) + (4 if group else 0) + (16 if clock else 0)
    for batch in source.batches([*channels, *extra]):
        column = ""
        try:
            block = np.empty((len(batch[0]), len(channels)), dtype=np.float32)
            for position, name in enumerate(channels):
                column = name
                block[:, position] = numbers(batch[position], source.decimal)
            if group:
                column = group
                codes.append(_codes(batch[len(channels)], names))
            if clock:
                column = clock.name
                stamps.append(times(batch[-1], clock.layout, source.decimal))
        except BadCell as bad:
            raise _refusal(source, rows + bad.index, column, bad.text, clock, group) from None
        blocks.append(block)
        rows += len(block)
        if rows * row_bytes > TABLE_BYTES:
            raise LabError(
                f"{source.path.name}: {len(channels)} channels take more than {TABLE_BYTES / 1e6:.0f} MB "
                f"by row {rows}: choose fewer with --channels, or cut the file"
            )
    values = np.empty((rows, len(channels)), dtype=np.float32)
    low = 0
    for position, part in enumerate(blocks):
        assert part is not None
        values[low : low + len(part)] = part
        low += len(part)
        # Two full copies of a large table would not fit the memory budget.
        blocks[position] = None
    code = np.concatenate(codes) if codes else np.zeros(rows, dtype=np.int32)
    stamp = np.concatenate(stamps) if stamps else None
    return _sorted(Table(values, code, tuple(names) or ("all",), stamp, _first_gap(source, values, channels)))


def _first_gap(source: Source, values: np.ndarray, channels: Sequence[str]) -> str:
    gapped = np.isnan(values).any(1)
    if not gapped.any():
        return ""
    record = int(np.argmax(gapped))
    return f"row {source.row(record)}, column {channels[int(np.argmax(np.isnan(values[record])))]!r}"


def _codes(array: pa.Array, names: dict[str, int]) -> np.ndarray:
    text = pc.cast(array, pa.string())
    blank = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(text), ""), True)
    if pc.any(blank).as_py():
        raise BadCell(pc.index(blank, True).as_py(), "")
    encoded = text.dictionary_encode()
    lookup = np.array(
        [names.setdefault(str(name), len(names)) for name in encoded.dictionary.to_pylist()], np.int32
    )
    return lookup[encoded.indices.to_numpy()]


def _refusal(
    source: Source, record: int, column: str, text: str, clock: Clock | None, group: str | None
) -> LabError:
    text = text if len(text) <= 40 else text[:37] + "..."
    where = f"{source.path.name}: row {source.row(record)}, column {column!r}"
    if column == group:
        return LabError(f"{where}: the group is empty: fill it in, or leave out --group")
    if clock and column == clock.name:
        return LabError(f"{where}: {text!r} is not a time stamp like the others: correct it")
    return LabError(
        f"{where}: {text!r} is not a finite number: correct it, empty it to make it a gap, "
        "or leave the column out with --channels"
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
    return Table(table.values[order], table.codes[order], table.groups, stamps, table.first_gap)


def group_slices(codes: np.ndarray) -> list[slice]:
    """Runs of equal codes in a sorted array."""
    if not len(codes) or codes[0] == codes[-1]:
        return [slice(0, len(codes))]
    edges = np.flatnonzero(np.diff(codes)) + 1
    bounds = [0, *edges.tolist(), len(codes)]
    return [slice(a, b) for a, b in pairwise(bounds) if b > a]


def fill_gaps(values: np.ndarray, longest: int) -> tuple[np.ndarray, int]:
    """Interpolate runs of at most `longest` NaN between two numbers, linearly, along rows.

    `values` (T, M). Returns the filled copy and how many cells were filled. Longer runs stay, as do those at
    an end.
    """
    filled = values.copy()
    count = 0
    for channel in range(values.shape[1]):
        gap = np.isnan(values[:, channel])
        if not gap.any() or gap.all():
            continue
        edges = np.diff(np.concatenate([[0], gap.view(np.int8), [0]]))
        begin, end = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
        short = (end - begin <= longest) & (begin > 0) & (end < len(gap))
        cells = np.flatnonzero(gap)[np.repeat(short, end - begin)]
        known = np.flatnonzero(~gap)
        filled[cells, channel] = np.interp(cells, known, values[known, channel])
        count += len(cells)
    return filled, int(count)


def resampled(table: Table, step: float) -> Table:
    """Means over bins of `step` seconds from each group's first stamp on; an empty bin is a gap (NaN).

    Raises LabError when the grid would not fit in memory.
    """
    assert table.stamps is not None
    width = max(round(step * 1e6), 1)
    values, codes, stamps = [], [], []
    total = 0
    for part in group_slices(table.codes):
        # Bins begin at round times, so that daily windows of a day's data begin at midnight.
        first = table.stamps[part.start] // width
        bins = table.stamps[part] // width - first
        length = int(bins[-1]) + 1
        total += length
        if total * table.values.shape[1] * 4 > TABLE_BYTES:
            raise LabError(f"a grid of {step:g} s has {total:,} rows or more: choose a longer --resample")
        grid = np.empty((length, table.values.shape[1]), dtype=np.float32)
        for channel in range(grid.shape[1]):
            column = table.values[part, channel]
            known = ~np.isnan(column)
            count = np.bincount(bins[known], minlength=length)
            total_value = np.bincount(bins[known], weights=column[known], minlength=length)
            with np.errstate(invalid="ignore"):
                grid[:, channel] = total_value / count
        values.append(grid)
        codes.append(np.full(length, table.codes[part.start], dtype=np.int32))
        stamps.append((first + np.arange(length)) * width)
    return Table(
        np.concatenate(values), np.concatenate(codes), table.groups, np.concatenate(stamps), table.first_gap
    )


def cut_windows(table: Table, window: int, stride: int) -> Windows:
    """Windows of `window` rows every `stride` rows of each group, without those over a gap or a jump in time.

    A jump is a step of more than JUMP usual ones. Raises LabError when the result would not fit in memory.
    """
    bad = np.isnan(table.values).any(1)
    parts = group_slices(table.codes)
    step = usual_step(table)
    firsts: list[np.ndarray] = []
    total = 0
    for part in parts:
        starts = np.arange(part.start, part.stop - window + 1, stride)
        total += len(starts)
        if not len(starts):
            continue
        broken = np.concatenate([[0], np.cumsum(bad[part], dtype=np.int32)], dtype=np.int32)
        local = starts - part.start
        good = broken[local + window] == broken[local]
        if table.stamps is not None and window > 1:
            jump = np.diff(table.stamps[part]) > JUMP * step * 1e6
            jumps = np.concatenate([[0], np.cumsum(jump)])
            good &= jumps[local + window - 1] == jumps[local]
        firsts.append(starts[good])
    kept = np.concatenate(firsts) if firsts else np.zeros(0, dtype=int)
    channels = table.values.shape[1]
    size = len(kept) * window * channels * 4
    if size > WINDOW_BYTES:
        least = int(np.ceil(stride * size / WINDOW_BYTES))
        raise LabError(
            f"{len(kept):,} windows would take {size / 1e6:,.0f} MB: raise --stride to {least} or more"
        )
    x = np.empty((len(kept), window, channels), dtype=np.float32)
    if len(kept):
        view = sliding_window_view(table.values, window, axis=0)
        for low in range(0, len(kept), 1024):
            x[low : low + 1024] = view[kept[low : low + 1024]].transpose(0, 2, 1)
    group = np.array(table.groups)[table.codes[kept]]
    if table.stamps is not None and len(kept):
        begin = table.stamps[kept]
        span = float((table.stamps[kept + window - 1] - begin).max() / 1e6 + step)
        unit: Literal["s", "us"] = "s" if (begin % 1_000_000 == 0).all() else "us"
        start = np.datetime_as_string(begin.astype("datetime64[us]"), unit=unit)
        return Windows(x, group, start, begin / 1e6, span, total - len(kept))
    first = np.array([part.start for part in parts])
    offset = kept - first[np.searchsorted(first, kept, side="right") - 1]
    return Windows(x, group, offset, offset.astype(float), float(window), total - len(kept))


def usual_step(table: Table) -> float:
    """Median step of the time stamps within groups, in seconds; 0 without stamps."""
    if table.stamps is None:
        return 0.0
    steps = [np.diff(table.stamps[part]) for part in group_slices(table.codes)]
    steps = [s for s in steps if len(s)]
    return float(np.median(np.concatenate(steps))) / 1e6 if steps else 0.0


def longest_clean_run(table: Table) -> int:
    """Most rows of one group in a row without a gap: what the longest possible window is."""
    best = 0
    for part in group_slices(table.codes):
        gaps = np.flatnonzero(np.isnan(table.values[part]).any(1))
        bounds = np.concatenate([[-1], gaps, [part.stop - part.start]])
        best = max(best, int(np.diff(bounds).max()) - 1)
    return best


def parse_step(text: str, usual: float) -> float:
    """'10min', '1h', '1d', plain seconds, or 'auto' for the usual step -> seconds. Raises LabError."""
    if text == "auto":
        return usual
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = pd.Timedelta(re.sub("d$", "D", text)).total_seconds()
        except ValueError:
            seconds = 0.0
    if not np.isfinite(seconds) or seconds <= 0:
        raise LabError(
            f"--resample {text!r} is no time step: write 10min, 1h, 1d, a number of seconds, or auto"
        )
    return seconds


def _span_text(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


def _window_text(window: int, step: float) -> str:
    return f"{window} rows" + (f" ({_span_text(window * step)})" if step else "")


def split_windows(windows: Windows, *, calendar: bool) -> np.ndarray:
    """(S,) codes 0 train, 1 held out, 2 left out, with as many held-out stretches as the data allow."""
    # Series of one calendar share their weather or their market: they are split at the same moments.
    group = np.zeros(len(windows.group), dtype=int) if calendar else windows.group
    for blocks in (5, 4, 3, 2, 1):
        split = block_split(group, windows.place, span=windows.span, share=HELDOUT_SHARE, blocks=blocks)
        if (split == 1).any() and (split == 0).any():
            return split
    # Too little time for a held-out stretch of its own length: hold out the last window and what overlaps it.
    split = np.zeros(len(windows.place), dtype=np.uint8)
    last = np.argmax(windows.place)
    overlap = np.abs(windows.place - windows.place[last]) < windows.span - 1e-9
    split[overlap & (calendar | (windows.group == windows.group[last]))] = 2
    split[last] = 1
    return split


def write_dataset(out: Path, arrays: dict[str, np.ndarray], card: dict[str, Any]) -> None:
    """Both files under temporary names first: a stop in between leaves no half data set."""
    if out.exists() and not out.is_dir():
        raise LabError(f"{out} is a file: name a folder with --out")
    if out.is_dir() and any(out.iterdir()) and not (out / "dataset.npz").is_file():
        raise LabError(f"{out} holds other files: name a new folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".import-") as scratch:
        npz, text = Path(scratch) / "dataset.npz", Path(scratch) / "card.json"
        np.savez(npz, **arrays)  # type: ignore[arg-type]
        text.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(npz, out / "dataset.npz")
        os.replace(text, out / "card.json")


def import_file(
    path: str | Path,
    *,
    window: int,
    out: str | Path,
    stride: int | None = None,
    channels: Sequence[str] | None = None,
    group: str | None = None,
    time: str | None = None,
    gaps: str = "drop",
    max_gap: int = 3,
    resample: str | None = None,
    title: str | None = None,
) -> ImportReport:
    """Cut a CSV, TSV, Parquet, NPY or NPZ file into windows and write OUT/dataset.npz and OUT/card.json.

    `window` and `stride` are in rows (stride: window by default), `channels` are columns (all of numbers by
    default), `group` a column whose values must not share a window, `time` the column of time stamps (found
    by itself). `gaps`: 'drop' the windows over a gap, or 'interpolate' runs of up to `max_gap` rows.
    `resample`: means on an even grid of that step ('10min', 'auto'). Raises LabError: one line that names row
    and column.
    """
    path, out = Path(path), Path(out)
    stride = window if stride is None else stride
    if window < 4 or stride < 1:
        raise LabError(
            f"--window {window} --stride {stride}: a window takes 4 rows or more, a stride 1 or more"
        )
    if gaps not in GAP_CHOICES:
        raise LabError(f"--gaps {gaps!r} is unknown: use {' or '.join(GAP_CHOICES)}")
    if max_gap < 1:
        raise LabError(f"--max-gap {max_gap}: it is the longest gap to interpolate, 1 row or more")
    source = open_source(path)
    if isinstance(source, np.ndarray):
        for option, value in (("group", group), ("time", time), ("resample", resample)):
            if value is not None:
                raise LabError(f"{path.name} holds ready windows: --{option} does not apply to it")
        table, names, notes = _ready_windows(path, source, window, channels)
        clock = None
        stride = window
    else:
        _check_columns(source, [*(channels or ()), *([group] if group else []), *([time] if time else [])])
        clock = find_clock(source, time)
        if clock and clock.name in (*(channels or ()), group):
            clock = None
        notes = []
        if channels is None:
            names, notes = choose_channels(source, clock, group)
        else:
            names = tuple(channels)
        table = read_table(source, names, group, clock)
        _check_rows(source, table, names, window)
    gap_counts = {name: int(np.isnan(table.values[:, i]).sum()) for i, name in enumerate(names)}
    step = usual_step(table)
    if resample is not None:
        if table.stamps is None:
            raise LabError(f"{path.name}: --resample needs a column of time stamps: name it with --time")
        step = parse_step(resample, step)
        table = resampled(table, step)
        notes.append(f"resampled to {_span_text(step)} by means")
    elif clock is not None:
        notes += _check_stamps(path, table, clock, step)
    filled = 0
    if gaps == "interpolate":
        for part in group_slices(table.codes):
            table.values[part], count = fill_gaps(table.values[part], max_gap)
            filled += count
    windows = cut_windows(table, window, stride)
    if len(windows.x) < 2:
        raise _too_few(path, table, len(windows.x), windows.dropped, window)
    if isinstance(source, np.ndarray):
        place = np.flatnonzero(np.isin(np.array(table.groups), windows.group))
        everything = np.full(len(place), "all")
        windows = replace(windows, group=everything, start=place, place=place.astype(float), span=1.0)
    split = split_windows(windows, calendar=table.stamps is not None)
    mean, std = moments(windows.x, np.flatnonzero(split == 0))
    flat = [name for name, s in zip(names, std, strict=True) if s <= 1e-6]
    if flat:
        notes.append(f"constant in the training windows: {_quoted(flat)}")
    counts = {
        "train": int((split == 0).sum()),
        "heldout": int((split == 1).sum()),
        "left_out": int((split == 2).sum()),
    }
    card = {
        "title": title or path.stem,
        "domain": "own data",
        "source": path.name,
        "license": "not stated",
        "units": ["" for _ in names],
        "window": {"text": _window_text(window, step), "steps": window, "stride": stride},
        "sampling": {"text": _span_text(step) if step else "one row", "seconds": step or None},
        "group": group,
        "time": clock.name if clock else None,
        "gaps": {"how": gaps, "max_gap": max_gap if gaps == "interpolate" else None, "by_channel": gap_counts,
                 "filled_cells": filled, "dropped_windows": windows.dropped},
        "split": {"text": "contiguous stretches of time are held out; windows on the border are left out",
                  **counts},
        "standardization": {"mean": mean.tolist(), "std": std.tolist()},
        "notes": notes,
    }  # fmt: skip
    arrays = {
        "X": windows.x,
        "channels": np.array(names),
        "group": windows.group,
        "start": windows.start,
        "split": split,
        "mean": mean.astype(np.float32),
        "std": std.astype(np.float32),
        "license": np.array(card["license"]),
        "source": np.array(card["source"]),
    }
    write_dataset(out, arrays, card)
    return ImportReport(
        str(out), len(windows.x), counts["train"], counts["heldout"], names, gap_counts, windows.dropped,
        filled, tuple(notes),
    )  # fmt: skip


def _ready_windows(
    path: Path, x: np.ndarray, window: int, channels: Sequence[str] | None
) -> tuple[Table, tuple[str, ...], list[str]]:
    """Windows (S, N, M) as a table of S groups of N rows, so that gaps are treated like everybody's."""
    count, length, width = x.shape
    names = tuple(f"c{i + 1}" for i in range(width))
    if length != window:
        raise LabError(f"{path.name} holds windows of {length} rows: pass --window {length}")
    if not count or not width:
        raise LabError(f"{path.name} has shape {x.shape}: it holds no numbers")
    if count * length * width * 4 > TABLE_BYTES:
        raise LabError(f"{path.name} takes more than {TABLE_BYTES / 1e6:.0f} MB as float32: cut the file")
    picked = [names.index(c) if c in names else -1 for c in channels or names]
    if -1 in picked:
        raise LabError(
            f"{path.name} has no channel {list(channels or ())[picked.index(-1)]!r}: it has {_quoted(names)}"
        )
    with np.errstate(over="ignore"):
        values = np.asarray(x[..., picked], dtype=np.float32)
    infinite = np.argwhere(np.isinf(values))
    if len(infinite):
        w, row, c = infinite[0]
        raise LabError(
            f"{path.name}: window {w + 1}, row {row + 1}, channel {names[picked[c]]!r} is infinite"
        )
    codes = np.repeat(np.arange(count, dtype=np.int32), length)
    groups = tuple(f"window {i + 1}" for i in range(count))
    gap = np.argwhere(np.isnan(values))
    first = (
        f"window {gap[0][0] + 1}, row {gap[0][1] + 1}, channel {names[picked[gap[0][2]]]!r}"
        if len(gap)
        else ""
    )
    table = Table(values.reshape(-1, len(picked)), codes, groups, None, first)
    return table, tuple(names[i] for i in picked), ["windows were taken as not overlapping, in order of time"]


def _check_rows(source: Source, table: Table, names: Sequence[str], window: int) -> None:
    rows = len(table.values)
    if not rows:
        raise LabError(
            f"{source.path.name} has no rows below its columns {_quoted(source.names)}: bring data"
        )
    first, last = source.row(0), source.row(rows - 1)
    for position, name in enumerate(names):
        if np.isnan(table.values[:, position]).all():
            raise LabError(
                f"{source.path.name}: column {name!r} holds no number in rows {first} to {last}: "
                "leave it out with --channels"
            )
    longest = max(part.stop - part.start for part in group_slices(table.codes))
    if longest < window:
        of = "" if len(table.groups) == 1 else f", at most {longest} of one group"
        raise LabError(
            f"{source.path.name} has {rows} rows (rows {first} to {last}, columns {_quoted(names, 4)}){of}: "
            f"too few for one window of {window}: lower --window or bring more rows"
        )


def _check_stamps(path: Path, table: Table, clock: Clock, step: float) -> list[str]:
    """Refuse equal stamps in one group; note uneven ones."""
    assert table.stamps is not None
    same_group = np.diff(table.codes) == 0
    steps = np.diff(table.stamps) / 1e6
    twice = np.flatnonzero(same_group & (steps == 0))
    if len(twice):
        stamp = np.datetime_as_string(table.stamps[twice[0]].astype("datetime64[us]"), unit="s")
        raise LabError(
            f"{path.name}: column {clock.name!r} says {stamp} more than once: name the column that tells the "
            "series apart with --group, or average with --resample auto"
        )
    steps = steps[same_group]
    uneven = np.abs(steps - step) > 0.01 * step
    if not len(steps) or not uneven.any():
        return []
    return [
        f"time stamps are uneven: {100 * uneven.mean():.1f}% of the steps differ from the usual "
        f"{_span_text(step)}, the longest is {_span_text(float(steps.max()))}; rows were taken as they "
        f"stand, windows never run over a step longer than {JUMP:g} usual ones; --resample {_span_text(step)} "
        "puts them on an even grid"
    ]


def _too_few(path: Path, table: Table, kept: int, dropped: int, window: int) -> LabError:
    if not dropped:
        return LabError(
            f"{path.name} gives {kept} window of {window}; two are the least: lower --window or --stride"
        )
    if not np.isnan(table.values).any():
        return LabError(
            f"{path.name}: all windows of {window} run over jumps in time: --resample, or lower it"
        )
    first = f"the first gap is in {table.first_gap}" if table.first_gap else "resampling left empty bins"
    return LabError(
        f"{path.name}: gaps leave {kept} of {kept + dropped} windows ({first}; the longest run without one "
        f"is {longest_clean_run(table)} rows): lower --window, leave columns out, or use --gaps interpolate"
    )
