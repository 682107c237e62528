"""Count operations: what a step with T recomputed tokens costs, independent of the machine."""

from __future__ import annotations

from e2crf_core.network.forward import band_edges_of
from e2crf_core.network.protocol import TokenNetwork


def network_flops(network: TokenNetwork, tokens: int, context: int, samples: int) -> int:
    """Count the floating-point operations of forwards of `tokens` rows, each attending to `context` keys.

    Counts matrix products only, two operations per multiply-add: linear maps (from the parameter shapes) and
    attention. `samples` counts how often a sample's inputs were prepared. Conditioning is per step, not per
    token, and is omitted on both sides of any ratio.
    """
    each = token_weights(network) * 2 + 4 * network.layers * context * network.width
    return tokens * each + samples * network.prepare_flops


def token_weights(network: TokenNetwork) -> int:
    """Return the number of weights by which every recomputed token is multiplied."""
    total = 0
    for name, parameter in network.named_parameters():  # type: ignore[attr-defined]
        per_step = name.split(".")[0] in getattr(network, "per_step_modules", ())
        if parameter.dim() == 2 and name.endswith("weight") and not per_step:
            total += parameter.numel()
    return total


def prefix_flops(network: TokenNetwork, m: int, n: int) -> int:
    """Count the operations of a forward of the lowest m of n tokens of one sample, including preparation.

    m is the upper edge of a band, or n. Attention counts the keys that a band may see.
    """
    each = token_weights(network) * 2
    edges = band_edges_of(network) or (n,)
    seen = sum(
        (min(high, m) - low) * high for low, high in zip((0, *edges[:-1]), edges, strict=True) if low < m
    )
    return m * each + 4 * network.layers * seen * network.width + network.prepare_flops


def update_flops(batch: int, tokens: int, width: int) -> int:
    """Count the operations of the closed-form denoiser and the solver step (E3, E8), cached or not."""
    return 10 * batch * tokens * width
