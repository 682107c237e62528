"""What the Tune page shows of a study: packets for its charts, its table, its words. Plain values in and out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from e2crf_core.tuning.measure import Point, Rung, front_points
from e2crf_core.tuning.record import Record
from e2crf_core.tuning.space import FIELDS
from pages.ui.common.charts import GRID
from pages.ui.common.packet import pack

REFERENCE = -1
COSTS = {"seconds": "Wall clock", "flops": "FLOPs"}
DISTANCE, CHANGE, TWIN = "distance", "change", "relative_l2"
PARETO_HEIGHT, PARALLEL_HEIGHT = 430, 330
LINED_UP = ("tau", "refresh_every", "k_low", "clock", "predictor", "adapt", "error_budget")
BARS = 10
Span = tuple[float, float, float]


def qualities(quality: str) -> dict[str, str]:
    """Axes on which the quality of a study can be shown, by name."""
    if quality == "relative_l2":
        return {TWIN: "Relative L2"}
    return {DISTANCE: "Distance", CHANGE: "Change in %"}


def cost_of(rung: Rung, axis: str) -> Span:
    """Cost of a sample in ms or GFLOP: value, low, high."""
    if axis == "flops":
        return (rung.flops / 1e9,) * 3
    return 1e3 * rung.seconds, 1e3 * rung.seconds_low, 1e3 * rung.seconds_high


def change_of(point: Point, reference: Point) -> Span | None:
    """Quality of a point less that of the uncached run on the same samples, in % of it, with its 95% interval.

    None where there is nothing to take a share of: relative L2 is told against the uncached run, which has none.
    """
    if point.number == reference.number:
        return 0.0, 0.0, 0.0
    theirs = reference.at(point.last.num)
    if theirs is None or reference.last.quality == 0:
        return None
    change, share = point.last.change(theirs), 100 / reference.last.quality
    return share * change.value, share * change.low, share * change.high


def quality_of(point: Point, reference: Point, axis: str) -> Span:
    """Quality on an axis: value, low, high.

    A trial that ended early has seen fewer samples, of which every distance is larger. So that it can stand beside
    the others, it is drawn at the reference's distance and the change that was measured on its own samples.
    """
    last = point.last
    if axis == CHANGE or (axis == DISTANCE and not point.complete):
        change = change_of(point, reference)
        if change is not None and axis == CHANGE:
            return change
        if change is not None:
            whole = reference.last.quality
            value, low, high = (whole * (1 + x / 100) for x in change)
            return value, low, high
    return last.quality, last.low, last.high


def mark_of(point: Point) -> str:
    """What kind of point it is."""
    if point.number == REFERENCE:
        return "reference"
    return "solver" if point.setting.policy is None else "cached"


def name_of(point: Point) -> str:
    """What a point is called."""
    return "Uncached reference" if point.number == REFERENCE else f"Trial {point.number}"


def figure(value: float, sign: str = "") -> str:
    """A number to three digits, thousands in full."""
    return f"{value:{sign},.0f}" if abs(value) >= 1000 else f"{value:{sign}.3g}"


def spanned(span: Span, unit: str = "", sign: str = "") -> str:
    """A figure with its interval in brackets."""
    value, low, high = (figure(x, sign) for x in span)
    return f"{value}{unit} ({low} to {high})"


def words(point: Point, reference: Point) -> list[str]:
    """A point in a few lines: who it is, its setting, its figures."""
    last = point.last
    origin = {"search": "", "reference": ""}.get(point.origin, f", {point.origin}")
    lines = [f"{name_of(point)}{origin}", point.setting.describe()]
    lines.append(
        f"{spanned(cost_of(last, 'seconds'), unit=' ms')} a sample, {figure(last.flops / 1e9)} GFLOP"
    )
    change = change_of(point, reference)
    if change is not None and point.number != REFERENCE:
        lines.append(f"distance {spanned(change, unit='%', sign='+')} against uncached")
    lines.append(f"quality {spanned((last.quality, last.low, last.high))} on {last.num} samples")
    if point.setting.policy is not None:
        lines.append(f"{100 * last.token_share:.3g}% of the tokens computed")
    if not point.complete:
        lines.append(f"ended early: trial {point.beaten_by} is cheaper and certainly better")
    return lines


def pareto_packet(
    record: Record,
    name: str,
    *,
    cost: str,
    quality: str,
    selected: int | None,
    chosen: int | None,
    latency_ms: float | None,
    budget: float | None,
) -> bytes:
    """Cost against quality of all points. `budget` is a share of the reference's distance, or a relative L2."""
    reference = record.reference
    assert reference is not None
    whole = reference.last.quality
    points = []
    for point in record.known:
        x, xl, xh = cost_of(point.last, cost)
        y, yl, yh = quality_of(point, reference, quality)
        points.append(
            {
                "n": point.number,
                **{"x": x, "xl": xl, "xh": xh, "y": y, "yl": yl, "yh": yh},
                "mark": mark_of(point),
                "complete": point.complete,
                "text": words(point, reference),
            }
        )
    floor, limit = record.floor, budget
    if quality == CHANGE:
        floor = None if floor is None else 100 * (floor / whole - 1)
        limit = None if budget is None else 100 * budget
    elif quality == DISTANCE and budget is not None:
        limit = whole * (1 + budget)
    y_title = {
        DISTANCE: "sliced Wasserstein to held-out data",
        CHANGE: "change of the distance against uncached",
        TWIN: "relative L2 to the uncached twin",
    }[quality]
    complete = sum(p.complete for p in record.points)
    head = {
        "kind": "pareto",
        "key": name,
        "height": PARETO_HEIGHT,
        "alt": f"Cost against quality of {len(record.points)} trials, {complete} of them finished. Arrow keys go"
        " from one to the next.",
        "x": {
            "title": "time of a sample (ms, log scale)"
            if cost == "seconds"
            else "operations of a sample (GFLOP, log scale)"
        },
        "y": {"title": y_title, "percent": quality == CHANGE},
        "points": points,
        "front": [p.number for p in front_points(record.known, cost)],
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
    """Places in 0..1 and ticks of a numeric axis; what lies above `cap` stands at its top."""
    known = [v if cap is None else min(v, cap) for v in values if v is not None]
    low, high = _scale(known, log)

    def place(value: float) -> float:
        if log:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    places = [None if v is None else place(v if cap is None else min(v, cap)) for v in values]
    ticks = (np.geomspace if log else np.linspace)(low, high, 4)
    named = [[place(float(t)), figure(float(t))] for t in ticks]
    if cap is not None and any(v is not None and v > cap for v in values):
        named[-1][1] = f"≥ {figure(high)}"
    return places, named


def _categories(values: Sequence[Any]) -> tuple[list, list]:
    names = list(dict.fromkeys(str(v) for v in values if v is not None))
    at = {name: (i + 0.5) / len(names) for i, name in enumerate(sorted(names))}
    places = [None if v is None else at[str(v)] for v in values]
    return places, [[place, name.replace("_", " ")] for name, place in at.items()]


def parallel_packet(record: Record, name: str, *, cost: str, quality: str, selected: int | None) -> bytes:
    """Every finished trial as a line through its parameters, then its cost and quality."""
    reference = record.reference
    assert reference is not None
    points = [p for p in record.known if p.complete]
    front = {p.number for p in front_points(points, cost)}
    axes, columns = [], []

    def add(label: str, drawn: tuple[list, list]) -> None:
        axes.append({"label": label, "ticks": drawn[1]})
        columns.append(drawn[0])

    add("solver", _categories([p.setting.solver for p in points]))
    if len({p.setting.grid for p in points}) > 1:
        add("time grid", _categories([p.setting.grid for p in points]))
    if len({p.setting.steps for p in points}) > 1:
        add("steps", _numeric([p.setting.steps for p in points], True))
    add("trigger", _categories([p.setting.policy.trigger if p.setting.policy else "none" for p in points]))
    for knob in LINED_UP:
        values = [_knob(p, knob) for p in points]
        if len({v for v in values if v is not None}) < 2:
            continue
        meta = FIELDS[knob].metadata
        label = str(meta["label"]).removeprefix("Threshold ").removesuffix(" interval R")
        if FIELDS[knob].type in ("bool", "str"):
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
        "alt": f"Parameters of {len(points)} finished settings, a line each. Arrow keys go from one to the next.",
        "axes": axes,
        "lines": lines,
        "selected": selected,
    }
    return pack(head, {})


def _knob(point: Point, name: str) -> Any:
    """The value of a policy's field that is in use, else None."""
    policy = point.setting.policy
    if policy is None or policy.trigger not in FIELDS[name].metadata["triggers"]:
        return None
    value = getattr(policy, name)
    if isinstance(value, bool):
        return "on" if value else "off"
    if name == "error_budget" and not policy.adapt:
        return None
    off = {"refresh_every": 0, "k_low": -1}.get(name)
    return None if off is not None and value == off else value


def trials_frame(record: Record, cost: str) -> pd.DataFrame:
    """All trials as a table, in the order they were tried, the reference first."""
    reference = record.reference
    assert reference is not None
    front = {p.number for p in front_points(record.known, cost)}
    rows = []
    for point in record.known:
        last, policy, change = point.last, point.setting.policy, change_of(point, reference)
        value, low, high = change or (math.nan,) * 3
        state = "front" if point.number in front else "finished" if point.complete else "ended early"
        rows.append(
            {
                "trial": point.number,
                "name": name_of(point),
                "state": state,
                "origin": point.origin,
                "solver": point.setting.solver,
                "grid": point.setting.grid,
                "steps": point.setting.steps,
                "trigger": "none" if policy is None else policy.trigger,
                "tau": _knob(point, "tau"),
                "refresh_every": _knob(point, "refresh_every"),
                "ms": 1e3 * last.seconds,
                "ms_low": 1e3 * last.seconds_low,
                "ms_high": 1e3 * last.seconds_high,
                "gflop": last.flops / 1e9,
                "quality": last.quality,
                "quality_low": last.low,
                "quality_high": last.high,
                "change_percent": value,
                "change_low": low,
                "change_high": high,
                "tokens_percent": 100 * last.token_share,
                "samples": last.num,
                "setting": point.setting.describe(),
            }
        )
    return pd.DataFrame(rows).astype({"tau": "Float64", "refresh_every": "Int64"})


def importance_chart(shares: Mapping[str, Mapping[str, float]], colors: Sequence[str]) -> go.Figure:
    """How much each knob decides cost and quality, in % of what they vary by."""
    names = {name for told in shares.values() for name in told}
    order = sorted(names, key=lambda n: max(told.get(n, 0.0) for told in shares.values()))[-BARS:]
    chart = go.Figure()
    for (what, told), color, pattern in zip(shares.items(), (colors[1], colors[0]), ("/", ""), strict=True):
        chart.add_trace(
            go.Bar(
                y=[n.replace("_", " ") for n in order],
                x=[100 * told.get(n, 0.0) for n in order],
                name=what,
                orientation="h",
                marker={"color": color, "pattern": {"shape": pattern}},
                hovertemplate="%{y}: %{x:.0f}% of the " + what + "<extra></extra>",
            )
        )
    chart.update_layout(
        height=90 + 44 * len(order),
        margin={"l": 10, "r": 10, "t": 34, "b": 10},
        barmode="group",
        bargap=0.28,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "reversed"},
    )
    chart.update_xaxes(title="share of the importance (%)", gridcolor=GRID, zeroline=False, automargin=True)
    chart.update_yaxes(automargin=True, showgrid=False)
    return chart
