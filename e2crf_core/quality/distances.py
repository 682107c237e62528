"""Measure distances between sets of series: the effect of a cache, and how far samples are from real data.

All functions take arrays (S, N, M) of *standardized* series (zero mean, unit variance per channel, as from
`Dataset.standardize`), so that values of different data sets are comparable and channels have equal weight.
The two sets may differ in S, never in N or M. Distances over a set are `Metric` objects: they can be called
on two sets, and can evaluate many resamples at once, as `e2crf_core.quality.intervals` requires.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from e2crf_core.diffusion.spectral import coordinate_mask, tokenize
from e2crf_core.errors import LabError

Domain = Literal["time", "frequency"]
Picks = Sequence[tuple[np.ndarray, np.ndarray]]

# Elements per block of projections: 2 MB fit in a cache, and 10,000 samples x 10,000 directions in memory.
_BLOCK = 1 << 18
# Powers below this share of the strongest one (-80 dB) are arithmetic noise, not signal.
_POWER_FLOOR = 1e-8


def check_pair(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both sets as float64 (S, N, M). Raises LabError if one is malformed or they do not match."""
    out = []
    for name, x in (("first", a), ("second", b)):
        x = np.asarray(x, dtype=np.float64)
        if x.ndim == 3 and len(x) == 0:
            raise LabError(f"the {name} set has no series: there is nothing to compare")
        if x.ndim != 3 or 0 in x.shape:
            raise LabError(
                f"the {name} set has shape {x.shape}: series must be an array (samples, steps, channels)"
            )
        if not np.isfinite(x).all():
            bad = np.flatnonzero(~np.isfinite(x).all((1, 2)))
            raise LabError(
                f"the {name} set has NaN or infinity in {len(bad)} of {len(x)} series (first: {bad[0]})"
            )
        out.append(x)
    if out[0].shape[1:] != out[1].shape[1:]:
        raise LabError(f"series of shape {out[0].shape[1:]} cannot be compared with {out[1].shape[1:]}")
    return out[0], out[1]


def relative_l2_per_sample(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return (S,) |a_s - b_s| / |b_s|: how far each series is from its twin on the same noise.

    Two unrelated series of equal energy are about sqrt(2) apart. A series b_s without energy gives infinity,
    or 0 if a_s equals it.
    """
    error, energy = _squared_parts(a, b)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(error == 0, 0.0, np.sqrt(error / energy))


def relative_l2(a: np.ndarray, b: np.ndarray) -> float:
    """Return |a - b| / |b| over all series at once, the pooled form of `relative_l2_per_sample`."""
    error, energy = _squared_parts(a, b)
    if energy.sum() == 0:
        raise LabError("relative L2 is undefined: every series of the second set is zero")
    return float(np.sqrt(error.sum() / energy.sum()))


def _squared_parts(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = check_pair(a, b)
    if len(a) != len(b):
        raise LabError(f"twins are compared one to one, but there are {len(a)} and {len(b)} series")
    return np.square(a - b).sum((1, 2)), np.square(b).sum((1, 2))


@dataclass(frozen=True)
class Metric:
    """A distance between two sets of series. `over(a, b, picks)` gives one value per pair of index arrays."""

    name: str
    title: str
    unit: str
    over: Callable[[np.ndarray, np.ndarray, Picks], np.ndarray]

    def __call__(self, a: np.ndarray, b: np.ndarray) -> float:
        """Return the distance between all of a (S, N, M) and all of b (S', N, M)."""
        return float(self.values(a, b, [(np.arange(len(a)), np.arange(len(b)))])[0])

    def values(self, a: np.ndarray, b: np.ndarray, picks: Picks) -> np.ndarray:
        """Return (len(picks),) the distance between a[i] and b[j] for each (i, j) of `picks`."""
        a, b = check_pair(a, b)
        return self.over(a, b, picks)


def wasserstein_1d(u: np.ndarray, v: np.ndarray, p: float = 2) -> np.ndarray:
    """Return (L,) W_p^p between rows of u (L, n) and v (L, m), each a set of equally weighted points.

    The quantile functions step at i/n and j/m; in units of 1/(n m) these are integers, so the integral is
    exact even if n and m differ.
    """
    u, v = np.sort(u, axis=1), np.sort(v, axis=1)
    n, m = u.shape[1], v.shape[1]
    steps = np.arange(n) * m if n == m else np.union1d(np.arange(n) * m, np.arange(m) * n)
    width = np.diff(steps, append=n * m) / (n * m)
    gap = np.take(u, steps // m, axis=1)
    gap -= np.take(v, steps // n, axis=1)
    np.abs(gap, out=gap)
    gap **= p
    return gap @ width


@lru_cache(maxsize=8)
def unit_directions(dimension: int, count: int, seed: int) -> np.ndarray:
    """Return (count, dimension) read-only uniform directions; a smaller count gives the first of them."""
    # A separate key: data that a caller drew with the same small seed must not coincide with the directions.
    theta = np.random.default_rng([0x51CED, seed]).standard_normal((count, dimension))
    theta /= np.linalg.norm(theta, axis=1, keepdims=True)
    theta.setflags(write=False)
    return theta


def flat_points(x: np.ndarray, domain: Domain) -> np.ndarray:
    """Return (S, N M) coordinates of series, or of their tokens (E1) without structural zeros."""
    if domain == "time":
        return x.reshape(len(x), -1)
    if domain == "frequency":
        return tokenize(x)[:, coordinate_mask(x.shape[1], x.shape[2])]
    raise LabError(f"unknown domain {domain!r}: use 'time' or 'frequency'")


def sliced_wasserstein_metric(
    *, p: float = 2, directions: int = 1000, seed: int = 0, domain: Domain = "time"
) -> Metric:
    """Return the distance of `sliced_wasserstein` as a Metric."""
    if p < 1 or directions < 1:
        raise LabError(
            f"sliced Wasserstein needs p >= 1 and directions >= 1, not p={p}, directions={directions}"
        )

    def over(a: np.ndarray, b: np.ndarray, picks: Picks) -> np.ndarray:
        x, y = flat_points(a, domain), flat_points(b, domain)
        theta = unit_directions(x.shape[1], directions, seed)
        total = np.zeros(len(picks))
        rows = max(1, _BLOCK // (len(x) + len(y)))
        for first in range(0, directions, rows):
            block = theta[first : first + rows]
            along_x, along_y = block @ x.T, block @ y.T
            for k, (i, j) in enumerate(picks):
                total[k] += wasserstein_1d(np.take(along_x, i, axis=1), np.take(along_y, j, axis=1), p).sum()
        return (total / directions) ** (1 / p)

    return Metric(f"sliced_wasserstein_{domain}", f"Sliced Wasserstein ({domain})", "std", over)


def sliced_wasserstein(
    a: np.ndarray,
    b: np.ndarray,
    *,
    p: float = 2,
    directions: int = 1000,
    seed: int = 0,
    domain: Domain = "time",
) -> float:
    """Return (mean over directions of W_p^p)^(1/p) between projections of a (S, N, M) and b (S', N, M).

    The unit is one standard deviation of the data. Equal seeds give equal directions, so two sample sets are
    compared on the same projections. Tokens are a rotation of the series (E1), so with many directions both
    domains give the same value; a difference only shows the error of a finite number of directions.
    """
    return sliced_wasserstein_metric(p=p, directions=directions, seed=seed, domain=domain)(a, b)


def marginal_wasserstein_metric(*, domain: Domain = "time") -> Metric:
    """Return the distance of `marginal_wasserstein` as a Metric."""

    def over(a: np.ndarray, b: np.ndarray, picks: Picks) -> np.ndarray:
        x, y = flat_points(a, domain).T, flat_points(b, domain).T
        return np.array([wasserstein_1d(x[:, i], y[:, j], 1).mean() for i, j in picks])

    return Metric(f"marginal_wasserstein_{domain}", f"Marginal Wasserstein ({domain})", "std", over)


def marginal_wasserstein(a: np.ndarray, b: np.ndarray, *, domain: Domain = "time") -> float:
    """Return the mean over coordinates of the 1-Wasserstein distance.

    Coordinates are time points and channels, or real and imaginary parts of tokens. Unlike the sliced
    distance, this one depends on the domain, because it looks along the axes.
    """
    return marginal_wasserstein_metric(domain=domain)(a, b)


def _log_spectral_over(a: np.ndarray, b: np.ndarray, picks: Picks) -> np.ndarray:
    pa, pb = (np.abs(np.fft.rfft(x, axis=1, norm="ortho")) ** 2 for x in (a, b))
    values = np.empty(len(picks))
    for k, (i, j) in enumerate(picks):
        u, v = pa[i].mean(0), pb[j].mean(0)
        floor = _POWER_FLOOR * max(u.max(), v.max(), np.finfo(float).tiny / _POWER_FLOOR)
        gap = 10 * np.log10(np.maximum(u, floor) / np.maximum(v, floor))
        values[k] = np.sqrt(np.mean(gap**2))
    return values


LOG_SPECTRAL_DISTANCE = Metric("log_spectral_distance", "Log-spectral distance", "dB", _log_spectral_over)


def log_spectral_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the RMS over frequencies and channels of the ratio, in dB, of the two mean power spectra.

    Weak frequencies have the same weight as strong ones, unlike in Wasserstein distances. Powers below -80 dB
    of the strongest are set to that level.
    """
    return LOG_SPECTRAL_DISTANCE(a, b)


def _autocorrelation_parts(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return sums per series (S, lags, M) of x_t x_{t+l} and of the factors, and sum of x (S, M).

    Lags are 0..N//2. Correlations about any mean are linear in these, so a resample needs no second
    transform.
    """
    length = x.shape[1]
    lags = np.arange(length // 2 + 1)
    spectrum = np.fft.rfft(x, n=2 * length, axis=1)
    product = np.fft.irfft(np.abs(spectrum) ** 2, n=2 * length, axis=1)[:, lags]
    running = np.concatenate([np.zeros_like(x[:, :1]), np.cumsum(x, axis=1)], axis=1)
    total = running[:, -1]
    factors = running[:, length - lags] + total[:, None] - running[:, lags]
    return product, factors, total


def _autocorrelation(
    parts: tuple[np.ndarray, np.ndarray, np.ndarray], pick: np.ndarray, length: int
) -> np.ndarray:
    """Return (lags, M) each channel's correlation with itself, about its pooled mean; 0 if flat."""
    product, factors, total = (part[pick].mean(0) for part in parts)
    mean = total / length
    overlap = length - np.arange(len(product))[:, None]
    covariance = product - mean * factors + overlap * mean**2
    variance = covariance[0]
    alive = variance > 1e-12 * np.maximum(product[0], 1e-300)
    return np.where(alive, covariance / np.where(alive, variance, 1.0), 0.0)


def _autocorrelation_over(a: np.ndarray, b: np.ndarray, picks: Picks) -> np.ndarray:
    length = a.shape[1]
    pa, pb = _autocorrelation_parts(a), _autocorrelation_parts(b)
    return np.array(
        [
            np.sqrt(np.mean((_autocorrelation(pa, i, length) - _autocorrelation(pb, j, length))[1:] ** 2))
            for i, j in picks
        ]
    )


AUTOCORRELATION_DIFFERENCE = Metric(
    "autocorrelation_difference", "Autocorrelation difference", "correlation", _autocorrelation_over
)


def autocorrelation_difference(a: np.ndarray, b: np.ndarray) -> float:
    """Return the RMS, over lags 1..N//2 and channels, of the difference of the pooled autocorrelations.

    The autocorrelation at lag l is the biased one (divided by N, not N - l): long lags count less because
    they are less well known.
    """
    if np.ndim(a) == 3 and np.shape(a)[1] < 2:
        raise LabError("autocorrelation needs series of at least 2 steps")
    return AUTOCORRELATION_DIFFERENCE(a, b)


def _cross_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return (pairs,) correlations from mean products (M, M) and means (M,); 0 for a constant channel."""
    covariance = second - np.outer(first, first)
    variance = np.diag(covariance)
    alive = variance > 1e-12 * np.maximum(np.diag(second), 1e-300)
    std = np.sqrt(np.where(alive, variance, 1.0))
    correlation = np.where(np.outer(alive, alive), covariance / np.outer(std, std), 0.0)
    return correlation[np.triu_indices(len(first), 1)]


def _cross_correlation_over(a: np.ndarray, b: np.ndarray, picks: Picks) -> np.ndarray:
    if a.shape[2] < 2:
        raise LabError("cross-channel correlation needs at least 2 channels")
    parts = [(x.mean(1), np.einsum("snm,snk->smk", x, x) / x.shape[1]) for x in (a, b)]
    values = np.empty(len(picks))
    for k, pair in enumerate(picks):
        u, v = (_cross_correlation(f[i].mean(0), s[i].mean(0)) for (f, s), i in zip(parts, pair, strict=True))
        values[k] = np.mean(np.abs(u - v))
    return values


CROSS_CORRELATION_DIFFERENCE = Metric(
    "cross_correlation_difference",
    "Cross-channel correlation difference",
    "correlation",
    _cross_correlation_over,
)


def cross_correlation_difference(a: np.ndarray, b: np.ndarray) -> float | None:
    """Return the mean over channel pairs of |difference of correlations at lag 0|, pooled over the set.

    Returns None for a single channel. Both domains give the same value, since a rotation keeps products of
    series.
    """
    if np.ndim(a) == 3 and np.shape(a)[2] < 2:
        return None
    return CROSS_CORRELATION_DIFFERENCE(a, b)


def standard_metrics(channels: int, *, directions: int = 1000, seed: int = 0) -> tuple[Metric, ...]:
    """Return the distances in a quality report for series of `channels` channels."""
    metrics = (
        sliced_wasserstein_metric(directions=directions, seed=seed, domain="time"),
        sliced_wasserstein_metric(directions=directions, seed=seed, domain="frequency"),
        marginal_wasserstein_metric(domain="time"),
        marginal_wasserstein_metric(domain="frequency"),
        LOG_SPECTRAL_DISTANCE,
        AUTOCORRELATION_DIFFERENCE,
    )
    return metrics if channels < 2 else (*metrics, CROSS_CORRELATION_DIFFERENCE)
