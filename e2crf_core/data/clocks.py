"""Find which column, or pair of columns, holds time, and how to read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from e2crf_core.data.date_parts import date_columns, read_parts, time_columns
from e2crf_core.data.numbers import PLAIN_STYLE, BadCell, NumberStyle, decide_style, numbers
from e2crf_core.data.profiles import ColumnProfile
from e2crf_core.data.sources import Source
from e2crf_core.data.steps import regularity
from e2crf_core.data.times import (
    DAY_FIRST,
    MONTH_FIRST,
    TimeStyle,
    is_time_name,
    micros,
    number_style,
    time_of_day,
)
from e2crf_core.errors import LabError

NONE = "none"
# The difference in regularity that decides the order of day and month.
_CLEARLY = 4.0


@dataclass(frozen=True)
class TimeColumns:
    """The time of rows: one column, a date and a time of day, or `parts` of a date, and how to read them.

    `parts` names the columns of whole numbers by part (`date_parts`); one other column may complete them.
    """

    columns: tuple[str, ...]
    style: TimeStyle
    number: NumberStyle = PLAIN_STYLE
    tz: str = ""
    text: str = ""
    certain: bool = True
    parts: Mapping[str, str] = field(default_factory=dict)

    def read(self, arrays: Sequence[pa.Array]) -> np.ndarray:
        """Read the clock's columns as int64 microseconds, local if a zone is given. Raises BadCell."""
        if self.parts:
            joined = read_parts(
                [arrays[self.columns.index(name)] for name in self.parts.values()], [*self.parts]
            )
            rest = [
                array
                for name, array in zip(self.columns, arrays, strict=True)
                if name not in self.parts.values()
            ]
            if not rest:
                return joined
            dated = "year" not in self.parts
            return joined + (micros(rest[0], self.style, self.number) if dated else time_of_day(rest[0]))
        stamps = micros(arrays[0], self.style, self.number)
        return stamps + time_of_day(arrays[1]) if len(self.columns) == 2 else stamps


def find_clock(
    source: Source,
    columns: dict[str, ColumnProfile],
    name: str | None,
    date_order: str,
    tz: str,
    *,
    grouped: bool,
) -> tuple[TimeColumns | None, list[LabError]]:
    """Return a table's clock and open questions about it. Raises LabError if a named column is no time."""
    if name == NONE:
        return None, []
    if name is not None and name not in columns:
        raise LabError(
            f"{source.path.name} has no column {name!r}",
            field="time",
            remedy=f"choose one of {', '.join(map(repr, [*columns][:12]))}",
        )
    found: list[TimeColumns] = []
    questions: list[LabError] = []
    parts = date_columns(columns) if name is None else {}
    for column in columns.values():
        if (name is not None and column.name != name) or column.name in parts.values():
            continue
        clock, asked = _clock_of(source, column, date_order, named=name is not None)
        questions += asked if name is not None else []
        if clock is not None:
            found.append(clock)
            questions += asked if name is None else []
    found = [_with_time_of_day(source, clock, columns) for clock in found]
    if name is not None and not found:
        raise _no_time(source, name)
    if parts and not any(clock.style.epoch for clock in found):
        found, questions = [_of_parts(parts, columns)], []
    clock, asked = _choose(source, found)
    if clock is None:
        return None, asked
    # Questions about columns other than the clock do not matter.
    questions = [q for q in questions if q.column in clock.columns] + asked
    if tz:
        clock = replace(clock, tz=tz, text=f"{clock.text}, local time of {tz} kept as UTC")
    return clock, questions


def _of_parts(parts: dict[str, str], columns: dict[str, ColumnProfile]) -> TimeColumns:
    """Join the parts of a date, and a column of times of day if no part is an hour."""
    names = tuple(parts.values())
    text = f"dates joined from {', '.join(parts)}"
    clocks = [column.name for column in columns.values() if column.clock]
    if clocks and not {"hour", "hhmm"} & parts.keys():
        names, text = (*names, clocks[0]), f"{text}, with the time of day from {clocks[0]!r}"
    return TimeColumns(names, TimeStyle("parts"), text=text, certain=False, parts=parts)


def _no_time(source: Source, name: str, record: int = 0, cell: str | None = None) -> LabError:
    if cell is None:
        array = next(source.batches([name]))[0]
        cell = str(array[0].as_py()) if len(array) else ""
    row = source.row(record)
    return LabError(
        f"{source.path.name}: row {row}, column {name!r}: {cell!r} is not a time stamp",
        field="time",
        remedy="name another column, or none",
        row=row,
        column=name,
    )


def _clock_of(
    source: Source, column: ColumnProfile, date_order: str, *, named: bool
) -> tuple[TimeColumns | None, list[LabError]]:
    """Return the clock in one column, if there is one."""
    if column.native_time:
        return TimeColumns((column.name,), TimeStyle("native"), text="time stamps"), []
    if column.styles:
        return _text_clock(source, column, date_order)
    if column.clock or (column.values is None and not named) or column.kind != "number":
        return None, []
    verdict = decide_style(column.evidence, source.delimiter)
    number = verdict.style or NumberStyle()
    values = np.concatenate(column.values) if column.values else _whole_values(source, column.name, number)
    if values is None:
        return None, []
    style = number_style(column.name, values, named=named, unit=column.unit)
    if style is None:
        return None, []
    newest = " (newest first: rows were sorted)" if len(values) > 1 and values[-1] < values[0] else ""
    certain = named or (style.epoch and is_time_name(column.name))
    return TimeColumns((column.name,), style, number, text=style.text + newest, certain=certain), []


def _whole_values(source: Source, name: str, number: NumberStyle) -> np.ndarray | None:
    try:
        return np.concatenate([numbers(batch[0], number) for batch in source.batches([name])])
    except BadCell:
        return None


def _text_clock(
    source: Source, column: ColumnProfile, date_order: str
) -> tuple[TimeColumns | None, list[LabError]]:
    styles = column.styles
    orders = {style.order for style in styles}
    if not {DAY_FIRST, MONTH_FIRST} <= orders:
        style = styles[0]
        return TimeColumns((column.name,), style, text=style.text, certain="%y" not in style.layout), []
    wanted = {"dmy": DAY_FIRST, "mdy": MONTH_FIRST}.get(date_order)
    if wanted:
        style = next(style for style in styles if style.order == wanted)
        return TimeColumns((column.name,), style, text=style.text), []
    return _by_regularity(source, column)


def _by_regularity(source: Source, column: ColumnProfile) -> tuple[TimeColumns, list[LabError]]:
    """Choose the order of day and month with far more regular steps, since both orders read every cell."""
    whole = [batch[0] for batch in source.batches([column.name])]
    scores = []
    for style in column.styles:
        if not style.order:
            continue
        stamps = np.concatenate([micros(array, style) for array in whole])
        stamps = stamps[::-1] if len(stamps) > 1 and stamps[-1] < stamps[0] else stamps
        backward = float((np.diff(stamps) < 0).mean()) if len(stamps) > 1 else 0.0
        regular = regularity(np.sort(stamps))
        scores.append((regular.jumpiness * (1 + 100 * backward), regular, style))
    scores.sort(key=lambda entry: entry[0])
    (score, regular, style), (second, other, _) = scores[0], scores[1]
    clock = TimeColumns((column.name,), style, certain=False)
    words = f"{style.text}: {style.order}, because steps are then {regular.text}"
    if second > _CLEARLY * score:
        return replace(
            clock, text=f"{words}; read the other way the longest step has {other.longest / 86400:.4g} d"
        ), []
    question = LabError(
        f"{source.path.name}: in column {column.name!r} day and month cannot be told apart: {style.text}",
        field="date_order",
        remedy="say 'dmy' for day first or 'mdy' for month first",
        column=column.name,
    )
    return replace(clock, text=words), [question]


def _with_time_of_day(source: Source, clock: TimeColumns, columns: dict[str, ColumnProfile]) -> TimeColumns:
    """Join a column of repeated days with a column of times of day, or with columns of hours and minutes."""
    times = time_columns({name: column for name, column in columns.items() if name not in clock.columns})
    clocks = [c.name for c in columns.values() if c.clock]
    dated = clock.style.date_only or clock.style.digits or clock.style.layout in ("ISO8601", "native")
    if not (clocks or times) or not dated or clock.columns[0] in clocks or clock.parts:
        return clock
    array = next(source.batches([clock.columns[0]]))[0]
    stamps = micros(array, clock.style, clock.number)
    if len(stamps) < 2 or (np.diff(stamps) != 0).all() or (stamps % 86_400_000_000 != 0).any():
        return clock
    if not clocks:
        text = f"{clock.text}, with the time of day from {', '.join(map(repr, times.values()))}"
        return replace(
            clock, columns=(clock.columns[0], *times.values()), text=text, certain=False, parts=times
        )
    text = f"{clock.text}, with the time of day from {clocks[0]!r}"
    return replace(clock, columns=(clock.columns[0], clocks[0]), text=text)


def _choose(source: Source, found: list[TimeColumns]) -> tuple[TimeColumns | None, list[LabError]]:
    """Return the one clock; of several equal ones the first, otherwise a question."""
    if len(found) < 2:
        return (found[0] if found else None), []
    dated = [clock for clock in found if clock.style.epoch] or found
    if len(dated) == 1:
        return dated[0], []
    names = [clock.columns[0] for clock in dated]
    first = _stamps(source, dated[0])
    alike = all(_run_alike(first, _stamps(source, other)) for other in dated[1:])
    if alike:
        text = f"{dated[0].text}; {', '.join(map(repr, names[1:]))} runs alike and was left out"
        return replace(dated[0], text=text, certain=False), []
    question = LabError(
        f"{source.path.name} has {len(names)} time columns, {', '.join(map(repr, names[:4]))}, which order its rows "
        "differently",
        field="time",
        remedy="name the one that says when each row was measured",
        column=names[0],
    )
    return dated[0], [question]


def _stamps(source: Source, clock: TimeColumns) -> np.ndarray:
    blocks: list[np.ndarray] = []
    for batch in source.batches(clock.columns):
        try:
            blocks.append(clock.read(batch))
        except BadCell as bad:
            raise _no_time(source, clock.columns[0], sum(map(len, blocks)) + bad.index, bad.text) from None
    return np.concatenate(blocks)


def _run_alike(first: np.ndarray, second: np.ndarray) -> bool:
    a, b = np.sign(np.diff(first)), np.sign(np.diff(second))
    return bool(np.array_equal(a, b) or len(np.unique(first - second)) == 1)
