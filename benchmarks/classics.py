"""Strong classic forecasts, each channel alone: AutoETS and AutoARIMA of statsforecast, which is optional."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
from scipy.stats import norm

from e2crf_core.progress import Progress
from e2crf_core.questions.heldout import Answers, Question

KINDS = ("AutoETS", "AutoARIMA")
LONGEST_SEASON = 24
"""Longer seasons take AutoARIMA hours; they are left to AutoETS and AutoARIMA without a season."""


def available() -> tuple[str, ...]:
    """Return the classics that can run; says in one line what to install if there are none."""
    if importlib.util.find_spec("statsforecast"):
        return KINDS
    print(
        "AutoETS and AutoARIMA are left out: statsforecast is not installed (it may need an environment of its own)",
        file=sys.stderr,
    )
    return ()


def forecast(question: Question, kind: str, season: int, progress: Progress) -> Answers:
    """Forecast the missing end of each window of a question by one of KINDS."""
    from statsforecast import models

    model = question.model
    holes = (question.asked - model.mean) / model.std
    mean, std = np.zeros_like(holes), np.ones_like(holes)
    season = season if 1 < season <= LONGEST_SEASON else 1
    for place, window in enumerate(holes):
        progress(place, len(holes))
        for channel in range(window.shape[1]):
            known = window[~np.isnan(window[:, channel]), channel]
            ahead = len(window) - len(known)
            answer = getattr(models, kind)(season_length=season).forecast(y=known, h=ahead, level=[90])
            mean[place, -ahead:, channel] = answer["mean"]
            width = (answer["hi-90"] - answer["lo-90"]) / (2 * norm.ppf(0.95))
            std[place, -ahead:, channel] = np.maximum(width, 1e-6)
    missing = ~question.known
    return question.gaussian(mean[:, missing], std[:, missing])
