"""A third network for the cache, unlike the others: tokens are Haar wavelets, layers adaLN-zero blocks.

It is not trained; it shows what `forward.TokenNetwork` requires of a network that was designed without it.
Each token is one wavelet of all channels, coarse ones first, so that low tokens are slow structure for every
policy. The design's last layer modulates its output by the noise level; `head` may not, so the last `finish`
does it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from e2crf_core.diffusion.score_model import DEFAULT_SCHEDULE, ScoreModel


def haar(length: int) -> np.ndarray:
    """Return the (N, N) orthonormal Haar transform of series of N = 2^j steps; rows from coarse to fine."""
    rows = np.ones((1, 1))
    while len(rows) < length:
        fine = np.kron(np.eye(len(rows)), [1.0, -1.0])
        rows = np.concatenate([np.kron(rows, [1.0, 1.0]), fine]) / np.sqrt(2)
    return rows


class Block(nn.Module):
    """One adaLN-zero layer: its own map from the noise level to shift, scale and gate of both halves."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)


class WaveletDiT(nn.Module):
    """Maps rows (..., M) of wavelet coefficients to F (..., M), in the pieces of `forward.TokenNetwork`."""

    per_step_modules = ("level", "modulations", "last")
    prepare_flops = 0

    def __init__(self, tokens: int, channels: int, width: int = 24, layers: int = 3, heads: int = 3) -> None:
        super().__init__()
        self.width, self.layers, self.heads = width, layers, heads
        self.lift = nn.Linear(channels, width)
        self.position = nn.Parameter(torch.randn(tokens, width))
        self.level = nn.Sequential(nn.Linear(1, width), nn.SiLU())
        self.modulations = nn.ModuleList(nn.Linear(width, 6 * width) for _ in range(layers))
        self.last = nn.Linear(width, 2 * width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(layers))
        self.unlift = nn.Linear(width, channels)
        for linear in (*self.modulations, self.last, self.unlift):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    def condition(self, log_snr: Tensor) -> Tensor:
        """Map noise levels S to (*S, L + 1, 6, d): one row per layer, the last one for the output."""
        level = self.level(log_snr[..., None])
        rows = [m(level).unflatten(-1, (6, self.width)) for m in self.modulations]
        last = self.last(level).unflatten(-1, (2, self.width))
        return torch.stack([*rows, nnf.pad(last, (0, 0, 0, 4))], dim=-3)

    def prepare(self, u: Tensor, log_snr: Tensor) -> Tensor:
        """Use only a token's own coefficients."""
        return u

    def embed(self, prepared: Tensor, index: Tensor | None) -> Tensor:
        return self.lift(prepared) + (self.position if index is None else self.position[index])

    def qkv(self, layer: int, h: Tensor, condition: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        c = condition[..., layer, :, :]
        x = nnf.layer_norm(h, (self.width,)) * (1 + c[..., 1, :]) + c[..., 0, :]
        return self.blocks[layer].qkv(x).chunk(3, dim=-1)

    def finish(self, layer: int, h: Tensor, attended: Tensor, condition: Tensor) -> Tensor:
        block, c = self.blocks[layer], condition[..., layer, :, :]
        h = h + c[..., 2, :] * block.out(attended)
        x = nnf.layer_norm(h, (self.width,)) * (1 + c[..., 4, :]) + c[..., 3, :]
        h = h + c[..., 5, :] * block.down(nnf.gelu(block.up(x)))
        if layer < self.layers - 1:
            return h
        c = condition[..., -1, :, :]
        return nnf.layer_norm(h, (self.width,)) * (1 + c[..., 1, :]) + c[..., 0, :]

    def head(self, feature: Tensor) -> Tensor:
        return self.unlift(feature)


@dataclass(frozen=True)
class WaveletModel(ScoreModel):
    """A ScoreModel whose tokens (n = N, width M) are wavelet coefficients."""

    def magnitudes(self, tokens: np.ndarray) -> np.ndarray:
        return np.abs(tokens)

    def series(self, tokens: np.ndarray) -> np.ndarray:
        return (haar(self.length).T @ tokens * self.std + self.mean).astype(np.float32)


def wavelet_model(length: int = 32, channels: int = 2, *, dtype: torch.dtype = torch.float64) -> WaveletModel:
    """Return a model with random weights, large enough that caching matters, on random-walk statistics."""
    rng = np.random.default_rng(0)
    walks = rng.standard_normal((64, length, channels)).cumsum(1)
    tokens = haar(length) @ ((walks - walks.mean((0, 1))) / walks.std((0, 1)))
    torch.manual_seed(0)
    network = WaveletDiT(length, channels)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    model = WaveletModel(
        name="wavelets",
        network=network.eval().requires_grad_(False),
        schedule=DEFAULT_SCHEDULE,
        length=length,
        channels=tuple(f"c{i}" for i in range(channels)),
        mu=torch.as_tensor(tokens.mean(0)),
        v=torch.as_tensor(tokens.var(0)),
        mask=torch.ones(length, channels, dtype=torch.float64),
        mean=np.zeros(channels, np.float32),
        std=np.ones(channels, np.float32),
        dataset="",
    )
    return model.to(dtype=dtype)  # type: ignore[return-value]
