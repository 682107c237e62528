"""Define the score model: a network wrapped in the closed-form (Wiener) denoiser of Gaussian data (E3).

For each token coordinate with mean mu and variance v over the training set, and c = z - a mu:
D(z, t) = mu + c_skip c + c_out F(c_in c, t), so F = 0 is the exact denoiser of N(mu, diag v).
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from e2crf_core.diffusion.schedules import VP, Schedule
from e2crf_core.diffusion.spectral import coordinate_mask, detokenize, magnitudes, tokenize

VARIANCE_FLOOR = 1e-6


@dataclass(frozen=True)
class Preconditioner:
    """The coefficients of E3: tensors (..., n, 2M)."""

    c_in: Tensor
    c_skip: Tensor
    c_out: Tensor


@dataclass(frozen=True)
class Profile:
    """The speed at which a model's denoised output changes at each log(a/s): calibrated weights of mean 1.

    Without points, all levels have equal weight.
    """

    levels: tuple[float, ...] = ()
    weights: tuple[float, ...] = ()

    def clock(self, levels: Sequence[float]) -> np.ndarray:
        """Return (steps,) float64: the integral of the weight over log(a/s) up to each of `levels`."""
        if not self.levels:
            return np.asarray(levels, dtype=np.float64)
        grid = np.linspace(min(*levels, self.levels[0]), max(*levels, self.levels[-1]), 2001)
        weight = np.interp(grid, self.levels, self.weights)
        middle = 0.5 * (weight[1:] + weight[:-1]) * np.diff(grid)
        return np.interp(levels, grid, np.concatenate([[0.0], np.cumsum(middle)]))


@dataclass(frozen=True)
class ScoreModel:
    """A trained network with everything needed to sample series in data units.

    `mu`, `v`, `mask` have shape (n, 2M); `mean`, `std` (M,) convert standardized series to data units.
    Frozen, and used for inference only; `network` is any torch module that satisfies
    network.protocol.TokenNetwork.
    """

    name: str
    network: Any
    schedule: Schedule
    length: int
    channels: tuple[str, ...]
    mu: Tensor
    v: Tensor
    mask: Tensor
    mean: np.ndarray
    std: np.ndarray
    dataset: str
    profile: Profile = Profile()
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Return the number of half-spectrum tokens."""
        return self.mu.shape[0]

    @property
    def half_spectrum(self) -> bool:
        """Return whether tokens are the half spectrum of a series (E1), as those of imported models may not be."""
        return tuple(self.mu.shape) == (self.length // 2 + 1, 2 * len(self.channels))

    @property
    def device(self) -> torch.device:
        """Return the model's device."""
        return self.mu.device

    @property
    def dtype(self) -> torch.dtype:
        """Return the model's floating-point type."""
        return self.mu.dtype

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> ScoreModel:
        """Return a copy on another device or in another precision."""
        network = copy.deepcopy(self.network).to(device=device, dtype=dtype).eval().requires_grad_(False)
        moved = {name: getattr(self, name).to(device=device, dtype=dtype) for name in ("mu", "v", "mask")}
        return replace(self, network=network, **moved)

    def precondition(self, t: float) -> Preconditioner:
        """Return the E3 coefficients at time t."""
        return precondition(self.v, self.schedule.a(t), self.schedule.s(t))

    def digest(self) -> str:
        """Return a SHA-256 over all that determines samples: weights, statistics, schedule, profile, scale."""
        digest = hashlib.sha256(self._weights_digest().encode())
        digest.update(repr(self.schedule).encode())
        for scale in self._scale():
            digest.update(np.asarray(scale, dtype=np.float64).tobytes())
        return digest.hexdigest()

    def has_digest(self, digest: str) -> bool:
        """Return whether `digest` is this model's; that of the first release left out schedule and scale."""
        return digest in (self.digest(), self._weights_digest())

    def _scale(self) -> tuple[np.ndarray, ...]:
        """Return what `series` scales by."""
        return self.mean, self.std

    def _weights_digest(self) -> str:
        digest = hashlib.sha256(repr((self.profile.levels, self.profile.weights)).encode())
        if edges := getattr(self.network, "edges", ()):
            digest.update(repr(edges).encode())
        for name, tensor in sorted({**self.network.state_dict(), "mu": self.mu, "v": self.v}.items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def magnitudes(self, tokens: np.ndarray) -> np.ndarray:
        """Return |X_k| (..., n, M) of tokens (..., n, 2M), in standardized units."""
        return magnitudes(tokens, self.length)

    def series(self, tokens: np.ndarray) -> np.ndarray:
        """Convert tokens (..., n, 2M) to series (..., N, M) in data units, float32."""
        return (detokenize(tokens, self.length) * self.std + self.mean).astype(np.float32)


def precondition(v: Tensor, a: Tensor | float, s: Tensor | float) -> Preconditioner:
    """Return E3 coefficients for variances v (n, 2M) at noise scales a, s: floats or broadcasting tensors."""
    total = a * a * v + s * s
    root = total.rsqrt()
    return Preconditioner(c_in=root, c_skip=a * v / total, c_out=s * v.sqrt() * root)


def token_statistics(series: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mu, v, mask (n, 2M) of standardized training series (S, N, M); v has a relative floor."""
    tokens = tokenize(series.astype(np.float64))
    mask = coordinate_mask(series.shape[1], series.shape[2])
    v = tokens.var(axis=0)
    v = np.maximum(v, VARIANCE_FLOOR * v.max())
    return (tokens.mean(axis=0) * mask), v, mask


DEFAULT_SCHEDULE = VP()
