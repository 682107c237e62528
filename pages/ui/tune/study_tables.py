"""The table of trials, and the plot of which parameters matter. Plain values in and out."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go

from e2crf_core.tuning.measure import Point, front_points
from e2crf_core.tuning.record import Record
from pages.ui.common.plot_style import GRID
from pages.ui.tune.study_values import change_of, knob, name_of

BARS = 10


def trials_frame(record: Record, points: Sequence[Point], cost: str) -> pd.DataFrame:
    """Return points of a study as a table, in their order."""
    reference = record.reference
    assert reference is not None
    front = {p.number for p in front_points(record.known, cost)}
    rows = []
    for point in points:
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
                "tau": knob(point, "tau"),
                "refresh_every": knob(point, "refresh_every"),
                "ms": 1e3 * last.seconds,
                "ms_low": 1e3 * last.seconds_low,
                "ms_high": 1e3 * last.seconds_high,
                "ms_alone": None if last.alone is None else 1e3 * last.alone,
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
    if not rows:
        return pd.DataFrame()
    return pd.DataFrame(rows).astype({"tau": "Float64", "ms_alone": "Float64", "refresh_every": "Int64"})


def importance_chart(shares: Mapping[str, Mapping[str, float]], colors: Sequence[str]) -> go.Figure:
    """Plot how much of the variation in cost and in quality each parameter explains, in %."""
    names = {name for share in shares.values() for name in share}
    order = sorted(names, key=lambda n: max(share.get(n, 0.0) for share in shares.values()))[-BARS:]
    plot = go.Figure()
    for (what, share), color, pattern in zip(shares.items(), (colors[1], colors[0]), ("/", ""), strict=True):
        plot.add_trace(
            go.Bar(
                y=[n.replace("_", " ") for n in order],
                x=[100 * share.get(n, 0.0) for n in order],
                name=what,
                orientation="h",
                marker={"color": color, "pattern": {"shape": pattern}},
                hovertemplate="%{y}: %{x:.0f}% of the " + what + "<extra></extra>",
            )
        )
    plot.update_layout(
        height=90 + 44 * len(order),
        margin={"l": 10, "r": 10, "t": 34, "b": 10},
        barmode="group",
        bargap=0.28,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "reversed"},
    )
    plot.update_xaxes(title="share of the importance (%)", gridcolor=GRID, zeroline=False, automargin=True)
    plot.update_yaxes(automargin=True, showgrid=False)
    return plot
