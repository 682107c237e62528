"""Read time stamps as people write them: text, epochs, numeric dates, Excel days, and date plus time columns.

A style defines how a column becomes microseconds since 1970. `text_styles` and `number_styles` list the
styles that fit the cells; `clocks` chooses among them from the whole column.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from e2crf_core.data.numbers import PLAIN_STYLE, BadCell, NumberStyle, cell_text, is_text, numbers
from e2crf_core.errors import LabError

# No delimiter may follow: a whole line that begins with a time stamp is not a cell.
TIME_LIKE = (
    r"^(\d{1,4}([-/.])\w{1,9}\2\d{1,4}|\d{8}(?=[ T])|\d{1,2} [A-Za-z]{3,9}\.? \d{4}|[A-Za-z]{3,9}\.? \d{1,2},? \d{4}"
    r"|[A-Za-z]{3,9}[- ]\d{2,4}|\d{4}-\d{2}|\d{1,2}/\d{4}|\d{4}[- ]?Q[1-4]|Q[1-4][- /]?\d{4})([ T][^;,|\t]*)?$"
)
CLOCK_LIKE = r"^\d{1,2}:\d{2}(:\d{2}([.]\d+)?)?( ?[AaPp]\.?[Mm]\.?)?$"
_QUARTER = r"\d{4}[- ]?Q[1-4]|Q[1-4][- /]?\d{4}"
_END_OF_DAY = r"([ T])24:00(:00)?$"
TIME_NAMES = {
    "t", "time", "times", "timestamp", "timestamps", "ts", "date", "dates", "datetime", "date_time", "epoch",
    "unixtime", "unix", "when", "datum", "zeit", "zeitstempel", "timestep", "month", "period",
}  # fmt: skip
ELAPSED = {
    "s": 1.0, "sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "msec": 1e-3,
    "milliseconds": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9, "min": 60.0, "mins": 60.0, "minute": 60.0,
    "minutes": 60.0, "h": 3600.0, "hr": 3600.0, "hour": 3600.0, "hours": 3600.0, "d": 86400.0, "day": 86400.0,
    "days": 86400.0,
}  # fmt: skip
_DATES = (
    "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%m.%d.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d", "%d/%m/%y",
    "%m/%d/%y", "%d.%m.%y", "%d-%m-%y", "%m-%d-%y", "%d-%b-%Y", "%d %b %Y", "%d %B %Y", "%d/%b/%Y", "%b %d %Y",
    "%b %d, %Y", "%B %d, %Y", "%B %d %Y", "%d-%b-%y", "%d %b %y", "%Y-%b-%d", "%b-%Y", "%b %Y", "%B %Y", "%B-%Y",
    "%b-%y", "%m/%Y", "%m-%Y",
)  # fmt: skip
_CLOCKS = (
    "", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p", " %I:%M%p", "T%H:%M", "T%H:%M:%S",
)  # fmt: skip
DAY_FIRST, MONTH_FIRST, YEAR_FIRST = "day/month", "month/day", "year/month"
_EPOCH = 719_529  # days from Matlab's day 0 to 1970
_EXCEL = 25_569  # days from Excel's day 0 to 1970
_YEAR = 365.2425 * 86400.0


@dataclass(frozen=True)
class TimeStyle:
    """How a column becomes time. `layout`: 'native', 'quarter', 'ISO8601', a strptime format, or 'number'.

    For a number, seconds since 1970 are `unit` * (value - `origin`), rounded to multiples of `grain`; `epoch`
    separates calendars from stopwatches.
    """

    layout: str
    unit: float = 1.0
    origin: float = 0.0
    epoch: bool = True
    text: str = "time stamps"
    digits: bool = False
    grain: float = 1e-6

    @property
    def order(self) -> str:
        """Return the order of day and month, '' if the format leaves no doubt."""
        day, month = self.layout.find("%d"), self.layout.find("%m")
        if self.digits or day < 0 or month < 0 or self.layout.startswith("%Y"):
            return ""
        return DAY_FIRST if day < month else MONTH_FIRST

    @property
    def date_only(self) -> bool:
        """Return whether the stamps name days without a time of day."""
        return self.layout.startswith("%") and not re.search("%[HI]", self.layout)


def text_styles(cells: Sequence[str]) -> list[TimeStyle]:
    """Return all styles in which every trimmed cell is a time stamp, best first."""
    # A time stamp has two separators or a month name; a plain number such as 2019 or 20.19 is a number.
    if not cells or not all(re.match(TIME_LIKE, cell) for cell in cells):
        return []
    if all(re.fullmatch(_QUARTER, cell) for cell in cells):
        return [TimeStyle("quarter", text="quarters")]
    series = _as_midnight(_without_zone(pd.Series(list(cells))))
    if not pd.to_datetime(series, format="ISO8601", utc=True, errors="coerce").isna().any():
        return [TimeStyle("ISO8601", text="ISO 8601 time stamps")]
    styles = []
    for date in _DATES:
        for clock in _CLOCKS:
            if (":" in cells[0]) == bool(clock) and not _parsed(series, date + clock).isna().any():
                styles.append(
                    TimeStyle(date + clock, text=f"time stamps such as {cells[0]!r} ({_words(date)})")
                )
                break
    return styles


def _without_zone(texts: pd.Series) -> pd.Series:
    """Remove a written-out UTC, since all stamps are read as UTC."""
    if len(texts) and str(texts.iloc[0]).endswith(("UTC", "GMT")):
        return texts.str.replace(r"\s*(UTC|GMT)$", "", regex=True)
    return texts


def _as_midnight(texts: pd.Series) -> pd.Series:
    """Write 24:00, the end of a day, as 00:00; the caller adds the day."""
    return texts.str.replace(_END_OF_DAY, r"\g<1>00:00\g<2>", regex=True)


def _words(date: str) -> str:
    names = {"d": "day", "m": "month", "b": "month", "B": "month", "Y": "year", "y": "two-digit year"}
    return ", ".join(names[letter] for letter in re.findall("%([a-zA-Z])", date))


def _parsed(series: pd.Series, layout: str) -> pd.Series:
    return pd.to_datetime(series, format=layout, utc=True, errors="coerce")


def is_clock(cells: Sequence[str]) -> bool:
    """Return whether all cells are times of day."""
    return bool(cells) and all(re.match(CLOCK_LIKE, cell) for cell in cells)


def unit_of_name(name: str, unit: str = "") -> float | None:
    """Return the unit in seconds that a column's name or unit row states: `hour`, `time_ms`, `Time [s]`."""
    bracket = re.search(r"[\[(]\s*([A-Za-zµ]+)\s*[\])]\s*$", name)
    words = re.split(r"[^A-Za-zµ]+", name.strip().lower())
    for word in (unit.strip("[]() ").lower(), bracket[1].lower() if bracket else ""):
        if word in ELAPSED:
            return ELAPSED[word]
    if len(words) == 1 or words[0] in ("t", "time", "elapsed"):
        return ELAPSED.get(words[-1]) if words[-1] not in ("t", "time") else None
    return None


def is_time_name(name: str) -> bool:
    """Return whether a column's name says that it holds time."""
    words = [w for w in re.split(r"[^a-zµ]+", name.strip().lower()) if w]
    return bool(words) and (
        name.strip().lower() in TIME_NAMES or words[0] in TIME_NAMES or words[-1] in TIME_NAMES
    )


def number_style(name: str, values: np.ndarray, *, named: bool, unit: str = "") -> TimeStyle | None:
    """Return how a whole column of numbers without gaps is time, or None if it is not.

    Epochs and dates are recognized by their size; a column is time only if its name says so, its values are
    monotonic, or the user named it.
    """
    if not len(values) or not np.isfinite(values).all():
        return None
    low, high = float(values.min()), float(values.max())
    steps = np.diff(values)
    whole = bool((values == np.round(values)).all())
    one_way = len(values) > 2 and bool((steps > 0).all() or (steps < 0).all())
    called = named or is_time_name(name)
    if not (called or one_way or unit_of_name(name, unit)):
        return None
    if whole and (style := _dates_as_numbers(name, values, called, one_way)):
        return style
    for seconds, label in (
        (1.0, "seconds"),
        (1e-3, "milliseconds"),
        (1e-6, "microseconds"),
        (1e-9, "nanoseconds"),
    ):
        # From 1990 to 2100; smaller numbers of that kind are counts or a stopwatch.
        if low * seconds >= 631e6 and high * seconds <= 4.1e9 and (called or one_way):
            return TimeStyle("number", seconds, text=f"{label} since 1970")
    return _days_and_stopwatch(name, values, called=called, named=named, unit=unit)


def _days_and_stopwatch(
    name: str, values: np.ndarray, *, called: bool, named: bool, unit: str
) -> TimeStyle | None:
    """Recognize Excel and Matlab days, years, and elapsed time."""
    low, high = float(values.min()), float(values.max())
    steps = np.diff(values)
    dated = re.search("date|datum|day|excel|serial|stamp", name.strip().lower()) is not None or (
        named and "time" not in name
    )
    if low >= 20_000 and high <= 80_000:
        minutes = _minutes(values)
        if dated or (minutes and called and not unit_of_name(name, unit)):
            words = "Excel days" if dated else "Excel days, judged by their size"
            return TimeStyle("number", 86400.0, _EXCEL, text=words, grain=60.0 if minutes else 1e-6)
    if dated and low >= 690_000 and high <= 800_000:
        return TimeStyle("number", 86400.0, _EPOCH, text="Matlab days")
    yearly = re.search("year|jahr|date|^time$", name.strip().lower()) is not None
    if yearly and low >= 1500 and high <= 2200 and len(steps) and (steps > 0).all():
        return TimeStyle("number", _YEAR, 1970.0, text="years")
    seconds = unit_of_name(name, unit)
    one_way = len(steps) > 0 and bool((steps > 0).all() or (steps < 0).all())
    # A stopwatch that restarts for every series is time; an hour that recurs every day is not.
    regular = one_way or (called and len(steps) > 0 and bool((steps >= 0).mean() > 0.9 or (steps <= 0).all()))
    if named or ((called or seconds) and regular and high > low):
        words = f"elapsed time in units of {seconds:g} s" if seconds and seconds != 1 else "elapsed seconds"
        return TimeStyle("number", seconds or 1.0, epoch=False, text=words)
    return None


def _minutes(days: np.ndarray) -> bool:
    """Return whether rows less than half a day apart are at whole minutes, to five decimals of a day.

    Rows of a stopwatch rarely are.
    """
    minutes, steps = days * 1440, np.abs(np.diff(days))
    whole = (np.abs(minutes - np.round(minutes)) < 0.015).all()
    return bool(whole and len(steps) and 0 < np.median(steps) < 0.49)


def _dates_as_numbers(name: str, values: np.ndarray, called: bool, one_way: bool) -> TimeStyle | None:
    low, high = values.min(), values.max()
    for layout, least, most, label in (
        ("%Y%m%d", 19000101, 21001231, "dates written YYYYMMDD"),
        ("%Y%m", 190001, 210012, "months written YYYYMM"),
        ("%Y", 1678, 2200, "years"),
        ("%Y%m%d%H%M", 190001010000, 210012312359, "times written YYYYMMDDHHMM"),
        ("%Y%m%d%H%M%S", 19000101000000, 21001231235959, "times written YYYYMMDDHHMMSS"),
    ):
        years = layout != "%Y" or re.search("year|jahr|date|^time$", name.strip().lower()) is not None
        if low >= least and high <= most and years and (called or one_way or layout == "%Y"):
            texts = pd.Series(values.astype(np.int64).astype(str))
            if not _parsed(texts, layout).isna().any():
                return TimeStyle(layout, text=label, digits=True)
    return None


def _micro(stamps: pd.Series) -> np.ndarray:
    return stamps.dt.tz_localize(None).to_numpy().astype("datetime64[us]").astype(np.int64)


def micros(array: pa.Array, style: TimeStyle, number: NumberStyle = PLAIN_STYLE) -> np.ndarray:
    """Convert a column block to int64 microseconds. Raises BadCell for a cell that does not fit the style."""
    if pa.types.is_temporal(array.type):
        _no_nulls(array)
        return pc.cast(pc.cast(array, pa.timestamp("us"), safe=False), pa.int64()).to_numpy()
    if style.layout == "number":
        values = numbers(array, number)
        bad = ~np.isfinite(values)
        grain = round(style.grain * 1e6)
        since = (np.where(bad, style.origin, values) - style.origin) * (style.unit * 1e6 / grain)
        micro = np.round(since).astype(np.int64) * grain
    else:
        stamps = _stamps(array, style)
        bad = stamps.isna().to_numpy()
        micro = _micro(stamps)
    if bad.any():
        index = int(np.flatnonzero(bad)[0])
        raise BadCell(index, cell_text(array, index))
    return micro


def _stamps(array: pa.Array, style: TimeStyle) -> pd.Series:
    if style.digits and not is_text(array):
        array = pc.cast(pc.cast(array, pa.int64()), pa.string())
    texts = _without_zone(array.to_pandas().str.strip())
    if style.layout == "quarter":
        # Q3 2024 is read as 2024 Q3.
        quarter = texts.str.replace(r"^(Q[1-4])[- /]?(\d{4})$", r"\2\1", regex=True).str.extract(
            r"^(\d{4})[- ]?Q([1-4])$"
        )
        month = pd.to_numeric(quarter[1], errors="coerce") * 3 - 2
        return _parsed(quarter[0] + "-" + month.astype("Int64").astype(str), "%Y-%m")
    if not (is_text(array) and pc.any(pc.match_substring(array, "24:00")).as_py()):
        return _parsed(texts, style.layout)
    ended = texts.str.contains(r"[ T]24:00(?::00)?$", na=False)
    return _parsed(_as_midnight(texts), style.layout) + pd.to_timedelta(ended.astype(int), unit="D")


def time_of_day(array: pa.Array) -> np.ndarray:
    """Convert a block of times of day to int64 microseconds since midnight. Raises BadCell."""
    if pa.types.is_time(array.type):
        _no_nulls(array)
        return pc.cast(pc.cast(array, pa.time64("us")), pa.int64()).to_numpy()
    texts = array.to_pandas().str.strip()
    half = texts.str.contains("[AaPp]", na=False)
    stamps = (
        _parsed(texts.where(~half), "mixed")
        if not half.all()
        else pd.Series(pd.NaT, texts.index, "datetime64[ns, UTC]")
    )
    if half.any():
        tidy = texts.str.replace(".", "", regex=False).str.replace(r"\s*([AaPp][Mm])$", r" \1", regex=True)
        for layout in ("%I:%M %p", "%I:%M:%S %p"):
            stamps = stamps.fillna(_parsed(tidy, layout))
    bad = stamps.isna().to_numpy()
    if bad.any():
        index = int(np.flatnonzero(bad)[0])
        raise BadCell(index, cell_text(array, index))
    return _micro(stamps) % (86_400 * 1_000_000)


def _no_nulls(array: pa.Array) -> None:
    if array.null_count:
        raise BadCell(pc.index(pc.is_null(array), True).as_py(), "")


def to_utc(stamps: np.ndarray, zone: str) -> np.ndarray:
    """Convert local time stamps in microseconds, in file order, to UTC. Raises LabError.

    Row order resolves the hour that autumn repeats; an hour that spring skips moves forward.
    """
    local = pd.DatetimeIndex(stamps.astype("datetime64[us]"))
    backward = len(stamps) > 1 and np.median(np.diff(stamps)) < 0
    try:
        # Newest first: reverse the order, so that the first of two equal hours is summer time.
        ordered = local[::-1] if backward else local
        there = ordered.tz_localize(zone, ambiguous="infer", nonexistent="shift_forward")
    except (ValueError, KeyError, TypeError, OSError) as fault:  # a name is looked up as a file's
        if "ambiguous" in str(fault).lower() or "dst" in str(fault).lower():
            raise LabError(
                f"the hour that {zone} repeats in autumn cannot be told apart from the order of rows",
                field="tz",
                remedy="use time stamps in UTC or with an offset",
            ) from None
        raise LabError(
            f"unknown time zone {zone!r}", field="tz", remedy="use a name such as Europe/Berlin"
        ) from None
    there = there[::-1] if backward else there
    return there.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[us]").astype(np.int64)
