"""Plots of the speed view. Plain values in, a plot out; the page gives the colors."""

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from e2crf_core.report.charts import log_axis
from pages.ui.common.plot_style import MUTED, interval_bars, plain
from pages.ui.evidence.speed import CurvePoint, Idea, StepParts


def waterfall_chart(rows: Sequence[Idea], colors: Sequence[str]) -> go.Figure:
    """Plot the seconds of a run after each idea, the first one on top."""
    seconds = [row.seconds.value for row in rows]
    bars = interval_bars(
        seconds, [row.seconds.low for row in rows], [row.seconds.high for row in rows], MUTED
    )
    plot = go.Figure(
        go.Bar(
            x=seconds,
            y=[row.name for row in rows],
            orientation="h",
            error_x=bars,
            marker={"color": colors[0]},
            text=[f"{row.over_first.value:.3g}×" for row in rows],
            # At the start of the bar: whiskers cross its end.
            textposition="inside",
            insidetextanchor="start",
            customdata=[[row.over_previous.value] for row in rows],
            hovertemplate="<b>%{y}</b><br>%{x:.3g} s, %{customdata[0]:.2f} times as fast as the row above"
            "<extra></extra>",
        )
    )
    plot.update_xaxes(title="seconds of a run", **log_axis(seconds))
    plot.update_yaxes(autorange="reversed")
    return plain(plot, 90 + 34 * len(rows), legend=False)


def parts_chart(parts: dict[str, StepParts], colors: Sequence[str]) -> go.Figure:
    """Plot where a step goes, a panel for each kind of step."""
    plot = make_subplots(
        1, len(parts), subplot_titles=list(parts), horizontal_spacing=0.2 / max(1, len(parts) - 1)
    )
    most = max(len(step.shares) for step in parts.values())
    for column, step in enumerate(parts.values(), 1):
        ordered = sorted(step.shares.items(), key=lambda item: -item[1].value)
        shares = [100 * share.value for _, share in ordered] + [100 * max(0.0, step.rest)]
        plot.add_trace(
            go.Bar(
                x=shares,
                y=[name for name, _ in ordered] + ["all else"],
                orientation="h",
                marker={"color": colors[(column - 1) % len(colors)]},
                hovertemplate="%{y}: %{x:.1f}%<extra></extra>",
            ),
            1,
            column,
        )
        plot.update_xaxes(title="share of the step", ticksuffix="%", row=1, col=column)
        plot.update_yaxes(autorange="reversed", row=1, col=column)
    return plain(plot, 110 + 30 * most, legend=False)


def curves_chart(
    points: Sequence[CurvePoint], every: int, colors: Sequence[str], *, x_title: str
) -> go.Figure:
    """Plot what reuse saves, the time of a call, and memory along one axis."""
    x = [point.value for point in points]
    plot = make_subplots(
        1, 3, subplot_titles=["what reuse saves", "a call", "memory held"], horizontal_spacing=0.09
    )
    speedups = [point.speedup.value for point in points]
    saved = interval_bars(
        speedups, [p.speedup.low for p in points], [p.speedup.high for p in points], colors[0]
    )
    series = (
        (speedups, saved, f"times as fast, one call in {every}"),
        ([1e3 * p.call_s.value for p in points], None, "milliseconds"),
        ([max(p.held_bytes, 1) / 1e6 for p in points], None, "MB"),
    )
    for column, (y, bars, title) in enumerate(series, 1):
        plot.add_trace(
            go.Scatter(
                x=x,
                y=y,
                error_y=bars,
                mode="lines+markers",
                line={"color": colors[(column - 1) % len(colors)]},
                hovertemplate="%{x}: %{y:.3g}<extra></extra>",
            ),
            1,
            column,
        )
        plot.update_xaxes(title=x_title, row=1, col=column, **log_axis(x))
        axis = {"rangemode": "tozero"} if column == 1 else log_axis(y)
        plot.update_yaxes(title=title, row=1, col=column, **axis)
    plot.add_hline(y=1, line={"color": MUTED, "dash": "dot"}, row=1, col=1)
    return plain(plot, 340, legend=False)
