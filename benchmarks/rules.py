"""Event rules that are not in the core: tried here first, on the axes of the trigger study.

A rule says which tokens (b, n) to recompute at a step, from what is known before it. Pilot runs measure once, on
noise of their own, how fast F changes; the rules built on them cost nothing while sampling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from e2crf_core.caching.events import Reason
from e2crf_core.caching.policy import CachePolicy
from e2crf_core.caching.state import Cache, Problem, SamplerState, StepInfo
from e2crf_core.caching.triggers import input_drift
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.e2crf import advance, recompute, reused_output
from e2crf_core.sampling.sampler import Sampler, plain_step

PILOT_SEED = 987_654
Rule = Callable[[Problem, SamplerState], Tensor]


class RuleSampler(Sampler):
    """A Sampler whose events are decided by a rule; predictor and correction are those of its policy."""

    def __init__(self, model: ScoreModel, rule: Rule, policy: CachePolicy, **options: object) -> None:
        super().__init__(model, policy, **options)  # type: ignore[arg-type]
        self.rule = rule

    def step(
        self, problem: Problem, state: SamplerState, policy: CachePolicy
    ) -> tuple[SamplerState, StepInfo]:
        """`e2crf.step` with the rule in the place of `decide`."""
        n, cache = problem.model.n, state.cache
        mask = torch.ones(1, n, dtype=torch.bool) if cache is None else self.rule(problem, state)
        reasons = mask.to(torch.uint8) * int(Reason.EVENT)
        rows = samples = 0
        if bool(mask.any()):
            cache, chosen = recompute(policy, problem, state, reasons)
            rows, samples = chosen.rows, chosen.samples
        assert cache is not None
        output = reused_output(policy, problem, cache, state.step)
        after, denoised = advance(problem, state, output, cache)
        zero = torch.zeros(1, n, dtype=torch.float64)
        return after, StepInfo(reasons, zero, zero[:, :1], rows, samples, denoised)


@dataclass(frozen=True)
class Pilot:
    """How F changes along uncached runs on a plan: `levels` (steps,), rms rate of F per log(a/s) (steps, n)."""

    levels: np.ndarray
    rate: np.ndarray


def network_output(problem: Problem, z: Tensor, info: StepInfo, step: int) -> Tensor:
    """F (B, n, 2M) that a step from state z used, out of its denoised estimate (E3 inverted)."""
    rest = info.denoised - problem.d0[step] - problem.c_skip[step] * z
    return rest / problem.c_out[step].clamp(min=1e-12) * problem.model.mask


def pilot_outputs(
    model: ScoreModel, *, steps: int, solver: str, grid: str, num: int
) -> tuple[Problem, list[np.ndarray]]:
    """The problem of an uncached pilot run, and F (num, n, 2M) of each of its steps."""
    sampler = Sampler(model, steps=steps, solver=solver, grid=grid, cached=False)
    outputs = []
    with torch.inference_mode():
        problem, state = sampler.begin(num, PILOT_SEED)
        for i in range(steps):
            z = state.z
            state, info = plain_step(problem, state)
            outputs.append(network_output(problem, z, info, i).cpu().numpy())
    return problem, outputs


def pilot(model: ScoreModel, *, steps: int, solver: str, grid: str, num: int = 16) -> Pilot:
    """Run `num` uncached samples and difference F between steps, smoothed over neighboring steps."""
    problem, outputs = pilot_outputs(model, steps=steps, solver=solver, grid=grid, num=num)
    levels = np.array(problem.levels)
    # Over a single fine step injected noise would dominate: look as far ahead as a cache would hold.
    rate = np.empty((steps, model.n))
    reach = 0.3
    for i in range(steps):
        j = min(steps - 1, max(i + 1, int(np.searchsorted(levels, levels[i] + reach))))
        k = j if j > i else i - 1
        apart = np.square(outputs[k] - outputs[i]).sum(-1).mean(0)
        rate[i] = np.sqrt(apart) / max(abs(levels[k] - levels[i]), 1e-9)
    return Pilot(levels, rate)


def effect(problem: Problem) -> np.ndarray:
    """(steps, n) how strongly an error of F_k, held for a unit of log(a/s), moves the finished sample.

    An error c_out dF of D moves x = z/a by as much per log(a/s) under the probability flow, and what remains of the
    way shrinks it, for Gaussian data by sqrt(v / (v + s²/a²)) = c_out a/s. So a token matters most while its own
    signal emerges from the noise: the effect is sqrt(v) / (q + 1/q) with q = s / (a sqrt(v)).
    """
    ratio = np.exp(np.array(problem.levels))[:, None]
    return problem.c_out.double().square().mean(-1).cpu().numpy() * ratio


def levels_at(problem: Problem, cache: Cache) -> Tensor:
    """(b, n) float64 log(a/s) at each token's last recompute."""
    return problem.clocks["log_snr"][cache.clock.at]


@dataclass
class Calibrated:
    """Recompute a group of tokens when its integrated density has moved by tau since the group's last recompute.

    Holding F for h costs effect * rate * h² / 2 and one recompute: the best density of recomputes along log(a/s) is
    therefore proportional to (effect * rate)^power, power 1/2 for a held output and 1/3 for an extrapolated one.
    `edges` cut tokens into groups; one group refreshes all tokens together.
    """

    measured: Pilot
    tau: float
    edges: tuple[int, ...]
    power: float = 0.5
    _table: np.ndarray | None = field(default=None, repr=False)

    def __call__(self, problem: Problem, state: SamplerState) -> Tensor:
        """(1, n): the same for all samples, so a sample does not depend on its batch."""
        if self._table is None:
            self._table = self._cumulated(problem)
        cache, n = state.cache, problem.model.n
        assert cache is not None
        mask = torch.zeros(1, n, dtype=torch.bool)
        for g, (first, last) in enumerate(zip(self.edges[:-1], self.edges[1:], strict=True)):
            since = int(cache.clock.at[0, first])
            mask[0, first:last] = bool(self._table[state.step, g] - self._table[since, g] > self.tau)
        return mask

    def _cumulated(self, problem: Problem) -> np.ndarray:
        """(steps, groups) integral of the density up to each step, scaled to a mean of 1 per log(a/s)."""
        levels = self.measured.levels
        squared = np.square(effect(problem) * self.measured.rate)
        grouped = np.sqrt(np.add.reduceat(squared, self.edges[:-1], axis=1) / np.diff(self.edges))
        density = grouped**self.power
        moved = np.diff(levels, prepend=levels[0])
        table = np.cumsum(density * moved[:, None], axis=0)
        # In units of log(a/s): at equal tau a rule of one group recomputes as often as log_snr does.
        share = np.diff(self.edges) / self.edges[-1]
        return table / (table[-1] @ share) * (levels[-1] - levels[0])


@dataclass
class OnlineRate:
    """The same density with the rate measured during the run, by each sample and group at its own recomputes.

    A closed loop for each band: the more F moved at the last recompute, the sooner the next. Needs a predictor
    that keeps divided differences.
    """

    tau: float
    edges: tuple[int, ...]
    power: float = 1 / 3
    _effect: np.ndarray | None = field(default=None, repr=False)

    def __call__(self, problem: Problem, state: SamplerState) -> Tensor:
        """(B, n)."""
        if self._effect is None:
            self._effect = effect(problem)
        cache, i = state.cache, state.step
        assert cache is not None
        moved = problem.levels[i] - levels_at(problem, cache)
        if cache.slope is None:
            return (moved > self.tau / 4).expand(len(state.z), -1)
        rate = cache.slope.square().sum(-1).double().cpu() * torch.from_numpy(np.square(self._effect[i]))
        mask = torch.zeros(rate.shape, dtype=torch.bool)
        for first, last in zip(self.edges[:-1], self.edges[1:], strict=True):
            density = rate[:, first:last].mean(1).sqrt() ** self.power
            # A group that seemed calm is asked again after a while: its rate may have been a chance.
            due = (density * moved[:, first] > self.tau) | (moved[:, first] > 1.5)
            mask[:, first:last] = due[:, None]
        return mask


@dataclass
class Subset:
    """A schedule at whose events only tokens of some effect are recomputed; all of them once `most` behind."""

    schedule: Calibrated
    keep: float
    most: float = 1.0

    def __call__(self, problem: Problem, state: SamplerState) -> Tensor:
        """(1, n)."""
        cache, i = state.cache, state.step
        assert cache is not None
        mask = self.schedule(problem, state)
        if not bool(mask.any()) or problem.levels[i] - float(levels_at(problem, cache).min()) > self.most:
            return mask
        now = effect(problem)[i]
        mask &= torch.from_numpy(now >= self.keep * now.max())
        # The schedule reads its clock from the first token of a group.
        mask[0, 0] = True
        return mask


@dataclass
class TopShare:
    """A schedule at whose events the share of tokens with the largest expected effect is recomputed, per sample.

    The quantile takes the place of a threshold: scores need no scale. Drift is seen through `sensitivity` (n, n),
    the measured coupling of outputs to inputs; without it, a token's own drift.
    """

    schedule: Calibrated
    share: float
    sensitivity: Tensor | None = None

    def __call__(self, problem: Problem, state: SamplerState) -> Tensor:
        """(B, n), as many tokens for every sample."""
        cache, i, n = state.cache, state.step, problem.model.n
        assert cache is not None
        if not bool(self.schedule(problem, state).any()):
            return torch.zeros(1, n, dtype=torch.bool)
        drift = input_drift(problem, state).double().cpu()
        if self.sensitivity is not None:
            drift = drift @ self.sensitivity.T
        # Age stands in for what drift does not see: the change of F with the noise level itself.
        age = (problem.levels[i] - levels_at(problem, cache)).square()
        score = torch.from_numpy(np.square(effect(problem)[i])) * (drift + age)
        score[:, 0] = torch.inf
        chosen = score.topk(max(1, round(self.share * n)), dim=1).indices
        return torch.zeros(len(drift), n, dtype=torch.bool).scatter_(1, chosen, True)


@dataclass
class CoupledDrift:
    """Token events on drift seen through the network: effect² sum_j J_kj d_j > tau, J measured beforehand."""

    tau: float
    sensitivity: Tensor | None = None

    def __call__(self, problem: Problem, state: SamplerState) -> Tensor:
        """(B, n)."""
        drift = input_drift(problem, state).double().cpu()
        if self.sensitivity is not None:
            drift = drift @ self.sensitivity.T
        return torch.from_numpy(np.square(effect(problem)[state.step])) * drift > self.tau


def coupling(model: ScoreModel, level: float, num: int = 8, probes: int = 4, size: float = 0.05) -> Tensor:
    """J (n, n): mean over samples of |dF_k|²/|du_j|² at a noise level, by finite differences of each input token."""
    a = (1 / (1 + np.exp(-2 * level))) ** 0.5
    s = (1 / (1 + np.exp(2 * level))) ** 0.5
    generator = torch.Generator().manual_seed(0)
    v, mask, n = model.v, model.mask, model.n
    x = torch.randn(num, *v.shape, generator=generator) * v.sqrt()
    z = a * x + s * torch.randn(num, *v.shape, generator=generator)
    u = (z / (a * a * v + s * s).sqrt() * mask).to(model.device, model.dtype)
    at = torch.tensor(level, dtype=torch.float64, device=model.device)

    def output(inputs: Tensor) -> Tensor:
        from e2crf_core.network.forward import plain_forward

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
