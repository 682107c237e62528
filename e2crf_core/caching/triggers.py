"""E5: event scores of the trigger families. A token whose score exceeds the threshold is an event.

Scores use only what is known before the network runs. Schedules on log(a/s) are scored on the host, from the
clock alone; drift-driven scores are computed on the device and brought over.
"""

from __future__ import annotations

import torch
from torch import Tensor

from e2crf_core.caching.policy import CachePolicy
from e2crf_core.caching.state import Cache, Problem, SamplerState

REFRESHING = ("log_snr", "rate", "fixed")
"""Triggers whose events concern a whole sample: one token's event recomputes all of them."""


def event_score(policy: CachePolicy, problem: Problem, state: SamplerState) -> Tensor:
    """(b, n) on the host, in the units of `threshold`."""
    cache = state.cache
    assert cache is not None
    ticks = problem.clocks[policy.clock]
    moved = ticks[state.step] - ticks[cache.clock.at]
    match policy.trigger:
        case "log_snr":
            return moved
        case "bands":
            return moved / band_intervals(policy, moved.shape[1])
        case "rate":
            return cache.rate[:, None] * moved.sqrt()
        case "fixed":
            return (state.step - cache.clock.at).double()
        case "paper":
            drift = (state.z - cache.z).square().sum(-1)
            weight = policy.energy_eps + state.z.square().sum(-1) if policy.energy_weighting else 1.0
            return (drift * weight).cpu().double()
        case "gain":
            return (influence(problem, state.step) * cache.gain * input_drift(problem, state)).cpu().double()
    return torch.zeros_like(moved)


def threshold(policy: CachePolicy, cache: Cache) -> Tensor:
    """(b, 1) on the host: what a score must exceed, with the adaptation of E7 (b) applied."""
    match policy.trigger:
        case "bands":
            base = 1.0
        case "fixed":
            return torch.tensor([[policy.refresh_every - 0.5]], dtype=torch.float64)
        case "always" | "never":
            return torch.tensor([[torch.inf]], dtype=torch.float64)
        case _:
            base = policy.tau
    return base * (cache.scale[:, None] if policy.adapt else torch.ones(1, 1, dtype=torch.float64))


def band_intervals(policy: CachePolicy, tokens: int) -> Tensor:
    """(n,) log(a/s) interval of each token; the last band reaches to the end."""
    intervals = torch.full((tokens,), policy.bands[-1][1], dtype=torch.float64)
    for edge, tau in reversed(policy.bands):
        intervals[:edge] = tau
    return intervals


def input_drift(problem: Problem, state: SamplerState) -> Tensor:
    """d_k (B, n) = |c_in z_k - u_k|²: how far each token's network input is from its last recompute."""
    assert state.cache is not None
    u = torch.addcmul(problem.u0[state.step], problem.c_in[state.step], state.z)
    return (u - state.cache.u).square().sum(-1)


def influence(problem: Problem, step: int) -> Tensor:
    """(n,) (c_out a/s)²: how strongly an error of a token's F moves the solver's step."""
    ratio = torch.exp(torch.tensor(2 * problem.levels[step], dtype=torch.float64)).to(problem.c_out)
    return problem.c_out[step].square().mean(-1) * ratio
