"""Give closed forms for testing samplers: data whose denoiser, flow, and sampled law are known exactly.

Arrays are NumPy, float64; a coordinate array has any shape, such as tokens (n, 2M). a and s are the scales of
E2: z = a z_0 + s e. Gaussian data need no Monte Carlo, because a sampler is then linear and its law exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp, ndtr, softmax

from e2crf_core.diffusion.schedules import Schedule
from e2crf_core.diffusion.solvers import Plan
from e2crf_core.errors import LabError


@dataclass(frozen=True)
class Mixture:
    """A mixture of Gaussians with independent coordinates: weights (J,), means and variances (J, *shape)."""

    weights: np.ndarray
    means: np.ndarray
    variances: np.ndarray

    def __post_init__(self) -> None:
        if self.means.shape != self.variances.shape or self.means.shape[:1] != self.weights.shape:
            raise LabError(
                f"a mixture needs weights (J,) with means and variances (J, ...), got {self.weights.shape}, "
                f"{self.means.shape} and {self.variances.shape}"
            )
        if np.any(self.weights <= 0) or abs(self.weights.sum() - 1) > 1e-9 or np.any(self.variances < 0):
            raise LabError(
                "a mixture needs positive weights that sum to 1, and variances that are not negative"
            )

    def noised(self, a: float, s: float) -> Mixture:
        """Return the law of a z_0 + s e."""
        return Mixture(self.weights, a * self.means, a * a * self.variances + s * s)

    def _log_parts(self, z: np.ndarray) -> np.ndarray:
        """Return (B, J) log of weight times density of each part at z (B, *shape)."""
        part = (z[:, None] - self.means) ** 2 / self.variances + np.log(2 * np.pi * self.variances)
        return np.log(self.weights) - 0.5 * part.reshape(*part.shape[:2], -1).sum(-1)

    def log_density(self, z: np.ndarray) -> np.ndarray:
        """Return (B,) log density at z (B, *shape); variances must be positive."""
        return logsumexp(self._log_parts(z), axis=1)

    def denoise(self, z: np.ndarray, a: float, s: float) -> np.ndarray:
        """Return D(z) = E[z_0 | a z_0 + s e = z], (B, *shape), the output of a perfect network in E3."""
        noised = self.noised(a, s)
        share = softmax(noised._log_parts(z), axis=1)
        gain = a * self.variances / noised.variances
        each = self.means + gain * (z[:, None] - noised.means)
        return np.einsum("bj,bj...->b...", share, each)

    def score(self, z: np.ndarray, a: float, s: float) -> np.ndarray:
        """Return the gradient of the noised log density: (a D - z) / s², (B, *shape)."""
        return (a * self.denoise(z, a, s) - z) / (s * s)

    def sample(self, count: int, seed: int) -> np.ndarray:
        """Return (count, *shape) independent draws."""
        rng = np.random.default_rng(seed)
        part = rng.choice(len(self.weights), size=count, p=self.weights)
        return self.means[part] + np.sqrt(self.variances[part]) * rng.standard_normal(self.means[part].shape)


def gaussian(mean: np.ndarray, variance: np.ndarray) -> Mixture:
    """Return one Gaussian with independent coordinates, from mean and variance of equal shape."""
    return Mixture(np.ones(1), np.asarray(mean, float)[None], np.asarray(variance, float)[None])


def gaussian_flow(
    z: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    start: tuple[float, float],
    end: tuple[float, float],
) -> np.ndarray:
    """Solve the probability-flow ODE exactly for Gaussian data, moving z (B, *shape) from (a, s) to (a, s).

    Each coordinate keeps its distance from the mean in standard deviations.
    """
    (a0, s0), (a1, s1) = start, end
    spread = np.sqrt((a1 * a1 * variance + s1 * s1) / (a0 * a0 * variance + s0 * s0))
    return a1 * mean + spread * (z - a0 * mean)


def line_flow(
    z: np.ndarray, law: Mixture, start: tuple[float, float], end: tuple[float, float]
) -> np.ndarray:
    """Solve the flow for a mixture over one number (means (J,)): z (B,) keeps its quantile.

    Uses bisection; the error is about 1e-12 within 5 standard deviations and grows beyond.
    """
    before, after = law.noised(*start), law.noised(*end)

    def below(x: np.ndarray, mix: Mixture) -> np.ndarray:
        return ndtr((x[:, None] - mix.means) / np.sqrt(mix.variances)) @ mix.weights

    target = below(z, before)
    reach = 40 * np.sqrt(after.variances.max())
    low, high = (np.full_like(z, x) for x in (after.means.min() - reach, after.means.max() + reach))
    for _ in range(70):
        middle = 0.5 * (low + high)
        short = below(middle, after) < target
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    return 0.5 * (low + high)


def plan_law(
    plan: Plan, schedule: Schedule, mean: np.ndarray, variance: np.ndarray, start: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinate means and variances of a solver's result on Gaussian data with the exact denoiser.

    `mean`, `variance` (*shape) are those of the data; `start` (*shape) is the variance of the first state
    about a * mean, by default that of the noised data. The difference from the data's own law is the solver's
    discretization error, free of sampling noise. Noise is independent from row to row.
    """
    if plan.order:
        raise LabError(f"solver {plan.solver!r} has no table of denoised values", field="solver")
    a, s = schedule.a(plan.rows[0].t), schedule.s(plan.rows[0].t)
    # Carried along, in this order: the state, the carried second state, the last two denoised values.
    moments = np.zeros((4, 4, *np.shape(variance)))
    moments[0, 0] = a * a * variance + s * s if start is None else start
    center = np.zeros((4, *np.shape(mean)))
    center[0] = a * mean
    zero, one = np.zeros_like(variance, dtype=float), np.ones_like(variance, dtype=float)
    for row in plan.rows:
        a, s = schedule.a(row.t), schedule.s(row.t)
        gain = a * variance / (a * a * variance + s * s)
        offset = mean - gain * a * mean
        # z_i, b_i, D_i, D_{i-1}, D_{i-2} in terms of the carried values; D_i also has an offset.
        unit = [[one, zero, zero, zero], [zero, one, zero, zero]]
        unit += [[gain, zero, zero, zero], [zero, zero, one, zero], [zero, zero, zero, one]]
        terms = np.array(unit)
        state, kept = (np.tensordot(mix, terms, 1) for mix in (row.mix, row.kept))
        move = np.stack([state, kept, terms[2], terms[3]])
        center = np.einsum("ij...,j...->i...", move, center)
        center[:3] += np.multiply.outer([row.mix[2], row.kept[2], 1.0], offset)
        moments = np.einsum("ij...,jk...,lk...->il...", move, moments, move)
        moments[0, 0] += row.sigma**2
    return center[0], moments[0, 0]
