"""Define the lab's one interval type: a measured value and the range in which it is known to lie."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A measured `value` between `low` and `high`.

    The code that makes an interval states what its range means (95% bootstrap interval, range over repeats).
    """

    value: float
    low: float
    high: float

    def overlaps(self, other: Interval) -> bool:
        """Return whether the two ranges share a point, so that the values must not be ranked."""
        return self.low <= other.high and other.low <= self.high
