"""Define the lab's one Pareto front."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Return whether `one` is nowhere larger than `other` and somewhere smaller; coordinates are costs."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and tuple(one) != tuple(other)


def pareto_front(points: Mapping[Key, Sequence[float]]) -> set[Key]:
    """Return the keys of the points that no other point dominates; all coordinates are costs."""
    return {
        key for key, point in points.items() if not any(dominates(other, point) for other in points.values())
    }
