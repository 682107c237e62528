"""Figures of the data, models and training pages. Plain values in, a figure out; colors are given by the page."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

GRID = "rgba(128,128,128,.22)"
MUTED = "#808893"


def _quiet(figure: go.Figure, height: int, *, legend: bool = True) -> go.Figure:
    figure.update_layout(
        height=height,
        margin={"l": 10, "r": 10, "t": 34, "b": 10},
        showlegend=legend,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )
    figure.update_xaxes(automargin=True, gridcolor=GRID, zeroline=False)
    figure.update_yaxes(automargin=True, gridcolor=GRID, zeroline=False)
    return figure


def series_grid(
    panels: Sequence[tuple[str, np.ndarray, str]],
    *,
    step: float,
    x_title: str,
    y_title: str,
    columns: int = 4,
    height: int = 420,
) -> go.Figure:
    """Panels side by side, each a grid of small plots with `columns` columns and a color: (title, (S, N), color).

    All plots share both axes, so that shapes and sizes compare at a glance.
    """
    rows = max(1, max(-(-len(series) // columns) for _, series, _ in panels))
    total = columns * len(panels)
    # A gap between panels, which a plain grid would not have: one narrow empty column.
    widths: list[float] = []
    for index in range(len(panels)):
        widths += [1.0] * columns + ([0.25] if index < len(panels) - 1 else [])
    figure = make_subplots(
        rows=rows,
        cols=len(widths),
        column_widths=widths,
        shared_xaxes="all",
        shared_yaxes="all",
        horizontal_spacing=0.012 if total <= 8 else 0.006,
        vertical_spacing=0.03,
    )
    for index, (title, series, color) in enumerate(panels):
        for place, line in enumerate(series):
            figure.add_trace(
                go.Scatter(
                    x=np.arange(len(line)) * step,
                    y=line,
                    mode="lines",
                    line={"color": color, "width": 1.4},
                    name=title,
                    hovertemplate="%{x:.4g}: %{y:.4g}<extra></extra>",
                ),
                row=place // columns + 1,
                col=place % columns + 1 + index * (columns + 1),
            )
    figure.update_xaxes(showticklabels=False, showgrid=False, ticks="")
    figure.update_yaxes(showticklabels=False, ticks="", nticks=4)
    for index, (title, _, color) in enumerate(panels):
        first = index * (columns + 1) + 1
        figure.update_xaxes(showticklabels=True, nticks=3, row=rows, col=first)
        figure.add_annotation(
            text=f"<b>{title}</b>",
            font={"color": color, "size": 14},
            xref=f"x{first if first > 1 else ''} domain",
            yref="y domain",
            x=0,
            y=1.0,
            yanchor="bottom",
            xanchor="left",
            yshift=4,
            showarrow=False,
        )
    for row in range(1, rows + 1):
        figure.update_yaxes(showticklabels=True, row=row, col=1)
    figure.update_xaxes(title=x_title, title_standoff=16, row=rows, col=1)
    figure.update_yaxes(title=y_title, title_standoff=4, row=(rows + 1) // 2, col=1)
    return _quiet(figure, height, legend=False)


def stages_chart(
    rows: Sequence[tuple[str, np.ndarray, str]], *, step: float, x_title: str, y_title: str
) -> go.Figure:
    """Rows of small plots on one scale: (title, (S, N), color), a column for each series."""
    columns = max(len(series) for _, series, _ in rows)
    figure = make_subplots(
        rows=len(rows),
        cols=columns,
        shared_xaxes="all",
        shared_yaxes="all",
        horizontal_spacing=0.01,
        vertical_spacing=0.22 / len(rows),
    )
    for row, (title, series, color) in enumerate(rows, 1):
        for column, line in enumerate(series, 1):
            figure.add_trace(
                go.Scatter(
                    x=np.arange(len(line)) * step,
                    y=line,
                    mode="lines",
                    line={"color": color, "width": 1.4},
                    name=title,
                    hovertemplate="%{x:.4g}: %{y:.4g}<extra>%{fullData.name}</extra>",
                ),
                row=row,
                col=column,
            )
        first = (row - 1) * columns + 1
        figure.add_annotation(
            text=f"<b>{title}</b>",
            font={"color": color, "size": 13},
            xref=f"x{first if first > 1 else ''} domain",
            yref=f"y{first if first > 1 else ''} domain",
            x=0,
            y=1,
            xanchor="left",
            yanchor="bottom",
            showarrow=False,
        )
    figure.update_xaxes(showticklabels=False, showgrid=False, ticks="", nticks=4)
    figure.update_yaxes(showticklabels=False, ticks="", nticks=4)
    figure.update_xaxes(showticklabels=True, title=x_title, title_standoff=14, row=len(rows), col=1)
    for row in range(1, len(rows) + 1):
        figure.update_yaxes(showticklabels=True, title=y_title, row=row, col=1)
    return _quiet(figure, 90 + 100 * len(rows), legend=False)


def localization_chart(
    share: np.ndarray, channels: Sequence[str], colors: Sequence[str], *, height: int = 420
) -> go.Figure:
    """Measured share of energy (n, M) in the lowest frequencies, one line a channel."""
    figure = go.Figure()
    kept = np.arange(1, len(share) + 1)
    for m, name in enumerate(channels):
        figure.add_trace(
            go.Scatter(
                x=kept,
                y=100 * share[:, m],
                mode="lines",
                name=name,
                line={
                    "color": colors[m % len(colors)],
                    # Channels that move together lie on one another: dashes let all of them be seen.
                    "dash": ("solid", "dash", "dot", "dashdot")[m % 4],
                    "width": 2,
                },
                hovertemplate="%{x} lowest frequencies hold %{y:.1f}%<extra>%{fullData.name}</extra>",
            )
        )
    ticks = [t for t in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if t <= len(share)]
    figure.update_xaxes(
        type="log", title=f"lowest frequencies kept (of {len(share)})", tickvals=ticks, ticktext=ticks
    )
    figure.update_yaxes(title="share of the energy (%)", range=[0, 102])
    return _quiet(figure, height, legend=len(channels) > 1)


def history_chart(
    history: Sequence[Mapping[str, float]], colors: Sequence[str], *, height: int = 300
) -> go.Figure:
    """Training and held-out loss against steps, with the best weights marked."""
    steps = [h["step"] for h in history]
    held = [h["heldout"] for h in history]
    figure = go.Figure()
    for name, values, color, dash in (
        ("training", [h["loss"] for h in history], colors[1], "dot"),
        ("held out", held, colors[0], "solid"),
    ):
        figure.add_trace(
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
        figure.add_trace(
            go.Scatter(
                x=[steps[best]],
                y=[held[best]],
                mode="markers",
                name="best, kept",
                marker={"symbol": "star", "size": 13, "color": colors[0]},
                hovertemplate="best: step %{x}, %{y:.4f}<extra></extra>",
            )
        )
    figure.update_xaxes(title="training step", rangemode="tozero")
    figure.update_yaxes(title="weighted squared error")
    return _quiet(figure, height)


def profile_chart(
    levels: Sequence[float], weights: Sequence[float], color: str, *, height: int = 260
) -> go.Figure:
    """How fast the denoised estimate changes at each noise level; 1 is the mean."""
    figure = go.Figure(
        go.Scatter(
            x=levels,
            y=weights,
            mode="lines",
            fill="tozeroy",
            line={"color": color, "width": 2},
            hovertemplate="log(a/s) %{x:.2f}: %{y:.2f} times the mean<extra></extra>",
        )
    )
    figure.add_hline(y=1, line={"color": MUTED, "dash": "dot", "width": 1})
    figure.update_xaxes(title="log signal-to-noise ratio log(a/s)")
    figure.update_yaxes(title="change (mean 1)", rangemode="tozero")
    return _quiet(figure, height, legend=False)


def protocol_chart(figures: Mapping[str, Mapping[str, Any]], color: str) -> go.Figure:
    """Each distance of the held-out protocol over its real-against-real floor, with both intervals."""
    rows = [f for f in reversed(list(figures.values())) if f["floor"] > 0]
    names = [str(f["title"]) for f in rows]
    figure = go.Figure()
    for label, key, mark, shade, width in (
        ("real against real", "floor", "square", MUTED, 9),
        ("generated against real", "value", "circle", color, 2),
    ):
        middle = [f[key] / f["floor"] for f in rows]
        low, high = ("floor_low", "floor_high") if key == "floor" else ("low", "high")
        figure.add_trace(
            go.Scatter(
                x=middle,
                y=names,
                mode="markers",
                name=label,
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [f[high] / f["floor"] - m for f, m in zip(rows, middle, strict=True)],
                    "arrayminus": [m - f[low] / f["floor"] for f, m in zip(rows, middle, strict=True)],
                    "color": shade,
                    "thickness": width,
                    "width": 0,
                },
                marker={"symbol": mark, "size": 10, "color": shade},
                opacity=0.55 if key == "floor" else 1.0,
                hovertemplate="%{y}: %{x:.2f} times the floor<extra>%{fullData.name}</extra>",
            )
        )
    figure.add_vline(x=1, line={"color": MUTED, "dash": "dot", "width": 1})
    figure.update_xaxes(title="distance over its floor (1: like real data)")
    figure.update_yaxes(showgrid=False)
    return _quiet(figure, 120 + 34 * len(rows))
