"""Figures of the evidence page. Plain values in, a figure out; colors are given by the page."""

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from e2crf_core.report.charts import SYMBOLS, log_axis

GRID = "rgba(128,128,128,.22)"
FAINT = "rgba(128,128,128,.38)"
MUTED = "#808893"
REAL = "real data"
DASHES = ("solid", "dash", "dot", "dashdot")

Band = tuple[float, float, float]
"""(low, middle, high)."""


@dataclass(frozen=True)
class Family:
    """Settings of one family, cheap to costly. `low` and `high` are () where there is no interval."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Panel:
    """One data set: its families, and the levels its figures are read against, by name."""

    title: str
    families: tuple[Family, ...]
    levels: tuple[tuple[str, Band], ...] = ()


def _quiet(figure: go.Figure, height: int) -> go.Figure:
    figure.update_layout(
        height=height,
        margin={"l": 10, "r": 10, "t": 34, "b": 10},
        legend={"orientation": "h", "y": -0.16 * 430 / height, "yanchor": "top", "x": 0},
        hoverlabel={"align": "left"},
    )
    figure.update_xaxes(automargin=True, gridcolor=GRID, zeroline=False)
    figure.update_yaxes(automargin=True, gridcolor=GRID, zeroline=False)
    return figure


def _bars(
    middle: Sequence[float], low: Sequence[float], high: Sequence[float], color: str
) -> dict[str, object]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [h - m for m, h in zip(middle, high, strict=True)],
        "arrayminus": [m - v for m, v in zip(middle, low, strict=True)],
        "color": color,
        "thickness": 1.2,
        "width": 3,
    }


def _level(figure: go.Figure, name: str, band: Band, ends: tuple[float, float], **place: int) -> None:
    """A horizontal line with its range from end to end, named at the left one. A trace, so that axes make room."""
    low, middle, high = band
    if high > low:
        outline = go.Scatter(
            x=[*ends, *ends[::-1]],
            y=[low, low, high, high],
            fill="toself",
            fillcolor="rgba(128,128,128,.16)",
            mode="none",
            hoverinfo="skip",
            showlegend=False,
        )
        figure.add_trace(outline, **place)
    line = go.Scatter(
        x=ends,
        y=[middle, middle],
        mode="lines+text",
        text=[name, ""],
        textposition="top right",
        textfont={"color": MUTED, "size": 12},
        line={"color": MUTED, "dash": "dot" if name == REAL else "dash", "width": 1.4},
        hovertemplate=f"{name}: {middle:.4f} ({low:.4f} to {high:.4f})<extra></extra>",
        showlegend=False,
    )
    figure.add_trace(line, **place)


def families_chart(
    panels: Sequence[Panel],
    highlighted: Sequence[str],
    colors: Sequence[str],
    *,
    x_title: str,
    y_title: str,
    log_y: bool,
    percent: bool = False,
) -> go.Figure:
    """Work against what it did to the samples, a panel for each data set; all families but some are drawn faint."""
    columns = 1 if len(panels) == 1 else 2
    rows = -(-len(panels) // columns)
    height = 520 if rows == 1 else 90 + 380 * rows
    figure = make_subplots(
        rows,
        columns,
        subplot_titles=[panel.title for panel in panels],
        horizontal_spacing=0.08,
        vertical_spacing=80 / height,
    )
    shown = {name: place for place, name in enumerate(highlighted)}
    named: set[str] = set()
    for place, panel in enumerate(panels):
        row, column = place // columns + 1, place % columns + 1
        every = [x for f in panel.families for x in f.x]
        for name, band in panel.levels:
            _level(figure, name, band, (min(every), max(every)), row=row, col=column)
        # Faint ones first, so that what was asked for lies on top.
        for family in sorted(panel.families, key=lambda f: f.name in shown):
            index = shown.get(family.name)
            color = FAINT if index is None else colors[index % len(colors)]
            error = None
            if index is not None and family.low:
                error = _bars(family.y, family.low, family.high, color)
            figure.add_trace(
                go.Scatter(
                    x=family.x,
                    y=family.y,
                    error_y=error,
                    mode="lines+markers",
                    name=family.name,
                    legendgroup=family.name,
                    showlegend=index is not None and family.name not in named,
                    customdata=family.names,
                    hovertemplate="<b>%{customdata}</b><br>"
                    + ("%{x:.2f}%" if percent else "%{x:.3g}")
                    + ", %{y:.4f}<extra></extra>",
                    line={
                        "color": color,
                        "width": 1 if index is None else 2.2,
                        "dash": "solid" if index is None else DASHES[index // len(colors) % len(DASHES)],
                    },
                    marker={
                        "symbol": "circle" if index is None else SYMBOLS[index % len(SYMBOLS)],
                        "size": 4 if index is None else 9,
                    },
                ),
                row,
                column,
            )
            if index is not None:
                named.add(family.name)
        figure.update_xaxes(**log_axis(every), row=row, col=column)
        if log_y:
            figure.update_yaxes(**log_axis([y for f in panel.families for y in f.y]), row=row, col=column)
        if column == 1:
            figure.update_yaxes(title=y_title, row=row, col=1)
        if place + columns >= len(panels):
            figure.update_xaxes(title=x_title, row=row, col=column)
    return _quiet(figure, height)


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
    """What events gain over refreshing everything against how localized the data are; under 1 they win."""
    figure = go.Figure()
    places = [dot.x for _, dots in groups for dot in dots]
    room = max(2.0, max(places) - min(places))
    shift = 0.015 * room
    for index, (name, dots) in enumerate(groups):
        color = colors[index % len(colors)]
        # The two kinds stand at the same x; a small shift keeps their bars apart.
        x = [dot.x + (index - (len(groups) - 1) / 2) * shift for dot in dots]
        low = [dot.ratio if dot.low is None else dot.low for dot in dots]
        high = [dot.ratio if dot.high is None else dot.high for dot in dots]
        ratios = [dot.ratio for dot in dots]
        figure.add_trace(
            go.Scatter(
                x=x,
                y=ratios,
                error_y=_bars(ratios, low, high, color),
                mode="markers+text",
                text=[dot.name for dot in dots] if index == 0 else None,
                textposition="middle right",
                name=name,
                customdata=[dot.note for dot in dots],
                hovertemplate="%{customdata}<extra></extra>",
                marker={"symbol": SYMBOLS[index], "size": 11, "color": color},
            )
        )
    figure.add_hline(
        y=1,
        line={"color": MUTED, "dash": "dot", "width": 1.2},
        annotation={"text": "no better, no worse", "font": {"color": MUTED, "size": 12}},
        annotation_position="bottom right",
    )
    # Names stand to the right of their marks.
    ends = [min(places) - 0.08 * room, max(places) + 0.25 * room]
    figure.update_xaxes(title=x_title, ticksuffix="%", range=ends)
    figure.update_yaxes(title="distance to twins, ratio", nticks=6)
    figure = _quiet(figure, 360)
    return figure.update_layout(legend={"y": 1.02, "yanchor": "bottom"})


@dataclass(frozen=True)
class Mark:
    """A row of an evaluation in a Pareto chart."""

    name: str
    group: str
    cached: bool
    x: float
    y: Band
    front: bool
    note: str


def solvers_chart(
    marks: Sequence[Mark], colors: Sequence[str], *, x_title: str, y_title: str, floor: Band | None
) -> go.Figure:
    """Cost (log) against a distance: a color for each solver, filled with a cache, open without.

    `floor` is the distance between real sets; None where real sets have none.
    """
    figure = go.Figure()
    if floor is not None:
        _level(figure, REAL, floor, (min(m.x for m in marks), max(m.x for m in marks)))
    front = sorted((m for m in marks if m.front), key=lambda m: m.x)
    figure.add_trace(
        go.Scatter(
            x=[m.x for m in front],
            y=[m.y[1] for m in front],
            mode="lines",
            line={"shape": "hv", "color": MUTED, "width": 1.5},
            name="best so far",
            hoverinfo="skip",
        )
    )
    groups = list(dict.fromkeys(m.group for m in marks))
    for group in groups:
        index = groups.index(group)
        color = colors[index % len(colors)]
        for cached in (False, True):
            mine = [m for m in marks if m.group == group and m.cached == cached]
            if not mine:
                continue
            middles = [m.y[1] for m in mine]
            symbol = SYMBOLS[index % len(SYMBOLS)] + ("" if cached else "-open")
            figure.add_trace(
                go.Scatter(
                    x=[m.x for m in mine],
                    y=middles,
                    error_y=_bars(middles, [m.y[0] for m in mine], [m.y[2] for m in mine], color),
                    mode="markers",
                    name=group + (" + E²-CRF" if cached else ""),
                    customdata=[[m.name, m.y[0], m.y[2], m.note] for m in mine],
                    hovertemplate="<b>%{customdata[0]}</b><br>%{x:.3g}, %{y:.4f} (%{customdata[1]:.4f} to"
                    " %{customdata[2]:.4f})<br>%{customdata[3]}<extra></extra>",
                    marker={
                        "symbol": symbol,
                        "size": 11,
                        "color": color,
                        "line": {"width": 2, "color": color},
                    },
                )
            )
    figure.update_xaxes(title=x_title, **log_axis([m.x for m in marks]))
    # Distances span decades where a solver fails: on a plain axis one such row would flatten all others.
    heights = [y for m in marks for y in m.y if y > 0]
    figure.update_yaxes(title=y_title, **(log_axis(heights) if min(m.y[0] for m in marks) > 0 else {}))
    return _quiet(figure, 520)
