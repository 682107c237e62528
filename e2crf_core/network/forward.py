"""E6: plain and selective forward, over any network that satisfies `TokenNetwork`, with one attention.

A selective forward runs only chosen tokens through every layer. Each layer keeps keys and values of all tokens,
taken from that layer's own input; tokens that are not run contribute their kept ones as context.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as nnf

from e2crf_core.network.kvcache import KVCache


class TokenNetwork(Protocol):
    """What a token-wise score network must offer to be cached. Shapes: (..., d) rows of tokens.

    `prepare` may look at the whole state, which is always known, and must be cheap beside the layers;
    `condition` depends on the noise level alone; `head` must not depend on it, so that a kept feature gives a
    kept output. All others treat rows independently: there tokens meet in attention only.
    """

    @property
    def prepare_flops(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def width(self) -> int: ...
    def condition(self, log_snr: Tensor) -> Tensor: ...
    def prepare(self, u: Tensor, log_snr: Tensor) -> Tensor: ...
    def embed(self, prepared: Tensor, index: Tensor | None) -> Tensor: ...
    def qkv(self, layer: int, h: Tensor, condition: Tensor) -> tuple[Tensor, Tensor, Tensor]: ...
    def finish(self, layer: int, h: Tensor, attended: Tensor, condition: Tensor) -> Tensor: ...
    def head(self, feature: Tensor) -> Tensor: ...


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Multi-head attention of queries (B, m, d) over keys and values (B, n, d) -> (B, m, d)."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return nnf.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def plain_forward(
    network: TokenNetwork,
    prepared: Tensor,
    condition: Tensor,
    *,
    cache: KVCache | None = None,
    rows: Tensor | None = None,
) -> Tensor:
    """All tokens: prepared inputs (B, n, ...) -> C (B, n, d).

    With a cache, keys and values are kept in it, of samples `rows` or of all.
    """
    h = network.embed(prepared, None)
    for layer in range(network.layers):
        q, k, v = network.qkv(layer, h, condition)
        if cache is not None:
            cache.write_samples(layer, rows, k, v)
        h = network.finish(layer, h, attend(q, k, v, network.heads), condition)
    return h


def selective_forward(
    network: TokenNetwork,
    prepared: Tensor,
    condition: Tensor,
    cache: KVCache,
    sample: Tensor,
    token: Tensor,
    counts: Tensor,
) -> Tensor:
    """Chosen tokens only: prepared rows (T, ...) at (sample, token) -> C (T, d), rows sorted by sample.

    `counts` (B,), on the host, says how many rows each sample has. Keys and values of the chosen tokens are
    replaced in `cache`; reading one that was never written raises (see KVCache).
    """
    present = counts.nonzero()[:, 0].to(prepared.device)
    length = int(counts.max())
    ragged = bool((counts[counts > 0] != length).any())
    every = len(present) == len(counts)
    if ragged:
        slot = (torch.cumsum(counts, 0) - counts).to(prepared.device)
        compact = torch.cumsum((counts > 0).long(), 0).to(prepared.device) - 1
        place = compact[sample] * length + torch.arange(len(sample), device=prepared.device) - slot[sample]
    h = network.embed(prepared, token)
    for layer in range(network.layers):
        q, k, v = network.qkv(layer, h, condition)
        cache.write_tokens(layer, sample, token, k, v)
        keys, values = cache.read(layer, None if every else present)
        if ragged:
            padded = q.new_zeros(len(present) * length, q.shape[-1]).index_copy_(0, place, q)
            padded = padded.view(len(present), length, -1)
            attended = attend(padded, keys, values, network.heads).flatten(0, 1)[place]
        else:
            attended = attend(q.view(len(present), length, -1), keys, values, network.heads).flatten(0, 1)
        h = network.finish(layer, h, attended, condition)
    return h
