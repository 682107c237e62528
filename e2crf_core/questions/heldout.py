"""Judge answers on held-out windows, whose truth is known: CRPS and coverage, beside naive answers.

CRPS is in standard deviations of the data, over missing positions only. Point answers are scored by the
absolute error, which is their CRPS. Ratios are to the naive answer that is best on the same windows, a choice
in its favor; intervals are 95% bootstrap intervals over windows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from e2crf_core.data.datasets import Dataset
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.progress import Cancel, Progress, never, silent
from e2crf_core.quality.interval import Interval
from e2crf_core.quality.probabilistic import covered, crps, gaussian_crps
from e2crf_core.questions import baselines
from e2crf_core.questions.answers import ASKING, complete
from e2crf_core.sampling.config import SamplerConfig

NETWORK = "this model"
GAUSSIAN = "Gaussian process (E3 alone)"
LEVEL = 0.9
RESAMPLES = 2000


@dataclass(frozen=True)
class Scored:
    """The score of one way to answer: mean CRPS over windows, and the coverage of its 90% intervals.

    `coverage` is None for an answer that is a point.
    """

    name: str
    crps: Interval
    coverage: Interval | None


@dataclass(frozen=True)
class HeldoutScores:
    """The scores of a model and of naive answers to one question about the same held-out windows.

    `ratio` is the model's CRPS over that of the best naive answer, None if that one has no error; `scores`
    begin with the model, the others in order of their CRPS.
    """

    scores: tuple[Scored, ...]
    ratio: Interval | None
    windows: int
    draws: int

    @property
    def best(self) -> Scored:
        """Return the naive answer with the smallest CRPS."""
        return self.scores[1]


def check_fits(model: ScoreModel, data: Dataset) -> None:
    """Reject a data set whose windows are not the model's. Raises LabError."""
    shape = (model.length, len(model.channels))
    if data.x.shape[1:] != shape:
        raise LabError(
            f"the windows of data set {data.name!r} have shape {data.x.shape[1:]}, this model draws {shape} "
            "(steps, channels)",
            field="data",
            remedy="choose the data set that it was trained on",
        )
    if not len(data.heldout):
        raise LabError(f"data set {data.name!r} has no held-out windows", field="data")


def judge(
    model: ScoreModel,
    data: Dataset,
    known: np.ndarray,
    *,
    windows: int = 16,
    draws: int = 20,
    seed: int = 0,
    config: SamplerConfig = ASKING,
    progress: Progress = silent,
    cancelled: Cancel = never,
) -> HeldoutScores:
    """Answer for up to `windows` held-out windows with the values outside `known` (N, M) missing.

    With fewer than 19 draws, 90% intervals are too wide. Raises LabError if nothing is missing or known, or if
    the data set does not fit the model.
    """
    check_fits(model, data)
    if known.all() or not known.any():
        raise LabError("nothing is missing" if known.all() else "nothing is known", field="series")
    rng = np.random.default_rng(seed)
    index = np.sort(rng.choice(data.heldout, min(windows, len(data.heldout)), replace=False))
    truth = data.x[index].astype(np.float64)
    asked = np.where(known, truth, np.nan)
    made = complete(
        model, asked, num=draws * len(index), seed=seed, config=config, progress=progress, cancelled=cancelled
    )
    drawn = ((made.series - model.mean) / model.std).reshape(draws, *truth.shape)[:, :, ~known]
    goal = ((truth - model.mean) / model.std)[:, ~known]
    holes = (asked - model.mean) / model.std
    means, stds = _gaussian(model, holes, known)
    errors = {
        NETWORK: crps(drawn, goal).mean(1),
        GAUSSIAN: gaussian_crps(means, stds, goal).mean(1),
    }
    inside = {
        NETWORK: covered(drawn, goal, LEVEL).mean(1),
        GAUSSIAN: (np.abs(goal - means) < norm.ppf((1 + LEVEL) / 2) * stds).mean(1),
    }
    for name, answer in _points(model, data, holes).items():
        errors[name] = np.abs(answer[:, ~known] - goal).mean(1)
    pick = rng.integers(0, len(index), (RESAMPLES, len(index)))
    scores = {
        name: Scored(name, _interval(values, pick), _interval(inside[name], pick) if name in inside else None)
        for name, values in errors.items()
    }
    ranked = sorted((name for name in scores if name != NETWORK), key=lambda name: scores[name].crps.value)
    ratio = _ratio(errors[NETWORK], errors[ranked[0]], pick)
    return HeldoutScores(tuple(scores[name] for name in (NETWORK, *ranked)), ratio, len(index), draws)


def _gaussian(model: ScoreModel, holes: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return means and standard deviations (W, missing) of E3 alone, given windows (W, N, M)."""
    laws = [baselines.gaussian(model, window) for window in holes]
    return np.stack([law.mean[~known] for law in laws]), np.stack([law.std[~known] for law in laws])


def _points(model: ScoreModel, data: Dataset, holes: np.ndarray) -> dict[str, np.ndarray]:
    """Return point answers (W, N, M) to standardized windows with holes."""
    mean = (data.x[data.train].mean(0, dtype=np.float64) - model.mean) / model.std
    points = {
        "mean of the training windows": np.broadcast_to(mean, holes.shape),
        "last value": np.stack([baselines.last_value(window) for window in holes]),
        "straight line": np.stack([baselines.line(window) for window in holes]),
    }
    if season := usual_period(data):
        name = f"season of {season} steps"
        points[name] = np.stack([baselines.season(window, season) for window in holes])
    return points


def _interval(values: np.ndarray, pick: np.ndarray) -> Interval:
    """Return the mean of values (W,) with its bootstrap interval over resamples `pick` (R, W)."""
    low, high = np.quantile(values[pick].mean(1), [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def _ratio(ours: np.ndarray, theirs: np.ndarray, pick: np.ndarray) -> Interval | None:
    """Return the paired ratio of means of (W,) and (W,), or None if `theirs` can be 0."""
    below = theirs[pick].mean(1)
    if not below.min():
        return None
    low, high = np.quantile(ours[pick].mean(1) / below, [0.025, 0.975])
    return Interval(float(ours.mean() / theirs.mean()), float(low), float(high))


def usual_period(data: Dataset) -> int | None:
    """Return the season of a data set in steps, or None if windows show none.

    It is the lag of the highest peak of the autocorrelation of training windows, up to half a window.
    """
    x = data.standardize(data.x[data.train[:256]]).astype(np.float64)
    x = x - x.mean(1, keepdims=True)
    power = np.abs(np.fft.rfft(x, n=2 * data.length, axis=1)) ** 2
    lags = np.arange(data.length // 2 + 1)
    correlation = np.fft.irfft(power.mean((0, 2)))[lags] / (data.length - lags)
    inner = correlation[1:-1]
    peaks = 1 + np.flatnonzero((inner > correlation[:-2]) & (inner >= correlation[2:]) & (inner > 0))
    return int(peaks[correlation[peaks].argmax()]) if len(peaks) else None
