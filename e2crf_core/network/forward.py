"""Run plain, prefix, and selective forwards (E6) of any `TokenNetwork`, all with one attention.

*Spectrally causal* networks divide their tokens into bands, low frequencies first. In every layer, a token
attends only to tokens of its own and lower bands, so the lowest m tokens (m: the upper edge of a band) depend
on no other token: a prefix forward computes them exactly, as a contiguous slice, without any kept values.

With full attention, every token needs all others. A selective forward runs only chosen tokens through every
layer; each layer keeps keys and values of all tokens, and the kept ones of the tokens that do not run serve
as context.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as nnf

from e2crf_core.network.kvcache import KVCache
from e2crf_core.network.protocol import TokenNetwork
from e2crf_core.network.shapes import Bool, Float, Int


def attend(
    q: Float[Tensor, "B m d"],
    k: Float[Tensor, "B n d"],
    v: Float[Tensor, "B n d"],
    heads: int,
    visible: Bool[Tensor, "m n"] | None = None,
) -> Float[Tensor, "B m d"]:
    """Attend from queries (B, m, d) to the `visible` (m, n) keys and values (B, n, d) -> (B, m, d)."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return nnf.scaled_dot_product_attention(q, k, v, attn_mask=visible).transpose(1, 2).flatten(2)


def band_edges_of(network: TokenNetwork) -> tuple[int, ...]:
    """Return the upper edges of a causal network's bands, the last one n; () with full attention."""
    return tuple(getattr(network, "edges", ()))


def visible_keys(network: TokenNetwork, m: int) -> Bool[Tensor, "m m"] | None:
    """Return (m, m) which of the lowest m keys each of the lowest m queries may see; None means all."""
    edges = band_edges_of(network)
    return network.visible[:m, :m] if edges and m > edges[0] else None  # type: ignore[attr-defined]


def prefix_forward(
    network: TokenNetwork, prepared: Float[Tensor, "B n *inputs"], condition: Tensor, m: int
) -> Float[Tensor, "B m d"]:
    """Run only the lowest m tokens: prepared (B, n, ...) -> C (B, m, d), the first m rows of a plain forward.

    m must be an upper edge of one of the network's bands. No keys or values are kept after the call.
    """
    edges = band_edges_of(network) or (prepared.shape[-2],)
    if m not in edges:
        raise ValueError(f"a prefix of {m} tokens ends inside a band: the edges are {edges}")
    return plain_forward(network, prepared[..., :m, :], condition)


def prefixes_forward(
    forward: Callable[[Tensor, int], Tensor], inputs: Float[Tensor, "B n ..."], lengths: Int[Tensor, " B"]
) -> Float[Tensor, "T d"]:
    """Run each sample's lowest `lengths` (B,) tokens, on the host: inputs (B, n, ...) -> C (T, d).

    `forward(inputs, m)` runs the lowest m tokens of some samples. Rows are sorted by sample; samples of equal
    length run together.
    """
    sizes = lengths.unique().tolist()
    if len(sizes) == 1:
        return forward(inputs, sizes[0]).flatten(0, 1)
    rows: dict[int, Tensor] = {}
    for m in sizes:
        which = (lengths == m).nonzero()[:, 0]
        part = forward(inputs[which.to(inputs.device)], m)
        rows |= dict(zip(which.tolist(), part, strict=True))
    return torch.cat([rows[sample] for sample in range(len(lengths))])


def plain_forward(
    network: TokenNetwork,
    prepared: Float[Tensor, "B m *inputs"],
    condition: Tensor,
    *,
    cache: KVCache | None = None,
    rows: Int[Tensor, " B"] | None = None,
) -> Float[Tensor, "B m d"]:
    """Run all given tokens, the lowest m: prepared inputs (B, m, ...) -> C (B, m, d).

    With a cache, keys and values are kept in it, for samples `rows` or for all.
    """
    visible = visible_keys(network, prepared.shape[-2])
    h = network.embed(prepared, None)
    for layer in range(network.layers):
        q, k, v = network.qkv(layer, h, condition)
        if cache is not None:
            cache.write_samples(layer, rows, k, v)
        h = network.finish(layer, h, attend(q, k, v, network.heads, visible), condition)
    return h


def selective_forward(
    network: TokenNetwork,
    prepared: Float[Tensor, "T ..."],
    condition: Tensor,
    cache: KVCache,
    sample: Int[Tensor, " T"],
    token: Int[Tensor, " T"],
    counts: Int[Tensor, " B"],
) -> Float[Tensor, "T d"]:
    """Run only chosen tokens: prepared rows (T, ...) at (sample, token) -> C (T, d), sorted by sample.

    `counts` (B,), on the host, gives the number of rows of each sample. Keys and values of the chosen tokens
    are replaced in `cache`; reading one that was never written raises StaleRead (see KVCache).
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
