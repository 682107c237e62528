"""Choose the point of a study for a budget, explain why, and rank the knobs that decide speed and quality."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.trial import TrialState

from e2crf_core.errors import LabError
from e2crf_core.quality.protocol import MARGIN, SPECTRAL_MARGIN
from e2crf_core.tuning.measure import QUALITIES, Point, front_points
from e2crf_core.tuning.space import unfit

FEWEST_TRIALS = 12


@dataclass(frozen=True)
class Choice:
    """A chosen point and the reason in words; `within` states whether it meets the request.

    `needed` is the number of samples at which trial `candidate` would probably qualify, if too few were
    measured.
    """

    point: Point
    why: str
    within: bool
    needed: int | None = None
    candidate: int | None = None


def pick(
    points: Sequence[Point],
    reference: Point,
    *,
    cost: str = "seconds",
    quality: str = "marginal_wasserstein",
    latency: float | None = None,
    alone: float | None = None,
    budget: float | None = None,
) -> Choice:
    """Choose the point for latency budgets, a quality budget, all, or none.

    `latency` is in seconds per sample in batches of the study's size, `alone` in seconds for a lone sample.

    One rule, the protocol's: a point qualifies if both its distances to real data are *certain* to be within the
    budget, that is, with the upper ends of their paired 95% intervals. `budget` is how much worse than the
    reference it may be, as a share of the reference's distance (5% by default; the margin in dB grows in
    proportion), or the largest relative L2. The cheapest qualifying point is chosen; with only a latency, the
    best quality in time, or a cheaper point that is certain to be as good. Points that cannot act as their
    policy says (see `space.unfit`) are never chosen.
    """
    complete = [point for point in points if point.complete and unfit(point.setting) is None]
    if not complete:
        raise LabError("no trial has finished yet: nothing can be chosen")
    if any(given is not None and not given > 0 for given in (latency, alone, budget)):
        raise LabError("a budget must be above 0")
    limits = _limits(latency, alone)
    in_time = [p for p in complete if _in_time(p, latency, alone)]
    if not in_time:
        point = min(complete, key=lambda p: p.last.seconds if alone is None else p.last.alone or math.inf)
        why = (
            f"No point takes {limits} or less. The fastest measured takes {milliseconds(point)}:"
            f" {point.setting.describe()}."
        )
        return Choice(point, why, False)
    if budget is not None:
        return _within(in_time, reference, cost, quality, budget, limits)
    if limits:
        return _best_in_time(in_time, reference, cost, quality, limits)
    if quality == "relative_l2":
        point = _knee(front_points(complete, cost), cost)
        why = (
            "No budget was given: where the front bends most, a step further costs more quality than it saves"
            f" time. That is {_measured(point, reference, quality)}."
        )
        return Choice(point, why, True)
    return _within(complete, reference, cost, quality, MARGIN, limits)


def within_budgets(
    points: Sequence[Point],
    reference: Point,
    *,
    quality: str = "marginal_wasserstein",
    latency: float | None = None,
    alone: float | None = None,
    budget: float | None = None,
) -> frozenset[int]:
    """Return the trials that qualify by the rule of `pick`, with the same units, and the reference.

    Without any budget the protocol's margin is the limit for distances to real data, and nothing for relative L2.
    """
    if budget is None and latency is None and alone is None and quality != "relative_l2":
        budget = MARGIN
    able = {
        p.number
        for p in points
        if p.number != reference.number
        and p.complete
        and unfit(p.setting) is None
        and _in_time(p, latency, alone)
        and (budget is None or _excess(p, reference, quality) <= budget)
    }
    return frozenset(able | {reference.number})


def _limits(latency: float | None, alone: float | None) -> str:
    """Word latency budgets, for use within a sentence; empty without any."""
    parts = [f"{digits(1e3 * latency)} ms a sample"] if latency is not None else []
    parts += [f"{digits(1e3 * alone)} ms for a lone sample"] if alone is not None else []
    return " and ".join(parts)


def _in_time(point: Point, latency: float | None, alone: float | None) -> bool:
    """Return whether a point meets the latency budgets; one that was never run alone does not meet the second."""
    if latency is not None and point.last.seconds > latency:
        return False
    return alone is None or (point.last.alone is not None and point.last.alone <= alone)


def _within(
    points: Sequence[Point],
    reference: Point,
    cost: str,
    quality: str,
    budget: float,
    limits: str,
) -> Choice:
    """Return the cheapest point that meets a quality budget with the upper end of its interval."""
    limit = (
        f"relative L2 of at most {budget:.3g}"
        if quality == "relative_l2"
        else f"{100 * budget:.3g}% and {SPECTRAL_MARGIN * budget / MARGIN:.3g} dB of the uncached reference"
        f" ({milliseconds(reference)})"
    )
    able = [p for p in points if p.number != reference.number and _excess(p, reference, quality) <= budget]
    able = [p for p in able if p.last.cost(cost) < reference.last.cost(cost)] or able
    if not able:
        return _nothing(points, reference, quality, budget, limit)
    point = min(able, key=lambda p: p.last.cost(cost))
    in_time = f"and in {limits} or less, " if limits else ""
    lead = f"The cheapest of {len(able)} points that are" if len(able) > 1 else "The only point that is"
    why = f"{lead} certain to stay within {limit}, {in_time}is {_measured(point, reference, quality)}."
    return Choice(point, why, True)


def _nothing(points: Sequence[Point], reference: Point, quality: str, budget: float, limit: str) -> Choice:
    """Return the reference as the safe choice, with the closest point and whether more samples would help."""
    rivals = [p for p in points if p.number != reference.number] or list(points)
    closest = min(rivals, key=lambda p: _excess(p, reference, quality))
    why = (
        f"Nothing qualifies with {closest.last.num} samples: no point is certain to stay within {limit}. The closest"
        f" is {_measured(closest, reference, quality)}."
    )
    needed = candidate = None
    if quality != "relative_l2":
        counts = {p.number: p.against(reference).within(budget).needed for p in rivals}
        known = {number: count for number, count in counts.items() if count is not None}
        if known:
            candidate, needed = min(known.items(), key=lambda item: item[1])
            done = next(p for p in rivals if p.number == candidate).against(reference).primary.num
            why += f" Measure {needed - done} more samples of trial {candidate} to decide."
        else:
            why += " More samples would not help: every point measured worse than that."
    safe = next((p for p in points if p.number == reference.number), closest)
    return Choice(safe, why, False, needed, candidate)


def _best_in_time(points: Sequence[Point], reference: Point, cost: str, quality: str, limits: str) -> Choice:
    """Return the best quality among fast enough points, or the cheapest one certain to be as good."""
    best = min(points, key=lambda p: p.last.quality)
    alike = [p for p in points if p is best or _excess(p, best, quality) <= _tolerance(best, quality)]
    point = min(alike, key=lambda p: p.last.cost(cost))
    why = (
        f"Of {len(points)} points that take {limits} or less, {len(alike)} are certain to be"
        f" within {100 * MARGIN:.0f}% of the best quality; the cheapest of them is"
        f" {_measured(point, reference, quality)}."
    )
    if quality != "relative_l2" and point.against(reference).verdict != "as good":
        why += f" It is not certain to be within {100 * MARGIN:.0f}% of the reference's quality."
    return Choice(point, why, True)


def _tolerance(best: Point, quality: str) -> float:
    """Return what counts as good as the best: a share of its distance, or a slightly larger relative L2."""
    return (1 + MARGIN) * best.last.high if quality == "relative_l2" else MARGIN


def _knee(front: Sequence[Point], cost: str) -> Point:
    """Return the front's point farthest below the line between its ends, on log cost and quality."""
    x = np.log([p.last.cost(cost) for p in front])
    y = np.array([p.last.quality for p in front])
    if len(front) < 3:
        return front[0]
    x, y = (x - x[0]) / (x[-1] - x[0]), (y - y[-1]) / (y[0] - y[-1])
    return front[int(np.argmin(x + y))]


def _excess(point: Point, reference: Point, quality: str) -> float:
    """Return the upper end of a point's excess error, in the units of a quality budget."""
    if quality == "relative_l2":
        return point.last.high
    return MARGIN * point.against(reference).excess


def digits(value: float) -> str:
    """Format a positive number to three digits, with thousands in full."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def milliseconds(point: Point) -> str:
    """Return the time per sample, for use within a sentence."""
    text = f"{digits(1e3 * point.last.seconds)} ms a sample"
    alone = point.last.alone
    return text if alone is None else f"{text} in a batch, {digits(1e3 * alone)} ms alone"


def _quality(point: Point, reference: Point, quality: str) -> str:
    last = point.last
    if quality == "relative_l2":
        return f"relative L2 {last.quality:.3g} ({last.low:.3g} to {last.high:.3g}) to its uncached twin"
    return f"{QUALITIES[quality]} {last.quality:.4g}, {point.against(reference).describe()} of the reference"


def _measured(point: Point, reference: Point, quality: str) -> str:
    """Describe a point and its measurements, for use within a sentence."""
    return f"{point.setting.describe()}: {_quality(point, reference, quality)} at {milliseconds(point)}"


def dominating(points: Sequence[Point], other: Point, cost: str) -> list[Point]:
    """Return complete points that are cheaper than `other` and measured no worse, best quality first."""
    better = [
        p
        for p in points
        if p.complete
        and p.last.cost(cost) < other.last.cost(cost)
        and all(part.change.value <= 0 for part in p.against(other).parts)
    ]
    return sorted(better, key=lambda p: p.last.quality)


def importance(study: optuna.Study) -> dict[str, dict[str, float]]:
    """Return how much each searched knob decides cost and quality (shares that sum to 1), in order.

    Uses PED-ANOVA of the finished trials. Knobs that fewer than FEWEST_TRIALS of them have, such as those of
    a rarely tried trigger, are omitted because too little is known about them.
    """
    trials = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE]
    counts = Counter(name for t in trials for name, d in t.distributions.items() if not d.single())
    known = [name for name, count in counts.items() if count >= FEWEST_TRIALS]
    if not known:
        return {}
    shares: dict[str, dict[str, float]] = {}
    for index, name in enumerate(("cost", "quality")):

        def target(trial: optuna.trial.FrozenTrial, index: int = index) -> float:
            return float(trial.values[index])

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            measured = optuna.importance.get_param_importances(study, params=known, target=target)
        shares[name] = dict(sorted(measured.items(), key=lambda item: -item[1]))
    return shares
