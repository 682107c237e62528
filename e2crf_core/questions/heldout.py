"""Judge answers on held-out windows, whose truth is known: CRPS and coverage, beside naive answers.

CRPS is in standard deviations of the data, over missing positions only. Point answers are scored by the
absolute error, which is their CRPS. Ratios are to the naive answer that is best on the same windows, a choice
in its favor; intervals are 95% bootstrap intervals over windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Unpack

import numpy as np
from scipy.stats import norm

from e2crf_core.data.datasets import Dataset
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.quality.interval import Interval
from e2crf_core.quality.probabilistic import covered, crps, gaussian_crps
from e2crf_core.questions import baselines
from e2crf_core.questions.answers import ASKING, DrawOptions, complete

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


@dataclass(frozen=True)
class Answers:
    """Answers to a question about W windows: CRPS (W,), and the shares (W,) inside the 90% intervals.

    The shares of point answers are NaN. `forwards` is the work of one draw, in whole-forward equivalents.
    """

    crps: np.ndarray
    inside: np.ndarray
    forwards: float = 0.0


@dataclass(frozen=True)
class Question:
    """The same question about held-out windows `truth` (W, N, M), in data units: values outside `known` are missing.

    `known` is (N, M).
    """

    model: ScoreModel
    truth: np.ndarray
    known: np.ndarray

    @staticmethod
    def of(model: ScoreModel, data: Dataset, known: np.ndarray, index: np.ndarray) -> Question:
        """Ask about the windows `index` of a data set. Raises LabError if it does not fit, or nothing is asked."""
        check_fits(model, data)
        if known.all() or not known.any():
            raise LabError("nothing is missing" if known.all() else "nothing is known", field="series")
        return Question(model, data.x[np.sort(index)].astype(np.float64), known)

    @property
    def asked(self) -> np.ndarray:
        """Return the windows (W, N, M) with missing values as NaN."""
        return np.where(self.known, self.truth, np.nan)

    @property
    def goal(self) -> np.ndarray:
        """Return the hidden values (W, missing), standardized."""
        return ((self.truth - self.model.mean) / self.model.std)[:, ~self.known]

    def drawn(self, draws: int, **drawing: Unpack[DrawOptions]) -> Answers:
        """Answer with `draws` draws for each window."""
        drawing["num"] = draws * len(self.truth)
        made = complete(self.model, self.asked, **drawing)
        series = (made.series - self.model.mean) / self.model.std
        steps = drawing.get("config", ASKING).steps
        hidden = series.reshape(draws, *self.truth.shape)[:, :, ~self.known]
        return self.scored(hidden, made.flop_share * steps)

    def scored(self, hidden: np.ndarray, forwards: float = 0.0) -> Answers:
        """Score standardized draws (S, W, missing) of the hidden values."""
        goal = self.goal
        return Answers(crps(hidden, goal).mean(1), covered(hidden, goal, LEVEL).mean(1), forwards)

    def gaussian(self, mean: np.ndarray, std: np.ndarray) -> Answers:
        """Score Gaussian answers with standardized means and deviations (W, missing)."""
        inside = np.abs(self.goal - mean) < norm.ppf((1 + LEVEL) / 2) * std
        return Answers(gaussian_crps(mean, std, self.goal).mean(1), inside.mean(1))

    def points(self, series: np.ndarray) -> Answers:
        """Score standardized point answers (W, N, M), which have no interval."""
        errors = np.abs(series[:, ~self.known] - self.goal)
        return Answers(errors.mean(1), np.full(len(errors), np.nan))


def judge(
    model: ScoreModel,
    data: Dataset,
    known: np.ndarray,
    *,
    windows: int = 16,
    draws: int = 20,
    **drawing: Unpack[DrawOptions],
) -> HeldoutScores:
    """Answer for up to `windows` held-out windows with the values outside `known` (N, M) missing.

    With fewer than 19 draws, 90% intervals are too wide. Raises LabError if nothing is missing or known, or if
    the data set does not fit the model.
    """
    rng = np.random.default_rng(drawing.get("seed", 0))
    index = rng.choice(data.heldout, min(windows, len(data.heldout)), replace=False)
    question = Question.of(model, data, known, index)
    answers = {NETWORK: question.drawn(draws, **drawing), **without_network(question, data)}
    pick = resamples(rng, len(index))
    scores = {
        name: Scored(
            name,
            mean_interval(answer.crps, pick),
            None if np.isnan(answer.inside).any() else mean_interval(answer.inside, pick),
        )
        for name, answer in answers.items()
    }
    ranked = sorted((name for name in scores if name != NETWORK), key=lambda name: scores[name].crps.value)
    ratio = paired_ratio(answers[NETWORK].crps, answers[ranked[0]].crps, pick)
    return HeldoutScores(tuple(scores[name] for name in (NETWORK, *ranked)), ratio, len(index), draws)


def without_network(question: Question, data: Dataset) -> dict[str, Answers]:
    """Answer a question without a network: by E3 alone in closed form, and by points."""
    model, known = question.model, question.known
    holes = (question.asked - model.mean) / model.std
    laws = [baselines.gaussian(model, window) for window in holes]
    mean, std = (np.stack([getattr(law, part)[~known] for law in laws]) for part in ("mean", "std"))
    training = (data.x[data.train].mean(0, dtype=np.float64) - model.mean) / model.std
    points = {
        "mean of the training windows": np.broadcast_to(training, holes.shape),
        "last value": np.stack([baselines.last_value(window) for window in holes]),
        "straight line": np.stack([baselines.line(window) for window in holes]),
    }
    if season := usual_period(data):
        name = f"season of {season} steps"
        points[name] = np.stack([baselines.season(window, season) for window in holes])
    return {
        GAUSSIAN: question.gaussian(mean, std),
        **{name: question.points(answer) for name, answer in points.items()},
    }


def resamples(rng: np.random.Generator, windows: int) -> np.ndarray:
    """Return bootstrap resamples (R, W) of windows."""
    return rng.integers(0, windows, (RESAMPLES, windows))


def mean_interval(values: np.ndarray, pick: np.ndarray) -> Interval:
    """Return the mean of values (W,) with its bootstrap interval over resamples `pick` (R, W)."""
    low, high = np.quantile(values[pick].mean(1), [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def paired_ratio(ours: np.ndarray, theirs: np.ndarray, pick: np.ndarray) -> Interval | None:
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
