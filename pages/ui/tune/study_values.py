"""Values of a study and their descriptions: cost, quality and change of a point. Plain values in and out."""

from typing import Any

from e2crf_core.tuning.measure import Point, Rung
from e2crf_core.tuning.space import FIELDS

REFERENCE = -1
COSTS = {"seconds": "Wall clock", "flops": "FLOPs"}
DISTANCE, CHANGE, TWIN = "distance", "change", "relative_l2"
Span = tuple[float, float, float]


def qualities(quality: str) -> dict[str, str]:
    """Return the axes on which the quality of a study can be shown, with their labels."""
    if quality == "relative_l2":
        return {TWIN: "Relative L2"}
    return {DISTANCE: "Distance", CHANGE: "Change (%)"}


def cost_of(rung: Rung, axis: str) -> Span:
    """Return the cost of one sample in ms or GFLOP: value, low, high."""
    if axis == "flops":
        return (rung.flops / 1e9,) * 3
    return 1e3 * rung.seconds, 1e3 * rung.seconds_low, 1e3 * rung.seconds_high


def change_of(point: Point, reference: Point) -> Span | None:
    """Return the change in quality from the uncached run on the same samples, in %, with its 95% interval.

    None when the uncached run has no quality to compare with: relative L2 is measured against that very run.
    """
    if point.number == reference.number:
        return 0.0, 0.0, 0.0
    uncached = reference.at(point.last.num)
    if uncached is None or reference.last.quality == 0:
        return None
    change, share = point.last.change(uncached), 100 / reference.last.quality
    return share * change.value, share * change.low, share * change.high


def quality_of(point: Point, reference: Point, axis: str) -> Span:
    """Return the quality on an axis: value, low, high.

    A trial that ended early drew fewer samples, and every distance is larger for fewer samples. It is
    therefore placed at the reference's distance plus the change measured on its own samples.
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
    """Return the kind of a point: reference, solver or cached."""
    if point.number == REFERENCE:
        return "reference"
    return "solver" if point.setting.policy is None else "cached"


def name_of(point: Point) -> str:
    """Return the name of a point."""
    return "Uncached reference" if point.number == REFERENCE else f"Trial {point.number}"


def number(value: float, sign: str = "") -> str:
    """Format a number to three digits, thousands in full."""
    return f"{value:{sign},.0f}" if abs(value) >= 1000 else f"{value:{sign}.3g}"


def spanned(span: Span, unit: str = "", sign: str = "") -> str:
    """Format a value with its interval in parentheses."""
    value, low, high = (number(x, sign) for x in span)
    return f"{value}{unit} ({low} to {high})"


def words(point: Point, reference: Point) -> list[str]:
    """Describe a point in a few lines: its name, its setting, its measurements."""
    last = point.last
    origin = {"search": "", "reference": ""}.get(point.origin, f", {point.origin}")
    lines = [f"{name_of(point)}{origin}", point.setting.describe()]
    lines.append(
        f"{spanned(cost_of(last, 'seconds'), unit=' ms')} per sample, {number(last.flops / 1e9)} GFLOP"
    )
    change = change_of(point, reference)
    if change is not None and point.number != REFERENCE:
        lines.append(f"distance {spanned(change, unit='%', sign='+')} compared with uncached")
    lines.append(f"quality {spanned((last.quality, last.low, last.high))} on {last.num} samples")
    if point.setting.policy is not None:
        lines.append(f"{100 * last.token_share:.3g}% of the tokens computed")
    if not point.complete:
        lines.append(f"ended early: trial {point.beaten_by} is cheaper and certainly better")
    return lines


def knob(point: Point, name: str) -> Any:
    """Return the value of a policy's field if the policy uses it, else None."""
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
