"""Give baselines without a network: last value, line, season, and the Gaussian of E3 in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from e2crf_core.diffusion.conditioning import NOISE, series_basis
from e2crf_core.diffusion.score_model import ScoreModel


@dataclass(frozen=True)
class GaussianAnswer:
    """The mean and standard deviation (N, M) of every value, standardized, given what was observed."""

    mean: np.ndarray
    std: np.ndarray


def last_value(window: np.ndarray) -> np.ndarray:
    """Fill (N, M) with the last known value before each missing one (at the start, the first known one)."""
    return np.stack([_held(column) for column in window.T], axis=1)


def _held(column: np.ndarray) -> np.ndarray:
    known = np.flatnonzero(~np.isnan(column))
    before = np.searchsorted(known, np.arange(len(column)), side="right") - 1
    return column[known[np.maximum(before, 0)]]


def line(window: np.ndarray) -> np.ndarray:
    """Fill (N, M) by linear interpolation, holding the ends."""
    steps = np.arange(len(window))
    columns = []
    for column in window.T:
        known = ~np.isnan(column)
        columns.append(np.interp(steps, steps[known], column[known]))
    return np.stack(columns, axis=1)


def season(window: np.ndarray, period: int) -> np.ndarray:
    """Fill (N, M) with known values whole periods away, the nearest in the past.

    If there is none, the last known value is used.
    """
    filled, held = window.copy(), last_value(window)
    for channel in range(window.shape[1]):
        for step in np.flatnonzero(np.isnan(window[:, channel])):
            past = window[step % period : step : period, channel]
            known = past[~np.isnan(past)]
            filled[step, channel] = known[-1] if len(known) else held[step, channel]
    return filled


def gaussian(model: ScoreModel, window: np.ndarray, noise: float = NOISE) -> GaussianAnswer:
    """Return the law of N(mu, diag v) (E3) given the known values of `window` (N, M), standardized."""
    basis, n = series_basis(model.length), model.n
    mean, std = np.empty_like(window), np.empty_like(window)
    statistics = [x.double().cpu().view(n, 2, -1).numpy() for x in (model.mu, model.v * model.mask)]
    for channel in range(window.shape[1]):
        mu, v = (x[..., channel].ravel() for x in statistics)
        index = np.flatnonzero(~np.isnan(window[:, channel]))
        design = basis[:, index]
        weighted = v[:, None] * design
        total = design.T @ weighted + noise * noise * np.eye(len(index))
        gain = np.linalg.solve(total, weighted.T).T
        posterior = mu + gain @ (window[index, channel] - mu @ design)
        covariance = np.diag(v) - gain @ weighted.T
        mean[:, channel] = posterior @ basis
        variance = np.einsum("kn,kl,ln->n", basis, covariance, basis)
        std[:, channel] = np.sqrt(np.maximum(variance, 1e-12))
    return GaussianAnswer(mean, std)
