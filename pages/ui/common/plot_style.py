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
    # 0.0001 rather than 100µ, 20,000 rather than 20k.
    axis = {"automargin": True, "gridcolor": GRID, "zeroline": False}
    axis |= {"exponentformat": "power", "minexponent": 5, "separatethousands": True}
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
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
