"""Plots of the Models page. Plain values in, a plot out; the page gives the colors."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from pages.ui.common.plot_style import MUTED, interval_bars, plain


def profile_chart(
    levels: Sequence[float], weights: Sequence[float], color: str, *, height: int = 260
) -> go.Figure:
    """Plot how fast the denoised estimate changes at each noise level; 1 is the mean."""
    plot = go.Figure(
        go.Scatter(
            x=levels,
            y=weights,
            mode="lines",
            fill="tozeroy",
            line={"color": color, "width": 2},
            hovertemplate="log(a/s) %{x:.2f}: %{y:.2f} times the mean<extra></extra>",
        )
    )
    plot.add_hline(y=1, line={"color": MUTED, "dash": "dot", "width": 1})
    plot.update_xaxes(title="log signal-to-noise ratio log(a/s)")
    plot.update_yaxes(title="change (mean 1)", rangemode="tozero")
    return plain(plot, height, legend=False)


def protocol_chart(distances: Mapping[str, Mapping[str, Any]], color: str) -> go.Figure:
    """Plot each distance of the held-out protocol over its real-vs-real floor, with both intervals."""
    rows = [f for f in reversed(list(distances.values())) if f["floor"] > 0]
    names = [str(f["title"]) for f in rows]
    plot = go.Figure()
    for label, key, mark, shade, width in (
        ("real data against real data", "floor", "square", MUTED, 9),
        ("generated against real", "value", "circle", color, 2),
    ):
        middle = [f[key] / f["floor"] for f in rows]
        low, high = ("floor_low", "floor_high") if key == "floor" else ("low", "high")
        plot.add_trace(
            go.Scatter(
                x=middle,
                y=names,
                mode="markers",
                name=label,
                error_x=interval_bars(
                    middle,
                    [f[low] / f["floor"] for f in rows],
                    [f[high] / f["floor"] for f in rows],
                    shade,
                    thickness=width,
                    width=0,
                ),
                marker={"symbol": mark, "size": 10, "color": shade},
                opacity=0.55 if key == "floor" else 1.0,
                hovertemplate="%{y}: %{x:.2f} times the floor<extra>%{fullData.name}</extra>",
            )
        )
    plot.add_vline(x=1, line={"color": MUTED, "dash": "dot", "width": 1})
    plot.update_xaxes(title="distance over its floor (1: like real data)")
    plot.update_yaxes(showgrid=False)
    return plain(plot, 120 + 34 * len(rows))
