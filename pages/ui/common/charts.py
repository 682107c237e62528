"""Plots that several pages share. Plain values in, a plot out; the page gives the colors."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from e2crf_core.report.charts import log_axis
from pages.ui.common.plot_style import plain


@dataclass(frozen=True)
class Line:
    """A curve: its name, its points and its color."""

    name: str
    x: np.ndarray
    y: np.ndarray
    color: str


def pair_chart(
    upper: Sequence[Line],
    lower: Sequence[Line],
    *,
    x_title: str,
    y_titles: tuple[str, str],
    log_upper: bool = False,
    log_lower: bool = False,
) -> go.Figure:
    """Stack two plots on one horizontal axis: values above, differences or a second value below."""
    plot = make_subplots(2, 1, shared_xaxes=True, row_heights=[0.62, 0.38], vertical_spacing=0.05)
    for row, lines in ((1, upper), (2, lower)):
        for line in lines:
            plot.add_trace(
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
    for row, lines, log in ((1, upper, log_upper), (2, lower, log_lower)):
        plot.update_yaxes(title=y_titles[row - 1], row=row, col=1, **(_log(lines) if log else {}))
    plot.update_xaxes(title=x_title, row=2, col=1)
    return plain(plot, 430)


def _log(lines: Sequence[Line]) -> dict[str, Any]:
    """Return a logarithmic axis for all positive values of some lines."""
    positive = [float(y) for line in lines for y in line.y if y > 0]
    return log_axis(positive) if positive else {"type": "log"}


def lines_frame(upper: Sequence[Line], lower: Sequence[Line], names: tuple[str, str, str]) -> pd.DataFrame:
    """Return the data behind `pair_chart`; `names` are the columns of axis, upper and lower values."""
    below = {line.name: line for line in lower}
    parts = []
    for line in upper:
        other = below.get(line.name)
        second = np.full(len(line.y), np.nan) if other is None else other.y
        parts.append(
            pd.DataFrame({"variant": line.name, names[0]: line.x, names[1]: line.y, names[2]: second})
        )
    return pd.concat(parts, ignore_index=True)


def small_line(y: np.ndarray, step: float, color: str, name: str) -> go.Scatter:
    """Return one thin line of small multiples; `step` is the time between two values."""
    return go.Scatter(
        x=np.arange(len(y)) * step,
        y=y,
        mode="lines",
        line={"color": color, "width": 1.4},
        name=name,
        hovertemplate="%{x:.4g}: %{y:.4g}<extra>%{fullData.name}</extra>",
    )


def panel_title(plot: go.Figure, title: str, color: str, cell: int) -> None:
    """Write a title above the subplot number `cell`, counted from 1 along the rows."""
    axis = str(cell) if cell > 1 else ""
    plot.add_annotation(
        text=f"<b>{html.escape(title)}</b>",
        font={"color": color, "size": 14},
        xref=f"x{axis} domain",
        yref=f"y{axis} domain",
        x=0,
        y=1.0,
        yanchor="bottom",
        xanchor="left",
        yshift=4,
        showarrow=False,
    )


def hide_ticks(plot: go.Figure) -> None:
    """Hide ticks and labels; callers show them again on the outer subplots."""
    plot.update_xaxes(showticklabels=False, showgrid=False, ticks="")
    plot.update_yaxes(showticklabels=False, ticks="", nticks=4)


def series_grid(
    panels: Sequence[tuple[str, np.ndarray, str]],
    *,
    step: float,
    x_title: str,
    y_title: str,
    columns: int = 4,
    height: int = 420,
) -> go.Figure:
    """Plot panels side by side, each a grid of small plots: (title, series (S, N), color).

    All plots share both axes, so that shapes and sizes can be compared at a glance.
    """
    rows = max(1, max(-(-len(series) // columns) for _, series, _ in panels))
    # A narrow empty column separates two panels.
    widths = ([1.0] * columns + [0.25]) * len(panels)
    plot = make_subplots(
        rows=rows,
        cols=len(widths) - 1,
        column_widths=widths[:-1],
        shared_xaxes="all",
        shared_yaxes="all",
        horizontal_spacing=0.012 if columns * len(panels) <= 8 else 0.006,
        vertical_spacing=0.03,
    )
    hide_ticks(plot)
    for index, (title, series, color) in enumerate(panels):
        first = index * (columns + 1) + 1
        for place, line in enumerate(series):
            row, column = divmod(place, columns)
            plot.add_trace(small_line(line, step, color, title), row=row + 1, col=column + first)
        plot.update_xaxes(showticklabels=True, nticks=3, row=rows, col=first)
        panel_title(plot, title, color, first)
    for row in range(1, rows + 1):
        plot.update_yaxes(showticklabels=True, row=row, col=1)
    plot.update_xaxes(title=x_title, title_standoff=16, row=rows, col=1)
    plot.update_yaxes(title=y_title, title_standoff=4, row=(rows + 1) // 2, col=1)
    return plain(plot, height, legend=False)


def history_chart(
    history: Sequence[Mapping[str, float]], colors: Sequence[str], *, height: int = 300
) -> go.Figure:
    """Plot training and held-out loss against steps and mark the best weights."""
    steps = [h["step"] for h in history]
    held = [h["heldout"] for h in history]
    plot = go.Figure()
    for name, values, color, dash in (
        ("training", [h["loss"] for h in history], colors[1], "dot"),
        ("held out", held, colors[0], "solid"),
    ):
        plot.add_trace(
            go.Scatter(
                x=steps,
                y=values,
                mode="lines+markers" if len(steps) < 12 else "lines",
                name=name,
                line={"color": color, "dash": dash, "width": 2},
                hovertemplate="step %{x}: %{y:.4f}<extra>%{fullData.name}</extra>",
            )
        )
    if held:
        best = int(np.argmin(held))
        plot.add_trace(
            go.Scatter(
                x=[steps[best]],
                y=[held[best]],
                mode="markers",
                name="best, kept",
                marker={"symbol": "star", "size": 13, "color": colors[0]},
                hovertemplate="best: step %{x}, %{y:.4f}<extra></extra>",
            )
        )
    plot.update_xaxes(title="training step", rangemode="tozero")
    plot.update_yaxes(title="weighted squared error")
    return plain(plot, height)
