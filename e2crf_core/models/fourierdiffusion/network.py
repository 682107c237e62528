"""Rebuild the transformer of the FourierDiffusion library (Crabbé et al. 2024, arXiv:2402.05933).

Its network sees N standardized positions (see `layout`) with M channels each, and its noise has the scale G.
So z = x / G carries white noise, as E1 and E2 require, and one position is one token here. Tokens are ordered
by frequency, so that low tokens are low frequencies for every policy.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from e2crf_core.diffusion.schedules import VP
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.io.json_files import validated
from e2crf_core.models.cards import NetworkSizes
from e2crf_core.models.fourierdiffusion.layout import (
    frequency_order,
    from_positions,
    noise_scale,
    to_positions,
)
from e2crf_core.network.forward import plain_forward


@dataclass(frozen=True)
class FourierDiffusionConfig:
    """The sizes of the library's transformer and its noise: `length` N positions of `channels` M."""

    length: int
    channels: int
    width: int
    layers: int
    heads: int
    hidden: int
    beta_min: float
    beta_max: float
    eps: float
    scaled: bool

    def __post_init__(self) -> None:
        """Reject sizes that cannot be built or cached. Raises LabError."""
        validated(NetworkSizes, asdict(self), "network sizes")
        if self.width % self.heads or self.width % 2:
            raise LabError(
                f"network sizes: width {self.width} must be even and divisible by heads {self.heads}"
            )
        if self.width < self.channels:
            raise LabError(f"a network of width {self.width} cannot carry {self.channels} channels")
        if not 0 < self.beta_min < self.beta_max or not 0 < self.eps < 1:
            raise LabError(f"these noise levels are out of range: {self}")


class FourierDiffusionBlock(nn.Module):
    """A post-norm layer: norm(h + attention), then norm(h + ReLU MLP)."""

    def __init__(self, config: FourierDiffusionConfig) -> None:
        super().__init__()
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.up = nn.Linear(config.width, config.hidden)
        self.down = nn.Linear(config.hidden, config.width)
        self.norm1 = nn.LayerNorm(config.width)
        self.norm2 = nn.LayerNorm(config.width)


class FourierDiffusionNetwork(nn.Module):
    """The library's transformer as a forward.TokenNetwork: u = c_in z in, F of E3 out.

    The library predicts a score S(x, t); F = (s G / a)(u + G S / c_in) is what the Wiener denoiser of
    unit-variance positions cannot predict. Both ends of the network depend on time, so `prepare` concatenates
    [h_0, (s G / a) u, s G² / (a c_in)], and the stream carries the last two to where S is known. F replaces
    the first M coordinates of C, so that a kept feature gives a kept output.
    """

    per_step_modules = ("time", "lift")
    position: Tensor
    frequencies: Tensor
    scale: Tensor

    def __init__(self, config: FourierDiffusionConfig) -> None:
        super().__init__()
        self.config = config
        self.layers, self.heads, self.width = config.layers, config.heads, config.width
        self.lift = nn.Linear(config.channels, config.width)
        self.unlift = nn.Linear(config.width, config.channels)
        self.time = nn.Linear(config.width, config.width)
        self.blocks = nn.ModuleList(FourierDiffusionBlock(config) for _ in range(config.layers))
        order = frequency_order(config.length)
        scale = noise_scale(config.length, scaled=config.scaled)[order]
        self.register_buffer("position", torch.zeros(config.length, config.width))
        self.register_buffer("frequencies", torch.zeros(config.width // 2))
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float32)[:, None], persistent=False)
        self.schedule = VP(config.beta_min, config.beta_max, config.eps)

    @property
    def prepare_flops(self) -> int:
        """Return the operations of preparing one sample's input: the map of every position to the width."""
        return 2 * self.config.length * self.config.channels * self.config.width

    def condition(self, log_snr: Tensor) -> Tensor:
        """Return an empty condition: nothing in the layers depends on the noise level."""
        return log_snr

    def embed_time(self, t: Tensor) -> Tensor:
        """Embed times S in [0, 1] as (*S, d): random Fourier features, then a linear map."""
        angle = t[..., None] * self.frequencies * 2 * np.pi
        return self.time(torch.cat([angle.sin(), angle.cos()], dim=-1))

    def prepare(self, u: Tensor, log_snr: Tensor) -> Tensor:
        """Prepare inputs u (B, N, M) at levels () or (B,) -> the first layer's stream (B, N, d + M + 1)."""
        schedule = self.schedule
        # E2 solved for t, as in sde.VP.t_at.
        total = torch.log1p(torch.exp(-2.0 * log_snr.double()))
        slope = schedule.beta_max - schedule.beta_min
        t = 2.0 * total / ((schedule.beta_min**2 + 2.0 * slope * total).sqrt() + schedule.beta_min)
        return self._prepare(u, t.to(u.dtype), *self._levels(total, u))

    def _levels(self, total: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return a and s (..., 1, 1) for an integrated noise rate."""
        a, s = torch.exp(-0.5 * total), (-torch.expm1(-total)).sqrt()
        return a.to(like)[..., None, None], s.to(like)[..., None, None]

    def _root(self, a: Tensor, s: Tensor) -> Tensor:
        """Return G / c_in: the standard deviation of each position x at this noise level."""
        return (a * a + (s * self.scale).square()).sqrt()

    def _prepare(self, u: Tensor, t: Tensor, a: Tensor, s: Tensor) -> Tensor:
        root, factor = self._root(a, s), s * self.scale / a
        h = self.lift(u * root) + self.position + self.embed_time(t)[..., None, :]
        return torch.cat([h, factor * u, (factor * root).expand(*u.shape[:-1], 1)], dim=-1)

    def embed(self, prepared: Tensor, index: Tensor | None) -> Tensor:
        """Return the prepared rows, which already hold their positions."""
        return prepared

    def qkv(self, layer: int, h: Tensor, condition: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys, and values (..., d) from the stream before a layer."""
        q, k, v = self.blocks[layer].qkv(h[..., : self.width]).chunk(3, dim=-1)  # type: ignore[operator]
        return q, k, v

    def finish(self, layer: int, h: Tensor, attended: Tensor, condition: Tensor) -> Tensor:
        """Finish a layer after attention -> the next stream; after the last layer C (..., d)."""
        block, x, carried = self.blocks[layer], h[..., : self.width], h[..., self.width :]
        x = block.norm1(x + block.out(attended))  # type: ignore[operator]
        x = block.norm2(x + block.down(nnf.relu(block.up(x))))  # type: ignore[operator]
        if layer < self.layers - 1:
            return torch.cat([x, carried], dim=-1)
        output = carried[..., :-1] + carried[..., -1:] * self.unlift(x)
        return torch.cat([output, x[..., output.shape[-1] :]], dim=-1)

    def head(self, feature: Tensor) -> Tensor:
        """Map C (..., d) to F (..., M)."""
        return feature[..., : self.config.channels]

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the library's own output: the score at x (B, N, M), in its layout, for times t (B,)."""
        order = torch.as_tensor(frequency_order(self.config.length), device=x.device)
        # Times are used directly: the embedding magnifies rounding from a detour over log(a/s).
        beta_min, beta_max = self.schedule.beta_min, self.schedule.beta_max
        a, s = self._levels(t.double() * beta_min + 0.5 * t.double().square() * (beta_max - beta_min), x)
        root = self._root(a, s)
        u = x[:, order] / root
        prepared = self._prepare(u, t.to(x), a, s)
        score = (self.head(plain_forward(self, prepared, t)) * a / (s * self.scale) - u) / root
        return torch.empty_like(score).index_copy_(1, order, score)


@dataclass(frozen=True)
class FourierDiffusionModel(ScoreModel):
    """A ScoreModel whose tokens are the library's positions over G, ordered by frequency: v = 1 / G².

    `position_mean`, `position_std` (N, M), in the library's layout, convert positions to data units.
    """

    position_mean: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    position_std: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    def _scale(self) -> tuple[np.ndarray, ...]:
        return self.position_mean, self.position_std

    def positions(self, tokens: np.ndarray) -> np.ndarray:
        """Convert tokens (..., N, M) to standardized positions (..., N, M) in the library's layout."""
        positions = np.empty_like(tokens)
        positions[..., frequency_order(self.length), :] = tokens / np.sqrt(self.v.cpu().numpy())
        return positions

    def series(self, tokens: np.ndarray) -> np.ndarray:
        """Convert tokens (..., N, M) to series (..., N, M) in data units, float32."""
        positions = self.positions(tokens) * self.position_std + self.position_mean
        return from_positions(positions).astype(np.float32)

    def magnitudes(self, tokens: np.ndarray) -> np.ndarray:
        """Return |x| (..., N, M) of each token, here a real or an imaginary part."""
        return np.abs(tokens) / np.sqrt(self.v.cpu().numpy())

    def series_magnitudes(self, series: np.ndarray) -> np.ndarray:
        """Return |x| (..., N, M) of each token of series (..., N, M) in data units, as in `magnitudes`."""
        scale = np.where(self.position_std > 0, self.position_std, 1.0)
        positions = (to_positions(series) - self.position_mean) / scale
        return np.abs(positions[..., frequency_order(self.length), :])
