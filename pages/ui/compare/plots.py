"""Plots of the Compare page. Plain values in, a plot out; the page gives the colors."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from pages.ui.common.plot_style import interval_bars, plain

CELLS = 200
SYMBOLS = ("star", "circle", "diamond", "square", "triangle-up", "x")
COSTS = {"calls": "Full calls", "seconds": "Compute time"}
ERRORS = {"twin": "Error to row 1", "real": "Change in distance to real data"}
_AXES = {
    "calls": ("full calls", "cost (network calls of all tokens)"),
    "seconds": ("seconds", "compute time of the batch (s)"),
    "twin": ("relative L2", "relative L2 to row 1, median sample"),
    "real": ("change %", "change in distance to real data (%)"),
}


def plane_chart(frame: pd.DataFrame, colors: Sequence[str], *, cost: str, error: str) -> go.Figure:
    """Plot error against cost of a comparison's rows with 95% intervals; row 1 is what they are measured from.

    `cost` and `error` are keys of COSTS and ERRORS. Costs and the error to row 1 have logarithmic axes.
    """
    (x_name, x_title), (y_name, y_title) = _AXES[cost], _AXES[error]
    log = error == "twin"
    plot = go.Figure()
    for place, (_, row) in enumerate(frame.iterrows()):
        name, x, y = f"{place + 1}: {row['setting']}", row[x_name], row[y_name]
        color, symbol = colors[place % len(colors)], SYMBOLS[place % len(SYMBOLS)]
        if place == 0 and log:
            # No error at all has no place on a logarithmic axis.
            line = {"color": color, "dash": "dash", "width": 1.5}
            plot.add_vline(x=x, line=line, annotation={"text": "row 1: error 0", "textangle": 0})
            continue
        if np.isnan(y):
            continue
        low, high = (([row[f"{y_name} {end}"]]) for end in ("low", "high"))
        plot.add_trace(
            go.Scatter(
                x=[x],
                y=[y],
                name=name,
                mode="markers+text",
                text=[str(place + 1)],
                textposition="top right",
                marker={"color": color, "symbol": symbol, "size": 12},
                error_y=interval_bars([y], low, high, color) if place else None,
                hovertemplate=f"{name}<br>%{{x:.3g}}, %{{y:.3g}}<extra></extra>",
            )
        )
    plot.update_xaxes(type="log", title=x_title, dtick="D2")
    plot.update_yaxes(type="log" if log else "linear", title=y_title)
    if log:
        plot.update_yaxes(dtick="D2")
    return plain(plot, 380)


def decisions_chart(panels: Sequence[tuple[str, np.ndarray]], ramp: tuple[str, str]) -> go.Figure:
    """Plot the share of tokens computed (steps, B) of each setting: samples as rows, steps as columns."""
    height = 90 + 125 * len(panels)
    plot = make_subplots(
        len(panels),
        1,
        # Room for a title and the ticks between two panels, in plot coordinates.
        vertical_spacing=52 / (height - 44),
        subplot_titles=[name for name, _ in panels],
    )
    for row, (name, share) in enumerate(panels, 1):
        every = max(1, -(-len(share) // CELLS))
        edges = np.arange(0, len(share), every)
        counts = np.diff([*edges, len(share)])[:, None]
        cells = np.add.reduceat(share, edges, axis=0) / counts
        plot.add_trace(
            go.Heatmap(
                z=100 * cells.T,
                x=edges + 1,
                y=[f"sample {b}" for b in range(share.shape[1])],
                zmin=0,
                zmax=100,
                colorscale=[[0, ramp[0]], [1, ramp[1]]],
                showscale=row == 1,
                colorbar={"title": "% computed", "thickness": 12},
                hovertemplate=f"{name}<br>step %{{x}}, %{{y}}: %{{z:.0f}}%<extra></extra>",
            ),
            row,
            1,
        )
    plot.update_yaxes(autorange="reversed", nticks=6)
    plot.update_xaxes(title="step", row=len(panels), col=1)
    return plain(plot, height)
