"""Compute event intensity (E4) and run the two loops that learn from every recompute (E7).

Recomputing a reused token shows how far off its kept feature was:

    E4   rho = C_fresh - C,   r = sum |rho|² / (sum |C|² + eta)
    E7a  C <- C + alpha rho,  alpha = min(alpha_max, r / 2); the token stays as stale as it was
    E7b  tau <- tau (budget / error)^0.5, within limits

E7a corrects features: those of probed tokens, as published, or those of the tokens that were not recomputed,
by the mean residual of each band (ours). E7b moves the threshold until the error of reuse meets the user's
budget.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from e2crf_core.caching.events import Reason
from e2crf_core.caching.policy import CachePolicy
from e2crf_core.caching.predictors import reused_output
from e2crf_core.caching.selection import Selection
from e2crf_core.caching.state import NEVER, Cache, Clock, Problem, Recompute, SamplerState
from e2crf_core.network.forward import band_edges_of
from e2crf_core.network.kvcache import KVCache
from e2crf_core.network.shapes import Float, Int, UInt8

ETA = 1e-12
RESIDUAL_MEMORY = 0.9
ADAPT_EXPONENT = 0.5
ADAPT_STEP = 4.0
SCALE_LIMIT = 100.0


def first_cache(problem: Problem, state: SamplerState) -> Cache:
    """Return an empty cache: no feature may be read before it is computed; until then, F is 0."""
    model, z = problem.model, state.z
    batch, n, width = len(z), model.n, model.network.width
    zeros = z.new_zeros(z.shape)
    host = torch.float64
    never = torch.full((1, n), NEVER)
    kv = None
    if not band_edges_of(model.network) and problem.backend is None:
        kv = KVCache(model.network.layers, batch, n, width, device=z.device, dtype=z.dtype)
    return Cache(
        kv=kv,
        feature=z.new_zeros(batch, n, width),
        output=zeros,
        slope=None,
        curve=None,
        u=zeros,
        z=zeros,
        gain=z.new_ones(batch, n),
        clock=Clock(at=never, previous=never, refreshed=torch.full((1, 1), state.step), unit="log_snr"),
        r=torch.full((batch,), torch.nan, dtype=host, device=z.device),
        rate=torch.full((batch,), torch.inf, dtype=host),
        scale=torch.ones(batch, dtype=host),
        rested=torch.zeros(batch, dtype=torch.bool),
        residual=None,
    )


def learn(
    policy: CachePolicy,
    problem: Problem,
    state: SamplerState,
    cache: Cache,
    chosen: Selection,
    reasons: UInt8[Tensor, "b n"],
    u: Float[Tensor, "B n c"],
    fresh: Float[Tensor, "T d"],
) -> Cache:
    """Return the cache after a recompute: features `fresh` (T, d) of chosen tokens, inputs u (B, n, 2M)."""
    head, rule, i = problem.model.network.head, policy.rule, state.step
    current = renewed(policy, reasons)
    marked = chosen if current is reasons else Selection.of(current > 0, chosen.batch, state.z.device)
    seen: dict[str, Any] = {
        "u": marked.put(cache.u, marked.take(u)),
        "z": marked.put(cache.z, marked.take(state.z)),
        "clock": tick(cache.clock, current, i, policy.clock),
    }
    if state.cache is None:
        feature = chosen.put(cache.feature, fresh)
        return replace(cache, feature=feature, output=chosen.put(cache.output, head(fresh)), **seen)
    rho, touched = residual(cache, chosen, fresh), chosen.counts > 0
    r = intensity(cache, chosen, rho)
    if chosen.present is not None:
        r = torch.where(touched.to(r.device), r, cache.r)
    alpha = torch.clamp(r / 2, max=policy.alpha).nan_to_num(0.0)
    rows = damp(cache, chosen, reasons, rho, alpha, fresh) if policy.correct and rule.damps_probes else fresh
    output_rows = head(rows)
    feature, output = chosen.put(cache.feature, rows), chosen.put(cache.output, output_rows)
    if policy.correct and not rule.damps_probes:
        means = band_means(problem, chosen, rho, cache.residual)
        seen["residual"] = means
        if chosen.index is not None:
            # Only samples that recomputed something now; the others must not depend on their batch.
            feature = correct(problem, chosen, feature, torch.where(touched.to(r.device), alpha, 0.0), means)
            output = torch.where(seen["clock"].at.to(feature.device)[..., None] == NEVER, 0.0, head(feature))
    delta = output_rows - chosen.take(cache.output)
    error = torch.full_like(cache.rate, torch.nan)
    if policy.adapt or rule.depends == "network":
        reused = reused_output(policy, problem, cache, i)
        error = denoised_error(problem, i, chosen, output_rows - chosen.take(reused))
    if policy.adapt:
        seen["scale"] = torch.where(touched, adapt(cache.scale, error, policy.error_budget), cache.scale)
    if policy.predicts:
        change = delta if marked is chosen else marked.take(output) - marked.take(cache.output)
        seen["slope"], seen["curve"] = differences(policy, problem, i, cache, marked, change)
    seen |= rule.measure(policy, problem, cache, Recompute(i, chosen, u, delta, touched, error))
    return replace(cache, feature=feature, output=output, r=r, **seen)


def renewed(policy: CachePolicy, reasons: UInt8[Tensor, "b n"]) -> UInt8[Tensor, "b n"]:
    """Return reasons (b, n) without damped probes: the tokens that count as computed now.

    A probe that moves C only by alpha rho leaves its token stale: its drift reference, clock, keys, and
    values stay. Otherwise the token would be left alone although most of its error remains.
    """
    if not (policy.correct and policy.rule.damps_probes and policy.probe_share):
        return reasons
    return torch.where(reasons == int(Reason.PROBE), int(Reason.REUSED), reasons).to(reasons.dtype)


def damped_probes(policy: CachePolicy, reasons: UInt8[Tensor, "b n"], batch: int) -> Int[Tensor, "2 P"]:
    """Return (2, P) sample and token of each probe that does not count as computed, on the host."""
    current = renewed(policy, reasons)
    if current is reasons:
        return torch.empty(2, 0, dtype=torch.long)
    return (current != reasons).expand(batch, -1).nonzero().T


def residual(cache: Cache, chosen: Selection, fresh: Float[Tensor, "T d"]) -> Float[Tensor, "T d"]:
    """Return rho (T, d) = C_fresh - C of the chosen tokens (E4), 0 for those computed for the first time."""
    rho = fresh - chosen.take(cache.feature)
    new = cache.clock.at == NEVER
    if not bool(new.any()):
        return rho
    return torch.where(chosen.take(new.expand(chosen.batch, -1)[..., None].to(rho.device)), 0.0, rho)


def intensity(cache: Cache, chosen: Selection, rho: Float[Tensor, "T d"]) -> Float[Tensor, " B"]:
    """Return r (B,) float64: residual energy over the energy of the whole kept feature (E4)."""
    change = chosen.per_sample(rho.square().sum(-1))
    return (change / (cache.feature.square().sum((1, 2)) + ETA)).double()


def damp(
    cache: Cache,
    chosen: Selection,
    reasons: UInt8[Tensor, "b n"],
    rho: Float[Tensor, "T d"],
    alpha: Float[Tensor, " B"],
    fresh: Float[Tensor, "T d"],
) -> Float[Tensor, "T d"]:
    """Return rows (T, d) with C + alpha rho for probed tokens and fresh values for others (E7a)."""
    code = reasons.expand(chosen.batch, chosen.tokens).to(fresh.device)
    probed = chosen.take(code[..., None])[:, 0] == int(Reason.PROBE)
    partly = chosen.take(cache.feature) + alpha.to(fresh)[chosen.sample, None] * rho
    return torch.where(probed[:, None], partly, fresh)


def band_means(
    problem: Problem, chosen: Selection, rho: Float[Tensor, "T d"], before: Float[Tensor, "B bands d"] | None
) -> Float[Tensor, "B bands d"]:
    """Return the running mean (B, bands, d) of the residuals of each band's recomputed tokens."""
    bands = problem.once("bands", lambda: int(problem.bands.max()) + 1)
    slot = chosen.sample * bands + problem.bands[chosen.token]
    count = rho.new_zeros(chosen.batch * bands).index_add_(0, slot, rho.new_ones(len(rho)))
    total = rho.new_zeros(chosen.batch * bands, rho.shape[1]).index_add_(0, slot, rho)
    mean = (total / count.clamp(min=1)[:, None]).view(chosen.batch, bands, -1)
    fresh = (count > 0).view(chosen.batch, bands, 1)
    if before is None:
        return torch.where(fresh, mean, torch.nan)
    # NaN marks a band of a sample that has shown no residual yet, whatever other samples in the batch have
    # shown.
    mixed = torch.where(before.isnan(), mean, RESIDUAL_MEMORY * before + (1 - RESIDUAL_MEMORY) * mean)
    return torch.where(fresh, mixed, before)


def correct(
    problem: Problem,
    chosen: Selection,
    feature: Float[Tensor, "B n d"],
    alpha: Float[Tensor, " B"],
    means: Float[Tensor, "B bands d"],
) -> Float[Tensor, "B n d"]:
    """Return features (B, n, d) with C + alpha rho of its band for each reused token (E7a, ours)."""
    reused = torch.ones_like(feature[..., :1]).flatten(0, 1)
    reused = reused.index_fill_(0, chosen.sample * chosen.tokens + chosen.token, 0.0)
    reused = reused.view(*feature.shape[:2], 1)
    return feature + reused * alpha.to(feature)[:, None, None] * means[:, problem.bands].nan_to_num(0.0)


def denoised_error(
    problem: Problem, step: int, chosen: Selection, delta: Float[Tensor, "T c"]
) -> Float[Tensor, " B"]:
    """Return (B,) on the host: relative RMS error of D (E3) caused by an error `delta` (T, 2M) of F.

    It is relative to the scale of the data. It peaks where a sample's structure is decided: before, F hardly
    changes; after, c_out is small.
    """
    error = (problem.c_out[step].square()[chosen.token] * delta.square()).sum(-1)
    scale = (problem.model.v * problem.model.mask).sum()
    return (chosen.per_sample(error) / scale).sqrt().cpu().double()


def adapt(scale: Float[Tensor, " B"], error: Float[Tensor, " B"], budget: float) -> Float[Tensor, " B"]:
    """Return factors (B,) for tau after a recompute that showed `error` (B,), between 1/2 and 2 (E7b)."""
    factor = (budget / (error + ETA)).clamp(1 / ADAPT_STEP, ADAPT_STEP) ** ADAPT_EXPONENT
    return (scale * factor).clamp(1 / SCALE_LIMIT, SCALE_LIMIT)


def differences(
    policy: CachePolicy,
    problem: Problem,
    step: int,
    cache: Cache,
    chosen: Selection,
    delta: Float[Tensor, "T c"],
) -> tuple[Float[Tensor, "B n c"], Float[Tensor, "B n c"]]:
    """Return first and second divided differences of F on the policy's clock after a recompute (Newton form).

    F[t1, t0] = (F1 - F0) / (t1 - t0); F[t2, t1, t0] = (F[t2, t1] - F[t1, t0]) / (t2 - t0). Both (B, n, 2M).
    """
    shape, ticks, clock = cache.output.shape, problem.clocks[policy.clock], cache.clock
    moved = torch.where(clock.at == NEVER, 0.0, ticks[step] - ticks[clock.at])
    moved = moved.to(delta, non_blocking=True).expand(shape[:2])[..., None]
    gap = (ticks[clock.at] - ticks[clock.previous]).to(delta, non_blocking=True)
    gap = gap.expand(shape[:2])[..., None]
    moved, gap = chosen.take(moved), chosen.take(gap)
    # Differences taken on another clock, before a live change of policy, cannot be used on this one.
    stated = cache.slope is not None and clock.unit == policy.clock
    old = cache.slope if cache.slope is not None and stated else torch.zeros_like(cache.output)
    slope_rows = delta / torch.where(moved.abs() > 0, moved, torch.inf)
    curve_rows = (slope_rows - chosen.take(old)) / torch.where(gap.abs() > 0, moved + gap, torch.inf)
    curve = cache.curve if cache.curve is not None and stated else torch.zeros_like(cache.output)
    return chosen.put(old, slope_rows), chosen.put(curve, curve_rows)


def tick(clock: Clock, reasons: UInt8[Tensor, "b n"], step: int, unit: str) -> Clock:
    """Return the clock after recomputing where reasons are nonzero; (1, n) while all samples agree."""
    now = reasons > 0
    every = now.all(1, keepdim=True)
    at = torch.where(now, step, clock.at)
    previous = torch.where(now, torch.where(clock.at == NEVER, step, clock.at), clock.previous)
    refreshed = torch.where(every, step, clock.refreshed)
    if bool(every.all()) and bool((previous == previous[:1]).all()):
        return Clock(at[:1], previous[:1], refreshed[:1], unit)
    return Clock(at, previous, refreshed, unit)
