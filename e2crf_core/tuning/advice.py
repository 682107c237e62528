"""What a study means: the point for a budget, why, which knobs matter, which do nothing, and what to beware of."""

from __future__ import annotations

import json
import math
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import optuna
import torch
from optuna.trial import TrialState

from e2crf_core.caching.policy import CachePolicy, PolicyError
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import Cancelled, LabError
from e2crf_core.io.files import replace_file
from e2crf_core.progress import Cancel
from e2crf_core.sampling.sampler import synchronize, warm_up
from e2crf_core.tuning.space import FIELDS, NEEDS, OFF, SEARCHABLE, Setting
from e2crf_core.tuning.study import Bench, Point, Rung, Study, measure, pareto_front

CLIFF_SHARE = {"sliced_wasserstein": 0.1, "relative_l2": 1.0}
"""Share of the quality by which it may change within 20% of the threshold before that is called a cliff."""
VISIBLE = 0.05
"""The relative change of quality that samples should be enough to see."""
NEAR = 0.02
"""Points that cannot be told from the best count as equal to it only if they also measured so near."""
FEWEST_TRIALS = 12

Progress = Callable[[float], None]
INERT_SHARE, NEAR_SHARE = 0.4, 0.5
"""How much of an advice's time goes into either part, about; the rest times the solver alone."""


@dataclass(frozen=True)
class Choice:
    """A point, and in words why it was chosen; `within` says whether it meets what was asked."""

    point: Point
    why: str
    within: bool


@dataclass(frozen=True)
class Caution:
    """Something to know before deployment. `kind` is a short name for programs."""

    kind: str
    text: str


@dataclass(frozen=True)
class Inert:
    """A field of a policy whose value changes nothing, and why."""

    field: str
    why: str


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

    `budget` is how much worse the quality may be: as a share of the reference's sliced Wasserstein distance, or
    the largest relative L2. With latency alone, the best quality in time; of points that cannot be told from it
    the cheapest. With a quality budget, the cheapest point that meets it with the upper end of its interval.
    With neither, the cheapest point that measured near the uncached reference and is not certainly worse.
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
            f" {_ms(point)}: {point.setting.describe()}."
        )
        return Choice(point, why, False)
    told = f"in {digits(1e3 * latency)} ms a sample or less, " if latency is not None else ""
    if budget is not None:
        able = [p for p in in_time if _excess(p, reference, quality) <= budget]
        limit = (
            f"relative L2 of at most {budget:.3g}"
            if quality == "relative_l2"
            else f"at most {100 * budget:.3g}% above the reference's distance"
        )
        if not able:
            point = min(in_time, key=lambda p: _excess(p, reference, quality))
            why = (
                f"No point stays, with the whole of its interval, within {limit}. The closest is"
                f" {point.setting.describe()}: {_quality(point, reference, quality)} at {_ms(point)}."
            )
            return Choice(point, why, False)
        point = min(able, key=lambda p: p.last.cost(cost))
        why = (
            f"The cheapest of {len(able)} points that stay within {limit} {told and 'and ' + told}is"
            f" {point.setting.describe()}: {_quality(point, reference, quality)} at {_ms(point)}."
        )
        return Choice(point, why, True)
    if latency is not None:
        best = min(in_time, key=lambda p: p.last.quality)
        alike = [p for p in in_time if _alike(p, best, NEAR)]
        point = min(alike, key=lambda p: p.last.cost(cost))
        why = (
            f"Of {len(in_time)} points that take {digits(1e3 * latency)} ms a sample or less, {len(alike)} measured"
            f" within {100 * NEAR:.0f}% of the best quality and cannot be told from it; the cheapest of them is"
            f" {point.setting.describe()}: {_quality(point, reference, quality)} at {_ms(point)}."
        )
        return Choice(point, why, True)
    if quality == "relative_l2":
        point = _knee(pareto_front(complete, cost), cost)
        why = (
            "No budget was given: where the front bends most, a step further costs more quality than it saves"
            f" time. That is {point.setting.describe()}: {_quality(point, reference, quality)} at {_ms(point)}."
        )
        return Choice(point, why, True)
    able = [p for p in complete if _alike(p, reference, VISIBLE)] or [
        min(complete, key=lambda p: p.last.quality)
    ]
    point = min(able, key=lambda p: p.last.cost(cost))
    why = (
        f"No budget was given: of {len(able)} points that measured at most {100 * VISIBLE:.0f}% worse than the"
        f" uncached reference ({_ms(reference)}) and are not certainly worse, the cheapest is"
        f" {point.setting.describe()}: {_quality(point, reference, quality)} at {_ms(point)}."
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
    value, low, _ = point.last.change(other.last)
    return low <= 0 and value <= share * other.last.quality


def _excess(point: Point, reference: Point, quality: str) -> float:
    """The upper end of what a point may be worse by, in the units of a quality budget."""
    if quality == "relative_l2":
        return point.last.high
    return point.last.change(reference.last)[2] / reference.last.quality


def digits(value: float) -> str:
    """A positive figure to three digits, thousands in full."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _ms(point: Point) -> str:
    return f"{digits(1e3 * point.last.seconds)} ms a sample"


def _quality(point: Point, reference: Point, quality: str) -> str:
    last = point.last
    if quality == "relative_l2":
        return f"relative L2 {last.quality:.3g} ({last.low:.3g} to {last.high:.3g}) to its uncached twin"
    value, low, high = (100 * x / reference.last.quality for x in last.change(reference.last))
    return (
        f"sliced Wasserstein {last.quality:.4g}, {value:+.1f}% against the reference"
        f" (95% interval {low:+.1f}% to {high:+.1f}%)"
    )


def dominating(points: Sequence[Point], other: Point, cost: str) -> list[Point]:
    """Complete points that are cheaper than `other` with no worse quality, best quality first."""
    found = [
        p
        for p in points
        if p.complete and p.last.cost(cost) < other.last.cost(cost) and p.last.quality <= other.last.quality
    ]
    return sorted(found, key=lambda p: p.last.quality)


def importance(study: optuna.Study) -> dict[str, dict[str, float]]:
    """How much each searched knob decides cost and quality (shares that sum to 1), most important first.

    PED-ANOVA of the finished trials. Knobs that fewer than FEWEST_TRIALS of them have, such as those of a
    trigger that was hardly tried, are left out: nothing could be told of them.
    """
    trials = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE]
    counts = Counter(name for t in trials for name, d in t.distributions.items() if not d.single())
    known = [name for name, count in counts.items() if count >= FEWEST_TRIALS]
    if not known:
        return {}
    told: dict[str, dict[str, float]] = {}
    for index, name in enumerate(("cost", "quality")):

        def target(trial: optuna.trial.FrozenTrial, index: int = index) -> float:
            return float(trial.values[index])

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = optuna.importance.get_param_importances(study, params=known, target=target)
        told[name] = dict(sorted(found.items(), key=lambda item: -item[1]))
    return told


def trace(
    model: ScoreModel, setting: Setting, num: int, seed: int, cancelled: Cancel = lambda: False
) -> tuple[list[bytes], np.ndarray]:
    """Every decision of a run, and the tokens it ends with. Raises Cancelled when cancelled."""
    sampler = setting.sampler(model, num)
    decisions = []
    with torch.inference_mode():
        problem, state = sampler.begin(num, seed)
        for _ in range(sampler.plan.steps):
            if cancelled():
                raise Cancelled
            state, info = sampler.step(problem, state, sampler.policy)
            decisions.append((info.reasons > 0).expand(num, model.n).numpy().tobytes())
    return decisions, state.z.cpu().numpy()


def inert_fields(
    model: ScoreModel,
    setting: Setting,
    *,
    num: int = 2,
    seed: int = 0,
    cancelled: Cancel = lambda: False,
    progress: Progress = lambda share: None,
) -> tuple[Inert, ...]:
    """Fields of the policy that do nothing here: half and twice their value decide and give the very same.

    Fields that are switched off are not listed. Found by deciding again, on `num` samples. Raises Cancelled when
    cancelled.
    """
    policy = setting.policy
    if policy is None:
        return ()
    decisions, tokens = trace(model, setting, num, seed, cancelled)
    found = []
    for done, name in enumerate(SEARCHABLE):
        progress(done / len(SEARCHABLE))
        if policy.trigger not in FIELDS[name].metadata["triggers"]:
            if getattr(policy, name) != FIELDS[name].default:
                found.append(Inert(name, f"trigger {policy.trigger} does not read it"))
            continue
        switch = NEEDS.get(name)
        if switch and not getattr(policy, switch):
            continue
        others = _alternatives(policy, name)
        if not others:
            continue
        same = True
        for other in others:
            theirs, ends = trace(model, replace(setting, policy=other), num, seed, cancelled)
            same = theirs == decisions and np.array_equal(ends, tokens)
            if not same:
                break
        if same:
            tried = " and ".join(_show(getattr(other, name)) for other in others)
            found.append(Inert(name, f"{tried} decide and give the same as {_show(getattr(policy, name))}"))
    return tuple(found)


def _show(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _alternatives(policy: CachePolicy, name: str) -> list[CachePolicy]:
    """The policy with other values of a field that is in use; none where it is off."""
    value, meta = getattr(policy, name), FIELDS[name].metadata
    others: list[Any] = []
    if name == "bands":
        others = [tuple((edge, tau * factor) for edge, tau in value) for factor in (0.5, 2.0)]
    elif isinstance(value, bool):
        others = [False] if value else []
    elif isinstance(value, str):
        others = [c for c in meta["choices"] if c != value] if value != FIELDS[name].default else []
    elif value != OFF.get(name) and not (name == "k_low" and value < 0):
        others = [value // 2, 2 * max(value, 1)] if isinstance(value, int) else [value / 2, value * 2]
    able = []
    for other in others:
        try:
            able.append(policy.replace(**{name: other}))
        except PolicyError:
            continue
    return [p for p in able if p != policy]


def scaled(policy: CachePolicy, factor: float) -> CachePolicy | None:
    """The policy with its threshold, intervals or period multiplied; None where that changes nothing."""
    try:
        other = policy.replace(**policy.rule.scaled(policy, factor))
    except PolicyError:
        return None
    return None if other == policy else other


@dataclass(frozen=True)
class Neighbor:
    """A point's quality when its threshold is multiplied by `factor`: change and 95% interval."""

    factor: float
    change: float
    low: float
    high: float
    seconds: float


def neighbors(
    bench: Bench,
    point: Point,
    *,
    factors: Sequence[float] = (0.8, 1.2),
    cancelled: Cancel = lambda: False,
    progress: Progress = lambda share: None,
) -> tuple[Neighbor, ...]:
    """Measure the settings beside a point on the same samples. Raises Cancelled when cancelled."""
    found = []
    for done, factor in enumerate(factors):
        progress(done / len(factors))
        policy = scaled(point.setting.policy, factor) if point.setting.policy else None
        if policy is None:
            continue
        rungs, _, _ = measure(bench, replace(point.setting, policy=policy), (), cancelled)
        found.append(Neighbor(factor, *rungs[-1].change(point.last), rungs[-1].seconds))
    return tuple(found)


def uncached_seconds(bench: Bench, setting: Setting, calls: int = 7) -> float:
    """Seconds a sample of the same solver without a cache: every call costs the same, so a few tell."""
    spec, sampler = bench.spec, setting.twin().sampler(bench.model, bench.spec.batch)
    warm_up(sampler, spec.batch, spec.seed)
    times = []
    with torch.inference_mode():
        problem, state = sampler.begin(spec.batch, spec.seed)
        for _ in range(min(calls, sampler.plan.steps)):
            begin = time.perf_counter()
            state, _ = sampler.step(problem, state, sampler.policy)
            synchronize(bench.model.device)
            times.append(time.perf_counter() - begin)
    return float(np.median(times)) * setting.steps / spec.batch


def warn(
    point: Point,
    reference: Point,
    points: Sequence[Point],
    *,
    spec_cost: str,
    quality: str,
    uncached: float | None = None,
    inert: Sequence[Inert] = (),
    near: Sequence[Neighbor] = (),
) -> list[Caution]:
    """What to know of a point before it is deployed. Pure: give it what was measured."""
    found: list[Caution] = []
    last, policy = point.last, point.setting.policy
    share = CLIFF_SHARE[quality]
    for knob in inert:
        what = "inert_threshold" if knob.field in ("tau", "bands") else "inert"
        found.append(Caution(what, f"{knob.field} does nothing here: {knob.why}."))
    base = max(last.quality, 1e-12)
    for beside in near:
        if abs(beside.change) > share * base and (beside.low > 0 or beside.high < 0):
            found.append(
                Caution(
                    "cliff",
                    f"A cliff is near: the threshold times {beside.factor:g} changes the quality by"
                    f" {100 * beside.change / base:+.0f}% (95% interval {100 * beside.low / base:+.0f}% to"
                    f" {100 * beside.high / base:+.0f}%).",
                )
            )
    if policy is not None and last.token_share > 0.999:
        found.append(
            Caution(
                "no_reuse",
                f"No token was ever reused: with {point.setting.steps} steps each one moves farther than the"
                " threshold allows. Take more steps, a larger threshold, or no cache.",
            )
        )
    if policy is not None and uncached is not None and last.seconds >= uncached:
        found.append(
            Caution(
                "slower_than_none",
                f"The cache is slower than none: {digits(1e3 * last.seconds)} ms a sample against"
                f" {digits(1e3 * uncached)} ms for the same solver without it.",
            )
        )
    if quality == "sliced_wasserstein":
        found += _too_few(last, reference)
        plain = [p for p in dominating(points, point, spec_cost) if p.setting.policy is None]
        if policy is not None and plain:
            found.append(
                Caution(
                    "solver_alone",
                    f"A solver alone is cheaper and measured no worse: {plain[0].setting.describe()}"
                    f" at {_ms(plain[0])}.",
                )
            )
    return found


def _too_few(last: Rung, reference: Point) -> list[Caution]:
    _, low, high = last.change(reference.last)
    half, wanted = (high - low) / 2, VISIBLE * reference.last.quality
    if half <= wanted:
        return []
    enough = math.ceil(last.num * (half / wanted) ** 2)
    return [
        Caution(
            "too_few_samples",
            f"{last.num} samples cannot show a change of quality under {100 * half / reference.last.quality:.0f}%:"
            f" about {enough} would show {100 * VISIBLE:.0f}%.",
        )
    ]


def advise(
    study: Study,
    point: Point,
    cancelled: Cancel = lambda: False,
    progress: Progress = lambda share: None,
) -> tuple[list[Inert], list[Caution]]:
    """Measure what the warnings need for one point of a study: inert knobs, neighbors, the solver's own time.

    `progress` gets the share that is done. Raises Cancelled when cancelled.
    """
    assert study.reference is not None
    spec, bench = study.spec, study.bench
    inert = inert_fields(
        study.model,
        point.setting,
        seed=spec.seed,
        cancelled=cancelled,
        progress=lambda share: progress(INERT_SHARE * share),
    )
    near = neighbors(
        bench,
        point,
        cancelled=cancelled,
        progress=lambda share: progress(INERT_SHARE + NEAR_SHARE * share),
    )
    progress(INERT_SHARE + NEAR_SHARE)
    uncached = uncached_seconds(bench, point.setting)
    told = warn(
        point,
        study.reference,
        study.points,
        spec_cost=spec.cost,
        quality=spec.quality,
        uncached=uncached,
        inert=inert,
        near=near,
    )
    return list(inert), told


def summary(study: Study, choice: Choice, inert: Sequence[Inert], told: Sequence[Caution]) -> dict[str, Any]:
    """A study as plain JSON values: all points, front, choice, importance, warnings."""
    assert study.reference is not None
    spec = study.spec
    return {
        "checkpoint": study.model.name,
        "digest": study.model.digest(),
        "dataset": study.dataset.name,
        "spec": asdict(spec),
        "space": study.space.to_json(),
        "machine": study.study.user_attrs.get("machine"),
        "spent_seconds": study.spent,
        "floor": study.floor,
        "reference": study.reference.to_json(),
        "points": [p.to_json() for p in study.points],
        "front": [p.number for p in study.front()],
        "choice": {"number": choice.point.number, "why": choice.why, "within": choice.within},
        "importance": importance(study.study),
        "inert": [asdict(i) for i in inert],
        "warnings": [asdict(w) for w in told],
    }


def save_report(
    study: Study, choice: Choice, inert: Sequence[Inert], told: Sequence[Caution]
) -> dict[str, Any]:
    """Write the summary as study.json, and the chosen policy as policy.json, into the study's folder."""
    report = summary(study, choice, inert, told)
    texts = {"study.json": json.dumps(report)}
    policy = choice.point.setting.policy
    if policy is not None:
        texts["policy.json"] = policy.to_json()
    for name, text in texts.items():
        replace_file(study.out / name, lambda path, text=text: path.write_text(text + "\n"))  # type: ignore[misc]
    return report
