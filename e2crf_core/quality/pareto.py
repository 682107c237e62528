"""The one Pareto front of the lab."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether `one` is nowhere larger than `other` and somewhere smaller; all coordinates are costs."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and tuple(one) != tuple(other)


def pareto_front(points: Mapping[Key, Sequence[float]]) -> set[Key]:
    """Keys of the points that no other point dominates; all coordinates are costs, smaller is better."""
    return {
        key for key, point in points.items() if not any(dominates(other, point) for other in points.values())
    }
