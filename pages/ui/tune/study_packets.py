"""Packets for the charts of the Tune page. Plain values in and out."""

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from e2crf_core.io.packet import pack
from e2crf_core.tuning.measure import Point, front_points
from e2crf_core.tuning.record import Record
from e2crf_core.tuning.space import FIELDS
from pages.ui.tune.study_values import (
    CHANGE,
    DISTANCE,
    TWIN,
    cost_of,
    knob,
    mark_of,
    number,
    quality_of,
    words,
)

PARETO_HEIGHT, PARALLEL_HEIGHT = 430, 330
LINED_UP = ("tau", "refresh_every", "k_low", "clock", "predictor", "adapt", "error_budget")


Y_TITLES = {
    DISTANCE: "distance to held-out data",
    CHANGE: "change in distance from uncached",
    TWIN: "relative L2 to the uncached twin",
}
X_TITLES = {
    "seconds": "time per sample (ms, log scale)",
    "flops": "operations per sample (GFLOP, log scale)",
}


def _point(point: Point, reference: Point, cost: str, quality: str) -> dict[str, Any]:
    x, xl, xh = cost_of(point.last, cost)
    y, yl, yh = quality_of(point, reference, quality)
    return {
        "n": point.number,
        **{"x": x, "xl": xl, "xh": xh, "y": y, "yl": yl, "yh": yh},
        "mark": mark_of(point),
        "complete": point.complete,
        "text": words(point, reference),
    }


def pareto_packet(
    record: Record,
    name: str,
    points: Sequence[Point],
    *,
    cost: str,
    quality: str,
    selected: int | None,
    chosen: int | None,
    latency_ms: float | None,
    budget: float | None,
) -> bytes:
    """Pack cost against quality of `points`; `budget` is a share of the reference's distance, or a relative L2."""
    reference = record.reference
    assert reference is not None
    whole = reference.last.quality
    floor, limit = record.floor, budget
    if quality == CHANGE:
        floor = None if floor is None else 100 * (floor / whole - 1)
        limit = None if budget is None else 100 * budget
    elif quality == DISTANCE and budget is not None:
        limit = whole * (1 + budget)
    trials = [p for p in points if p.number != reference.number]
    complete = sum(p.complete for p in trials)
    head = {
        "kind": "pareto",
        "key": name,
        "height": PARETO_HEIGHT,
        "alt": f"Cost against quality of {len(trials)} trials, {complete} of them finished. Use the "
        "arrow keys to move from one to the next.",
        "x": {"title": X_TITLES[cost]},
        "y": {"title": Y_TITLES[quality], "percent": quality == CHANGE},
        "points": [_point(p, reference, cost, quality) for p in points],
        "front": [p.number for p in front_points(points, cost)],
        "floor": floor,
        "limit": limit,
        "latency": latency_ms if cost == "seconds" else None,
        "selected": selected,
        "chosen": chosen,
    }
    return pack(head, {})


def _scale(values: Sequence[float], log: bool) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        return (low / 2, low * 2) if log else (low - 0.5, low + 0.5)
    return low, high


def _numeric(values: Sequence[float | None], log: bool, cap: float | None = None) -> tuple[list, list]:
    """Return places in 0..1 and ticks of a numeric axis; values above `cap` are placed at its top."""
    known = [v if cap is None else min(v, cap) for v in values if v is not None]
    low, high = _scale(known, log)

    def place(value: float) -> float:
        if log:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    places = [None if v is None else place(v if cap is None else min(v, cap)) for v in values]
    ticks = (np.geomspace if log else np.linspace)(low, high, 4)
    named = [[place(float(t)), number(float(t))] for t in ticks]
    if cap is not None and any(v is not None and v > cap for v in values):
        named[-1][1] = f"≥ {number(high)}"
    return places, named


def _categories(values: Sequence[Any]) -> tuple[list, list]:
    names = list(dict.fromkeys(str(v) for v in values if v is not None))
    at = {name: (i + 0.5) / len(names) for i, name in enumerate(sorted(names))}
    places = [None if v is None else at[str(v)] for v in values]
    return places, [[place, name.replace("_", " ")] for name, place in at.items()]


def _parallel_axes(
    points: Sequence[Point], front: Collection[int], reference: Point, cost: str, quality: str
) -> tuple[list[dict[str, Any]], list[list]]:
    """Return the axes on which points differ, and the place of every point on each."""
    axes: list[dict[str, Any]] = []
    columns: list[list] = []

    def add(label: str, drawn: tuple[list, list]) -> None:
        axes.append({"label": label, "ticks": drawn[1]})
        columns.append(drawn[0])

    add("solver", _categories([p.setting.solver for p in points]))
    if len({p.setting.grid for p in points}) > 1:
        add("time grid", _categories([p.setting.grid for p in points]))
    if len({p.setting.steps for p in points}) > 1:
        add("steps", _numeric([p.setting.steps for p in points], True))
    add("trigger", _categories([p.setting.policy.trigger if p.setting.policy else "none" for p in points]))
    for field in LINED_UP:
        values = [knob(p, field) for p in points]
        if len({v for v in values if v is not None}) < 2:
            continue
        meta = FIELDS[field].metadata
        label = str(meta["label"]).removeprefix("Threshold ").removesuffix(" interval R")
        if FIELDS[field].type in ("bool", "str"):
            add(label, _categories(values))
        else:
            log = all(v is None or v > 0 for v in values)
            add(label, _numeric(values, log))
    add("ms" if cost == "seconds" else "GFLOP", _numeric([cost_of(p.last, cost)[0] for p in points], True))
    measured = [quality_of(p, reference, quality)[0] for p in points]
    best, typical = min(measured), float(np.quantile(measured, 0.75))
    worst_of_front = max(m for m, p in zip(measured, points, strict=True) if p.number in front)
    cap = max(typical, worst_of_front, reference.last.quality if quality == DISTANCE else best)
    add("change %" if quality == CHANGE else "quality", _numeric(measured, False, cap))
    return axes, columns


def parallel_packet(
    record: Record,
    name: str,
    shown: Sequence[Point],
    *,
    cost: str,
    quality: str,
    selected: int | None,
    cleared: int = 0,
) -> bytes:
    """Pack every finished trial as a line through its parameters, its cost and its quality.

    The canvas drops what was marked on its axes when `cleared` changes.
    """
    reference = record.reference
    assert reference is not None
    points = [p for p in shown if p.complete]
    front = {p.number for p in front_points(points, cost)}
    axes, columns = _parallel_axes(points, front, reference, cost, quality)
    lines = [
        {
            "n": p.number,
            "v": [column[i] for column in columns],
            "front": p.number in front,
            "mark": mark_of(p),
            "text": words(p, reference),
        }
        for i, p in enumerate(points)
    ]
    head = {
        "kind": "parallel",
        "key": name,
        "height": PARALLEL_HEIGHT,
        "alt": f"Parameters of {len(points)} finished trials, one line each. Use the arrow keys to move "
        "between them. With Shift, left and right choose an axis, and down and up narrow what is kept on it; "
        "Escape lets go.",
        "axes": axes,
        "lines": lines,
        "selected": selected,
        "cleared": cleared,
    }
    return pack(head, {})
