"""Run the E²-CRF algorithm (arXiv:2604.22901): `step`, and below it `decide`, `recompute`, `advance`.

State z (B, n, 2M) has n tokens at call i; D is the denoised estimate, F = head(C) its network part (E3):

    E4   C = h_L                             cumulative residual feature, the last value of the residual stream
         r = sum |C - C_last|² / sum |C_last|²    event intensity; "last" = at a token's last recompute
    E5   event_k  <=>  score_k > tau         the score is the trigger's; see caching/triggers.py
         S = low band  +  events  +  probes  tokens to recompute: all of them when r > tau_warn, after R steps, or
                                             when the trigger concerns whole samples; none when r < tau_safe
    E6   C_k = forward of S only, k in S     full attention: other tokens lend their kept keys and values;
                                             causal bands: S grows to a prefix, computed exactly, nothing kept
    E7   C <- C + alpha (C_fresh - C)        (a) correct, alpha = min(alpha_max, r / 2)
         tau <- tau (budget / error)^0.5     (b) adapt; see caching/feedback.py
    E3   D = mu + c_skip (z - a mu) + c_out F(C)      renewed at every step, C or its continuation reused
    E8   z' = own z + base b + now D + before D_1 + earlier D_2 + sigma xi      the solver's row, diffusion/solvers.py

All functions are pure in the state, except that a state passes its keys and values on to its successor.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from e2crf_core.caching.events import Reason
from e2crf_core.caching.feedback import damped_probes, first_cache, learn
from e2crf_core.caching.policy import CachePolicy
from e2crf_core.caching.predictors import reused_output
from e2crf_core.caching.selection import Selection
from e2crf_core.caching.state import Cache, Problem, SamplerState, StepInfo
from e2crf_core.diffusion.solvers import HOLD, Mix
from e2crf_core.network.forward import band_edges_of, plain_forward, prefixes_forward, selective_forward
from e2crf_core.network.kvcache import KVCache


def step(problem: Problem, state: SamplerState, policy: CachePolicy) -> tuple[SamplerState, StepInfo]:
    """Take one step of the cached sampler: decide (E5), recompute if needed (E6, E7), advance (E3, E8)."""
    reasons, score, tau = decide(policy, problem, state)
    cache, rows, samples = state.cache, 0, 0
    if bool(reasons.any()):
        cache, chosen = recompute(policy, problem, state, reasons)
        rows, samples = chosen.rows, chosen.samples
    if cache is not None and policy.tau_safe:
        cache = replace(cache, rested=(reasons == 0).all(1).expand(len(state.z)))
    # Before the first recompute, F is 0: the exact denoiser of Gaussian data.
    output = torch.zeros_like(state.z) if cache is None else reused_output(policy, problem, cache, state.step)
    after, denoised = advance(problem, state, output, cache)
    return after, StepInfo(reasons, score, tau, rows, samples, denoised)


def decide(policy: CachePolicy, problem: Problem, state: SamplerState) -> tuple[Tensor, Tensor, Tensor]:
    """Return reason codes and scores (b, n) and thresholds (b, 1), known before this step (E5)."""
    rule, n, cache, i = policy.rule, problem.model.n, state.cache, state.step
    if cache is None and not rule.late:
        waits = "start" in rule.reads and problem.levels[i] - problem.levels[0] < policy.start
        every = torch.full((1, n), int(Reason.REUSED if waits else Reason.REFRESH), dtype=torch.uint8)
        return every, torch.zeros(1, n, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    score, tau = rule.score(policy, problem, state), rule.threshold(policy, cache)
    event = score > tau
    if rule.verdict is not None:
        return torch.full(event.shape, int(rule.verdict), dtype=torch.uint8), score, tau
    if cache is None and not band_edges_of(problem.model.network):
        # With full attention, the first forward writes the keys and values of all tokens.
        first = event.any(1, keepdim=True).expand_as(event)
        return first.to(torch.uint8) * int(Reason.REFRESH), score, tau
    reasons = event.to(torch.uint8) * int(Reason.EVENT)
    refresh = event.any(1, keepdim=True) & rule.whole
    if cache is not None and policy.refresh_every:
        refresh = refresh | rule.due(policy, i - cache.clock.refreshed)
    r = cache.r.cpu() if cache is not None and (policy.tau_warn or policy.tau_safe) else None
    if r is not None and policy.tau_warn:
        refresh = refresh | (r > policy.tau_warn)[:, None]
    if policy.probe_share:
        drawn = problem.noise.uniform(i) < policy.probe_share
        probed = drawn & (reasons == 0) & (refresh | (not rule.probes_when_due))
        reasons = torch.where(probed, int(Reason.PROBE), reasons).to(torch.uint8)
    reasons[:, : policy.k_low + 1] = int(Reason.LOW_BAND)
    if cache is not None and r is not None and policy.tau_safe and "tau_safe" in rule.reads:
        calm = (r < policy.tau_safe) & ~cache.rested
        reasons = reasons * ~calm[:, None]
    if not rule.probes_when_due:
        reasons = torch.where(refresh, int(Reason.REFRESH), reasons).to(torch.uint8)
    return with_lower_bands(reasons, band_edges_of(problem.model.network)), score, tau


def with_lower_bands(reasons: Tensor, edges: tuple[int, ...]) -> Tensor:
    """Extend reasons (b, n) to all tokens of the same and lower bands, for a causal network (E6)."""
    if not edges or not bool(reasons.any()):
        return reasons
    ends = torch.tensor((0, *edges))
    highest = ((reasons > 0) * torch.arange(1, reasons.shape[1] + 1)).amax(1)
    length = ends[torch.bucketize(highest, ends)]
    below = torch.arange(reasons.shape[1]) < length[:, None]
    return torch.where(below & (reasons == 0), int(Reason.LOW_BAND), reasons).to(torch.uint8)


def recompute(
    policy: CachePolicy, problem: Problem, state: SamplerState, reasons: Tensor
) -> tuple[Cache, Selection]:
    """Run the chosen tokens, keep the results (E6), and learn from the error of the kept values (E7)."""
    cache, i = state.cache or first_cache(problem, state), state.step
    chosen = Selection.of(reasons > 0, len(state.z), state.z.device, prefixes=cache.kv is None)
    u = problem.network_input(state)
    present = u if chosen.present is None else u[chosen.present]
    if cache.kv is None:
        counts = chosen.counts[chosen.counts > 0]
        fresh = prefixes_forward(partial(problem.features, i), present, counts)
    else:
        with cache.kv.keeping(damped_probes(policy, reasons, len(state.z))):
            fresh = keeping_forward(problem, i, cache.kv, chosen, present)
    return learn(policy, problem, state, cache, chosen, reasons, u, fresh), chosen


def keeping_forward(problem: Problem, step: int, kv: KVCache, chosen: Selection, u: Tensor) -> Tensor:
    """Run the chosen tokens with full attention, keep their keys and values, and return C (T, d) (E6)."""
    network = problem.model.network
    prepared, condition = network.prepare(u, problem.level(step)), problem.condition(step)
    if chosen.whole:
        return plain_forward(network, prepared, condition, cache=kv, rows=chosen.present).flatten(0, 1)
    rows = chosen.take_present(prepared)
    return selective_forward(network, rows, condition, kv, chosen.sample, chosen.token, chosen.counts)


def advance(
    problem: Problem, state: SamplerState, output: Tensor, cache: Cache | None
) -> tuple[SamplerState, Tensor]:
    """Return the next state by the solver's row (E8), and the denoised tokens D from F (E3)."""
    i, z, row = state.step, state.z, problem.plan.rows[state.step]
    denoised = problem.denoised(i, z, output)
    past = (denoised, *state.past)
    if problem.exponential is not None:
        past = (output, *state.past)
        after = problem.exponential.advance(i, z, past) if i < problem.plan.steps - 1 else denoised
        base = state.base
    else:
        after = combine(row.mix, z, state.base, past)
        base = state.base if row.kept == HOLD else combine(row.kept, z, state.base, past)
    if row.sigma:
        after.add_(problem.noise.at(i), alpha=row.sigma)
    return SamplerState(step=i + 1, z=after, past=past[:2], base=base, cache=cache), denoised


def combine(mix: Mix, z: Tensor, base: Tensor | None, past: tuple[Tensor, ...]) -> Tensor:
    """Return the combination `mix` of z, the carried state, and past denoised values, newest first (E8)."""
    own, held, *denoised = mix
    total = own * z
    for weight, value in zip(denoised, past, strict=False):
        if weight:
            total = torch.add(total, value, alpha=weight)
    return total if not held or base is None else total.add_(base, alpha=held)
