"""Integrate the probability-flow ODE exponentially, exactly if the data are Gaussian (E3, E8).

In the coordinate u = c_in (z - a mu) of E3 the probability-flow ODE is exactly

    du = -F dtheta,    theta = atan(s / (a sqrt v)),

with the network's output F as its only unknown: F = 0 is the flow of N(mu, diag v). Exponential Adams-Bashforth
of order k (ETD-ABk; Hochbruck and Ostermann, Acta Numerica 19, 2010) replaces F by the polynomial through its last
k values and integrates that exactly against dtheta, for each coordinate. The polynomial runs in the model's clock.
Back in z, with w_j the integral of the j-th Lagrange basis polynomial over the step,

    z_{i+1} = a' mu + (c_in / c_in') (z_i - a mu) + sum_j w_j F_{i-j} / c_in'.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from e2crf_core.diffusion.schedules import Schedule
from e2crf_core.diffusion.solvers import Clock

NODES = 64
"""The number of midpoints in one step's quadrature: the basis is smooth, dtheta is exact between them."""


@dataclass(frozen=True)
class ExponentialTable:
    """The coefficients of every step but the last: z' = own z + offset + sum_j weights[j] F_{i-j}.

    `own` and `offset` have shape (steps, n, 2M), `weights` (steps, order, n, 2M), all float64. While fewer
    than `order` outputs exist, the weights of the missing ones are 0.
    """

    own: np.ndarray
    offset: np.ndarray
    weights: np.ndarray


def lagrange_basis(nodes: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return values (k, len(x)) of the k Lagrange basis polynomials of `nodes` (k,) at `x`."""
    basis = np.ones((len(nodes), len(x)))
    for j, node in enumerate(nodes):
        for other in np.delete(nodes, j):
            basis[j] *= (x - other) / (node - other)
    return basis


def exponential_table(
    schedule: Schedule, times: list[float], order: int, clock: Clock, mu: np.ndarray, v: np.ndarray
) -> ExponentialTable:
    """Return the coefficients of ETD-AB`order` on decreasing `times`, for token moments mu, v (n, 2M)."""
    levels = np.array([schedule.log_snr(t) for t in times])
    ticks = clock(levels.tolist())
    a = np.array([schedule.a(t) for t in times])[:, None, None]
    s = np.array([schedule.s(t) for t in times])[:, None, None]
    spread = np.sqrt(a * a * v + s * s)
    steps = len(times) - 1
    own = spread[1:] / spread[:-1]
    weights = np.zeros((steps, order, *v.shape))
    for i in range(steps):
        known = np.arange(i, max(-1, i - order), -1)
        fine = np.linspace(levels[i], levels[i + 1], NODES + 1)
        middle = clock((0.5 * (fine[1:] + fine[:-1])).tolist())
        theta = np.arctan(np.exp(-fine)[:, None, None] / np.sqrt(v))
        basis = lagrange_basis(ticks[known], middle)
        weights[i, : len(known)] = np.einsum("ks,snm->knm", basis, theta[:-1] - theta[1:])
    return ExponentialTable(
        own=own,
        offset=(a[1:] - own * a[:-1]) * mu,
        weights=weights * spread[1:, None],
    )
