"""Find overlapping ready windows by their values, so that no value is used for both training and testing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_RUN = 4
_MOST = 20_000_000


@dataclass(frozen=True)
class Overlap:
    """The original recordings: `recording` and `start` (S,) place each window; `shared` windows overlap."""

    recording: np.ndarray
    start: np.ndarray
    shared: int


def find_overlap(x: np.ndarray) -> Overlap | None:
    """Find the recordings behind windows (S, N, M), or return None if no two windows share a run of steps.

    Runs of four steps are hashed; equal runs at steps p and q of two windows put them p - q apart.
    """
    count, length, _ = x.shape
    run = min(_RUN, length)
    if count < 2 or count * length > _MOST:
        return None
    window, step, keys = _runs(x, run)
    order = np.lexsort((step, window, keys))
    window, step, keys = window[order], step[order], keys[order]
    same = (keys[1:] == keys[:-1]) & (window[1:] != window[:-1])
    edges = np.unique(
        np.stack([window[:-1][same], window[1:][same], (step[:-1] - step[1:])[same]], axis=1), axis=0
    )
    edges = _verified(x, edges)
    if not len(edges):
        return None
    parent, offset = np.arange(count), np.zeros(count, dtype=np.int64)
    for a, b, shift in edges:
        _join(parent, offset, int(a), int(b), int(shift))
    roots = np.array([_root(parent, offset, i) for i in range(count)])
    shared = int(np.isin(roots[:, 0], np.flatnonzero(np.bincount(roots[:, 0], minlength=count) > 1)).sum())
    return Overlap(roots[:, 0], roots[:, 1], shared)


def _runs(x: np.ndarray, run: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return window, step, and hash of every nonconstant run: padding is no sign of an overlap."""
    count, length, width = x.shape
    bits = np.ascontiguousarray(x, dtype=np.float64).view(np.uint64)
    odd = np.random.default_rng(0).integers(1, 1 << 62, (width, run), dtype=np.uint64) * np.uint64(
        2
    ) + np.uint64(1)
    rows = (bits * odd[:, 0]).sum(axis=2, dtype=np.uint64)
    rows ^= rows >> np.uint64(29)
    places = length - run + 1
    keys = np.zeros((count, places), dtype=np.uint64)
    for j in range(run):
        keys += rows[:, j : j + places] * odd[0, j]
    lively = np.ones((count, places), dtype=bool)
    for j in range(1, run):
        lively &= rows[:, j : j + places] != rows[:, j - 1 : j - 1 + places]
    window, step = np.nonzero(lively)
    return window, step, keys[window, step]


def _verified(x: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the edges (window, window, shift) whose whole common stretch is equal."""
    length = x.shape[1]
    keep = []
    for a, b, shift in edges:
        # x[a, p] equals x[b, p - shift].
        low, high = max(0, shift), min(length, length + shift)
        keep.append(np.array_equal(x[a, low:high], x[b, low - shift : high - shift], equal_nan=True))
    return edges[np.array(keep, dtype=bool)] if len(edges) else edges


def _root(parent: np.ndarray, offset: np.ndarray, i: int) -> tuple[int, int]:
    """Return the first window of a window's recording, and how many steps later the window starts."""
    total = 0
    while parent[i] != i:
        parent_of = parent[i]
        if parent[parent_of] != parent_of:
            offset[i] += offset[parent_of]
            parent[i] = parent[parent_of]
            continue
        total += int(offset[i])
        i = int(parent_of)
    return i, total


def _join(parent: np.ndarray, offset: np.ndarray, a: int, b: int, shift: int) -> None:
    """Record that window b starts `shift` steps after window a."""
    (root_a, start_a), (root_b, start_b) = _root(parent, offset, a), _root(parent, offset, b)
    if root_a != root_b:
        parent[root_b] = root_a
        offset[root_b] = start_a + shift - start_b
