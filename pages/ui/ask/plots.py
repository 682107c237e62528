"""Plots of the Ask page. Plain values in, a plot out; the page gives the colors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.colors import hex_to_rgb
from plotly.subplots import make_subplots

from e2crf_core.questions.heldout import NETWORK, HeldoutScores
from e2crf_core.questions.watching import RecordingScores
from pages.ui.ask.subject import Subject, stretches
from pages.ui.ask.work import LEVELS, Answer
from pages.ui.common.charts import panel_title
from pages.ui.common.plot_style import MUTED, interval_bars, plain

BANDS = ((0, 4, 0.2, "90% of draws"), (1, 3, 0.42, "50% of draws"))
MIDDLE = LEVELS.index(0.5)
ROW_HEIGHT = 185


def faded(color: str, opacity: float) -> str:
    """Return a hexadecimal color with an opacity."""
    red, green, blue = hex_to_rgb(color)
    return f"rgba({red},{green},{blue},{opacity})"


def fan_chart(
    subject: Subject, answer: Answer | None, channels: Sequence[int], colors: Sequence[str]
) -> go.Figure:
    """Plot what is known and, with an answer, its median, its bands and the truth; one row for each channel.

    Without an answer, the gaps are shaded.
    """
    plot = make_subplots(len(channels), 1, shared_xaxes=True, vertical_spacing=0.3 / (len(channels) + 2))
    for row, channel in enumerate(channels, 1):
        first = row == 1
        if answer is not None:
            _bands(plot, subject, answer, channel, row, colors[0])
        _line(plot, row, subject.x, subject.values[:, channel], "known", MUTED, "solid", first)
        if subject.truth is not None and answer is not None:
            truth = _joined(subject, channel, subject.truth[:, channel])
            _line(plot, row, subject.x, truth, "truth, hidden", colors[1], "dot", first)
        for begin, end in stretches(subject.missing[:, [channel]]) if answer is None else ():
            edges = subject.x[[max(0, begin - 1), min(len(subject.x) - 1, end)]]
            plot.add_vrect(*edges, row=row, col=1, line_width=0, fillcolor=faded(colors[0], 0.13))
        panel_title(plot, subject.titles[channel], MUTED, row)
    plot.update_xaxes(title=subject.x_title, row=len(channels), col=1)
    height = ROW_HEIGHT * len(channels)
    # The legend is above the title of the first channel.
    return plain(plot, 90 + height).update_layout(legend={"y": 1 + 26 / height}, margin={"t": 64})


def _line(
    plot: go.Figure,
    row: int,
    x: np.ndarray,
    y: np.ndarray,
    name: str,
    color: str,
    dash: str,
    legend: bool,
) -> None:
    plot.add_trace(
        go.Scatter(
            x=x,
            y=y,
            mode="lines",
            name=name,
            legendgroup=name,
            showlegend=legend,
            line={"color": color, "width": 1.8, "dash": dash},
            hovertemplate="%{y:.4g}<extra>%{fullData.name}</extra>",
        ),
        row,
        1,
    )


def _joined(subject: Subject, channel: int, values: np.ndarray) -> np.ndarray:
    """Return values (T,) of gaps together with the known ones on their borders, NaN elsewhere."""
    missing = subject.missing[:, channel]
    border = np.zeros_like(missing)
    border[1:] |= missing[:-1]
    border[:-1] |= missing[1:]
    return np.where(missing, values, np.where(border, subject.values[:, channel], np.nan))


def _bands(plot: go.Figure, subject: Subject, answer: Answer, channel: int, row: int, color: str) -> None:
    quantiles = answer.quantiles[:, :, channel]
    parts = stretches(subject.missing[:, [channel]])
    for low, high, opacity, name in BANDS:
        x: list[object] = []
        y: list[object] = []
        for begin, end in parts:
            span = np.arange(max(0, begin - 1), min(len(subject.x), end + 1))
            x += [*subject.x[span], *subject.x[span[::-1]], None]
            y += [*quantiles[high, span], *quantiles[low, span[::-1]], None]
        plot.add_trace(
            go.Scatter(
                x=x,
                y=y,
                fill="toself",
                fillcolor=faded(color, opacity),
                line={"width": 0},
                mode="lines",
                name=name,
                legendgroup=name,
                showlegend=row == 1,
                hoverinfo="skip",
            ),
            row,
            1,
        )
    middle = _joined(subject, channel, quantiles[MIDDLE])
    _line(plot, row, subject.x, middle, "median", color, "solid", row == 1)


def judgment_chart(judgment: HeldoutScores, colors: Sequence[str]) -> go.Figure:
    """Plot the CRPS of the model and of naive answers with their intervals, the best one on top."""
    ranked = sorted(judgment.scores, key=lambda score: -score.crps.value)
    plot = go.Figure()
    for network, color, symbol in ((True, colors[0], "diamond"), (False, MUTED, "circle")):
        rows = [score for score in ranked if (score.name == NETWORK) is network]
        middle = [score.crps.value for score in rows]
        plot.add_trace(
            go.Scatter(
                x=middle,
                y=[score.name for score in rows],
                mode="markers",
                marker={"size": 11, "symbol": symbol, "color": color},
                error_x=interval_bars(
                    middle,
                    [score.crps.low for score in rows],
                    [score.crps.high for score in rows],
                    color,
                    thickness=2,
                ),
                hovertemplate="%{y}: %{x:.3f}<extra></extra>",
            )
        )
    plot.update_xaxes(title="CRPS (standard deviations of the data; smaller is better)", rangemode="tozero")
    plot.update_yaxes(showgrid=False, categoryorder="array", categoryarray=[score.name for score in ranked])
    return plain(plot, 90 + 38 * len(ranked), legend=False)


def normal_chart(
    subject: Subject,
    scores: RecordingScores | None,
    causes: np.ndarray | None,
    colors: Sequence[str],
    threshold: float = 0.0,
) -> go.Figure:
    """Plot a series, a row for each channel, with the values that cause a verdict; below, scores of windows."""
    channels, below = len(subject.titles), scores is not None
    rows = channels + below
    plot = make_subplots(rows, 1, shared_xaxes=True, vertical_spacing=0.3 / (rows + 2))
    for row, title in enumerate(subject.titles, 1):
        values = subject.values[:, row - 1]
        _line(plot, row, subject.x, values, "series", MUTED, "solid", row == 1)
        if causes is not None and causes[:, row - 1].any():
            marked = causes[:, row - 1]
            plot.add_trace(
                go.Scatter(
                    x=subject.x[marked],
                    y=values[marked],
                    mode="markers",
                    name="cause",
                    legendgroup="cause",
                    showlegend=not causes[:, : row - 1].any(),
                    marker={"color": colors[1], "size": 8, "symbol": "x"},
                    hovertemplate="%{y:.4g}<extra>cause</extra>",
                ),
                row,
                1,
            )
        panel_title(plot, title, MUTED, row)
    if scores is not None:
        _window_scores(plot, subject, scores, rows, colors, threshold)
    plot.update_xaxes(title=subject.x_title, row=rows, col=1)
    height = ROW_HEIGHT * rows
    return plain(plot, 90 + height).update_layout(legend={"y": 1 + 26 / height}, margin={"t": 64})


def _window_scores(
    plot: go.Figure,
    subject: Subject,
    scores: RecordingScores,
    row: int,
    colors: Sequence[str],
    threshold: float,
) -> None:
    """Add one level line for each window's score, and the threshold."""
    level = scores.totals[scores.window]
    breaks = np.flatnonzero(np.diff(scores.window)) + 1
    steps = np.insert(np.arange(len(level)), breaks, breaks - 1)
    height = np.insert(level, breaks, np.nan)
    _line(plot, row, subject.x[steps], height, "score of a window", colors[0], "solid", True)
    ends = subject.x[[0, -1]]
    _line(plot, row, ends, np.full(2, threshold), "threshold", colors[1], "dash", True)
    panel_title(plot, "score (nats)", MUTED, row)
