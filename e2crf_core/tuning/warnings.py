"""Warn about a point before it is deployed: knobs without effect, cliffs, caches slower than none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from e2crf_core.caching.policy import CachePolicy, PolicyError
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.progress import Cancel, Progress, never, silent
from e2crf_core.quality.interval import Interval
from e2crf_core.quality.protocol import MARGIN
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.sampler import Sampler, warm_up
from e2crf_core.tuning.choice import digits, dominating, milliseconds
from e2crf_core.tuning.measure import BESIDE, Bench, Point, Rung, measure
from e2crf_core.tuning.space import FIELDS, NEEDS, OFF, SEARCHABLE, idle
from e2crf_core.tuning.study import Study

CLIFF_SHARE = {"marginal_wasserstein": 0.1, "sliced_wasserstein": 0.1, "relative_l2": 1.0}
"""The relative change of quality within 20% of the threshold that counts as a cliff."""
INERT_PERCENT, NEAR_PERCENT = 40, 90
"""Percent of an advice's time after which inert knobs, then neighbors, are measured; the rest times the solver."""


@dataclass(frozen=True)
class Caution:
    """A fact to know before deployment. `kind` is a short name for programs."""

    kind: str
    text: str


@dataclass(frozen=True)
class Inert:
    """A field of a policy whose value changes nothing, and why."""

    field: str
    why: str


def trace(
    model: ScoreModel, setting: SamplerConfig, num: int, seed: int, cancelled: Cancel = never
) -> tuple[list[bytes], np.ndarray]:
    """Return every decision of a run, and its final tokens. Raises Cancelled when cancelled."""
    sampler = Sampler.of(model, replace(setting, batch=num))
    decisions = []
    for step in sampler.steps(num, seed, cancelled=cancelled):
        decisions.append((step.info.reasons > 0).expand(num, model.n).numpy().tobytes())
    return decisions, step.after.z.cpu().numpy()


def inert_fields(
    model: ScoreModel,
    setting: SamplerConfig,
    *,
    num: int = 2,
    seed: int = 0,
    cancelled: Cancel = never,
    progress: Progress = silent,
) -> tuple[Inert, ...]:
    """Return policy fields without effect here: half and twice their value give identical results.

    Fields that are switched off are not listed. The decisions are repeated on `num` samples. Raises Cancelled
    when cancelled.
    """
    policy = setting.policy
    if policy is None:
        return ()
    decisions, tokens = trace(model, setting, num, seed, cancelled)
    inert = []
    for done, name in enumerate(SEARCHABLE):
        progress(done, len(SEARCHABLE))
        if policy.trigger not in FIELDS[name].metadata["triggers"]:
            if getattr(policy, name) != FIELDS[name].default:
                inert.append(Inert(name, f"trigger {policy.trigger} does not read it"))
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
            inert.append(Inert(name, f"{tried} decide and give the same as {_show(getattr(policy, name))}"))
    return tuple(inert)


def _show(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _alternatives(policy: CachePolicy, name: str) -> list[CachePolicy]:
    """Return the policy with other values of an active field; nothing for a field that is off."""
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
    """Return the policy with its threshold, intervals, or period scaled; None if nothing changes."""
    try:
        other = policy.replace(**policy.rule.scaled(policy, factor))
    except PolicyError:
        return None
    return None if other == policy else other


@dataclass(frozen=True)
class Neighbor:
    """The change of quality when a point's threshold is multiplied by `factor`, and seconds per sample."""

    factor: float
    change: Interval
    seconds: float


def neighbors(
    bench: Bench,
    point: Point,
    *,
    factors: Sequence[float] = (0.8, 1.2),
    cancelled: Cancel = never,
    progress: Progress = silent,
) -> tuple[Neighbor, ...]:
    """Measure the settings beside a point on the same samples. Raises Cancelled when cancelled."""
    measured = []
    for done, factor in enumerate(factors):
        progress(done, len(factors))
        policy = scaled(point.setting.policy, factor) if point.setting.policy else None
        if policy is None:
            continue
        rungs, _, _ = measure(bench, replace(point.setting, policy=policy), (), cancelled)
        measured.append(Neighbor(factor, rungs[-1].change(point.last), rungs[-1].seconds))
    return tuple(measured)


def uncached_seconds(bench: Bench, setting: SamplerConfig, calls: int = 7) -> float:
    """Return the seconds per sample of the solver without a cache; equal calls make a few enough."""
    spec, sampler = bench.spec, bench.sampler(setting.twin)
    warm_up(sampler, spec.batch, spec.seed)
    times = [step.seconds for step in islice(sampler.steps(spec.batch, spec.seed, timed=True), calls)]
    return float(np.median(times)) * setting.steps / spec.batch


def warn(
    point: Point,
    reference: Point,
    points: Sequence[Point],
    *,
    cost: str,
    quality: str,
    uncached: float | None = None,
    inert: Sequence[Inert] = (),
    near: Sequence[Neighbor] = (),
    spreads: Mapping[str, float] | None = None,
) -> list[Caution]:
    """Return what to know about a point before deployment, purely from the given measurements."""
    last, policy = point.last, point.setting.policy
    cautions = [
        Caution(
            "inert_threshold" if knob.field in ("tau", "bands") else "inert",
            f"{knob.field} does nothing here: {knob.why}.",
        )
        for knob in inert
    ]
    cautions += _cliffs(last, quality, near)
    cautions += [
        Caution(kind, f"{text[:1].upper()}{text[1:]}.")
        for kind, text in idle(point.setting, last.token_share)
    ]
    if policy is not None and uncached is not None and last.seconds >= uncached:
        cautions.append(
            Caution(
                "slower_than_none",
                f"The cache is slower than none: {digits(1e3 * last.seconds)} ms a sample against"
                f" {digits(1e3 * uncached)} ms for the same solver without it.",
            )
        )
    if quality != "relative_l2":
        cautions += _beside(last, reference.last, spreads or {})
        cautions += _too_few(last, reference)
        plain = [p for p in dominating(points, point, cost) if p.setting.policy is None]
        if policy is not None and plain:
            cautions.append(
                Caution(
                    "solver_alone",
                    f"A solver alone is cheaper and measured no worse: {plain[0].setting.describe()}"
                    f" at {milliseconds(plain[0])}.",
                )
            )
    return cautions


def _cliffs(last: Rung, quality: str, near: Sequence[Neighbor]) -> list[Caution]:
    """Return neighbors whose quality certainly differs by more than a share of the point's own."""
    share, base = CLIFF_SHARE[quality], max(last.quality, 1e-12)
    return [
        Caution(
            "cliff",
            f"A cliff is near: the threshold times {beside.factor:g} changes the quality by"
            f" {100 * beside.change.value / base:+.0f}% (95% interval {100 * beside.change.low / base:+.0f}% to"
            f" {100 * beside.change.high / base:+.0f}%).",
        )
        for beside in near
        if abs(beside.change.value) > share * base and (beside.change.low > 0 or beside.change.high < 0)
    ]


def _beside(last: Rung, reference: Rung, spreads: Mapping[str, float]) -> list[Caution]:
    """Warn about other distances that exceed the reference's by more than draws of real data differ."""
    cautions = []
    for metric in BESIDE:
        name = metric.name
        if name not in spreads or name not in last.beside or name not in reference.beside:
            continue
        if last.beside[name] - reference.beside[name] > spreads[name]:
            cautions.append(
                Caution(
                    "beside",
                    f"{metric.title} is {last.beside[name]:.3g} {metric.unit}, the reference's"
                    f" {reference.beside[name]:.3g}: farther than draws of real data are from one another"
                    f" ({spreads[name]:.3g}).",
                )
            )
    return cautions


def _too_few(last: Rung, reference: Point) -> list[Caution]:
    change = last.against(reference.last).primary.change
    half = (change.high - change.low) / 2
    if half <= MARGIN:
        return []
    enough = math.ceil(last.num * (half / MARGIN) ** 2)
    return [
        Caution(
            "too_few_samples",
            f"{last.num} samples cannot show a change of quality under {100 * half:.0f}%:"
            f" about {enough} would show {100 * MARGIN:.0f}%.",
        )
    ]


def advise(
    study: Study,
    point: Point,
    cancelled: Cancel = never,
    progress: Progress = silent,
) -> tuple[list[Inert], list[Caution]]:
    """Measure what the warnings need for one point: inert knobs, neighbors, the solver's own time.

    Progress counts percent. Raises Cancelled when cancelled.
    """
    assert study.reference is not None
    spec, bench = study.spec, study.bench

    def part(begin: int, end: int) -> Progress:
        return lambda done, total: progress(begin + (end - begin) * done // total, 100)

    inert = inert_fields(
        study.model, point.setting, seed=spec.seed, cancelled=cancelled, progress=part(0, INERT_PERCENT)
    )
    near = neighbors(bench, point, cancelled=cancelled, progress=part(INERT_PERCENT, NEAR_PERCENT))
    progress(NEAR_PERCENT, 100)
    cautions = warn(
        point,
        study.reference,
        study.points,
        cost=spec.cost,
        quality=spec.quality,
        uncached=uncached_seconds(bench, point.setting),
        inert=inert,
        near=near,
        spreads=study.spreads if spec.quality != "relative_l2" else None,
    )
    return list(inert), cautions
