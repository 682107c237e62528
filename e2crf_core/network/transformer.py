"""Define the score network, a pre-norm transformer over half-spectrum tokens (E4).

It consists of the pieces that a cached sampler needs one by one (prepare, embed, qkv, finish, head); every
forward, plain or selective, uses these pieces and one attention (see `forward.py`). The residual stream is
the cumulative residual feature: C = h_L is its last value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from e2crf_core.diffusion.spectral import mirror_weights
from e2crf_core.errors import LabError

OCTAVES = (4, 8, 16, 32, 64, 128, 256, 512)


def default_bands(tokens: int) -> tuple[int, ...]:
    """Return inner edges that cut `tokens` tokens into octaves, the highest at least a sixteenth of them."""
    return tuple(edge for edge in OCTAVES if edge <= tokens - tokens // 16 - 1)


@dataclass(frozen=True)
class NetworkConfig:
    """The sizes of the network. `tokens` n, `length` N, and `channels` M determine what it models.

    `bands` holds the increasing inner edges of the bands of a spectrally causal network (E6): (4, 8) cuts the
    tokens into 0..3, 4..7, and 8..n-1. Empty means full attention.
    """

    tokens: int
    length: int
    channels: int
    width: int = 96
    layers: int = 4
    heads: int = 4
    hidden: int = 320
    stem: int = 24
    bands: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Reject sizes that cannot be built. Raises LabError."""
        object.__setattr__(self, "bands", tuple(self.bands))
        if self.width % self.heads or self.width % 2:
            raise LabError(f"width {self.width} must be even and divisible by heads {self.heads}")
        sizes = {name: size for name, size in asdict(self).items() if name != "bands"}
        if min(sizes.values()) < 1:
            raise LabError(f"network sizes must be positive: {sizes}")
        if any(low >= high for low, high in pairwise((0, *self.bands, self.tokens))):
            raise LabError(
                f"band edges {', '.join(map(str, self.bands))} do not cut {self.tokens} tokens",
                field="bands",
                remedy=f"use increasing whole numbers from 1 to {self.tokens - 1}",
            )


class Block(nn.Module):
    """A pre-norm layer: h + gate * attention(norm h), then h + gate * mlp(norm h), modulated by noise."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width = config.width
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.up = nn.Linear(width, config.hidden)
        self.down = nn.Linear(config.hidden, width)
        self.offset = nn.Parameter(torch.zeros(6, width))


class TimeStem(nn.Module):
    """A short convolution of the series itself that yields features for every token.

    A sharp event at time p is a phase ramp exp(-2 pi i k p / N) over all frequencies, which would need
    products of tokens; in time it is one local shape. The stem applies two convolutions to the noisy series
    and to its Wiener estimate (E3 with F = 0), and passes their half spectrum to the tokens. It costs about
    2% of a forward and needs only the state, so it is renewed at every recompute.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.length, channels, self.channels = config.length, config.stem, config.channels
        self.first = nn.Conv1d(2 * config.channels, channels, 9, padding=4)
        self.level = nn.Linear(config.width, 2 * channels)
        self.second = nn.Conv1d(channels, channels, 9, padding=8, dilation=2)
        self.last = nn.Conv1d(channels, channels // 2, 1)
        nn.init.zeros_(self.level.weight)
        nn.init.zeros_(self.level.bias)
        self.register_buffer("to_series", None, persistent=False)
        self.register_buffer("to_spectrum", None, persistent=False)
        self._apply(lambda tensor: tensor)

    scale: Tensor
    to_series: Tensor | None
    to_spectrum: Tensor | None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> TimeStem:
        """Move or convert the stem; the scale of E1 is made anew, so that it is exact in every precision."""
        super()._apply(fn, recurse)
        scale = torch.from_numpy(np.sqrt(mirror_weights(self.length))[:, None])
        self.register_buffer("scale", scale.to(self.first.weight), persistent=False)
        return self

    def forward(self, u: Tensor, gain: Tensor, mu: Tensor, level: Tensor) -> Tensor:
        """Map u (B, n, 2M), Wiener gain (..., n, 2M), mu (n, 2M), level (..., d) to (B, n, stem)."""
        both = torch.cat([u, mu + gain * u], dim=-1).div(self.scale).unflatten(-1, (2, 2, -1))
        x = self.first(self._series(*both.unbind(-2)))
        scale, shift = self.level(level)[..., None].chunk(2, dim=-2)
        x = nnf.gelu(torch.addcmul(shift, x, 1 + scale), approximate="tanh")
        x = self.last(x + nnf.gelu(self.second(x), approximate="tanh"))
        return self._spectrum(x)

    def use_matrices(self) -> None:
        """Transform by products with real matrices from now on, for compilers and other runtimes.

        Those generate no code for complex numbers, and their own transforms are inaccurate: ONNX Runtime's is off
        by 1e-4 at N = 187.
        """
        n, weights = len(self.scale), mirror_weights(self.length)
        turn = 2 * np.pi / self.length * (np.outer(np.arange(n), np.arange(self.length)) % self.length)
        both = np.concatenate([np.cos(turn), -np.sin(turn)]) / np.sqrt(self.length)
        twice = np.tile(weights, 2)[:, None]
        for name, table in (("to_series", twice * both), ("to_spectrum", (np.sqrt(twice) * both).T.copy())):
            self.register_buffer(name, torch.from_numpy(table).to(self.first.weight), persistent=False)

    def _series(self, real: Tensor, imaginary: Tensor) -> Tensor:
        """Return the series (B, c, N) of half spectra (B, n, ...) with c coordinates."""
        if self.to_series is not None:
            return torch.cat([real, imaginary], dim=1).flatten(2).transpose(1, 2) @ self.to_series
        series = torch.fft.irfft(torch.complex(real, imaginary), n=self.length, dim=1, norm="ortho")
        return series.flatten(2).transpose(1, 2)

    def _spectrum(self, x: Tensor) -> Tensor:
        """Return the scaled half spectrum (B, n, 2c) of series x (B, c, N)."""
        if self.to_spectrum is not None:
            return (x @ self.to_spectrum).unflatten(-1, (2, -1)).permute(0, 3, 2, 1).flatten(2)
        # Autocast computes the layers before this one in bfloat16, which has no transforms.
        spectrum = torch.fft.rfft(x.transpose(1, 2).to(self.scale.dtype), dim=1, norm="ortho") * self.scale
        return torch.cat([spectrum.real, spectrum.imag], dim=-1)


class ScoreTransformer(nn.Module):
    """A transformer that predicts F(c_in z, log_snr) of E3 for tokens of width 2M.

    The noise level enters each layer as shift, scale, and gate: one shared projection plus a learned offset
    per layer, so that conditioning costs few parameters.
    """

    per_step_modules = ("level", "modulation", "stem")

    def __init__(self, config: NetworkConfig, mu: Tensor | None = None, v: Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        self.layers, self.heads, self.width = config.layers, config.heads, config.width
        width = config.width
        like = torch.ones(config.tokens, 2 * config.channels)
        self.register_buffer("mu", torch.zeros_like(like) if mu is None else mu.float())
        self.register_buffer("v", like if v is None else v.float())
        self.stem = TimeStem(config)
        self.lift = nn.Linear(2 * config.channels + 2 * (config.stem // 2), width)
        self.position = nn.Parameter(0.02 * torch.randn(config.tokens, width))
        self.level = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.modulation = nn.Linear(width, 6 * width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.unlift = nn.Linear(width, 2 * config.channels)
        nn.init.zeros_(self.unlift.weight)
        nn.init.zeros_(self.unlift.bias)
        nn.init.normal_(self.modulation.weight, std=0.01)
        nn.init.zeros_(self.modulation.bias)
        for block in self.blocks:
            assert isinstance(block, Block)
            with torch.no_grad():
                block.offset[2].fill_(1.0)
                block.offset[5].fill_(1.0)
            nn.init.normal_(block.out.weight, std=0.02 / math.sqrt(2 * config.layers))
            nn.init.normal_(block.down.weight, std=0.02 / math.sqrt(2 * config.layers))
        frequencies = torch.exp(torch.linspace(math.log(0.1), math.log(8.0), 32))
        self.register_buffer("frequencies", frequencies, persistent=False)
        visible = None
        if self.edges:
            band = torch.bucketize(torch.arange(config.tokens), torch.tensor(self.edges), right=True)
            visible = band[:, None] >= band[None, :]
        self.register_buffer("visible", visible, persistent=False)

    visible: Tensor | None

    @property
    def edges(self) -> tuple[int, ...]:
        """Return the upper edges of the bands, the last one n; () with full attention."""
        return (*self.config.bands, self.config.tokens) if self.config.bands else ()

    @property
    def prepare_flops(self) -> int:
        """Return the operations of `prepare` per sample: the stem's convolutions, two per multiply-add."""
        weights = sum(p.numel() for name, p in self.stem.named_parameters() if p.dim() == 3)
        return 2 * self.config.length * weights

    def _level(self, log_snr: Tensor) -> Tensor:
        dtype = self.position.dtype
        angle = log_snr.to(dtype)[..., None] * self.frequencies.to(dtype)  # type: ignore[operator]
        return self.level(torch.cat([angle.sin(), angle.cos()], dim=-1))

    def prepare(self, u: Tensor, log_snr: Tensor) -> Tensor:
        """Map inputs u (B, n, 2M) at noise levels () or (B,) to the inputs of `embed`, (B, n, inputs)."""
        # c_skip / c_in of E3, in terms of a/s alone: u and F are the same for every schedule at equal
        # log(a/s).
        ratio = torch.exp(log_snr.to(u.dtype))[..., None, None]
        gain = ratio * self.v / torch.sqrt(ratio * ratio * self.v + 1)  # type: ignore[operator]
        return torch.cat([u, self.stem(u, gain, self.mu, self._level(log_snr))], dim=-1)

    def condition(self, log_snr: Tensor) -> Tensor:
        """Map noise levels of shape S to shifts, scales, and gates (*S, L, 6, d), computed once per step."""
        shared = self.modulation(self._level(log_snr)).unflatten(-1, (6, self.width))
        offsets = torch.stack([block.offset for block in self.blocks])  # type: ignore[misc]
        condition = shared[..., None, :, :] + offsets
        condition[..., 1::3, :] += 1
        return condition

    def embed(self, prepared: Tensor, index: Tensor | None) -> Tensor:
        """Map prepared rows (..., inputs) of tokens `index` (None: the lowest ones) to h_0 (..., d)."""
        position = self.position[: prepared.shape[-2]] if index is None else self.position[index]
        return self.lift(prepared) + position

    def qkv(self, layer: int, h: Tensor, condition: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map layer input h (..., d) to its queries, keys, and values (..., d)."""
        block, (shift, scale, *_) = self.blocks[layer], condition[..., layer, :, :].unbind(-2)
        x = torch.addcmul(shift, nnf.layer_norm(h, (self.width,)), scale)
        q, k, v = block.qkv(x).chunk(3, dim=-1)  # type: ignore[operator]
        return q, k, v

    def finish(self, layer: int, h: Tensor, attended: Tensor, condition: Tensor) -> Tensor:
        """Finish a layer after attention: (..., d) -> h of the next layer."""
        block = self.blocks[layer]
        _, _, first, shift, scale, second = condition[..., layer, :, :].unbind(-2)
        h = torch.addcmul(h, block.out(attended), first)  # type: ignore[operator]
        x = torch.addcmul(shift, nnf.layer_norm(h, (self.width,)), scale)
        x = block.down(nnf.gelu(block.up(x), approximate="tanh"))  # type: ignore[operator]
        return torch.addcmul(h, x, second)

    def head(self, feature: Tensor) -> Tensor:
        """Map feature C (..., d) to F (..., 2M), independent of time: a kept C gives a kept F."""
        return self.unlift(nnf.layer_norm(feature, (self.width,)))
