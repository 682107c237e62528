"""Measure how finished samples respond to an error of the network's output F at one call (E5).

A solver's row (E8) and the preconditioner (E3) are affine in the state, coordinate by coordinate. An error
e_i of F at call i therefore moves the finished tokens by W_i e_i if the network does not respond, with W_i =
dz_N / dF_i through that linear part alone. One backward sweep (the adjoint) gives all W_i, for any solver
that `advance` can run.

The network also responds to the error, because later outputs change with the state. This is the
*amplification*, measured by holding one band for a few calls and comparing the effect on finished samples
with that of W.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from e2crf_core.caching.state import Problem, SamplerState
from e2crf_core.e2crf import advance
from e2crf_core.network.forward import plain_forward
from e2crf_core.progress import Progress, silent

SPAN = 6
"""The number of calls for which a band is held to measure its amplification."""
GROUPS = 8
"""The number of points in a run at which amplification is measured."""
LARGEST = 100.0
"""The upper limit for amplification."""
LEAST_SHARE = 1e-7
"""Held bands whose linear effect is below this share of the samples' energy do not measure amplification."""


def influence(problem: Problem, state: SamplerState) -> Tensor:
    """Return W (steps, n, 2M) float64 of a problem's solver, from the start of a one-sample run."""
    shape = (problem.plan.steps, *state.z[:1].shape)
    outputs = torch.zeros(shape, dtype=state.z.dtype, device=state.z.device, requires_grad=True)
    state = replace(state, z=state.z[:1])
    for i in range(problem.plan.steps):
        state, _ = advance(problem, state, outputs[i], None)
    (weights,) = torch.autograd.grad(state.z.sum(), outputs)
    return weights[:, 0].double()


def network_output(problem: Problem, state: SamplerState) -> Tensor:
    """Compute F (B, n, 2M) of all tokens afresh."""
    network, i = problem.model.network, state.step
    level = torch.tensor(problem.levels[i], dtype=torch.float64, device=state.z.device)
    u = torch.addcmul(problem.u0[i], problem.c_in[i], state.z)
    return network.head(plain_forward(network, network.prepare(u, level), network.condition(level)))


@dataclass(frozen=True)
class Pilot:
    """An uncached run: outputs F (steps, B, n, 2M), some states, and finished tokens (B, n, 2M)."""

    problem: Problem
    outputs: Tensor
    states: dict[int, SamplerState]
    finished: Tensor


def run_pilot(problem: Problem, state: SamplerState, keep: set[int], progress: Progress = silent) -> Pilot:
    """Run the uncached sampler from `state`, keeping outputs, and states before the calls in `keep`."""
    outputs, states, steps = [], {}, problem.plan.steps
    with torch.inference_mode():
        for i in range(steps):
            if i in keep:
                states[i] = state
            outputs.append(network_output(problem, state))
            state, _ = advance(problem, state, outputs[-1], None)
            progress(i + 1, steps)
    return Pilot(problem, torch.stack(outputs), states, state.z)


def measure_points(steps: int) -> list[int]:
    """Return evenly spaced calls at which to hold a band; the last leaves room to hold it for two calls."""
    return sorted({round(i) for i in np.linspace(0, max(0, steps - 3), GROUPS)})


def amplification(
    pilot: Pilot,
    weights: Tensor,
    bands: Sequence[tuple[int, int]],
    norms: np.ndarray,
    progress: Progress = silent,
) -> np.ndarray:
    """Return (norms, points, bands) true over linear effect on finished samples of holding a band for SPAN calls.

    Points are the states that the pilot kept, in order; `weights` is the plan's influence, and `norms` (norms, n,
    2M) are weights of squared errors. Each point costs the rest of a run for each band.
    """
    steps, points = pilot.problem.plan.steps, sorted(pilot.states)
    energy = _squares(pilot.finished, norms)
    factors = np.full((len(norms), len(points), len(bands)), np.nan)
    for row, first in enumerate(points):
        last = min(first + SPAN, steps)
        for column, (low, high) in enumerate(bands):
            finished = _held(pilot, first, last, slice(low, high))
            true = _squares(finished - pilot.finished, norms)
            kept = pilot.outputs[first : first + 1, :, low:high]
            errors = (kept - pilot.outputs[first:last, :, low:high]).double()
            moved = (weights[first:last, None, low:high] * errors).sum(0)
            linear = _squares(moved, norms[:, low:high])
            known = linear > LEAST_SHARE * energy
            factors[known, row, column] = np.sqrt(true[known] / linear[known])
            progress(row * len(bands) + column + 1, len(points) * len(bands))
    return np.stack([_filled(each) for each in factors])


def _squares(tokens: Tensor, norms: np.ndarray) -> np.ndarray:
    """Return the sums of squares (norms,) of tokens (B, n, 2M), weighted by each norm."""
    totals: np.ndarray = np.einsum("bkc,wkc->w", tokens.double().square().cpu().numpy(), norms)
    return totals


def _held(pilot: Pilot, first: int, last: int, band: slice) -> Tensor:
    """Return the pilot's finished tokens with a band of F held from call `first` until `last`."""
    problem, state = pilot.problem, pilot.states[first]
    with torch.inference_mode():
        for i in range(first, problem.plan.steps):
            output = pilot.outputs[first].clone() if i == first else network_output(problem, state)
            if i < last:
                output[:, band] = pilot.outputs[first][:, band]
            state, _ = advance(problem, state, output, None)
    return state.z


def _filled(factors: np.ndarray) -> np.ndarray:
    """Fill gaps from neighboring points of the same band (1 if there is none), and limit the values."""
    for column in factors.T:
        known = np.isfinite(column)
        places = np.arange(len(column))
        column[:] = np.interp(places, places[known], column[known]) if known.any() else 1.0
    return np.clip(factors, 1 / LARGEST, LARGEST)
