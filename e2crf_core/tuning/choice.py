"""The point of a study for a budget, in words why, and which knobs decide speed and quality."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.trial import TrialState

from e2crf_core.errors import LabError
from e2crf_core.tuning.measure import Point, front_points

VISIBLE = 0.05
"""The relative change of quality that samples should be enough to see."""
NEAR = 0.02
"""Points that cannot be told from the best count as equal to it only if they also measured so near."""
FEWEST_TRIALS = 12


@dataclass(frozen=True)
class Choice:
    """A point, and in words why it was chosen; `within` says whether it meets what was asked."""

    point: Point
    why: str
    within: bool


def pick(
    points: Sequence[Point],
    reference: Point,
    *,
    cost: str = "seconds",
    quality: str = "sliced_wasserstein",
    latency: float | None = None,
    budget: float | None = None,
) -> Choice:
    """The point for a latency budget (seconds for a sample), a quality budget, both, or neither.

    `budget` is how much worse the quality may be: as a share of the reference's distance, or the largest relative
    L2. With latency alone, the best quality in time; of points that cannot be told from it the cheapest. With a
    quality budget, the cheapest point that meets it with the upper end of its interval. With neither, the cheapest
    point that measured near the uncached reference and is not certainly worse.
    """
    complete = [point for point in points if point.complete]
    if not complete:
        raise LabError("no trial has finished yet: nothing can be chosen")
    if any(given is not None and not given > 0 for given in (latency, budget)):
        raise LabError("a budget must be above 0")
    in_time = [p for p in complete if latency is None or p.last.seconds <= latency]
    if not in_time:
        point = min(complete, key=lambda p: p.last.seconds)
        why = (
            f"No point takes {digits(1e3 * (latency or 0))} ms a sample or less. The fastest measured takes"
            f" {milliseconds(point)}: {point.setting.describe()}."
        )
        return Choice(point, why, False)
    if budget is not None:
        return _within(in_time, reference, cost, quality, budget, latency)
    if latency is not None:
        return _best_in_time(in_time, reference, cost, quality, latency)
    if quality == "relative_l2":
        point = _knee(front_points(complete, cost), cost)
        why = (
            "No budget was given: where the front bends most, a step further costs more quality than it saves"
            f" time. That is {_measured(point, reference, quality)}."
        )
        return Choice(point, why, True)
    return _as_good(complete, reference, cost, quality)


def _within(
    points: Sequence[Point],
    reference: Point,
    cost: str,
    quality: str,
    budget: float,
    latency: float | None,
) -> Choice:
    """The cheapest point that meets a quality budget with the whole of its interval."""
    able = [p for p in points if _excess(p, reference, quality) <= budget]
    limit = (
        f"relative L2 of at most {budget:.3g}"
        if quality == "relative_l2"
        else f"at most {100 * budget:.3g}% above the reference's distance"
    )
    if not able:
        point = min(points, key=lambda p: _excess(p, reference, quality))
        why = (
            f"No point stays, with the whole of its interval, within {limit}. The closest is"
            f" {_measured(point, reference, quality)}."
        )
        return Choice(point, why, False)
    point = min(able, key=lambda p: p.last.cost(cost))
    in_time = "" if latency is None else f"and in {digits(1e3 * latency)} ms a sample or less, "
    why = (
        f"The cheapest of {len(able)} points that stay within {limit} {in_time}is"
        f" {_measured(point, reference, quality)}."
    )
    return Choice(point, why, True)


def _best_in_time(
    points: Sequence[Point], reference: Point, cost: str, quality: str, latency: float
) -> Choice:
    """The best quality of points that are fast enough; of those that cannot be told from it the cheapest."""
    best = min(points, key=lambda p: p.last.quality)
    alike = [p for p in points if _alike(p, best, NEAR)]
    point = min(alike, key=lambda p: p.last.cost(cost))
    why = (
        f"Of {len(points)} points that take {digits(1e3 * latency)} ms a sample or less, {len(alike)} measured"
        f" within {100 * NEAR:.0f}% of the best quality and cannot be told from it; the cheapest of them is"
        f" {_measured(point, reference, quality)}."
    )
    return Choice(point, why, True)


def _as_good(points: Sequence[Point], reference: Point, cost: str, quality: str) -> Choice:
    """The cheapest point that is as good as the uncached reference."""
    able = [p for p in points if _alike(p, reference, VISIBLE)] or [min(points, key=lambda p: p.last.quality)]
    point = min(able, key=lambda p: p.last.cost(cost))
    why = (
        f"No budget was given: of {len(able)} points that measured at most {100 * VISIBLE:.0f}% worse than the"
        f" uncached reference ({milliseconds(reference)}) and are not certainly worse, the cheapest is"
        f" {_measured(point, reference, quality)}."
    )
    return Choice(point, why, _alike(point, reference, VISIBLE))


def _knee(front: Sequence[Point], cost: str) -> Point:
    """The front's point farthest below the straight line between its ends, on log cost and quality."""
    x = np.log([p.last.cost(cost) for p in front])
    y = np.array([p.last.quality for p in front])
    if len(front) < 3:
        return front[0]
    x, y = (x - x[0]) / (x[-1] - x[0]), (y - y[-1]) / (y[0] - y[-1])
    return front[int(np.argmin(x + y))]


def _alike(point: Point, other: Point, share: float) -> bool:
    """Whether a point is not certainly worse than another, nor measured worse by more than a share of it."""
    change = point.last.change(other.last)
    return change.low <= 0 and change.value <= share * other.last.quality


def _excess(point: Point, reference: Point, quality: str) -> float:
    """The upper end of what a point may be worse by, in the units of a quality budget."""
    if quality == "relative_l2":
        return point.last.high
    return point.last.change(reference.last).high / reference.last.quality


def digits(value: float) -> str:
    """A positive number to three digits, thousands in full."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def milliseconds(point: Point) -> str:
    """The time of a sample, within a sentence."""
    return f"{digits(1e3 * point.last.seconds)} ms a sample"


def _quality(point: Point, reference: Point, quality: str) -> str:
    last = point.last
    if quality == "relative_l2":
        return f"relative L2 {last.quality:.3g} ({last.low:.3g} to {last.high:.3g}) to its uncached twin"
    change, share = last.change(reference.last), 100 / reference.last.quality
    return (
        f"sliced Wasserstein {last.quality:.4g}, {share * change.value:+.1f}% against the reference"
        f" (95% interval {share * change.low:+.1f}% to {share * change.high:+.1f}%)"
    )


def _measured(point: Point, reference: Point, quality: str) -> str:
    """A point and what was measured of it, within a sentence."""
    return f"{point.setting.describe()}: {_quality(point, reference, quality)} at {milliseconds(point)}"


def dominating(points: Sequence[Point], other: Point, cost: str) -> list[Point]:
    """Complete points that are cheaper than `other` with no worse quality, best quality first."""
    better = [
        p
        for p in points
        if p.complete and p.last.cost(cost) < other.last.cost(cost) and p.last.quality <= other.last.quality
    ]
    return sorted(better, key=lambda p: p.last.quality)


def importance(study: optuna.Study) -> dict[str, dict[str, float]]:
    """How much each searched knob decides cost and quality (shares that sum to 1), most important first.

    PED-ANOVA of the finished trials. Knobs that fewer than FEWEST_TRIALS of them have, such as those of a
    trigger that was hardly tried, are left out: too little is known of them.
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
