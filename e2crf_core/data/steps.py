"""Describe time steps: how regular stamps are, calendar steps included, and how to write and parse a step."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from e2crf_core.errors import LabError

DAY = 86_400_000_000
SHORTEST_S, LONGEST_S = 1e-6, 1e10
"""The shortest and longest step of a grid in seconds: a microsecond, as stamps are stored, and three centuries."""
_BUSINESS = "business day"
# A weekday with less than this share of the most frequent one's rows is no working day.
_RARE = 0.05
# Steps lie on a grid if at most this share are further than this from a whole number of usual steps.
_OFF_GRID, _NEAR = 0.1, 0.25
# In usual steps: a longer one on a grid has lost a row; a longer one anywhere is an outage.
_MISSED, _OUTAGE = 1.5, 5.0


@dataclass(frozen=True)
class Regularity:
    """The regularity of stamps: usual `step` (s), share of `uneven` steps, and the `longest` step (s).

    `calendar` names a step that is even only in the calendar: 'business day', '1 month', '3 months',
    '1 year'.
    """

    step: float
    uneven: float
    longest: float
    calendar: str = ""

    @property
    def text(self) -> str:
        """Describe the usual step in words."""
        return self.calendar or span_text(self.step)

    @property
    def jumpiness(self) -> float:
        """Return how far the longest step is from the usual one: 1 for a perfect or calendar grid."""
        return 1.0 if self.calendar and not self.uneven else self.longest / self.step if self.step else np.inf


def regularity(stamps: np.ndarray) -> Regularity:
    """Measure how regular sorted stamps of one series (T,), in microseconds, are."""
    steps = np.diff(stamps)
    steps = steps[steps > 0]
    if not len(steps):
        return Regularity(0.0, 0.0, 0.0)
    usual = float(np.median(steps))
    uneven = float((np.abs(steps - usual) > 0.01 * usual).mean())
    plain = Regularity(usual / 1e6, uneven, float(steps.max()) / 1e6)
    # Years differ by less than the limit for uneven steps, but they are still calendar steps.
    if not uneven and plain.step < 27 * 86400:
        return plain
    return _calendar(stamps, plain) or plain


def _calendar(stamps: np.ndarray, plain: Regularity) -> Regularity | None:
    moments = stamps.astype("datetime64[us]")
    months = moments.astype("datetime64[M]").astype(np.int64)
    gaps = np.diff(months)
    dates = (moments.astype("datetime64[D]") - moments.astype("datetime64[M]")).astype(np.int64) + 1
    one_date = bool((dates == dates[0]).all() or (dates >= 28).all())
    if plain.step >= 27 * 86400 and one_date and gaps.min() > 0:
        every = int(np.median(gaps))
        share = float((gaps != every).mean())
        if share < 0.1:
            count, unit = (every // 12, "year") if every % 12 == 0 else (every, "month")
            name = f"{count} {unit}{'s' if count > 1 else ''}"
            return Regularity(plain.step, share, plain.longest, name)
    if plain.step == 86400 and not _workdays(stamps).all():
        share = float((_business_steps(stamps) > 1).mean())
        return Regularity(plain.step, share, plain.longest, _BUSINESS)
    return None


def _workdays(stamps: np.ndarray) -> np.ndarray:
    """Return (7,) from Monday, False for up to three weekdays that (nearly) no stamp falls on, as at weekends."""
    days = stamps.astype("datetime64[us]").astype("datetime64[D]").astype(np.int64)
    counts = np.bincount((days + 3) % 7, minlength=7)
    worked = counts > _RARE * counts.max()
    western = bool(worked[:5].all()) and not worked[5:].any()
    # In less time, a weekday may be absent by chance.
    seen = western or (worked.sum() >= 4 and days[-1] - days[0] >= 28)
    return worked if seen else np.ones(7, dtype=bool)


def _business_steps(stamps: np.ndarray) -> np.ndarray:
    days = stamps.astype("datetime64[us]").astype("datetime64[D]")
    return np.diff(np.busday_count(days[0], days, weekmask=_workdays(stamps)))


def outages(stamps: np.ndarray, regular: Regularity) -> np.ndarray:
    """Return (T-1,) whether a step of one series exceeds five usual ones; weekends pass for business days."""
    if regular.calendar == _BUSINESS:
        return _business_steps(stamps) > _OUTAGE if len(stamps) else np.zeros(0, dtype=bool)
    return np.diff(stamps) > _OUTAGE * regular.step * 1e6


def holes(stamps: np.ndarray, regular: Regularity) -> np.ndarray:
    """Return (T-1,) whether rows are missing between two stamps of one series.

    On a grid, calendar months included, a single row counts. Business days and steps of any length have no grid,
    since holidays and chance pass too: there only outages count.
    """
    steps = np.diff(stamps) / (regular.step * 1e6)
    apart = steps[steps > 0]
    off = np.abs(apart - np.maximum(np.round(apart), 1.0)) > _NEAR
    if regular.calendar == _BUSINESS or (not regular.calendar and off.sum() > _OFF_GRID * len(off)):
        return outages(stamps, regular)
    return steps > _MISSED


def span_text(seconds: float) -> str:
    """Format a time span as people write it."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    if seconds >= 86400:
        return f"{seconds / 86400:.3g}d"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:g}{unit}"
    return f"{seconds:g}s"


def parse_step(text: str, usual: float) -> float:
    """Parse '10min', '1h', '1d', plain seconds, or 'auto' (the usual step) into seconds. Raises LabError."""
    if text == "auto":
        if usual <= 0:
            raise LabError(
                "the usual time step cannot be found: all time stamps are equal",
                field="resample",
                remedy="give the step, such as 10min",
            )
        return usual
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = pd.Timedelta(re.sub("d$", "D", text)).total_seconds()
        except (ValueError, OverflowError):
            seconds = 0.0
    if not SHORTEST_S <= seconds <= LONGEST_S:
        raise LabError(
            f"{text!r} is no time step",
            field="resample",
            remedy="write 10min, 1h, 1d, a number of seconds, or auto",
        )
    return seconds
