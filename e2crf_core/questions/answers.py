"""Impute and forecast: draw from a model's law of a series, given its known values.

The model stays as it was trained. Known values enter at every step through `diffusion.conditioning`, exactly
if the data are Gaussian; the same update applies with any sampler (solver, steps, cache).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypedDict, Unpack

import numpy as np

from e2crf_core.caching.policy import PRESETS
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.progress import Cancel, Progress, never, silent
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.sampler import Sampler, Samples

ASKING = SamplerConfig(policy=PRESETS["exact"], steps=40, solver="sde_dpmpp_2m", grid="log_snr")
"""Configuration of questions: a stochastic solver forgets the early errors that conditioning causes."""


class DrawOptions(TypedDict, total=False):
    """How answers are drawn: the keyword arguments of `complete`, which states their defaults."""

    num: int
    seed: int
    config: SamplerConfig
    progress: Progress
    cancelled: Cancel


@dataclass(frozen=True)
class Completion:
    """The draws of whole series, given the known values.

    `draws` (S, N, M) are in data units and contain the known values; `known` (N, M) marks those. `seconds` is
    the time of sampling, and `token_share` the share of tokens that were computed.
    """

    draws: np.ndarray
    known: np.ndarray
    seconds: float
    token_share: float

    @property
    def median(self) -> np.ndarray:
        """Return the median (N, M) of the draws."""
        return np.median(self.draws, axis=0)

    def quantile(self, level: float) -> np.ndarray:
        """Return the quantile (N, M) of the draws at `level` between 0 and 1."""
        return np.quantile(self.draws, level, axis=0)


def impute(model: ScoreModel, series: np.ndarray, **drawing: Unpack[DrawOptions]) -> Completion:
    """Draw completions (64 by default) of `series` (N, M) in data units, whose missing values are NaN.

    Raises LabError if nothing is missing or known, or if the shape is not the model's.
    """
    series, known = check_series(model, series)
    samples = complete(model, series[None], **drawing)
    return Completion(samples.series, known, samples.seconds, samples.token_share)


def check_series(model: ScoreModel, series: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return `series` (N, M) as float64, and which of its values are known. Raises LabError like `impute`."""
    series = np.asarray(series, dtype=np.float64)
    shape = (model.length, len(model.channels))
    if series.shape != shape:
        raise LabError(
            f"the series has shape {series.shape}, this model draws {shape} (steps, channels)",
            field="series",
            remedy="cut or fill it to that shape; steps beyond the ends of your data may be missing values",
        )
    known = ~np.isnan(series)
    if known.all():
        raise LabError("no value is missing", field="series", remedy="leave the values to be filled empty")
    if not known.any():
        raise LabError("every value is missing", field="series", remedy="sample without a question instead")
    return series, known


def complete(
    model: ScoreModel,
    windows: np.ndarray,
    *,
    num: int = 64,
    seed: int = 0,
    config: SamplerConfig = ASKING,
    progress: Progress = silent,
    cancelled: Cancel = never,
) -> Samples:
    """Draw `num` series; series i is given window i modulo W of `windows` (W, N, M), in data units.

    Missing values are NaN, at the same positions in all windows. The resulting series contain the known
    values.
    """
    observed = (np.asarray(windows, dtype=np.float64) - model.mean) / model.std
    sampler = Sampler.of(model, config).given(observed)
    samples = sampler.sample(num, seed, progress=progress, cancelled=cancelled)
    given = windows[np.arange(num) % len(windows)]
    series = np.where(np.isnan(given), samples.series, given).astype(np.float32)
    return replace(samples, series=series)


def forecast(
    model: ScoreModel, history: np.ndarray, horizon: int, **drawing: Unpack[DrawOptions]
) -> Completion:
    """Draw continuations (64 by default) of `history` (T, M) in data units, by `horizon` steps.

    The draws are whole windows of N steps: the last N - horizon steps of the history, then the forecast. A
    shorter history is treated as if the steps before it were missing.
    """
    return impute(model, forecast_window(model, history, horizon), **drawing)


def forecast_window(model: ScoreModel, history: np.ndarray, horizon: int) -> np.ndarray:
    """Return the window (N, M) that asks for a forecast: recent history, then `horizon` missing steps.

    Raises LabError if the history has other channels or the horizon does not fit.
    """
    history = np.asarray(history, dtype=np.float64)
    if history.ndim != 2 or history.shape[1] != len(model.channels):
        raise LabError(
            f"the history has shape {history.shape}, this model has {len(model.channels)} channels",
            field="history",
        )
    if not 1 <= horizon < model.length:
        raise LabError(
            f"horizon {horizon}",
            field="horizon",
            remedy=f"choose 1 to {model.length - 1} steps; this model's windows have {model.length}",
        )
    window = np.full((model.length, history.shape[1]), np.nan)
    room = model.length - horizon
    recent = history[-room:]
    window[room - len(recent) : room] = recent
    return window
