"""Plots of the Evidence page. Plain values in, a plot out; the page gives the colors."""

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from e2crf_core.quality.interval import Interval
from e2crf_core.report.charts import SYMBOLS, log_axis
from pages.ui.common.plot_style import FAINT, MUTED, interval_bars, plain

REAL = "real data"
DASHES = ("solid", "dash", "dot", "dashdot")


@dataclass(frozen=True)
class Family:
    """Settings of one family, cheap to costly. `low` and `high` are () without intervals."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class DataPanel:
    """One data set: its families, and the levels to read its values against, by name."""

    title: str
    families: tuple[Family, ...]
    levels: tuple[tuple[str, Interval], ...] = ()


def _plain(plot: go.Figure, height: int) -> go.Figure:
    below = {"orientation": "h", "y": -0.16 * 430 / height, "yanchor": "top", "x": 0}
    return plain(plot, height).update_layout(legend=below, hoverlabel={"align": "left"})


def _level(plot: go.Figure, name: str, band: Interval, ends: tuple[float, float], **place: int) -> None:
    """Draw a horizontal line with its range and a label, as traces, so that the axes make room for it."""
    if band.high > band.low:
        outline = go.Scatter(
            x=[*ends, *ends[::-1]],
            y=[band.low, band.low, band.high, band.high],
            fill="toself",
            fillcolor="rgba(128,128,128,.16)",
            mode="none",
            hoverinfo="skip",
            showlegend=False,
        )
        plot.add_trace(outline, **place)
    line = go.Scatter(
        x=ends,
        y=[band.value, band.value],
        mode="lines+text",
        text=[name, ""],
        textposition="top right",
        textfont={"color": MUTED, "size": 12},
        line={"color": MUTED, "dash": "dot" if name == REAL else "dash", "width": 1.4},
        hovertemplate=f"{name}: {band.value:.4f} ({band.low:.4f} to {band.high:.4f})<extra></extra>",
        showlegend=False,
    )
    plot.add_trace(line, **place)


def _family(family: Family, index: int | None, colors: Sequence[str], percent: bool) -> go.Scatter:
    """Return the line of a family: faint without an `index`, else in that color with its intervals."""
    color = FAINT if index is None else colors[index % len(colors)]
    bars = None
    if index is not None and family.low:
        bars = interval_bars(family.y, family.low, family.high, color)
    x = "%{x:.2f}%" if percent else "%{x:.3g}"
    return go.Scatter(
        x=family.x,
        y=family.y,
        error_y=bars,
        mode="lines+markers",
        name=family.name,
        legendgroup=family.name,
        customdata=family.names,
        hovertemplate=f"<b>%{{customdata}}</b><br>{x}, %{{y:.4f}}<extra></extra>",
        line={
            "color": color,
            "width": 1 if index is None else 2.2,
            "dash": "solid" if index is None else DASHES[index // len(colors) % len(DASHES)],
        },
        marker={
            "symbol": "circle" if index is None else SYMBOLS[index % len(SYMBOLS)],
            "size": 4 if index is None else 9,
        },
    )


def families_chart(
    panels: Sequence[DataPanel],
    highlighted: Sequence[str],
    colors: Sequence[str],
    *,
    x_title: str,
    y_title: str,
    log_y: bool,
    percent: bool = False,
) -> go.Figure:
    """Plot work against its effect on the samples, a panel for each data set; most families are drawn faint."""
    columns = 1 if len(panels) == 1 else 2
    rows = -(-len(panels) // columns)
    height = 520 if rows == 1 else 90 + 380 * rows
    plot = make_subplots(
        rows,
        columns,
        subplot_titles=[panel.title for panel in panels],
        horizontal_spacing=0.08,
        vertical_spacing=80 / height,
    )
    shown = {name: place for place, name in enumerate(highlighted)}
    in_legend: set[str] = set()
    for place, panel in enumerate(panels):
        row, column = place // columns + 1, place % columns + 1
        every = [x for f in panel.families for x in f.x]
        for name, band in panel.levels:
            _level(plot, name, band, (min(every), max(every)), row=row, col=column)
        # Draw faint lines first, so that the highlighted ones are on top.
        for family in sorted(panel.families, key=lambda f: f.name in shown):
            index = shown.get(family.name)
            trace = _family(family, index, colors, percent)
            trace.showlegend = index is not None and family.name not in in_legend
            plot.add_trace(trace, row, column)
            if index is not None:
                in_legend.add(family.name)
        plot.update_xaxes(**log_axis(every), row=row, col=column)
        if log_y:
            plot.update_yaxes(**log_axis([y for f in panel.families for y in f.y]), row=row, col=column)
        if column == 1:
            plot.update_yaxes(title=y_title, row=row, col=1)
        if place + columns >= len(panels):
            plot.update_xaxes(title=x_title, row=row, col=column)
    return _plain(plot, height)


@dataclass(frozen=True)
class Dot:
    """A data set: its localization `x`, and a ratio with its interval (None without one)."""

    name: str
    x: float
    ratio: float
    low: float | None
    high: float | None
    note: str


def foresight_chart(
    groups: Sequence[tuple[str, Sequence[Dot]]], colors: Sequence[str], *, x_title: str
) -> go.Figure:
    """Plot the gain of events over refreshing everything against localization; under 1, events win."""
    plot = go.Figure()
    places = [dot.x for _, dots in groups for dot in dots]
    room = max(2.0, max(places) - min(places))
    shift = 0.015 * room
    for index, (name, dots) in enumerate(groups):
        color = colors[index % len(colors)]
        # All kinds have the same x; a small shift keeps their bars apart.
        x = [dot.x + (index - (len(groups) - 1) / 2) * shift for dot in dots]
        low = [dot.ratio if dot.low is None else dot.low for dot in dots]
        high = [dot.ratio if dot.high is None else dot.high for dot in dots]
        ratios = [dot.ratio for dot in dots]
        plot.add_trace(
            go.Scatter(
                x=x,
                y=ratios,
                error_y=interval_bars(ratios, low, high, color),
                mode="markers+text",
                text=[dot.name for dot in dots] if index == 0 else None,
                textposition="middle right",
                name=name,
                customdata=[dot.note for dot in dots],
                hovertemplate="%{customdata}<extra></extra>",
                marker={"symbol": SYMBOLS[index], "size": 11, "color": color},
            )
        )
    plot.add_hline(
        y=1,
        line={"color": MUTED, "dash": "dot", "width": 1.2},
        annotation={"text": "no difference", "font": {"color": MUTED, "size": 12}},
        annotation_position="bottom right",
    )
    # Names are to the right of their marks.
    ends = [min(places) - 0.08 * room, max(places) + 0.25 * room]
    plot.update_xaxes(title=x_title, ticksuffix="%", range=ends)
    plot.update_yaxes(title="distance to twins, ratio", nticks=6)
    return _plain(plot, 360).update_layout(legend={"y": 1.02, "yanchor": "bottom"})


@dataclass(frozen=True)
class Mark:
    """A row of an evaluation in a Pareto chart."""

    name: str
    group: str
    cached: bool
    x: float
    y: Interval
    front: bool
    note: str


def _marks(marks: Sequence[Mark], index: int, color: str) -> go.Scatter:
    """Return the marks of one solver, filled with a cache, open without."""
    cached = marks[0].cached
    middles = [m.y.value for m in marks]
    return go.Scatter(
        x=[m.x for m in marks],
        y=middles,
        error_y=interval_bars(middles, [m.y.low for m in marks], [m.y.high for m in marks], color),
        mode="markers",
        name=marks[0].group + (" + E²-CRF" if cached else ""),
        customdata=[[m.name, m.y.low, m.y.high, m.note] for m in marks],
        hovertemplate="<b>%{customdata[0]}</b><br>%{x:.3g}, %{y:.4f} (%{customdata[1]:.4f} to"
        " %{customdata[2]:.4f})<br>%{customdata[3]}<extra></extra>",
        marker={
            "symbol": SYMBOLS[index % len(SYMBOLS)] + ("" if cached else "-open"),
            "size": 11,
            "color": color,
            "line": {"width": 2, "color": color},
        },
    )


def solvers_chart(
    marks: Sequence[Mark], colors: Sequence[str], *, x_title: str, y_title: str, floor: Interval | None
) -> go.Figure:
    """Plot cost (log) against a distance: a color for each solver, filled with a cache, open without.

    `floor` is the distance between real sets, None when there is none.
    """
    plot = go.Figure()
    if floor is not None:
        _level(plot, REAL, floor, (min(m.x for m in marks), max(m.x for m in marks)))
    front = sorted((m for m in marks if m.front), key=lambda m: m.x)
    plot.add_trace(
        go.Scatter(
            x=[m.x for m in front],
            y=[m.y.value for m in front],
            mode="lines",
            line={"shape": "hv", "color": MUTED, "width": 1.5},
            name="Pareto front",
            hoverinfo="skip",
        )
    )
    for index, group in enumerate(dict.fromkeys(m.group for m in marks)):
        for cached in (False, True):
            members = [m for m in marks if m.group == group and m.cached == cached]
            if members:
                plot.add_trace(_marks(members, index, colors[index % len(colors)]))
    plot.update_xaxes(title=x_title, **log_axis([m.x for m in marks]))
    # Distances span decades when a solver fails: on a linear axis one such row would flatten all others.
    heights = [y for m in marks for y in (m.y.low, m.y.value, m.y.high) if y > 0]
    plot.update_yaxes(title=y_title, **(log_axis(heights) if min(m.y.low for m in marks) > 0 else {}))
    return _plain(plot, 520)
