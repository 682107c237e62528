"""The published rule (E5): our reading of it, and the text to the letter; docs/method.md compares them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from e2crf_core.caching.state import Problem, SamplerState
from e2crf_core.caching.triggers import ADAPTING, COMMON, Trigger, register

if TYPE_CHECKING:
    from e2crf_core.caching.policy import CachePolicy
else:
    # Policies import this module, so anything that evaluates its annotations, such as shape checks, sees Any.
    CachePolicy = Any


@register
class Paper(Trigger):
    """The published rule: |z_k - z_k(last)|² > tau / (eps + |z_k|²), with tokens of E1.

    Tokens carry a factor sqrt 2 against the published |X_k|, so tau 0.01 here is 0.0025 in the paper.
    """

    name = "paper"
    help = "published rule: drift of a token against tau_0 / (eps + |X|²), refresh every R, warnings on r"
    reads = COMMON | ADAPTING | {"tau", "energy_weighting", "energy_eps"}
    base: Mapping[str, Any] = {
        "tau": 0.01,
        "k_low": 1,
        "refresh_every": 150,
        "probe_share": 0.01,
        "tau_safe": 0.1,
        "tau_warn": 0.5,
        "alpha": 0.1,
        "correct": True,
    }
    damps_probes = True
    depends = "states"
    replay_error = 0.05

    def score(self, policy: CachePolicy, problem: Problem, state: SamplerState) -> Tensor:
        """Return the drift of the noisy token times its energy, so that the limit is tau alone."""
        assert state.cache is not None
        drift = (state.z - state.cache.z).square().sum(-1)
        weight = policy.energy_eps + state.z.square().sum(-1) if policy.energy_weighting else 1.0
        return (drift * weight).cpu().double()


@register
class PaperLiteral(Paper):
    """The published rule to the letter: |X_k - X_k(last)|² > tau / (eps + |X_k|²), with tau in published units.

    Every R steps, and when r > tau_warn, a random subset of the tokens above K is probed, and their features
    move by alpha; no event refreshes all tokens. The text states a value of tau_safe, but no use of it.
    """

    name = "paper_literal"
    help = "published rule to the letter: tau in published units; every R steps, or on r, a random subset is probed"
    reads = (COMMON - {"tau_safe"}) | {"tau", "energy_weighting", "energy_eps"}
    base: Mapping[str, Any] = {
        "tau": 0.01,
        "k_low": 1,
        "refresh_every": 150,
        "probe_share": 0.1,
        "tau_warn": 0.5,
        "alpha": 0.1,
        "correct": True,
    }
    probes_when_due = True

    def score(self, policy: CachePolicy, problem: Problem, state: SamplerState) -> Tensor:
        """Return drift times energy of |X_k|; a token carries the energy of its mirror image, too (E1)."""
        assert state.cache is not None
        length = problem.model.length
        mirrored = torch.tensor([k != 0 and 2 * k != length for k in range(problem.model.n)])
        share = torch.where(mirrored, 0.5, 1.0).to(state.z)
        drift = share * (state.z - state.cache.z).square().sum(-1)
        energy = share * state.z.square().sum(-1)
        return (drift * (policy.energy_eps + energy if policy.energy_weighting else 1.0)).cpu().double()

    def due(self, policy: CachePolicy, elapsed: Tensor) -> Tensor:
        """Return whether it is a step for probes: every R-th, as no refresh of all tokens ever follows."""
        return elapsed % policy.refresh_every == 0
