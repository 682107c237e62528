"""Build the network and sampler of the public FourierDiffusion library as they are published, for timing only.

Its defaults (Crabbé et al. 2024, arXiv:2402.05933): one token for each of N positions, width 72, 12 heads, 10 layers,
a feed-forward width of 2048, torch's own encoder, 1000 steps of Euler-Maruyama. Weights are random.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTH, HEADS, LAYERS, HIDDEN, STEPS = 72, 12, 10, 2048, 1000


class PublicNetwork(nn.Module):
    """A score network of `tokens` tokens with `channels` values each."""

    def __init__(self, tokens: int, channels: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, dim_feedforward=HIDDEN, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, LAYERS)
        self.lift, self.unlift = nn.Linear(channels, WIDTH), nn.Linear(WIDTH, channels)
        self.time = nn.Linear(WIDTH, WIDTH)
        self.register_buffer("position", torch.randn(tokens, WIDTH))
        self.register_buffer("frequencies", torch.randn(WIDTH // 2))
        self.eval().requires_grad_(False)

    position: Tensor
    frequencies: Tensor

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Map x (B, tokens, channels) at time t () to scores of the same shape."""
        angle = 2 * torch.pi * t * self.frequencies
        time = self.time(torch.cat([angle.sin(), angle.cos()]))
        return self.unlift(self.encoder(self.lift(x) + self.position + time))

    def step(self, x: Tensor, t: Tensor) -> Tensor:
        """Take one step of Euler-Maruyama, as the library does."""
        beta = 0.1 + 19.9 * t
        score = self(x, t)
        return x + (0.5 * beta * x + beta * score) / STEPS + (beta / STEPS).sqrt() * torch.randn_like(x)


def public_flops(tokens: int) -> int:
    """Count the operations of one forward of one sample: two for each multiply-add of a matrix product."""
    each = 2 * LAYERS * (4 * WIDTH * WIDTH + 2 * WIDTH * HIDDEN) + 4 * LAYERS * tokens * WIDTH
    return tokens * each
