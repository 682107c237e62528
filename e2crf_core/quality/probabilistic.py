"""Score draws as a forecast: CRPS, coverage, and closed forms for Gaussian forecasts.

Source: Gneiting and Raftery, Strictly Proper Scoring Rules, JASA 102 (2007). Draws are the first axis; a smaller
CRPS is better, and for a point forecast it is the absolute error.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import norm


def crps(draws: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the CRPS (*shape) of draws (S, *shape) for `truth` (*shape), unbiased for S >= 2 draws."""
    ordered = np.sort(draws.astype(np.float64), axis=0)
    count = len(ordered)
    rank = np.arange(1, count + 1).reshape(-1, *[1] * truth.ndim)
    spread = ((2 * rank - count - 1) * ordered).sum(0) / (count * (count - 1))
    return np.abs(ordered - truth).mean(0) - spread


def gaussian_crps(mean: np.ndarray, std: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the CRPS (*shape) of N(mean, std²) for `truth`, in closed form."""
    z = (truth - mean) / std
    return std * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))


def covered(draws: np.ndarray, truth: np.ndarray, level: float = 0.9) -> np.ndarray:
    """Return whether `truth` (*shape) lies in the central interval of `level` of draws (S, *shape).

    The interval runs between order statistics, so that for exchangeable draws and truth its coverage is
    `level` up to 1 / (S + 1), for any S.
    """
    count = len(draws)
    below = (np.sort(draws, axis=0) < truth).sum(0) + 0.5
    tail = (1 - level) / 2
    return (below > tail * (count + 1)) & (below < (1 - tail) * (count + 1))
