"""Check the laws of the protocol (network/protocol.py) on a network: what every cached run relies on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from e2crf_core.caching.selection import Selection
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.io.arrays import reason
from e2crf_core.network.forward import (
    band_edges_of,
    plain_forward,
    prefix_forward,
    selective_forward,
)
from e2crf_core.network.kvcache import KVCache
from e2crf_core.network.protocol import TokenNetwork

TOLERANCE = 1e-3
"""Largest difference between two ways to compute the same values, relative to their size, in single precision."""
BATCH = 3
PIECES = (
    "layers",
    "heads",
    "width",
    "prepare_flops",
    "condition",
    "prepare",
    "embed",
    "qkv",
    "finish",
    "head",
)


@dataclass(frozen=True)
class Law:
    """A law in words, and the largest relative difference that was measured (0: exact)."""

    text: str
    difference: float


@dataclass(frozen=True)
class _Probe:
    """A network with one random state (B, n, c) at one noise level."""

    model: ScoreModel
    u: Tensor
    level: Tensor

    @property
    def network(self) -> TokenNetwork:
        network: TokenNetwork = self.model.network
        return network

    def feature(self, u: Tensor | None = None) -> Tensor:
        """Return C (B, n, d) of the plain forward."""
        u = self.u if u is None else u
        return plain_forward(
            self.network, self.network.prepare(u, self.level), self.network.condition(self.level)
        )

    def output(self, u: Tensor | None = None) -> Tensor:
        """Return F (B, n, c) of the plain forward."""
        return self.network.head(self.feature(u))


def check_laws(model: ScoreModel) -> tuple[Law, ...]:
    """Check the network of a model; returns the laws with what was measured.

    Raises LabError that names the first law that does not hold, or the piece that is missing or fails.
    """
    network = model.network
    missing = [name for name in PIECES if not hasattr(network, name)]
    if missing or not isinstance(network, torch.nn.Module):
        what = f"lacks {', '.join(missing)}" if missing else "is no torch.nn.Module"
        raise LabError(f"the network {what}", field="factory", remedy="docs/protocol.md lists what it needs")
    _check_numbers(model)
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(BATCH, *model.mu.shape, generator=generator).to(model.mu) * model.mask
    # The sampler states noise levels in double precision.
    probe = _Probe(model, u, torch.tensor(0.3, dtype=torch.float64, device=u.device))
    laws: list[Callable[[_Probe], list[Law]]] = [_shapes, _same_again, _alone, _rows, _chosen]
    if band_edges_of(model.network):
        laws.append(_prefixes)
    measured: list[Law] = []
    with torch.inference_mode():
        for check in laws:
            try:
                measured += check(probe)
            except LabError:
                raise
            except Exception as fault:
                raise LabError(
                    f"the network failed while {check.__doc__}: {type(fault).__name__}: {reason(fault)}",
                    field="factory",
                ) from fault
    return tuple(measured)


def _check_numbers(model: ScoreModel) -> None:
    network, n = model.network, model.n
    for name in ("layers", "heads", "width"):
        value = getattr(network, name)
        if not isinstance(value, int) or value < 1:
            raise LabError(f"the network's {name} is {value!r}, not a positive whole number", field="factory")
    if network.width % network.heads:
        raise LabError(
            f"the network's width {network.width} is not divisible by its {network.heads} heads",
            field="factory",
        )
    edges = band_edges_of(network)
    if edges and (list(edges) != sorted(set(edges)) or edges[0] < 1 or edges[-1] != n):
        raise LabError(f"the edges {edges} do not rise to the {n} tokens", field="factory")
    visible = getattr(network, "visible", None)
    if edges and (visible is None or tuple(visible.shape) != (n, n)):
        raise LabError(f"a network with edges needs `visible` of shape {(n, n)}", field="factory")


def _law(text: str, first: Tensor, second: Tensor) -> Law:
    """Compare two results that a law makes equal. Raises LabError if they differ."""
    if first.shape != second.shape:
        raise LabError(
            f"law broken: {text}; shapes are {tuple(first.shape)} and {tuple(second.shape)}", field="factory"
        )
    scale = float(second.abs().max().clamp_min(1e-6))
    difference = float((first - second).abs().max()) / scale
    if not difference < TOLERANCE:
        raise LabError(f"law broken: {text}; the relative difference is {difference:.2g}", field="factory")
    return Law(text, difference)


def _shapes(probe: _Probe) -> list[Law]:
    """computing the plain forward"""  # noqa: D415
    network, u = probe.network, probe.u
    feature = probe.feature()
    if tuple(feature.shape) != (*u.shape[:2], network.width):
        raise LabError(
            f"C has shape {tuple(feature.shape)}, not (batch, tokens, width) = {(*u.shape[:2], network.width)}",
            field="factory",
        )
    output = network.head(feature)
    if output.shape != u.shape:
        raise LabError(f"F has shape {tuple(output.shape)}, the state {tuple(u.shape)}", field="factory")
    for level in (-6.0, 0.0, 6.0):
        if not torch.isfinite(_Probe(probe.model, u, torch.tensor(level).to(probe.level)).output()).all():
            raise LabError(f"F is not finite at log(a/s) = {level:g}", field="factory")
    return []


def _same_again(probe: _Probe) -> list[Law]:
    """computing the same twice"""  # noqa: D415
    return [_law("the same state gives the same output", probe.output(), probe.output())]


def _alone(probe: _Probe) -> list[Law]:
    """computing a sample alone"""  # noqa: D415
    one = torch.cat([probe.output(probe.u[i : i + 1]) for i in range(BATCH)])
    levels = probe.level.expand(BATCH)
    network = probe.network
    condition = network.condition(levels)[:, None]
    many = network.head(plain_forward(network, network.prepare(probe.u, levels), condition))
    return [
        _law("a sample does not depend on its batch", one, probe.output()),
        _law("one noise level for all, or one for each sample, is the same", many, probe.output()),
    ]


def _rows(probe: _Probe) -> list[Law]:
    """computing single rows"""  # noqa: D415
    network, n = probe.network, probe.model.n
    prepared = network.prepare(probe.u, probe.level)
    condition = network.condition(probe.level)
    some = torch.tensor([n - 1, 0, n // 2], device=probe.u.device)
    h = network.embed(prepared, None)
    laws = [_law("embed treats tokens one by one", network.embed(prepared[0, some], some), h[0, some])]
    for layer in range(network.layers):
        whole, alone = (network.qkv(layer, x, condition) for x in (h, h[0, some]))
        for name, a, b in zip("qkv", alone, whole, strict=True):
            laws.append(_law(f"{name} of layer {layer} treats tokens one by one", a, b[0, some]))
        finished = network.finish(layer, h, whole[2], condition)
        alone_finished = network.finish(layer, h[0, some], whole[2][0, some], condition)
        laws.append(
            _law(f"finish of layer {layer} treats tokens one by one", alone_finished, finished[0, some])
        )
        h = finished
    return [*laws, _law("head treats tokens one by one", network.head(h[0, some]), network.head(h)[0, some])]


def _chosen(probe: _Probe) -> list[Law]:
    """computing chosen tokens"""  # noqa: D415
    network, model = probe.network, probe.model
    if band_edges_of(network):
        return []
    prepared, condition = network.prepare(probe.u, probe.level), network.condition(probe.level)
    kept = KVCache(network.layers, BATCH, model.n, network.width, device=probe.u.device, dtype=probe.u.dtype)
    plain = plain_forward(network, prepared, condition, cache=kept)
    mask = torch.rand(BATCH, model.n, generator=torch.Generator().manual_seed(1)) < 0.5
    laws = []
    for text, pick in (
        ("choosing every token equals the plain forward", torch.ones_like(mask)),
        ("recomputing some tokens of an unchanged state gives what is kept", mask),
    ):
        chosen = Selection.of(pick, BATCH, probe.u.device)
        rows = selective_forward(
            network, chosen.take(prepared), condition, kept, chosen.sample, chosen.token, chosen.counts
        )
        laws.append(_law(text, rows, chosen.take(plain)))
    return laws


def _prefixes(probe: _Probe) -> list[Law]:
    """computing prefixes of bands"""  # noqa: D415
    network = probe.network
    prepared, condition = network.prepare(probe.u, probe.level), network.condition(probe.level)
    plain = plain_forward(network, prepared, condition)
    return [
        _law(
            f"the lowest {m} tokens alone equal those of the plain forward",
            prefix_forward(network, prepared, condition, m),
            plain[:, :m],
        )
        for m in band_edges_of(network)
    ]
