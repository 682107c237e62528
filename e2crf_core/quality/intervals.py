"""Quantify uncertainty: bootstrap intervals, floors of real data, spread over seeds, and sufficient sizes.

A distance between finite sets is never 0, even between two sets of the same law. It must be read beside its
floor, and two measurements may be ranked only if their intervals do not overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from e2crf_core.errors import LabError
from e2crf_core.quality.distances import Metric, check_pair
from e2crf_core.quality.interval import Interval


@dataclass(frozen=True)
class Measurement(Interval):
    """A measured value with the information needed to read it.

    `low`..`high` is the 95% interval. `floor` is the same measurement between real sets of `floor_sizes`
    series, the mean over draws, and `floor_high` the value below which 95% of those draws stay; None if a
    floor makes no sense. `n` and `m` count the series of the first and second set.
    """

    name: str
    unit: str
    n: int
    m: int
    floor: float | None = None
    floor_high: float | None = None
    floor_sizes: tuple[int, int] | None = None


@dataclass(frozen=True)
class Floor(Interval):
    """The distance between real sets of `sizes`: mean and 5%..95% range over `repeats` random draws."""

    sizes: tuple[int, int]
    repeats: int


@dataclass(frozen=True)
class Spread(Interval):
    """The mean over `n` seeds with its 95% interval (Student's t), and the standard deviation `std`."""

    std: float
    n: int


@dataclass(frozen=True)
class StableSize:
    """The size of the smallest set with a narrow enough interval, `size`, or None if none was found.

    `sizes`, `values`, `low`, `high` (same length) are the curve from which the answer was read.
    """

    size: int | None
    sizes: tuple[int, ...]
    values: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def label(self) -> str:
        """Return the size for a table: a number, or more than the largest one tried."""
        return f"over {self.sizes[-1]}" if self.size is None else str(self.size)


def overlap_blocks(group: np.ndarray, start: np.ndarray, span: float) -> np.ndarray:
    """Return (m,) labels of dependent windows: equal if a chain of overlaps connects them.

    `start` (m,) is the position in `group` (m,), or an ISO date; then `span`, the length of a window, counts
    days, and windows of all groups share one calendar.
    """
    start = np.asarray(start)
    if start.dtype.kind in "USM":
        start, group = start.astype("datetime64[s]").astype(np.float64) / 86400.0, np.zeros(len(start))
    codes = np.unique(group, return_inverse=True)[1]
    order = np.lexsort((start, codes))
    apart = (np.diff(start[order]) >= span) | (np.diff(codes[order]) != 0)
    labels = np.empty(len(start), dtype=int)
    labels[order] = np.concatenate([[0], np.cumsum(apart)])
    return labels


def resample_picks(
    n: int, m: int, *, resamples: int, seed: int, blocks: np.ndarray | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Draw index pairs for a bootstrap over both sets: n of n and m of m, with replacement.

    `blocks` (m,) labels dependent (overlapping) series of the second set: they are drawn together, so the
    second set of a resample may have a size other than m.
    """
    rng = np.random.default_rng(seed)
    members: list[np.ndarray] = []
    if blocks is not None:
        if len(blocks) != m:
            raise LabError(f"blocks labels {len(blocks)} series, the second set has {m}")
        members = [np.flatnonzero(blocks == label) for label in np.unique(blocks)]
    picks = []
    for _ in range(resamples):
        first = rng.integers(0, n, n)
        if members:
            second = np.concatenate([members[k] for k in rng.integers(0, len(members), len(members))])
        else:
            second = rng.integers(0, m, m)
        picks.append((first, second))
    return picks


def centered_interval(value: float, replicates: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of `replicates`, moved so that their mean is at `value`.

    Resampled sets are noisier than their sources, and noise can only increase a distance, so plain
    percentiles lie too high, even above the value itself. After moving, they cover the value that other sets
    of the same sizes would give on average, which is also what a floor of the same sizes must be compared
    with: in 87 to 100% of trials for 64 against 250 Gaussian series, compared with 0 to 91% for plain
    percentiles.
    """
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2]) - replicates.mean()
    return float(value + low), float(value + high)


def real_floor(
    real: np.ndarray,
    size: int,
    metric: Metric,
    *,
    train: np.ndarray | None = None,
    repeats: int = 20,
    seed: int = 0,
) -> Floor:
    """Return `metric` between `size` real series and held-out ones `real` (m, N, M): a generator's best.

    With `train` (the usual case), each draw compares `size` training series with all of `real`: the same
    sizes as in the comparison that the floor is for. If there are fewer than `size`, all are used and `sizes`
    says so. Without it, each draw cuts `real` into disjoint sets: `size` series and the rest, or two halves
    if the rest would be smaller than `size`. Windows that overlap in time make this second floor too low.
    """
    if size < 1 or repeats < 1:
        raise LabError(f"a floor needs size >= 1 and repeats >= 1, not size={size}, repeats={repeats}")
    rng = np.random.default_rng(seed)
    if train is not None:
        sizes = (min(size, len(train)), len(real))
        picks = [(rng.permutation(len(train))[: sizes[0]], np.arange(sizes[1])) for _ in range(repeats)]
        used, inverse = np.unique(np.concatenate([i for i, _ in picks]), return_inverse=True)
        first = np.asarray(train)[used]
        picks = [(inverse[k * sizes[0] : (k + 1) * sizes[0]], j) for k, (_, j) in enumerate(picks)]
    else:
        if len(real) < 2:
            raise LabError(f"a floor needs at least 2 real series, there are {len(real)}")
        take = size if 2 * size <= len(real) else len(real) // 2
        rest = len(real) - take if take == size else take
        sizes = (take, rest)
        orders = [rng.permutation(len(real)) for _ in range(repeats)]
        picks = [(order[:take], order[take : take + rest]) for order in orders]
        first = real
    values = metric.values(first, real, picks)
    low, high = np.quantile(values, [0.05, 0.95])
    return Floor(float(values.mean()), float(low), float(high), sizes, repeats)


def measure(
    a: np.ndarray,
    b: np.ndarray,
    metric: Metric,
    *,
    train: np.ndarray | None = None,
    resamples: int = 200,
    floor_repeats: int = 20,
    seed: int = 0,
    blocks: np.ndarray | None = None,
) -> Measurement:
    """Measure `metric` between a (n, N, M) and held-out b (m, N, M) with interval and floor."""
    picks = resample_picks(len(a), len(b), resamples=resamples, seed=seed, blocks=blocks)
    value = metric(a, b)
    low, high = centered_interval(value, metric.values(a, b, picks))
    floor = real_floor(b, len(a), metric, train=train, repeats=floor_repeats, seed=seed)
    return Measurement(
        value, low, high, metric.name, metric.unit, len(a), len(b), floor.value, floor.high, floor.sizes
    )


def measure_change(
    a: np.ndarray,
    other: np.ndarray,
    b: np.ndarray,
    metric: Metric,
    *,
    resamples: int = 200,
    seed: int = 0,
    blocks: np.ndarray | None = None,
) -> Measurement:
    """Measure how much farther a (n, N, M) is from b (m, N, M) than its twins `other` on the same noise.

    Twins are resampled together, so what they share cancels: the interval of the change is far narrower than
    those of the two distances. If it excludes 0, the order of the two is known.
    """
    a, other = check_pair(a, other)
    if len(a) != len(other):
        raise LabError(f"twins are resampled together, but there are {len(a)} and {len(other)} series")
    picks = resample_picks(len(a), len(b), resamples=resamples, seed=seed, blocks=blocks)
    change = metric(a, b) - metric(other, b)
    low, high = centered_interval(change, metric.values(a, b, picks) - metric.values(other, b, picks))
    return Measurement(change, low, high, f"{metric.name}_change", metric.unit, len(a), len(b))


def seed_spread(values: Sequence[float]) -> Spread:
    """Return the spread of a measurement over at least two runs that differ only in their seed."""
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or len(x) < 2 or not np.isfinite(x).all():
        raise LabError(f"a spread needs at least 2 finite values, got {list(values)}")
    mean, std = float(x.mean()), float(x.std(ddof=1))
    half = float(stats.t.ppf(0.975, len(x) - 1)) * std / np.sqrt(len(x))
    return Spread(mean, mean - half, mean + half, std, len(x))


def stable_size(
    a: np.ndarray,
    b: np.ndarray,
    metric: Metric,
    *,
    within: float = 0.05,
    resamples: int = 100,
    seed: int = 0,
) -> StableSize:
    """Return the fewest series of a (n, N, M) with a 95% half-width of at most `within` of the value.

    Sizes are 8, 16, 32 ... n; at each, sets of that size are drawn from a with replacement and compared with
    all of b (m, N, M). The result shows how many series to generate, for a given held-out set.
    """
    if not 0 < within < 1:
        raise LabError(f"within must lie between 0 and 1, not {within}")
    rng = np.random.default_rng(seed)
    everything = np.arange(len(b))
    sizes = [s for s in (8 << k for k in range(24)) if s < len(a)] + [len(a)]
    curve = []
    for size in sizes:
        values = metric.values(a, b, [(rng.integers(0, len(a), size), everything) for _ in range(resamples)])
        curve.append((float(np.median(values)), *map(float, np.quantile(values, [0.025, 0.975]))))
    enough = [
        s for s, (value, low, high) in zip(sizes, curve, strict=True) if high - low <= 2 * within * value
    ]
    values_, low_, high_ = zip(*curve, strict=True)
    return StableSize(enough[0] if enough else None, tuple(sizes), values_, low_, high_)
