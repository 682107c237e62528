"""Event rules outside the core, registered as triggers and tested on the same axes as the trigger study.

A rule chooses which tokens (b, n) to recompute at a step, using only what is known before it. Pilot runs on
separate noise measure once how fast F changes; the rules built on them cost nothing while sampling. After
`register_experiments()` each rule runs by name: `CachePolicy(trigger="pilot bands", tau=0.5)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from e2crf_core.caching.policy import CachePolicy
from e2crf_core.caching.state import Cache, Problem, SamplerState
from e2crf_core.caching.triggers import COMMON, Trigger, input_drift, register
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.diffusion.spectral import band_edges
from e2crf_core.network.forward import plain_forward
from e2crf_core.sampling.sampler import Sampler, Step

PILOT_SEED = 987_654
COUPLING_LEVELS = (-2.0, -1.0, 0.0, 1.0)
T = TypeVar("T")


@dataclass(frozen=True)
class PilotRates:
    """The change of F along uncached runs: `levels` (steps,), rms rate of F per log(a/s) (steps, n)."""

    levels: np.ndarray
    rate: np.ndarray


def network_output(step: Step) -> Tensor:
    """Return the F (B, n, 2M) that a step used, computed from its denoised estimate (inverse of E3)."""
    problem, i = step.problem, step.before.step
    rest = step.info.denoised - problem.d0[i] - problem.c_skip[i] * step.before.z
    return rest / problem.c_out[i].clamp(min=1e-12) * problem.model.mask


def pilot_outputs(
    model: ScoreModel, *, steps: int, solver: str, grid: str, num: int
) -> tuple[Problem, list[np.ndarray]]:
    """Return the problem of an uncached pilot run, and F (num, n, 2M) at each of its steps."""
    sampler = Sampler(model, None, steps=steps, solver=solver, grid=grid)
    outputs = []
    for step in sampler.steps(num, PILOT_SEED):
        with torch.inference_mode():
            outputs.append(network_output(step).cpu().numpy())
    return step.problem, outputs


def pilot(model: ScoreModel, *, steps: int, solver: str, grid: str, num: int = 16) -> PilotRates:
    """Run `num` uncached samples and difference F between steps, smoothed over neighboring steps."""
    problem, outputs = pilot_outputs(model, steps=steps, solver=solver, grid=grid, num=num)
    levels = np.array(problem.levels)
    # Over a single fine step, injected noise would dominate: look as far ahead as a cache would hold.
    rate = np.empty((steps, model.n))
    reach = 0.3
    for i in range(steps):
        j = min(steps - 1, max(i + 1, int(np.searchsorted(levels, levels[i] + reach))))
        k = j if j > i else i - 1
        apart = np.square(outputs[k] - outputs[i]).sum(-1).mean(0)
        rate[i] = np.sqrt(apart) / max(abs(levels[k] - levels[i]), 1e-9)
    return PilotRates(levels, rate)


_MEASURED: dict[tuple[Any, ...], tuple[ScoreModel, Any]] = {}


def measured_once(model: ScoreModel, key: object, measure: Callable[[], T]) -> T:
    """Return the result of `measure`, computed once per model; a frozen model's identity can be the key."""
    if (id(model), key) not in _MEASURED:
        # Keep the model too, so that no other one can take its identity.
        _MEASURED[id(model), key] = model, measure()
    return _MEASURED[id(model), key][1]


def pilot_of(problem: Problem) -> PilotRates:
    """Return the pilot of a problem's model and plan."""
    plan = {"steps": problem.plan.steps, "solver": problem.plan.solver, "grid": problem.plan.grid}
    return measured_once(problem.model, tuple(plan.values()), lambda: pilot(problem.model, **plan))


def coupling_of(problem: Problem) -> Tensor:
    """Return the coupling matrix (n, n) of a problem's model, averaged over some noise levels."""
    model = problem.model
    return measured_once(
        model, "coupling", lambda: torch.stack([coupling(model, level) for level in COUPLING_LEVELS]).mean(0)
    )


def effect(problem: Problem) -> np.ndarray:
    """Return (steps, n) how strongly an error of F_k, held for a unit of log(a/s), moves the finished sample.

    An error c_out dF of D moves x = z/a by as much per log(a/s) under the probability flow, and the remaining
    steps shrink it, for Gaussian data by sqrt(v / (v + s²/a²)) = c_out a/s. A token therefore matters most
    while its own signal emerges from the noise: the effect is sqrt(v) / (q + 1/q) with q = s / (a sqrt(v)).
    """
    ratio = np.exp(np.array(problem.levels))[:, None]
    return problem.c_out.double().square().mean(-1).cpu().numpy() * ratio


def levels_at(problem: Problem, cache: Cache) -> Tensor:
    """Return (b, n) float64 log(a/s) at each token's last recompute."""
    return problem.clocks["log_snr"][cache.clock.at]


class Experiment(Trigger):
    """A rule that directly selects which tokens to recompute and interprets `tau` itself."""

    reads = COMMON | {"tau"}
    depends = "states"

    def chosen(self, policy: CachePolicy, problem: Problem, state: SamplerState) -> Tensor:
        """Return (b, n) bool on the host: the tokens to recompute now; b = 1 if all samples agree."""
        raise NotImplementedError

    def score(self, policy: CachePolicy, problem: Problem, state: SamplerState) -> Tensor:
        """Return 1 for each token to recompute and 0 for the others."""
        return self.chosen(policy, problem, state).double()

    def limit(self, policy: CachePolicy) -> float:
        """Return a limit between 0 and 1."""
        return 0.5


class Given(Experiment):
    """A rule that takes the tokens to recompute from a precomputed table (steps, n)."""

    def __init__(self, name: str, table: np.ndarray) -> None:
        self.name, self.help = name, "tokens of a table made beforehand"
        self.table = torch.from_numpy(table)

    def chosen(self, policy: CachePolicy, problem: Problem, state: SamplerState) -> Tensor:
        """Return (1, n)."""
        return self.table[state.step : state.step + 1]


class Calibrated(Experiment):
    """A rule that recomputes a group when its integrated density has moved by tau since its last recompute.

    Holding F for h costs effect * rate * h² / 2 and one recompute, so the best density of recomputes along
    log(a/s) is proportional to (effect * rate)^power, with power 1/2 for a held output and 1/3 for an
    extrapolated one. With `banded` each frequency band is a separate group; otherwise all tokens are
    refreshed together. Without `piloted` the rate counts as constant.
    """

    depends = "clock"

    def __init__(self, name: str, *, banded: bool = False, piloted: bool = True) -> None:
        self.name, self.help = name, "a schedule of refreshes from a pilot run"
        self.banded, self.piloted = banded, piloted

    def edges(self, problem: Problem) -> tuple[int, ...]:
        """Return the first token of each group, and n."""
        n = problem.model.n
        return tuple(int(edge) for edge in band_edges(n)) if self.banded else (0, n)

    def chosen(self, policy: CachePolicy, problem: Problem, state: SamplerState) -> Tensor:
        """Return (1, n): the same for all samples, so that a sample does not depend on its batch."""
        power = 0.5 if policy.predictor == "hold" or not self.piloted else 1 / 3
        table = problem.once((self.name, power), lambda: self._cumulated(problem, power))
        cache, edges = state.cache, self.edges(problem)
        assert cache is not None
        mask = torch.zeros(1, problem.model.n, dtype=torch.bool)
        for g, (first, last) in enumerate(pairwise(edges)):
            since = int(cache.clock.at[0, first])
            mask[0, first:last] = bool(table[state.step, g] - table[since, g] > policy.tau)
        return mask

    def _cumulated(self, problem: Problem, power: float) -> np.ndarray:
        """Return (steps, groups) integral of the density up to each step, with mean 1 per log(a/s)."""
        levels, edges = np.array(problem.levels), self.edges(problem)
        rate = pilot_of(problem).rate if self.piloted else 1.0
        squared = np.square(effect(problem) * rate)
        grouped = np.sqrt(np.add.reduceat(squared, edges[:-1], axis=1) / np.diff(edges))
        density = grouped**power
        moved = np.diff(levels, prepend=levels[0])
        table = np.cumsum(density * moved[:, None], axis=0)
        # In units of log(a/s): at equal tau, a rule with one group recomputes as often as log_snr does.
        share = np.diff(edges) / edges[-1]
        return table / (table[-1] @ share) * (levels[-1] - levels[0])


class OnlineRate(Experiment):
    """A rule with the same density, but with the rate measured during the run at each group's own recomputes.

    A closed loop for each band: the more F moved at the last recompute, the sooner the next one. Needs a
    predictor that keeps divided differences.
    """

    power = 1 / 3
    depends = "network"

    def __init__(self, name: str, *, banded: bool = False) -> None:
        self.name, self.help = name, "refreshes by the rate that each sample shows"
        self.banded = banded

    def chosen(self, policy: CachePolicy, problem: Problem, state: SamplerState) -> Tensor:
        """Return (B, n)."""
        effects = problem.once("effect", lambda: effect(problem))
        cache, i, n = state.cache, state.step, problem.model.n
        assert cache is not None
        moved = problem.levels[i] - levels_at(problem, cache)
        if cache.slope is None:
            return (moved > policy.tau / 4).expand(len(state.z), -1)
        rate = cache.slope.square().sum(-1).double().cpu() * torch.from_numpy(np.square(effects[i]))
        mask = torch.zeros(rate.shape, dtype=torch.bool)
        edges = [int(edge) for edge in band_edges(n)] if self.banded else [0, n]
        for first, last in pairwise(edges):
            density = rate[:, first:last].mean(1).sqrt() ** self.power
            # Remeasure a calm group after a while: its low rate may have been chance.
            due = (density * moved[:, first] > policy.tau) | (moved[:, first] > 1.5)
            mask[:, first:last] = due[:, None]
        return mask


class Subset(Calibrated):
    """A schedule whose events recompute only tokens with enough effect, and all once `most` are behind."""

    keep, most = 0.05, 1.0

    def chosen(self, policy: CachePolicy, problem: Problem, state: SamplerState) -> Tensor:
        """Return (1, n)."""
        cache, i = state.cache, state.step
        assert cache is not None
        mask = super().chosen(policy, problem, state)
        if not bool(mask.any()) or problem.levels[i] - float(levels_at(problem, cache).min()) > self.most:
            return mask
        now = problem.once("effect", lambda: effect(problem))[i]
        mask &= torch.from_numpy(now >= self.keep * now.max())
        # The schedule reads its clock from the first token of a group.
        mask[0, 0] = True
        return mask


class TopShare(Calibrated):
    """A schedule whose events recompute the share of tokens with the largest expected effect, per sample.

    A quantile replaces the threshold, so scores need no scale. With `coupled`, drift is taken through the
    measured coupling of outputs to inputs; otherwise it is the token's own.
    """

    share = 0.5
    depends = "states"

    def __init__(self, name: str, *, coupled: bool = False) -> None:
        super().__init__(name)
        self.coupled = coupled

    def chosen(self, policy: CachePolicy, problem: Problem, state: SamplerState) -> Tensor:
        """Return (B, n) with the same number of tokens for every sample."""
        cache, i, n = state.cache, state.step, problem.model.n
        assert cache is not None
        if not bool(super().chosen(policy, problem, state).any()):
            return torch.zeros(1, n, dtype=torch.bool)
        # Age stands in for what drift does not see: the change of F with the noise level itself.
        age = (problem.levels[i] - levels_at(problem, cache)).square()
        now = problem.once("effect", lambda: effect(problem))[i]
        score = torch.from_numpy(np.square(now)) * (drift(problem, state, self.coupled) + age)
        score[:, 0] = torch.inf
        chosen = score.topk(max(1, round(self.share * n)), dim=1).indices
        return torch.zeros(len(score), n, dtype=torch.bool).scatter_(1, chosen, True)


class CoupledDrift(Experiment):
    """A rule for events on drift as the network sees it: effect² sum_j J_kj d_j > tau, J measured before."""

    def __init__(self, name: str, *, coupled: bool = False) -> None:
        self.name, self.help = name, "drift of a token's input, weighed by its effect on the sample"
        self.coupled = coupled

    def chosen(self, policy: CachePolicy, problem: Problem, state: SamplerState) -> Tensor:
        """Return (B, n)."""
        now = problem.once("effect", lambda: effect(problem))[state.step]
        return torch.from_numpy(np.square(now)) * drift(problem, state, self.coupled) > policy.tau


def drift(problem: Problem, state: SamplerState, coupled: bool) -> Tensor:
    """Return (B, n) on the host: drift of each token's input, or of all inputs as its output feels them."""
    own = input_drift(problem, state).double().cpu()
    return own @ coupling_of(problem).T if coupled else own


EXPERIMENTS = (
    Calibrated("pilot"),
    Calibrated("pilot bands", banded=True),
    Calibrated("closed form", piloted=False),
    OnlineRate("online"),
    OnlineRate("online bands", banded=True),
    Subset("subset"),
    TopShare("top share"),
    TopShare("top share, coupled", coupled=True),
    CoupledDrift("drift"),
    CoupledDrift("drift, coupled", coupled=True),
)


def register_experiments() -> None:
    """Register all rules of this module for policies of this process."""
    for rule in EXPERIMENTS:
        register(rule)


def coupling(model: ScoreModel, level: float, num: int = 4, probes: int = 1, size: float = 0.05) -> Tensor:
    """Return J (n, n): mean over samples of |dF_k|²/|du_j|² at a noise level, by finite input differences."""
    a = (1 / (1 + np.exp(-2 * level))) ** 0.5
    s = (1 / (1 + np.exp(2 * level))) ** 0.5
    generator = torch.Generator().manual_seed(0)
    v, mask, n = model.v, model.mask, model.n
    x = torch.randn(num, *v.shape, generator=generator) * v.sqrt()
    z = a * x + s * torch.randn(num, *v.shape, generator=generator)
    u = (z / (a * a * v + s * s).sqrt() * mask).to(model.device, model.dtype)
    at = torch.tensor(level, dtype=torch.float64, device=model.device)

    def output(inputs: Tensor) -> Tensor:
        network = model.network
        return network.head(plain_forward(network, network.prepare(inputs, at), network.condition(at)))

    total = torch.zeros(n, n, dtype=torch.float64)
    with torch.inference_mode():
        base = output(u)
        for j in range(n):
            for _ in range(probes):
                du = torch.zeros_like(u)
                du[:, j] = size * torch.randn(num, u.shape[-1], generator=generator).to(u)
                du = du * mask
                change = (output(u + du) - base).square().sum(-1).double()
                moved = du.square().sum((1, 2)).double()
                total[:, j] += (change / moved[:, None]).mean(0).cpu() / probes
    return total
