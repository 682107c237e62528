"""Measure distances in the tails: kurtosis, and the largest and smallest value of every series.

A Gaussian with the right spectrum passes every test of second moments, but not these.
"""

from __future__ import annotations

import numpy as np

from e2crf_core.quality.distances import Metric, Picks, wasserstein_1d

_TINY = 1e-300


def kurtosis(x: np.ndarray) -> np.ndarray:
    """Return (M,) fourth moment over squared variance of channels of series (S, N, M), 3 for a Gaussian."""
    return _kurtosis(_moments(np.asarray(x, dtype=np.float64)).mean(1))


def _moments(x: np.ndarray) -> np.ndarray:
    """Return (4, S, M) mean over time of x, x², x³, and x⁴, which determine pooled kurtosis."""
    return np.stack([(x**power).mean(1) for power in range(1, 5)])


def _kurtosis(moments: np.ndarray) -> np.ndarray:
    one, two, three, four = moments
    variance = two - one**2
    fourth = four - 4 * one * three + 6 * one**2 * two - 3 * one**4
    flat = variance <= 1e-12 * np.maximum(two, _TINY)
    return np.where(flat, 1.0, np.maximum(fourth, _TINY) / np.where(flat, 1.0, variance) ** 2)


def _kurtosis_over(a: np.ndarray, b: np.ndarray, picks: Picks) -> np.ndarray:
    u, v = _moments(a), _moments(b)
    return np.array(
        [np.abs(np.log(_kurtosis(u[:, i].mean(1)) / _kurtosis(v[:, j].mean(1)))).mean() for i, j in picks]
    )


KURTOSIS_DIFFERENCE = Metric("kurtosis_difference", "Kurtosis difference", "log ratio", _kurtosis_over)
"""Mean over channels of |log(kurtosis of a / kurtosis of b)|."""


def _extremes_over(a: np.ndarray, b: np.ndarray, picks: Picks) -> np.ndarray:
    u, v = (np.concatenate([x.max(1), x.min(1)], axis=1).T for x in (a, b))
    return np.array([wasserstein_1d(u[:, i], v[:, j], 1).mean() for i, j in picks])


EXTREMES_DIFFERENCE = Metric("extremes_difference", "Extremes difference", "std", _extremes_over)
"""Mean 1-Wasserstein distance between the largest, and between the smallest, values of a channel's series."""
