"""Load a user's file as a table of rows: open, profile, plan, and read it, and record every decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from e2crf_core.data.overlap import find_overlap
from e2crf_core.data.plan import Decision, Reading, TablePlan, group_question, make_plan, quoted
from e2crf_core.data.profiles import TableProfile, profile
from e2crf_core.data.series_files import ReadySeries, ask_for_axes, ask_for_rows, open_file
from e2crf_core.data.sources import Source
from e2crf_core.data.steps import span_text
from e2crf_core.data.tables import Table, group_slices, read_table
from e2crf_core.errors import LabError

# Beyond this share of a channel's deviation, float32 spacing would hide the detail to be learned.
_COARSE = 1e-3


@dataclass(frozen=True)
class Loaded:
    """A file in memory. `offsets` (M,) are to be subtracted before float32; `ready` marks whole series.

    `recording` and `place` (S,) locate overlapping ready windows; they are None for independent windows.
    """

    table: Table
    names: tuple[str, ...]
    decisions: tuple[Decision, ...]
    questions: tuple[LabError, ...]
    offsets: np.ndarray
    units: tuple[str, ...]
    ready: bool = False
    time: str = ""
    group: str | None = None
    recording: np.ndarray | None = None
    place: np.ndarray | None = None


@dataclass(frozen=True)
class Opened:
    """A file before its rows are read: its kind and, for a table, its columns and how they will be read."""

    source: Source | ReadySeries
    profile: TableProfile | None = None
    plan: TablePlan | None = None


def open_planned(path: Path, reading: Reading) -> Opened:
    """Open a file and plan how to read it. Raises LabError, also for the first open question about axes."""
    source = open_file(path, skip=reading.skip, header=reading.header, axes=reading.axes)
    if isinstance(source, ReadySeries):
        for field, value in (("group", reading.group), ("time", reading.time)):
            if value is not None:
                raise LabError(f"{path.name} holds ready windows: {field} does not apply to it", field=field)
        return Opened(source)
    table = profile(source, reading.gap_words)
    return Opened(source, table, make_plan(source, table, reading))


def load(path: Path, reading: Reading, window: int) -> Loaded:
    """Read a file. Open questions are in `questions`; faults raise LabError."""
    opened = open_planned(path, reading)
    if isinstance(opened.source, ReadySeries):
        return ready_series(opened.source, reading, window)
    assert opened.plan is not None
    return load_table(opened.source, opened.plan, reading)


def load_table(source: Source, plan: TablePlan, reading: Reading) -> Loaded:
    """Read a planned table. Raises LabError; keeps open questions instead if the table can be read at all."""
    # An open question about a channel's cells makes them impossible to read.
    blocking = [q for q in plan.questions if q.field in ("missing", "decimal")]
    if blocking:
        raise blocking[0]
    table = read_table(source, plan)
    questions = list(plan.questions)
    _check_rows(source, table, plan.channels)
    if plan.clock:
        questions += _check_stamps(source, plan, table)
    elif asked := ask_for_rows(source, table.values, plan.channels, reading.axes):
        questions.insert(0, asked)
    offsets, notes = precise(table.values, plan.channels)
    decisions = (*plan.decisions, *notes, *_time_notes(table))
    units = tuple(plan.units.get(name, "") for name in plan.channels)
    time = " + ".join(plan.clock.columns) if plan.clock else ""
    return Loaded(
        table, plan.channels, decisions, tuple(questions), offsets, units, time=time, group=plan.group
    )  # fmt: skip


def precise(values: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, list[Decision]]:
    """Return (M,) what to subtract from each channel so that float32 keeps its detail, and notes about it."""
    offsets, notes = np.zeros(values.shape[1]), []
    for channel, name in enumerate(names):
        column = values[:, channel]
        known = column[~np.isnan(column)]
        spread = float(known.std()) if len(known) else 0.0
        spacing = float(np.spacing(np.float32(np.abs(known).max(initial=0.0))))
        if 0 < spread < spacing / _COARSE and (floor := float(np.floor(known.min()))):
            offsets[channel] = floor
            text = f"{floor:.16g} was subtracted: in single precision its values would be {spacing:g} apart"
            notes.append(Decision(name, "channel", text))
        if 0 < spread < 1e-30:
            raise LabError(
                f"column {name!r} varies by {spread:.2g} only",
                remedy="store it in a larger unit",
                column=name,
            )
    return offsets, notes


def _check_rows(source: Source, table: Table, names: Sequence[str]) -> None:
    rows = len(table.values)
    if not rows:
        raise LabError(f"{source.path.name} has no rows below its columns {quoted(source.names)}")
    for position, name in enumerate(names):
        if np.isnan(table.values[:, position]).all():
            raise LabError(
                f"{source.path.name}: column {name!r} holds no number in rows {source.row(0)} to "
                f"{source.row(rows - 1)}",
                field="channels",
                remedy="leave it out",
                column=name,
            )


def _check_stamps(source: Source, plan: TablePlan, table: Table) -> list[LabError]:
    """Ask what equal time stamps in one group mean: several series, or several readings."""
    assert table.stamps is not None and plan.clock is not None
    same = (np.diff(table.codes) == 0) & (np.diff(table.stamps) == 0)
    if not same.any():
        return []
    first = int(np.flatnonzero(same)[0])
    column = plan.clock.columns[0]
    stamp = np.datetime_as_string(table.stamps[first].astype("datetime64[us]"), unit="s")
    if plan.group is None:
        for name in source.names:
            if name in plan.clock.columns or (name in plan.channels and len(plan.channels) == 1):
                continue
            if values := _tells_apart(source, plan, name):
                return [group_question(source.path.name, name, values)]
    if plan.clock.style.epoch and not plan.clock.tz and _autumn(table.stamps[1:][same]):
        remedy = "if these are local times, name their time zone"
        return [
            LabError(
                f"{source.path.name}: column {column!r} repeats the hour of {stamp}",
                field="tz",
                remedy=remedy,
            )
        ]
    return [
        LabError(
            f"{source.path.name}: column {column!r} says {stamp} more than once",
            field="group",
            remedy="name the column that tells the series apart, or average equal times by resampling",
            column=column,
        )
    ]


def _tells_apart(source: Source, plan: TablePlan, name: str) -> list[str]:
    """Return the few values of a column that makes time stamps unique; empty if it does not."""
    assert plan.clock is not None
    labels, stamps = [], []
    for batch in source.batches([*plan.clock.columns, name]):
        stamps.append(plan.clock.read(batch[:-1]))
        labels.append(np.array([str(v).strip() for v in batch[-1].to_pylist()]))
    label, stamp = np.concatenate(labels), np.concatenate(stamps)
    values, codes = np.unique(label, return_inverse=True)
    if not 2 <= len(values) <= len(label) / 4:
        return []
    unique = len(np.unique(np.stack([codes.astype(np.int64), stamp], axis=1), axis=0)) == len(stamp)
    return values.tolist() if unique else []


def _autumn(stamps: np.ndarray) -> bool:
    """Return whether equal stamps all lie in a repeated hour: Sunday night in October, November, or April."""
    moments = stamps.astype("datetime64[us]")
    days = moments.astype("datetime64[D]")
    sunday = (days.astype(np.int64) + 3) % 7 == 6
    month = moments.astype("datetime64[M]").astype(np.int64) % 12 + 1
    hour = (moments - days).astype("timedelta64[h]").astype(np.int64)
    return bool((sunday & np.isin(month, (4, 10, 11)) & (hour < 4)).all())


def _time_notes(table: Table) -> list[Decision]:
    """Describe the time stamps: the usual step, and the number of other steps."""
    regular = table.regular
    if table.stamps is None or not regular.step:
        return []
    text = f"usual step {regular.text}"
    if regular.uneven:
        text += (
            f"; time stamps are uneven: {100 * regular.uneven:.1f}% of the steps differ, the longest is "
            f"{span_text(regular.longest)}"
        )
    if regular.calendar == "business day":
        text += "; time stamps are uneven in the calendar only: rows are business days, weekends are no gaps"
    return [Decision("", "time", text)]


def ready_series(series: ReadySeries, reading: Reading, window: int) -> Loaded:
    """Return series (S, N, M) as a table of S groups of N rows, so that gaps are treated alike everywhere."""
    questions = [q for q in [ask_for_axes(series, window, reading.axes)] if q]
    count, length, width = series.x.shape
    file = series.path.name
    if questions:
        raise questions[0]
    if length != window:
        raise LabError(f"{file} holds windows of {length} rows", field="window", remedy=f"set it to {length}")
    if not count or not width:
        raise LabError(f"{file} has shape {series.x.shape}: it holds no numbers")
    picked = [series.names.index(c) if c in series.names else -1 for c in reading.channels or series.names]
    if -1 in picked:
        raise LabError(
            f"{file} has no channel {reading.channels[picked.index(-1)]!r}",
            field="channels",
            remedy=f"choose among {quoted(series.names)}",
        )
    x = series.x[..., picked]
    names = tuple(series.names[i] for i in picked)
    _check_finite(file, x, names)
    gap = np.argwhere(np.isnan(x))
    first = f"window {gap[0][0] + 1}, row {gap[0][1] + 1}, channel {names[gap[0][2]]!r}" if len(gap) else ""
    groups = tuple(f"window {i + 1}" for i in range(count))
    table = Table(
        x.reshape(-1, len(picked)), np.repeat(np.arange(count, dtype=np.int32), length), groups, None, first
    )
    offsets, notes = precise(table.values, names)
    overlap = find_overlap(x)
    text, certain = "windows were taken as not overlapping, in order of time", False
    if overlap:
        text = (
            f"{overlap.shared} of {count} windows overlap: each was put back in its place in what they were cut from "
            f"(recordings: {len(np.unique(overlap.recording))}), so that no value is both in training and held out"
        )
        certain = True
    decisions = [Decision("", "file", t, c) for t, c in series.notes] + [
        Decision("", "file", text, certain),
        *notes,
    ]
    return Loaded(
        table, names, tuple(decisions), (), offsets, ("",) * len(names), ready=True,
        recording=overlap.recording if overlap else None, place=overlap.start if overlap else None,
    )  # fmt: skip


def _check_finite(file: str, x: np.ndarray, names: Sequence[str]) -> None:
    infinite = np.argwhere(np.isinf(x) | (np.abs(np.nan_to_num(x)) > 1e30))
    if len(infinite):
        w, row, c = infinite[0]
        raise LabError(
            f"{file}: window {w + 1}, row {row + 1}, channel {names[c]!r} is infinite or out of range"
        )


def longest_group(table: Table) -> int:
    """Return the number of rows in the longest group."""
    return max(part.stop - part.start for part in group_slices(table.codes))
