"""Compute the training loss: the weighted squared error of F (E3) over noise levels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from e2crf_core.diffusion.score_model import DEFAULT_SCHEDULE, ScoreModel, precondition
from e2crf_core.diffusion.spectral import tokenize
from e2crf_core.network.forward import plain_forward
from e2crf_core.network.protocol import TokenNetwork

LOSS_DRAWS = 8


def train_levels(generator: torch.Generator, count: int) -> Tensor:
    """Return (count,) log-SNR values: mostly where structure forms, some over the schedule's whole range."""
    low, high = DEFAULT_SCHEDULE.log_snr(1.0), DEFAULT_SCHEDULE.log_snr(DEFAULT_SCHEDULE.t_min)
    strata = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    strata = strata[torch.randperm(count, generator=generator)]
    wide = torch.rand(count, generator=generator) < 0.3
    return torch.where(wide, low + (high - low) * strata, -3.5 + 7.0 * strata)


def batch_loss(
    network: TokenNetwork,
    z0: Tensor,
    v: Tensor,
    mask: Tensor,
    levels: Tensor,
    noise: Tensor,
    keep: int = 0,
) -> Tensor:
    """Return the mean weighted squared error of F (E3), which training minimizes."""
    errors, weights = weighted_errors(network, z0, v, mask, levels, noise, keep)
    return errors.sum() / weights.sum()


def weighted_errors(
    network: TokenNetwork,
    z0: Tensor,
    v: Tensor,
    mask: Tensor,
    levels: Tensor,
    noise: Tensor,
    keep: int = 0,
) -> tuple[Tensor, Tensor]:
    """Return (B,) sums of weighted squared errors of F (E3), and (B,) sums of weights, for z0 (B, n, 2M).

    z0 are centered clean tokens. A token's weight is its share of the error in D at that noise level, (c_out
    / max c_out)², lifted by a tenth so that quiet frequencies are learned too. `keep` > 0 trains only on the
    lowest `keep` tokens.
    """
    ratio = torch.exp(levels)[:, None, None]
    s = torch.rsqrt(1 + ratio * ratio)
    a = ratio * s
    p = precondition(v, a, s)
    z = a * z0 + s * noise
    target = (z0 - p.c_skip * z) / p.c_out
    weight = (p.c_out / p.c_out.amax((1, 2), keepdim=True)).square() * 0.9 + 0.1
    weight = weight * mask
    u = p.c_in * z
    if keep:
        u = torch.where(torch.arange(u.shape[1], device=u.device)[:, None] < keep, u, 0.0)
    prepared = network.prepare(u, levels)
    if keep:
        prepared, target, weight = (x[:, :keep] for x in (prepared, target, weight))
    prediction = network.head(plain_forward(network, prepared, network.condition(levels)[:, None]))
    return (weight * (prediction.float() - target).square()).sum((1, 2)), weight.sum((1, 2))


def heldout_loss(model: ScoreModel, held: np.ndarray, *, seed: int = 0) -> dict[str, float]:
    """Return the training loss on standardized held-out series (S, N, M), with its 95% interval.

    The interval is that of the mean over windows. F = 0, the exact denoiser of Gaussian data, has a loss of
    about 1, which the network has to beat.
    """
    network, device = model.network, model.device
    clean = (torch.as_tensor(tokenize(held)) - model.mu.cpu()).to(device)
    generator = torch.Generator().manual_seed(seed)
    error, weight = np.zeros(len(clean)), np.zeros(len(clean))
    with torch.inference_mode():
        for _ in range(LOSS_DRAWS):
            levels = train_levels(generator, len(clean)).to(device)
            noise = torch.randn(clean.shape, generator=generator).to(device)
            errors, weights = weighted_errors(network, clean, model.v, model.mask, levels, noise)
            error += errors.cpu().numpy()
            weight += weights.cpu().numpy()
    # A ratio of sums over windows, as in training; its spread follows from the ratio estimator's residuals.
    mean = float(error.sum() / weight.sum())
    spread = 1.96 * float((error - mean * weight).std(ddof=1) / weight.mean() / len(error) ** 0.5)
    return {"value": mean, "low": mean - spread, "high": mean + spread}
