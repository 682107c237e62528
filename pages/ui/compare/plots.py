"""Plots of the Compare page. Plain values in, a plot out; the page gives the colors."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from pages.ui.common.plot_style import plain

CELLS = 200


def decisions_chart(panels: Sequence[tuple[str, np.ndarray]], ramp: tuple[str, str]) -> go.Figure:
    """Plot the share of tokens computed (steps, B) of each setting: samples as rows, steps as columns."""
    height = 90 + 125 * len(panels)
    plot = make_subplots(
        len(panels),
        1,
        # Room for a title and the ticks between two panels, in plot coordinates.
        vertical_spacing=52 / (height - 44),
        subplot_titles=[name for name, _ in panels],
    )
    for row, (name, share) in enumerate(panels, 1):
        every = max(1, -(-len(share) // CELLS))
        edges = np.arange(0, len(share), every)
        counts = np.diff([*edges, len(share)])[:, None]
        cells = np.add.reduceat(share, edges, axis=0) / counts
        plot.add_trace(
            go.Heatmap(
                z=100 * cells.T,
                x=edges + 1,
                y=[f"sample {b}" for b in range(share.shape[1])],
                zmin=0,
                zmax=100,
                colorscale=[[0, ramp[0]], [1, ramp[1]]],
                showscale=row == 1,
                colorbar={"title": "% computed", "thickness": 12},
                hovertemplate=f"{name}<br>step %{{x}}, %{{y}}: %{{z:.0f}}%<extra></extra>",
            ),
            row,
            1,
        )
    plot.update_yaxes(autorange="reversed", nticks=6)
    plot.update_xaxes(title="step", row=len(panels), col=1)
    return plain(plot, height)
