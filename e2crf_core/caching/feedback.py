"""E4 and E7: event intensity, and the two loops that learn from every recompute.

A recompute of a reused token shows its true residual rho = C_fresh - C_kept. Loop (a) corrects reused features
by it; loop (b) adapts the threshold until the measured residual meets the user's budget.
"""

from __future__ import annotations

import torch
from torch import Tensor

from e2crf_core.caching.events import Reason
from e2crf_core.caching.policy import CachePolicy
from e2crf_core.caching.predictors import reused_output
from e2crf_core.caching.selection import Selection
from e2crf_core.caching.state import Cache, Clock, Problem, SamplerState
from e2crf_core.network.kvcache import KVCache

ETA = 1e-12
RESIDUAL_MEMORY = 0.9
ADAPT_EXPONENT = 0.5
SCALE_LIMIT = 100.0


def first_cache(problem: Problem, state: SamplerState) -> Cache:
    """An empty cache: nothing in it may be read before the first step has recomputed every token."""
    model, z = problem.model, state.z
    batch, n, width = len(z), model.n, model.network.width
    zeros = z.new_zeros(z.shape)
    host = torch.float64
    now = torch.full((1, n), state.step)
    clock = Clock(at=now, previous=now, refreshed=now[:, :1], unit="log_snr")
    return Cache(
        kv=KVCache(model.network.layers, batch, n, width, device=z.device, dtype=z.dtype),
        feature=z.new_zeros(batch, n, width),
        output=zeros,
        slope=None,
        curve=None,
        u=zeros,
        z=zeros,
        gain=z.new_ones(batch, n),
        clock=clock,
        r=torch.full((batch,), torch.nan, dtype=host),
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
    reasons: Tensor,
    u: Tensor,
    fresh: Tensor,
) -> Cache:
    """The cache after a recompute that gave features `fresh` (T, d) of the chosen tokens; u (B, n, 2M) is the input."""
    model, i = problem.model, state.step
    known = state.cache is not None
    kept = chosen.take(cache.feature)
    rho = fresh - kept
    change = chosen.per_sample(rho.square().sum(-1))
    touched = chosen.counts > 0

    r = cache.r
    if known:
        measured = (change / (cache.feature.square().sum((1, 2)) + ETA)).cpu().double()
        r = torch.where(touched, measured, r)
    alpha = torch.clamp(r / 2, max=policy.alpha).nan_to_num(0.0)

    feature_rows = fresh
    if known and policy.correct and policy.trigger == "paper":
        # Published: a probed token's kept feature moves toward the fresh one by the gain alpha only.
        code = reasons.expand(len(state.z), model.n).to(fresh.device)
        probed = chosen.take(code[..., None])[:, 0] == int(Reason.PROBE)
        partly = kept + alpha.to(fresh)[chosen.sample, None] * rho
        feature_rows = torch.where(probed[:, None], partly, fresh)
    feature = chosen.put(cache.feature, feature_rows)
    output_rows = model.network.head(feature_rows)

    residual = cache.residual
    whole = chosen.index is None
    if known and policy.correct and policy.trigger != "paper":
        residual = _band_residual(problem, chosen, rho, cache.residual)
        if not whole:
            reused = torch.ones_like(feature[..., :1]).flatten(0, 1)
            reused = reused.index_fill_(0, chosen.sample * model.n + chosen.token, 0.0).view(
                *feature.shape[:2], 1
            )
            # Only samples that recomputed something now: the others must not feel their batch.
            alpha = torch.where(touched, alpha, 0.0)
            feature = feature + reused * alpha.to(feature)[:, None, None] * residual[
                :, problem.bands
            ].nan_to_num(0.0)
    corrected = residual is not None and not whole
    output = model.network.head(feature) if corrected else chosen.put(cache.output, output_rows)

    gain, rate, scale = cache.gain, cache.rate, cache.scale
    slope, curve = cache.slope, cache.curve
    if known:
        delta = output_rows - chosen.take(cache.output)
        if policy.trigger == "gain":
            drift = (chosen.take(u) - chosen.take(cache.u)).square().sum(-1)
            gain = chosen.put(gain[..., None], (delta.square().sum(-1) / (drift + ETA))[:, None])[..., 0]
        if policy.trigger == "rate" or policy.adapt:
            reused = reused_output(policy, problem, cache, i)
            error = _denoised_error(problem, i, chosen, output_rows - chosen.take(reused))
            if policy.trigger == "rate":
                # Along a noisy path F moves like a random walk, so its change is stated per root of the clock.
                moved = (problem.clocks[policy.clock][i] - problem.clocks[policy.clock][cache.clock.at]).amax(
                    1
                )
                rate = torch.where(touched, error / (moved.sqrt() + ETA), rate)
            if policy.adapt:
                factor = (policy.error_budget / (error + ETA)).clamp(0.25, 4.0) ** ADAPT_EXPONENT
                scale = torch.where(touched, (scale * factor).clamp(1 / SCALE_LIMIT, SCALE_LIMIT), scale)
        if policy.predicts:
            slope, curve = _differences(policy, problem, i, cache, chosen, delta)
    return Cache(
        kv=cache.kv,
        feature=feature,
        output=output,
        slope=slope,
        curve=curve,
        u=chosen.put(cache.u, chosen.take(u)),
        z=chosen.put(cache.z, chosen.take(state.z)),
        gain=gain,
        clock=tick(cache.clock, reasons, i, policy.clock),
        r=r,
        rate=rate,
        scale=scale,
        rested=cache.rested,
        residual=residual,
    )


def _denoised_error(problem: Problem, step: int, chosen: Selection, delta: Tensor) -> Tensor:
    """(B,) on the host: RMS error of D (E3) that an error `delta` of F made, relative to the data's own scale.

    This peaks where a sample makes up its mind: before, F hardly changes; after, c_out is small.
    """
    error = (problem.c_out[step].square()[chosen.token] * delta.square()).sum(-1)
    scale = (problem.model.v * problem.model.mask).sum()
    return (chosen.per_sample(error) / scale).sqrt().cpu().double()


def _band_residual(problem: Problem, chosen: Selection, rho: Tensor, before: Tensor | None) -> Tensor:
    """Running mean (B, bands, d) of the residuals of each band's recomputed tokens."""
    bands = int(problem.bands.max()) + 1
    slot = chosen.sample * bands + problem.bands[chosen.token]
    count = rho.new_zeros(chosen.batch * bands).index_add_(0, slot, rho.new_ones(len(rho)))
    total = rho.new_zeros(chosen.batch * bands, rho.shape[1]).index_add_(0, slot, rho)
    mean = (total / count.clamp(min=1)[:, None]).view(chosen.batch, bands, -1)
    fresh = (count > 0).view(chosen.batch, bands, 1)
    if before is None:
        return torch.where(fresh, mean, torch.nan)
    # NaN marks a band of a sample that has shown no residual yet, whatever other samples of the batch have shown.
    mixed = torch.where(before.isnan(), mean, RESIDUAL_MEMORY * before + (1 - RESIDUAL_MEMORY) * mean)
    return torch.where(fresh, mixed, before)


def _differences(
    policy: CachePolicy, problem: Problem, step: int, cache: Cache, chosen: Selection, delta: Tensor
) -> tuple[Tensor, Tensor]:
    """First and second divided differences of F on the policy's clock after a recompute (Newton form)."""
    shape, ticks, clock = cache.output.shape, problem.clocks[policy.clock], cache.clock
    moved = (ticks[step] - ticks[clock.at]).to(delta).expand(shape[:2])[..., None]
    gap = (ticks[clock.at] - ticks[clock.previous]).to(delta).expand(shape[:2])[..., None]
    moved, gap = chosen.take(moved), chosen.take(gap)
    # Differences stated on another clock, before a live change of policy, are of no use on this one.
    stated = cache.slope is not None and clock.unit == policy.clock
    old = cache.slope if cache.slope is not None and stated else torch.zeros_like(cache.output)
    slope_rows = delta / torch.where(moved.abs() > 0, moved, torch.inf)
    curve_rows = (slope_rows - chosen.take(old)) / torch.where(gap.abs() > 0, moved + gap, torch.inf)
    curve = cache.curve if cache.curve is not None and stated else torch.zeros_like(cache.output)
    return chosen.put(old, slope_rows), chosen.put(curve, curve_rows)


def tick(clock: Clock, reasons: Tensor, step: int, unit: str) -> Clock:
    """The clock after recomputing where reasons are non-zero; it stays (1, n) while all samples agree."""
    now = reasons > 0
    every = now.all(1, keepdim=True)
    at = torch.where(now, step, clock.at)
    previous = torch.where(now, clock.at, clock.previous)
    refreshed = torch.where(every, step, clock.refreshed)
    if bool(every.all()) and bool((previous == previous[:1]).all()):
        return Clock(at[:1], previous[:1], refreshed[:1], unit)
    return Clock(at, previous, refreshed, unit)
