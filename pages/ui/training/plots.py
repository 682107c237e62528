"""Plots of the Training page. Plain values in, a plot out; the page gives the colors."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from pages.ui.common.charts import hide_ticks, panel_title, small_line
from pages.ui.common.plot_style import plain


def stages_chart(
    rows: Sequence[tuple[str, np.ndarray, str]], *, step: float, x_title: str, y_title: str
) -> go.Figure:
    """Plot rows of small plots on one scale, a column for each series: (title, series (S, N), color)."""
    columns = max(len(series) for _, series, _ in rows)
    plot = make_subplots(
        rows=len(rows),
        cols=columns,
        shared_xaxes="all",
        shared_yaxes="all",
        horizontal_spacing=0.01,
        vertical_spacing=0.22 / len(rows),
    )
    hide_ticks(plot)
    plot.update_xaxes(nticks=4)
    for row, (title, series, color) in enumerate(rows, 1):
        for column, line in enumerate(series, 1):
            plot.add_trace(small_line(line, step, color, title), row=row, col=column)
        panel_title(plot, title, color, (row - 1) * columns + 1)
        plot.update_yaxes(showticklabels=True, title=y_title, row=row, col=1)
    plot.update_xaxes(showticklabels=True, title=x_title, title_standoff=14, row=len(rows), col=1)
    return plain(plot, 90 + 100 * len(rows), legend=False)
