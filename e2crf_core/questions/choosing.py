"""Choose how to answer a question on the question's own metric: CRPS on held-out windows, against whole forwards.

Ways of answering are compared with the uncached reference on some held-out windows. The cheapest cache and the
cheapest shorter plan whose paired ratio of CRPS is certain to be within MARGIN, by the upper end of its 95% bootstrap
interval over windows, are then judged by the same rule on other windows with other noise: the best of many looks
better on its own noise than it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from e2crf_core.caching.policy import CachePolicy
from e2crf_core.data.datasets import Dataset
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import Cancelled, LabError
from e2crf_core.progress import Cancel, Progress, never, silent
from e2crf_core.quality.interval import Interval
from e2crf_core.questions.answers import ASKING
from e2crf_core.questions.heldout import Answers, Question, mean_interval, paired_ratio, resamples
from e2crf_core.sampling.config import SamplerConfig

MARGIN = 0.02
FEWEST = 8
"""Held-out windows with which a choice can be made: half of them judge it."""


@dataclass(frozen=True)
class Way:
    """A way to answer, with a name in words."""

    name: str
    config: SamplerConfig

    @property
    def cached(self) -> bool:
        """Return whether a cache may skip something."""
        return self.config.policy is not None and self.config.policy.trigger != "always"


@dataclass(frozen=True)
class MeasuredWay:
    """A measured way: CRPS, its paired ratio to the reference's, and its cost.

    `forwards` is in whole-forward equivalents for one draw. There is no coverage: with so few draws, intervals are
    too wide.
    """

    way: Way
    crps: Interval
    ratio: Interval
    forwards: float

    @property
    def as_good(self) -> bool:
        """Return whether CRPS is certain to be within MARGIN of the reference's."""
        return self.ratio.high <= 1 + MARGIN


@dataclass(frozen=True)
class ChosenWay:
    """The ways `tried` on some windows, and those of them that were then `judged` on others; the reference is first.

    `windows` counts both kinds of windows, `draws` those of each window when judging.
    """

    tried: tuple[MeasuredWay, ...]
    judged: tuple[MeasuredWay, ...]
    windows: tuple[int, int]
    draws: int

    @property
    def proposal(self) -> MeasuredWay | None:
        """Return the cheapest way that was judged as good as the reference and costs less; None if none was."""
        able = [m for m in self.judged[1:] if m.as_good and m.forwards < self.judged[0].forwards]
        return min(able, key=lambda m: m.forwards, default=None)


def usual_ways(reference: SamplerConfig) -> tuple[Way, ...]:
    """Return what competes with an uncached reference: caches on its steps, and fewer steps without a cache."""
    plans = {
        (grid, steps): replace(reference, policy=None, grid=grid, steps=steps)
        for grid, share in (("profile", 2), ("profile", 3), ("log_snr", 3))
        if (steps := max(4, reference.steps // share)) < reference.steps
    }
    caches = (
        ("profile", "linear", 0.45),
        ("profile", "hermite", 0.5),
        ("profile", "hermite", 0.65),
        ("profile", "hermite", 0.8),
        ("log_snr", "hermite", 0.75),
    )
    return (
        *(Way(f"no cache, {steps} steps, {grid} grid", plan) for (grid, steps), plan in plans.items()),
        *(cache_way(reference, *cache) for cache in caches),
    )


def cache_way(reference: SamplerConfig, clock: str, predictor: str, tau: float) -> Way:
    """Return the way that refreshes every token on a schedule of the noise level, on the reference's steps."""
    policy = CachePolicy(trigger="log_snr", tau=tau, clock=clock, predictor=predictor)
    return Way(f"cache, {clock} clock, {predictor}, tau {tau:g}", replace(reference, policy=policy))


def cheapest(measured: Sequence[MeasuredWay]) -> MeasuredWay | None:
    """Return the cheapest way that is as good or, if none is, the one whose upper end is lowest; None of none."""
    able = [m for m in measured if m.as_good]
    if able:
        return min(able, key=lambda m: m.forwards)
    return min(measured, key=lambda m: m.ratio.high, default=None)


def choose(
    model: ScoreModel,
    data: Dataset,
    known: np.ndarray,
    *,
    reference: SamplerConfig = ASKING,
    ways: Sequence[Way] | None = None,
    windows: int = 24,
    draws: int = 6,
    seed: int = 0,
    progress: Progress = silent,
    cancelled: Cancel = never,
) -> ChosenWay:
    """Choose on up to `windows` held-out windows, `draws` draws each, and judge on others with twice the draws.

    The values outside `known` (N, M) are missing. Raises LabError with fewer than FEWEST held-out windows, and where
    the reference makes no error, which leaves nothing to compare.
    """
    order = np.random.default_rng(seed).permutation(data.heldout)
    if len(order) < FEWEST:
        raise LabError(
            f"data set {data.name!r} has {len(order)} held-out windows, {FEWEST} are the least to choose and judge on",
            field="data",
        )
    half = min(windows, len(order) // 2)
    first, second = (
        Question.of(model, data, known, part) for part in (order[:half], order[half:][: 2 * half])
    )
    full = Way(f"no cache, {reference.steps} steps", replace(reference, policy=None))
    field = usual_ways(full.config) if ways is None else tuple(ways)
    # The reference is judged beside one cache and one plan, each of about a third of its cost.
    total = (
        half * draws * sum(map(_cost, (full, *field))) + len(second.truth) * 2 * draws * _cost(full) * 5 // 3
    )
    work = _Work(total, progress, cancelled)
    tried = work.measure(first, (full, *field), draws, seed)
    finals = [cheapest([m for m in tried[1:] if m.way.cached == cached]) for cached in (True, False)]
    judged = work.measure(second, (full, *(m.way for m in finals if m)), 2 * draws, seed + 1)
    progress(work.total, work.total)
    return ChosenWay(tried, judged, (len(first.truth), len(second.truth)), 2 * draws)


def _cost(way: Way) -> int:
    """Return about how many whole forwards a draw takes, for a report of progress."""
    return max(1, way.config.steps // 3) if way.cached else way.config.steps


@dataclass
class _Work:
    """Measurements of one choice, whose progress counts about whole forwards."""

    total: int
    progress: Progress
    cancelled: Cancel
    done: int = 0

    def measure(
        self, question: Question, ways: Sequence[Way], draws: int, seed: int
    ) -> tuple[MeasuredWay, ...]:
        """Measure ways on the same windows and seed, the reference first. Raises LabError and Cancelled."""
        pick = resamples(np.random.default_rng(seed), len(question.truth))
        measured: list[MeasuredWay] = []
        base: Answers | None = None
        for way in ways:
            if self.cancelled():
                raise Cancelled
            size = draws * len(question.truth) * _cost(way)

            def report(done: int, total: int, size: int = size) -> None:
                self.progress(min(self.total, self.done + size * done // max(1, total)), self.total)

            got = question.drawn(
                draws, seed=seed, config=way.config, progress=report, cancelled=self.cancelled
            )
            self.done += size
            base = base or got
            ratio = paired_ratio(got.crps, base.crps, pick)
            if ratio is None:
                raise LabError(
                    "the uncached answers make no error on these windows, so nothing can be compared with them",
                    field="series",
                    remedy="hide another part",
                )
            measured.append(MeasuredWay(way, mean_interval(got.crps, pick), ratio, got.forwards))
        return tuple(measured)
