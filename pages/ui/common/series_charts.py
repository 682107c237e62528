"""Figures of the compare page: variants on the same noise, beside one another. Plain values in, figures out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

GRID = "rgba(128,128,128,.22)"
CELLS = 200


@dataclass(frozen=True)
class Line:
    """One curve: what it is called, where, how much, and its color."""

    name: str
    x: np.ndarray
    y: np.ndarray
    color: str


def _quiet(figure: go.Figure, height: int) -> go.Figure:
    figure.update_layout(
        height=height,
        margin={"l": 10, "r": 10, "t": 34, "b": 10},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )
    figure.update_xaxes(automargin=True, gridcolor=GRID, zeroline=False)
    figure.update_yaxes(automargin=True, gridcolor=GRID, zeroline=False)
    return figure


def pair_chart(
    upper: Sequence[Line],
    lower: Sequence[Line],
    *,
    x_title: str,
    y_titles: tuple[str, str],
    log_upper: bool = False,
    log_lower: bool = False,
) -> go.Figure:
    """Two stacked plots on one horizontal axis: values above, differences (or a second value) below."""
    figure = make_subplots(2, 1, shared_xaxes=True, row_heights=[0.62, 0.38], vertical_spacing=0.05)
    for row, lines in ((1, upper), (2, lower)):
        for line in lines:
            figure.add_trace(
                go.Scatter(
                    x=line.x,
                    y=line.y,
                    mode="lines",
                    name=line.name,
                    legendgroup=line.name,
                    showlegend=row == 1,
                    line={"color": line.color, "width": 1.8},
                    hovertemplate="%{x:.4g}: %{y:.4g}<extra>%{fullData.name}</extra>",
                ),
                row,
                1,
            )
    figure.update_yaxes(title=y_titles[0], row=1, col=1, type="log" if log_upper else "linear")
    figure.update_yaxes(title=y_titles[1], row=2, col=1, type="log" if log_lower else "linear")
    figure.update_xaxes(title=x_title, row=2, col=1)
    return _quiet(figure, 430)


def line_chart(lines: Sequence[Line], *, x_title: str, y_title: str, log: bool = False) -> go.Figure:
    """Curves with their points, one axis each way; `log` makes both logarithmic."""
    figure = go.Figure(
        [
            go.Scatter(
                x=line.x,
                y=line.y,
                mode="lines+markers",
                name=line.name,
                line={"color": line.color, "width": 1.8},
                marker={"size": 8, "symbol": place},
                hovertemplate="%{x:.4g}: %{y:.4g}<extra>%{fullData.name}</extra>",
            )
            for place, line in enumerate(lines)
        ]
    )
    kind = "log" if log else "linear"
    figure.update_xaxes(
        title=x_title, type=kind, tickvals=lines[0].x, ticktext=[f"{x:g}" for x in lines[0].x]
    )
    figure.update_yaxes(title=y_title, type=kind)
    return _quiet(figure, 330)


def lines_frame(upper: Sequence[Line], lower: Sequence[Line], names: tuple[str, str, str]) -> pd.DataFrame:
    """The data behind `pair_chart`; `names` are the columns: axis, upper value, lower value."""
    below = {line.name: line for line in lower}
    parts = []
    for line in upper:
        other = below.get(line.name)
        second = np.full(len(line.y), np.nan) if other is None else other.y
        parts.append(
            pd.DataFrame({"variant": line.name, names[0]: line.x, names[1]: line.y, names[2]: second})
        )
    return pd.concat(parts, ignore_index=True)


def decisions_chart(panels: Sequence[tuple[str, np.ndarray]], ramp: tuple[str, str]) -> go.Figure:
    """Share of tokens computed (steps, B) of each variant: a row for each sample, a column for each few steps."""
    height = 90 + 125 * len(panels)
    figure = make_subplots(
        len(panels),
        1,
        # Room for a title and the ticks between two panels, in the figure's own measure.
        vertical_spacing=52 / (height - 44),
        subplot_titles=[name for name, _ in panels],
    )
    for row, (name, share) in enumerate(panels, 1):
        every = max(1, -(-len(share) // CELLS))
        edges = np.arange(0, len(share), every)
        counts = np.diff([*edges, len(share)])[:, None]
        cells = np.add.reduceat(share, edges, axis=0) / counts
        figure.add_trace(
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
    figure.update_yaxes(autorange="reversed", nticks=6)
    figure.update_xaxes(title="step", row=len(panels), col=1)
    return _quiet(figure, height)
