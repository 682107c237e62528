"""The style that all plots of the pages share."""

from typing import Any

import plotly.graph_objects as go

GRID = "rgba(128,128,128,.22)"
FAINT = "rgba(128,128,128,.38)"
MUTED = "#808893"
LEGEND_ABOVE = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}


def plain(figure: go.Figure, height: int, *, legend: bool = True) -> go.Figure:
    """Give a plot the common margins, grid and legend above it; returns the plot."""
    figure.update_layout(
        height=height,
        margin={"l": 10, "r": 10, "t": 34, "b": 10},
        showlegend=legend,
        legend=LEGEND_ABOVE,
    )
    figure.update_xaxes(automargin=True, gridcolor=GRID, zeroline=False)
    figure.update_yaxes(automargin=True, gridcolor=GRID, zeroline=False)
    return figure


def interval_bars(
    middle: Any, low: Any, high: Any, color: str, *, thickness: float = 1.2, width: int = 3
) -> dict[str, object]:
    """Return Plotly error bars from `low` to `high` around `middle`."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [h - m for m, h in zip(middle, high, strict=True)],
        "arrayminus": [m - v for m, v in zip(middle, low, strict=True)],
        "color": color,
        "thickness": thickness,
        "width": width,
    }
