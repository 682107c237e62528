"""Condition an unconditional model on observed values, exactly if the data are Gaussian.

An observation y of some time steps is a linear map of one channel's tokens, y = A z_0 + noise. At noise level
(a, s), the closed-form part of the denoiser (E3) gives not only the mean of z_0 given z but also its
covariance,

    V = v s² / (a² v + s²),    diagonal over coordinates,

so the mean given z *and* y is one Kalman update away from the denoised value D:

    D' = D + G (y - A D),    G = V A^T (A V A^T + noise² I)^{-1}.

With F = 0, this is the exact posterior mean of N(mu, diag v), so a sampler that uses D' instead of D draws
from the exact posterior. With a network, D carries what the network knows and V stays that of E3 (compare the
guidance of Song et al., ICLR 2023, and Boys et al., arXiv:2310.06721, whose covariances need gradients of the
network). G depends only on the step, so it is computed once per step, and a cache of F is unaffected.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.diffusion.solvers import Plan
from e2crf_core.diffusion.spectral import coordinate_mask, detokenize
from e2crf_core.errors import LabError

MAX_BYTES = 1 << 30
NOISE = 0.01
"""Standard deviation of the observation noise in units of the data's; it also keeps G well conditioned."""


@dataclass(frozen=True)
class Conditioning:
    """The Kalman updates of the denoised tokens for every call of one plan.

    `values` holds each channel's observed standardized values (B, o) or (1, o), `maps` the matrices A^T
    (2n, o), and `gains` the matrices G^T (steps, o, 2n). o may differ between channels, which are independent
    under E3.
    """

    values: tuple[Tensor, ...]
    maps: tuple[Tensor, ...]
    gains: tuple[Tensor, ...]

    @staticmethod
    def make(model: ScoreModel, plan: Plan, observed: np.ndarray, noise: float = NOISE) -> Conditioning:
        """Condition runs of `plan` on `observed` (B or 1, N, M), standardized, NaN for unknown values.

        All B series must miss the same positions. Raises LabError if they do not, for an exponential
        integrator (which never forms D), or if the gains would not fit in memory.
        """
        known = _pattern(model, observed)
        if plan.order:
            raise LabError(
                f"solver {plan.solver!r} cannot be conditioned",
                field="solver",
                remedy="use a solver that steps with denoised values, such as sde_dpmpp_2m",
            )
        size = 4 * plan.steps * 2 * model.n * int(known.sum())
        if size > MAX_BYTES:
            raise LabError(
                f"conditioning {plan.steps} steps takes {size / 1e9:.1f} GB",
                field="steps",
                remedy=f"use at most {int(plan.steps * MAX_BYTES / size)} steps",
            )
        basis = series_basis(model.length)
        values, maps, gains = [], [], []
        for channel in range(known.shape[1]):
            index = np.flatnonzero(known[:, channel])
            design = basis[:, index]
            values.append(torch.as_tensor(observed[:, index, channel]))
            maps.append(torch.as_tensor(design))
            gains.append(torch.stack([_gain(v, design, noise) for v in _variances(model, plan, channel)]))
        return Conditioning(*(tuple(x.to(model.mu) for x in group) for group in (values, maps, gains)))

    def of(self, first: int, num: int) -> Conditioning:
        """Return the part for `num` samples numbered from `first`; sample i uses series i modulo B."""
        index = torch.arange(first, first + num)
        values = tuple(v if len(v) == 1 else v[index.to(v.device) % len(v)] for v in self.values)
        return replace(self, values=values)

    def apply(self, step: int, denoised: Tensor) -> Tensor:
        """Return D' (B, n, 2M) from D (B, n, 2M) at one call of the plan."""
        batch, n, width = denoised.shape
        channels = denoised.view(batch, n, 2, width // 2)
        updated = []
        for channel, (value, design, gain) in enumerate(zip(self.values, self.maps, self.gains, strict=True)):
            part = channels[..., channel].reshape(batch, 2 * n)
            updated.append(torch.addmm(part, value - part @ design, gain[step]).view(batch, n, 2))
        return torch.stack(updated, dim=-1).view(batch, n, width)


def series_basis(length: int) -> np.ndarray:
    """Return E1 as a matrix (2n, N): row (k, part) is a unit token's series; structural zeros are 0."""
    mask = coordinate_mask(length, 1)
    n = len(mask)
    units = np.eye(2 * n).reshape(2 * n, n, 2) * mask
    return detokenize(units, length)[..., 0]


def _pattern(model: ScoreModel, observed: np.ndarray) -> np.ndarray:
    """Return which positions (N, M) are observed, the same for all series."""
    shape = (model.length, len(model.channels))
    if not model.half_spectrum:
        raise LabError(
            f"model {model.name!r} cannot be asked: its tokens are not the half spectrum of a series",
            field="checkpoint",
            remedy="choose a checkpoint that was trained here",
        )
    if observed.ndim != 3 or observed.shape[1:] != shape:
        raise LabError(f"observed values have shape {observed.shape[1:]}, series of this model {shape}")
    known = ~np.isnan(observed)
    if not (known == known[0]).all():
        raise LabError(
            "series that miss different positions cannot share a run", remedy="ask about them one by one"
        )
    if not np.isfinite(observed[known]).all():
        raise LabError("an observed value is infinite", remedy="mark it as missing")
    return known[0]


def _variances(model: ScoreModel, plan: Plan, channel: int) -> list[np.ndarray]:
    """Return V (2n,) of one channel at every call, 0 at structural zeros."""
    v, mask = (
        x.double().cpu().view(model.n, 2, -1)[..., channel].numpy().ravel() for x in (model.v, model.mask)
    )
    scales = [(model.schedule.a(row.t), model.schedule.s(row.t)) for row in plan.rows]
    return [mask * v * s * s / (a * a * v + s * s) for a, s in scales]


def _gain(variance: np.ndarray, design: np.ndarray, noise: float) -> Tensor:
    """Return G^T (o, 2n) for coordinate variances V (2n,) and the map A^T (2n, o)."""
    weighted = variance[:, None] * design
    total = design.T @ weighted
    # Late in a run V is tiny; the noise is kept small beside it, so that samples match the observed values.
    floor = min(noise * noise, 1e-2 * float(np.diag(total).mean())) if len(total) else 0.0
    return torch.as_tensor(np.linalg.solve(total + floor * np.eye(len(total)), weighted.T))
