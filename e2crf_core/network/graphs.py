"""Wrap a network as one graph of tensors, for compilers and exports: nothing is kept between calls."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from e2crf_core.network.forward import prefix_forward
from e2crf_core.network.shapes import Float
from e2crf_core.network.transformer import TimeStem

LEVEL = 0.5
"""The level of the example from which a graph is traced; any other runs too."""


LONGEST = 512
"""The longest series whose transforms become matrices: for longer ones, these would take much of a call."""


def for_graphs(network: Any) -> Any:
    """Return a copy of a network, to run elsewhere: transforms of short series are products of real matrices."""
    twin = copy.deepcopy(network)
    if isinstance(twin, nn.Module):
        for module in twin.modules():
            if isinstance(module, TimeStem) and module.length <= LONGEST:
                module.use_matrices()
    return twin


class FeatureGraph(nn.Module):
    """A graph of C (E4) of the lowest m tokens: u (B, n, 2M), log_snr () -> (B, m, d)."""

    def __init__(self, network: Any, m: int) -> None:
        super().__init__()
        self.network, self.m = network, m

    def forward(self, u: Float[Tensor, "B n c"], log_snr: Tensor) -> Float[Tensor, "B m d"]:
        """Run one forward of the lowest m tokens; m is n, or the upper edge of a band."""
        network = self.network
        return prefix_forward(network, network.prepare(u, log_snr), network.condition(log_snr), self.m)


class ScoreGraph(FeatureGraph):
    """A graph of F(u, log_snr) of E3 for all n tokens: u (B, n, 2M), log_snr () -> (B, n, 2M)."""

    def forward(self, u: Float[Tensor, "B n c"], log_snr: Tensor) -> Float[Tensor, "B n c"]:
        """Run one whole forward and its head."""
        return self.network.head(super().forward(u, log_snr))


def traced(graph: FeatureGraph, u: Float[Tensor, "B n c"]) -> Any:
    """Trace a graph into a program of tensors with free batch size, from an example `u` of a batch of at least 2."""
    shapes = {"u": {0: torch.export.Dim("batch", min=1, max=65536)}, "log_snr": None}
    return torch.export.export(graph, (u, torch.tensor(LEVEL)), dynamic_shapes=shapes)
