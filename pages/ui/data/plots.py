"""Plots of the Data page. Plain values in, a plot out; the page gives the colors."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from pages.ui.common.plot_style import plain


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
