"""Plan how to read a table: which column is time, which are channels, how numbers look, and what is open.

Every decision records whether it is certain. What cannot be decided becomes a question, never a silent guess.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from e2crf_core.data.clocks import TimeColumns, find_clock
from e2crf_core.data.numbers import NumberStyle, StyleChoice, decide_style
from e2crf_core.data.profiles import ColumnProfile, TableProfile
from e2crf_core.data.sources import Source
from e2crf_core.data.times import TIME_LIKE
from e2crf_core.errors import LabError

NONE = "none"
_SENTINELS = {-999.0, -9999.0, -99999.0, -99.0, -999.9, -999.99, -99.9, -99.99, -9999.9, -32768.0}
_HIGH_SENTINELS = {999.9, 999.99, 9999.0, 9999.9, 9999.99, 99999.0, 99999.9, 32767.0}
_COUNTERS = {
    "",
    "index",
    "id",
    "row",
    "rows",
    "nr",
    "no",
    "number",
    "record",
    "unnamed",
    "idx",
    "lfd",
    "n",
    "sample",
}
_CALENDAR = {
    "year": (1500, 2200), "jahr": (1500, 2200), "yr": (1500, 2200), "month": (1, 12), "monat": (1, 12),
    "day": (0, 366), "tag": (0, 366), "dayofmonth": (1, 31), "dayofyear": (1, 366), "doy": (1, 366), "hour": (0, 24),
    "stunde": (0, 24), "hr": (0, 24), "minute": (0, 60), "weekday": (0, 7), "wochentag": (0, 7), "dayofweek": (0, 7),
    "dow": (0, 7), "week": (0, 53), "weekofyear": (0, 53), "quarter": (1, 4), "weekend": (0, 1), "isweekend": (0, 1),
}  # fmt: skip


@dataclass(frozen=True)
class Reading:
    """The user's instructions for a table. None, '', and () leave a choice to detection.

    `time` and `group` name columns; 'none' means that there is none. `missing` lists cells that mean a gap.
    `decimal` is '.' or ',', `date_order` 'dmy' or 'mdy', `tz` a time zone such as Europe/Berlin. `skip` lines
    precede the table, and `header` of its rows are names. `axes` names the axes of arrays and tables: S
    series, N steps, M channels.
    """

    channels: tuple[str, ...] = ()
    group: str | None = None
    time: str | None = None
    missing: tuple[str, ...] = ()
    decimal: str = ""
    date_order: str = ""
    tz: str = ""
    skip: int | None = None
    header: int | None = None
    axes: str = ""

    def __post_init__(self) -> None:
        """Reject unknown words. Raises LabError."""
        for name, value, allowed in (
            ("decimal", self.decimal, (".", ",")),
            ("date_order", self.date_order, ("dmy", "mdy")),
            ("axes", self.axes, ("NM", "MN", "SN", "SNM", "SMN")),
        ):
            if value and value not in allowed:
                raise LabError(
                    f"{name} {value!r} is unknown", field=name, remedy=f"use {' or '.join(allowed)}"
                )
        for name, count in (("skip", self.skip), ("header", self.header)):
            if count is not None and not 0 <= count <= 10_000:
                raise LabError(f"{name} {count}: a number of lines from 0 to 10,000 is needed", field=name)

    @classmethod
    def of(cls, options: dict[str, Any]) -> Reading:
        """Build from keyword arguments, ignoring None. Raises TypeError for unknown ones."""
        said: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in options.items() if v is not None
        }
        return cls(**said)

    @property
    def gap_words(self) -> tuple[str, ...]:
        """Return the words that mean a gap, in lower case."""
        return tuple(word.strip().lower() for word in self.missing)


@dataclass(frozen=True)
class Decision:
    """How a column, or the file (column ''), is read: `role` is file, time, channel, group, or left out."""

    column: str
    role: str
    reading: str
    certain: bool = True


@dataclass(frozen=True)
class TablePlan:
    """How a table is read. `questions` must be answered first: LabErrors with field and remedy."""

    channels: tuple[str, ...]
    styles: dict[str, NumberStyle]
    clock: TimeColumns | None
    group: str | None
    decisions: tuple[Decision, ...]
    questions: tuple[LabError, ...]
    units: dict[str, str]


def quoted(names: Sequence[str], limit: int = 12) -> str:
    """Quote names, shortening a long list."""
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")


def resolve_names(names: Sequence[str], source: Source) -> tuple[str, ...]:
    """Find columns by name, rejoining names that contain commas. Raises LabError for unknown ones."""
    have, resolved, rest = set(source.names), [], [n.strip() for n in names]
    while rest:
        joined = (mark.join(rest[:count]) for count in range(1, len(rest) + 1) for mark in (", ", ","))
        match = next((name for name in joined if name in have), None)
        if match is None:
            raise LabError(
                f"{source.path.name} has no column {rest[0]!r}",
                field="channels",
                remedy=f"choose among {quoted(source.names)}",
            )
        resolved.append(match)
        rest = rest[match.count(",") + 1 if rest[0] != match else 1 :]
    if len(set(resolved)) != len(resolved):
        raise LabError(
            f"a column is named twice among {quoted(resolved)}", field="channels", remedy="name each once"
        )
    return tuple(resolved)


def make_plan(source: Source, table: TableProfile, reading: Reading) -> TablePlan:
    """Decide how a profiled table is read. Raises LabError for columns that do not exist."""
    asked = resolve_names(reading.channels, source) if reading.channels else ()
    for field, name in (("group", reading.group), ("time", reading.time)):
        if name and name != NONE and name not in source.names:
            raise LabError(
                f"{source.path.name} has no column {name!r}",
                field=field,
                remedy=f"choose among {quoted(source.names)}",
            )
    if not table.rows:
        raise LabError(f"{source.path.name} has no rows below its columns {quoted(source.names)}")
    group = None if reading.group == NONE else reading.group
    free = {n: c for n, c in table.columns.items() if n not in asked and n != group}
    clock, questions = find_clock(
        source, free, reading.time, reading.date_order, reading.tz, grouped=group is not None
    )
    notes = [Decision("", "file", text, certain) for text, certain in source.notes]
    if clock:
        notes.append(Decision(" + ".join(clock.columns), "time", clock.text, clock.certain))
    if group:
        notes.append(Decision(group, "group", "values of this column never share a window"))
    taken = {*(clock.columns if clock else ()), *([group] if group else [])}
    channels = asked or tuple(n for n, c in table.columns.items() if c.kind == "number" and n not in taken)
    left = [] if asked else _left_out(table, channels, taken, has_clock=clock is not None)
    channels = tuple(n for n in channels if n not in {d.column for d in left})
    styles, decisions, open_ = _styles(source, table, channels, reading)
    questions += open_
    if not channels:
        raise _no_numbers(source, table)
    if clock is None and reading.time is None:
        questions += _unread_times(source, table)
    if group is None and reading.group != NONE and clock is None:
        questions += _ask_for_group(source, table, channels)
    units = dict(zip(source.names, source.units, strict=True)) if source.units else {}
    return TablePlan(channels, styles, clock, group, (*notes, *decisions, *left), tuple(questions), units)


def _left_out(
    table: TableProfile, channels: tuple[str, ...], taken: set[str], *, has_clock: bool
) -> list[Decision]:
    """Return columns that are not channels: text, nothing, row counters, and parts of a date."""
    left = []
    for place, (name, column) in enumerate(table.columns.items()):
        if name in taken:
            continue
        if name not in channels:
            what = {"text": "holds text", "empty": "is empty", "time": "holds time stamps"}[column.kind]
            left.append(Decision(name, "left out", what))
            continue
        word = re.sub(r"[^a-zäöü]", "", name.lower())
        bounds = _CALENDAR.get(word)
        unnamed = re.fullmatch(r"c\d+|unnamed: ?\d+", name.lower()) is not None
        if bounds and column.whole and bounds[0] <= column.low and column.high <= bounds[1]:
            left.append(
                Decision(name, "left out", "is a part of the date; name it as a channel to keep it", False)
            )
        elif column.counter and column.whole and table.rows > 2 and (place == 0 or word in _COUNTERS):
            certain = word in _COUNTERS or unnamed
            left.append(
                Decision(name, "left out", "counts the rows; name it as a channel to keep it", certain)
            )
    dropped = {d.column for d in left}
    if channels and all(name in dropped for name in channels):
        # A single column of numbers is data, whatever it looks like.
        left = [d for d in left if d.column not in channels]
    return left


def _no_numbers(source: Source, table: TableProfile) -> LabError:
    what = {"text": "holds text", "empty": "is empty", "time": "holds time stamps", "number": "is no channel"}
    faults = [f"column {n!r} {what[c.kind]}" for n, c in table.columns.items()]
    more = f" and {len(faults) - 4} more" if len(faults) > 4 else ""
    first, last = source.row(0), source.row(table.rows - 1)
    return LabError(
        f"{source.path.name} holds no numbers in rows {first} to {last}: {', '.join(faults[:4])}{more}",
        field="skip",
        remedy="if names or notes stand above the table, say how many lines to skip",
    )


def _styles(
    source: Source, table: TableProfile, channels: Sequence[str], reading: Reading
) -> tuple[dict[str, NumberStyle], list[Decision], list[LabError]]:
    """Return channels' number styles: columns with a clear decimal mark decide for those without."""
    first = {n: decide_style(c.evidence, source.delimiter) for n, c in table.columns.items()}
    settled = {
        v.style.decimal
        for n, v in first.items()
        if v.settled and v.style and table.columns[n].kind == "number"
    }
    file_decimal = reading.decimal or (settled.pop() if len(settled) == 1 else "")
    styles, decisions, questions = {}, [], []
    for name in channels:
        column = table.columns[name]
        verdict = first[name]
        if reading.decimal:
            verdict = _forced(column, reading.decimal)
        elif not verdict.settled and file_decimal:
            verdict = decide_style(column.evidence, source.delimiter, file_decimal)
        if verdict.style is None:
            questions.append(
                LabError(
                    f"{source.path.name}: in column {name!r} every comma stands before three digits: it may be a "
                    "decimal or a thousands mark",
                    field="decimal",
                    remedy="say which the decimal mark is, '.' or ','",
                    column=name,
                )
            )
            verdict = StyleChoice(NumberStyle())
        if column.evidence.texts:
            questions.append(_texts_question(source, name, column))
        assert verdict.style is not None
        styles[name] = replace(verdict.style, missing=reading.gap_words)
        plain = not verdict.certain and verdict.style == NumberStyle()
        text = "numbers (decimal point)" if plain else verdict.style.text
        decisions.append(Decision(name, "channel", text, verdict.certain))
        for end, value, sentinels in (
            ("lowest", column.low, _SENTINELS),
            ("highest", column.high, _HIGH_SENTINELS),
        ):
            if value in sentinels and f"{value:g}" not in reading.gap_words:
                text = f"its {end} value is {value:g}, which often means a missing value"
                decisions.append(Decision(name, "channel", f"{text}; say so if it does", False))
    return styles, decisions, questions


def _forced(column: ColumnProfile, decimal: str) -> StyleChoice:
    m = column.evidence.marks
    other = "," if decimal == "." else "."
    grouped = m["comma_group"] + m["comma_groups"] if other == "," else m["dot_group"] + m["dot_groups"]
    return StyleChoice(NumberStyle(decimal, other if grouped else "", bool(m["spaced"] or m["decorated"])))


def _texts_question(source: Source, name: str, column: ColumnProfile) -> LabError:
    """Ask about text among numbers: list its values and offer to treat them as gaps."""
    seen = column.evidence
    row = source.row(seen.first_text)
    short = [
        (word if len(word) <= 40 else word[:37] + "...", count) for word, count in seen.words.most_common(5)
    ]
    words = [f"{word!r} ({count} times)" if count > 1 else repr(word) for word, count in short]
    more = f" and {len(seen.words) - 5} more" if len(seen.words) > 5 else ""
    return LabError(
        f"{source.path.name}: row {row}, column {name!r} holds text among its numbers: {', '.join(words)}{more}",
        field="missing",
        remedy="take these values as missing, correct them, or leave the column out",
        row=row,
        column=name,
    )


def _unread_times(source: Source, table: TableProfile) -> list[LabError]:
    """Ask about a text column in which most cells look like time stamps, but which no format reads."""
    for name, column in table.columns.items():
        words = column.evidence.words
        odd = [word for word in words if not re.match(TIME_LIKE, word)]
        if column.kind == "text" and len(words) > 2 and len(odd) < len(words) / 2:
            cell = odd[0] if odd else next(iter(words))
            return [
                LabError(
                    f"{source.path.name}: column {name!r} looks like time, but no one format reads all of its "
                    f"cells: one is {cell!r}",
                    field="time",
                    remedy="correct or remove the odd rows, name another column, or none to take rows as steps",
                    column=name,
                )
            ]
    return []


def _ask_for_group(source: Source, table: TableProfile, channels: Sequence[str]) -> list[LabError]:
    """Ask about a text column in which each value forms one stretch of rows: it may name series."""
    for name, column in table.columns.items():
        count = len(column.distinct)
        stretches = column.kind == "text" and 2 <= count <= table.rows / 4 and column.runs == count
        if name not in channels and stretches and min(column.distinct.values()) > 1:
            return [group_question(source.path.name, name, list(column.distinct))]
    return []


def group_question(file: str, name: str, values: Sequence[str]) -> LabError:
    """Ask whether a column distinguishes series."""
    return LabError(
        f"{file}: column {name!r} seems to tell {len(values)} series apart ({quoted(values, 3)}), which must not "
        "share a window",
        field="group",
        remedy=f"name {name!r} as the group, or none",
        column=name,
    )
