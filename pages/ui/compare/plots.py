"""Plots of the Compare page. Plain values in, a plot out; the page gives the colors."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from e2crf_core.report.charts import log_axis
from pages.ui.common.plot_style import interval_bars, plain

CELLS = 200
SYMBOLS = ("star", "circle", "diamond", "square", "triangle-up", "x")
LEAST = 1e-5
"""Where an error of 0 stands on a logarithmic axis."""
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
    known = frame[frame[y_name].notna()]
    ends = known[[f"{y_name} low", f"{y_name} high"]].iloc[1:].to_numpy()
    plot = go.Figure()
    for place, row in known.iterrows():
        name = f"{int(place) + 1}: {row['setting']}"
        color, symbol = colors[int(place) % len(colors)], SYMBOLS[int(place) % len(SYMBOLS)]
        hover = f"{name}<br>{row[x_name]:.3g}, {row[y_name]:.3g}<extra></extra>"
        if log and place == 0:
            # No error at all has no place on a logarithmic axis: row 1 is a line at its cost.
            span = [max(LEAST, ends.min()), max(LEAST, ends.max())]
            line = {"color": color, "dash": "dash", "width": 2}
            trace = {"x": [row[x_name]] * 2, "y": span, "mode": "lines", "line": line}
        else:
            value, low, high = (row[f"{y_name}{end}"] for end in ("", " low", " high"))
            trace = {
                "x": [row[x_name]],
                "y": [max(LEAST, value) if log else value],
                "mode": "markers+text",
                "text": [str(int(place) + 1)],
                "textposition": "top right",
                "marker": {"color": color, "symbol": symbol, "size": 12},
                "error_y": interval_bars([value], [low], [high], color),
            }
        plot.add_trace(go.Scatter(**trace, name=name, hovertemplate=hover))
    plot.update_xaxes(title=x_title, **log_axis(known[x_name].tolist()))
    heights = np.maximum(LEAST, ends.ravel()).tolist()
    plot.update_yaxes(title=y_title, **(log_axis(heights) if log else {}))
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
