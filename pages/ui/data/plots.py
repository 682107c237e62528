"""Plots of the Data page. Plain values in, a plot out; the page gives the colors."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from pages.ui.common.charts import panel_title
from pages.ui.common.plot_style import MUTED, plain

STRETCH_ROW = 110


def localization_chart(
    share: np.ndarray, channels: Sequence[str], colors: Sequence[str], *, height: int = 420
) -> go.Figure:
    """Plot the measured share of energy (n, M) in the lowest frequencies, one line for each channel."""
    plot = go.Figure()
    kept = np.arange(1, len(share) + 1)
    for m, name in enumerate(channels):
        plot.add_trace(
            go.Scatter(
                x=kept,
                y=100 * share[:, m],
                mode="lines",
                name=name,
                line={
                    "color": colors[m % len(colors)],
                    # The lines of channels that move together overlap; dashes keep all of them visible.
                    "dash": ("solid", "dash", "dot", "dashdot")[m % 4],
                    "width": 2,
                },
                hovertemplate="%{x} lowest frequencies hold %{y:.1f}%<extra>%{fullData.name}</extra>",
            )
        )
    ticks = [t for t in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if t <= len(share)]
    plot.update_xaxes(
        type="log", title=f"lowest frequencies kept (of {len(share)})", tickvals=ticks, ticktext=ticks
    )
    plot.update_yaxes(title="share of the energy (%)", range=[0, 102])
    return plain(plot, height, legend=len(channels) > 1)


def stretch_chart(
    values: np.ndarray, names: Sequence[str], stamps: np.ndarray | None, step: float, color: str
) -> go.Figure:
    """Plot the first rows (T, M) of a file as they are read, a row for each channel, with gaps shaded.

    `stamps` (T,) are in microseconds; distances of more than one and a half usual steps (`step` in seconds) are
    gaps too.
    """
    x = np.arange(1, len(values) + 1) if stamps is None else stamps.astype("datetime64[us]")
    outage = np.zeros(len(values), dtype=bool)
    if stamps is not None and step:
        outage[1:] = np.diff(stamps) > 1.5e6 * step
    plot = make_subplots(len(names), 1, shared_xaxes=True, vertical_spacing=0.3 / (len(names) + 2))
    # A value that is not there ends the line on both sides of an outage.
    order = np.flatnonzero(outage)
    for row, name in enumerate(names, 1):
        column = values[:, row - 1]
        plot.add_trace(
            go.Scatter(
                x=np.insert(x, order, x[order]),
                y=np.insert(column, order, np.nan),
                mode="lines+markers" if len(values) < 80 else "lines",
                line={"color": color, "width": 1.5},
                marker={"size": 4},
                hovertemplate="%{x}: %{y:.6g}<extra></extra>",
            ),
            row,
            1,
        )
        for begin, end in _gaps(np.isnan(column), outage):
            plot.add_vrect(
                x[begin], x[end], row=row, col=1, line_width=0, fillcolor="rgba(199,81,0,.22)", layer="below"
            )
        panel_title(plot, name, MUTED, row)
    title = "row" if stamps is None else "time"
    plot.update_xaxes(title=title, row=len(names), col=1)
    plot.update_yaxes(nticks=3)
    return plain(plot, 90 + STRETCH_ROW * len(names), legend=False)


def _gaps(missing: np.ndarray, outage: np.ndarray) -> list[tuple[int, int]]:
    """Return the known rows around each gap: empty cells (T,), and rows (T,) that follow an outage."""
    known = np.flatnonzero(~missing)
    last = len(missing) - 1
    edges = np.concatenate([[0], known, [last]]) if len(known) else np.array([0, last])
    pairs = zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    return [(a, b) for a, b in pairs if b > a and (missing[a : b + 1].any() or outage[a + 1 : b + 1].any())]
