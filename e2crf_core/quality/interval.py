"""The one interval type of the lab: a measured value and the range it is known to lie in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A measured `value` between `low` and `high`.

    What the range means (95% bootstrap interval, range over repeats) is said where the interval is made.
    """

    value: float
    low: float
    high: float

    def overlaps(self, other: Interval) -> bool:
        """Whether the two ranges share a point: then the values must not be ranked."""
        return self.low <= other.high and other.low <= self.high
