"""Draw Plotly figures of measured results; no other module of the core knows a plotting library.

Every function takes plain values and returns a figure without a theme, so that pages may style it.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

COLORS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#7F3C8D",
    "#666666",
    "#A6761D",
    "#1B2733",
)
"""Colors that people with color blindness can also distinguish (after Okabe and Ito)."""
SYMBOLS = (
    "circle",
    "square",
    "diamond",
    "triangle-up",
    "cross",
    "x",
    "star",
    "hexagon",
    "pentagon",
    "bowtie",
)

Band = tuple[float, float, float]


@dataclass(frozen=True)
class ChartPoint:
    """A measured setting: cost `x`, quality `y` with its interval, and the `group` it is drawn with.

    Groups of one `family` share a color and a mark; the group named like its family has open marks.
    """

    name: str
    x: float
    y: float
    low: float
    high: float
    group: str
    front: bool = False
    note: str = ""
    family: str = ""


def _label(text: str) -> str:
    """Escape a chart label, because labels are read as markup."""
    return html.escape(text)


def _layout(figure: go.Figure, height: int = 460) -> go.Figure:
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 80, "r": 20, "t": 20, "b": 60},
        legend={"orientation": "h", "y": -0.2},
        hoverlabel={"align": "left"},
    )
    figure.update_xaxes(showgrid=True, gridcolor="rgba(128,128,128,.2)", zeroline=False, automargin=True)
    figure.update_yaxes(showgrid=True, gridcolor="rgba(128,128,128,.2)", zeroline=False, automargin=True)
    return figure


def log_axis(values: Sequence[float]) -> dict[str, Any]:
    """Return a logarithmic axis over positive values with plain ticks: 1, 2, and 5 of every decade."""
    low, high = math.log10(min(values)), math.log10(max(values))
    digits = (1, 2, 5) if high - low < 3 else (1,)
    ticks = [d * 10.0**power for power in range(math.floor(low) - 1, math.ceil(high) + 1) for d in digits]
    return {"type": "log", "tickvals": ticks, "ticktext": [_tick(tick) for tick in ticks]}


def _tick(value: float) -> str:
    """Write 0.002, 0.5, 20, 5,000 and, beyond these, 10 to a power."""
    if 1e-4 < value < 1e5:
        return f"{value:,.6g}"
    digit, power = f"{value:.0e}".split("e")
    return ("" if digit == "1" else f"{digit}·") + f"10<sup>{int(power)}</sup>".replace("-", "−")


def _floor(figure: go.Figure, floor: Band | None, vertical: bool) -> None:
    """Draw the distance between real sets: a band from low to high with a line at the mean."""
    if floor is None:
        return
    low, mean, high = floor
    band, line = (figure.add_vrect, figure.add_vline) if vertical else (figure.add_hrect, figure.add_hline)
    names = ("x0", "x1", "x") if vertical else ("y0", "y1", "y")
    band(**{names[0]: low, names[1]: high}, fillcolor="rgba(128,128,128,.18)", line_width=0, layer="below")
    line(
        **{names[2]: mean},
        line={"color": "#888", "dash": "dot", "width": 1},
        annotation_text="real data",
        annotation_font_color="#888",
    )


def pareto_chart(
    points: Sequence[ChartPoint],
    *,
    x_title: str,
    y_title: str,
    floor: Band | None = None,
    reference: str | None = None,
) -> go.Figure:
    """Draw cost (log axis) against quality with intervals, a stepped front, and the real-data floor."""
    figure = go.Figure()
    _floor(figure, floor, vertical=False)
    front = sorted((p for p in points if p.front), key=lambda p: p.x)
    figure.add_trace(
        go.Scatter(
            x=[p.x for p in front],
            y=[p.y for p in front],
            mode="lines",
            line={"shape": "hv", "color": "#999", "width": 1.5},
            name="best so far",
            hoverinfo="skip",
        )
    )
    families = list(dict.fromkeys(p.family or p.group for p in points))
    # All names would overlap: only those of the front and the reference are written.
    named = {p.name for p in points if p.front or p.name == reference or not front}
    # Neighbors are labeled above and below in turn.
    above = {p.name: i % 2 == 0 for i, p in enumerate(sorted(points, key=lambda p: p.x)) if p.name in named}
    for group in dict.fromkeys(p.group for p in points):
        mine = [p for p in points if p.group == group]
        index = families.index(mine[0].family or group)
        figure.add_trace(_marks(mine, index, reference, named, above))
    figure.update_xaxes(title=x_title, **log_axis([p.x for p in points]))
    figure.update_yaxes(title=y_title)
    return _layout(figure, 520)


def _marks(
    mine: Sequence[ChartPoint],
    index: int,
    reference: str | None,
    named: set[str],
    above: dict[str, bool],
) -> go.Scatter:
    """Return the points of one group with their intervals; `named` ones have labels above or below."""
    color, alone = COLORS[index % len(COLORS)], mine[0].family == mine[0].group
    return go.Scatter(
        x=[p.x for p in mine],
        y=[p.y for p in mine],
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [p.high - p.y for p in mine],
            "arrayminus": [p.y - p.low for p in mine],
            "thickness": 1,
            "width": 3,
        },
        mode="markers+text",
        text=[_label(p.name) if p.name in named else "" for p in mine],
        textposition=["top center" if above.get(p.name, True) else "bottom center" for p in mine],
        textfont={"size": 10},
        customdata=[[_label(p.name), p.low, p.high, _label(p.note)] for p in mine],
        hovertemplate="<b>%{customdata[0]}</b><br>%{x:.3g}<br>%{y:.4f}"
        " (%{customdata[1]:.4f} to %{customdata[2]:.4f})<br>%{customdata[3]}<extra></extra>",
        marker={
            "color": color,
            "symbol": SYMBOLS[index % len(SYMBOLS)] + ("-open" if alone else ""),
            "size": [15 if p.name == reference else 11 for p in mine],
            "line": {"width": 2, "color": color},
        },
        name=_label(mine[0].group),
    )


def interval_chart(
    points: Sequence[ChartPoint],
    *,
    title: str,
    floor: Band | None = None,
    repeats: Sequence[Sequence[float]] | None = None,
) -> go.Figure:
    """Draw the quality of every row with its interval, best on top, and a dot for each repeat."""
    order = sorted(range(len(points)), key=lambda i: -points[i].y)
    names = [_label(points[i].name) for i in order]
    figure = go.Figure()
    _floor(figure, floor, vertical=True)
    figure.add_trace(
        go.Scatter(
            x=[points[i].y for i in order],
            y=names,
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [points[i].high - points[i].y for i in order],
                "arrayminus": [points[i].y - points[i].low for i in order],
                "thickness": 1.5,
            },
            mode="markers",
            marker={"size": 9, "color": COLORS[0]},
            name="mean and 95% interval",
        )
    )
    if repeats is not None:
        figure.add_trace(
            go.Scatter(
                x=[value for i in order for value in repeats[i]],
                y=[_label(points[i].name) for i in order for _ in repeats[i]],
                mode="markers",
                marker={"size": 5, "color": COLORS[1], "opacity": 0.6},
                name="single seeds",
            )
        )
    figure.update_xaxes(title=title)
    return _layout(figure, 160 + 26 * len(points))


def order_chart(names: Sequence[str], pairs: Sequence[tuple[str, str]]) -> go.Figure:
    """Draw a matrix of (better, worse) pairs, filled if the row is surely better than the column."""
    place = {name: i for i, name in enumerate(names)}
    filled = [[0] * len(names) for _ in names]
    for better, worse in pairs:
        filled[place[better]][place[worse]] = 1
    # Long names would leave no room for the matrix; the other axis shows row numbers.
    rows = [f"{i + 1}. {_label(name)}" for i, name in enumerate(names)]
    figure = go.Figure(
        go.Heatmap(
            z=filled,
            x=[str(i + 1) for i in range(len(names))],
            y=rows,
            colorscale=[[0, "rgba(128,128,128,.08)"], [1, COLORS[2]]],
            zmin=0,
            zmax=1,
            showscale=False,
            xgap=1,
            ygap=1,
            hovertemplate="%{y} better than %{x}: %{z}<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(type="category")
    return _layout(figure, 160 + 22 * len(names))


@dataclass(frozen=True)
class Curve:
    """The settings of one family, from cheap to costly."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    notes: tuple[str, ...]


def curves_chart(curves: Sequence[Curve], *, x_title: str, y_title: str, log_y: bool = True) -> go.Figure:
    """Draw cost against error for families of settings, with logarithmic axes by default."""
    figure = go.Figure()
    for index, curve in enumerate(curves):
        figure.add_trace(
            go.Scatter(
                x=curve.x,
                y=curve.y,
                mode="lines+markers",
                name=_label(curve.name),
                customdata=[_label(note) for note in curve.notes],
                hovertemplate="<b>%{fullData.name}</b> %{customdata}<br>%{x:.3g}, %{y:.4g}<extra></extra>",
                line={
                    "color": COLORS[index % len(COLORS)],
                    "dash": ("solid", "dash", "dot")[index // len(COLORS) % 3],
                },
                marker={"symbol": SYMBOLS[index % len(SYMBOLS)], "size": 8},
            )
        )
    figure.update_xaxes(title=x_title, **log_axis([x for curve in curves for x in curve.x]))
    figure.update_yaxes(
        title=y_title, **(log_axis([y for curve in curves for y in curve.y]) if log_y else {})
    )
    return _layout(figure, 520)


def plotly_script() -> str:
    """Return the library that figures need, to be included once in a page that works offline."""
    return str(get_plotlyjs())


def as_html(figure: go.Figure) -> str:
    """Return a figure as an element for a page that already includes `plotly_script`."""
    return str(figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False}))
