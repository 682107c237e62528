"""Join the columns of a date's parts, such as year, month, and day, into time stamps."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from e2crf_core.data.numbers import PLAIN_STYLE, BadCell, cell_text, numbers
from e2crf_core.data.profiles import ColumnProfile

_WORDS = {
    "year": {"year", "yr", "yyyy", "yy", "jahr"},
    "month": {"month", "mon", "mo", "mm", "monat"},
    "day": {"day", "dd", "dy", "dom", "dayofmonth", "tag"},
    "doy": {"doy", "dayofyear", "jday", "julianday"},
    "hour": {"hour", "hr", "hh", "stunde"},
    "minute": {"minute", "min", "mn", "mi"},
    "second": {"second", "sec", "ss"},
    "hhmm": {"hhmm", "hrmn", "hourmin"},
}
_BOUNDS = {
    "year": (1678, 2200), "month": (1, 12), "day": (1, 31), "doy": (1, 366), "hour": (0, 24), "minute": (0, 59),
    "second": (0, 60), "hhmm": (0, 2400),
}  # fmt: skip
_TIMES = {"hour": 3_600_000_000, "minute": 60_000_000, "second": 1_000_000}


def _part_of(name: str) -> str:
    """Return the part of a date that a column's name states, '' if none."""
    word = re.sub(r"[^a-z]", "", name.lower())
    # In YY MM DD hh mm, the case tells months from minutes.
    if name.strip() == "mm":
        return "minute"
    return next((part for part, words in _WORDS.items() if word in words), "")


def date_columns(columns: Mapping[str, ColumnProfile]) -> dict[str, str]:
    """Return the columns of a date by part, from year to second; {} without year and month, or day of year."""
    parts = _parts(columns)
    if "year" not in parts or not ({"month", "doy"} & set(parts)):
        return {}
    order = ["year", "month", "day"] if "month" in parts else ["year", "doy"]
    times = time_columns(columns) if order[-1] in parts else {}
    return {part: parts[part] for part in order if part in parts} | times


def time_columns(columns: Mapping[str, ColumnProfile]) -> dict[str, str]:
    """Return the columns of a time of day by part: hour, minute, and second as far as they go, or `hhmm`."""
    parts, times = _parts(columns), {}
    if "hour" not in parts and "hhmm" in parts:
        return {"hhmm": parts["hhmm"]}
    for part in _TIMES:
        if part not in parts:
            break
        times[part] = parts[part]
    return times


def _parts(columns: Mapping[str, ColumnProfile]) -> dict[str, str]:
    """Return the first column of whole numbers without gaps for each part that names state."""
    parts: dict[str, str] = {}
    for name, column in columns.items():
        part = _part_of(name)
        if part == "minute" and "month" not in parts and "year" in parts and name.strip() == "mm":
            part = "month"
        seen = column.evidence
        if not part and _hours_and_minutes(column):
            part = "hhmm"
        if (
            part in _BOUNDS
            and part not in parts
            and column.kind == "number"
            and not (seen.texts or seen.gaps)
        ):
            low, high = _BOUNDS[part]
            if column.whole and low <= column.low and column.high <= high:
                parts[part] = name
    return parts


def _hours_and_minutes(column: ColumnProfile) -> bool:
    """Return whether a column named 'time' holds 0, 30, 100, 130: hours and minutes without a colon."""
    if column.name.strip().lower() not in ("time", "zeit", "uhrzeit") or not column.values:
        return False
    values = np.concatenate(column.values)
    return bool((values % 100 < 60).all() and values.max() >= 100 and (np.diff(values) < 0).any())


def read_parts(arrays: Sequence[pa.Array], parts: Sequence[str]) -> np.ndarray:
    """Convert blocks of date parts to int64 microseconds since 1970. Raises BadCell for an impossible date."""
    whole = dict(zip(parts, map(_whole, arrays), strict=True))
    if "year" not in whole:
        return _time(whole)
    months = (whole["year"] - 1970) * 12 + whole.get("month", np.int64(1)) - 1
    first = months.astype("datetime64[M]").astype("datetime64[D]")
    days = first + (whole.get("day", whole.get("doy", np.int64(1))) - 1)
    unit = "M" if "month" in whole else "Y"
    wrong = days.astype(f"datetime64[{unit}]") != first.astype(f"datetime64[{unit}]")
    if wrong.any():
        index = int(np.flatnonzero(wrong)[0])
        raise BadCell(index, "-".join(cell_text(array, index) for array in arrays))
    return days.astype("datetime64[us]").astype(np.int64) + _time(whole)


def _whole(array: pa.Array) -> np.ndarray:
    values = numbers(array, PLAIN_STYLE)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise BadCell(int(bad[0]), cell_text(array, int(bad[0])))
    return values.astype(np.int64)


def _time(whole: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return microseconds since midnight."""
    micro = np.zeros(len(next(iter(whole.values()))), dtype=np.int64)
    for part, size in _TIMES.items():
        micro += whole.get(part, np.int64(0)) * size
    clock = whole.get("hhmm", np.int64(0))
    return micro + clock // 100 * _TIMES["hour"] + clock % 100 * _TIMES["minute"]
