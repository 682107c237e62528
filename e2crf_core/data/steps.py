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
    days = moments.astype("datetime64[D]")
    weekday = (days.astype(np.int64) + 3) % 7
    if plain.step == 86400 and (weekday < 5).all():
        business = np.diff(np.busday_count(days[0], days))
        share = float((business > 1).mean()) if len(business) else 0.0
        return Regularity(plain.step, share, plain.longest, _BUSINESS)
    return None


def jumps(stamps: np.ndarray, step: float, calendar: str, most: float) -> np.ndarray:
    """Return (T-1,) whether a step exceeds `most` usual ones; weekends do not count for business days."""
    if calendar == _BUSINESS:
        days = stamps.astype("datetime64[us]").astype("datetime64[D]")
        return np.diff(np.busday_count(days[0], days)) > most if len(days) else np.zeros(0, bool)
    return np.diff(stamps) > most * step * 1e6


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
