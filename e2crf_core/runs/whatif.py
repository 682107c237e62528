"""Predict what another policy would have done in a recorded run: decisions, share of tokens, and time.

The prediction runs `e2crf.decide` itself on the record, step by step. Schedules (E5) depend only on the
clock, so their predictions are exact. Drift is measured between recorded states; its only error is that
another policy's run would follow a slightly different path. A token's gain and the event intensity r are
taken as recorded. Trigger `rate` and adaptation use the network's own errors, which no record of another
policy shows, so they are rejected.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from e2crf_core.caching.feedback import first_cache, renewed, tick
from e2crf_core.caching.policy import CachePolicy
from e2crf_core.caching.state import Problem, SamplerState
from e2crf_core.caching.triggers import TRIGGERS, influence
from e2crf_core.diffusion.noise import noise_stream
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.diffusion.spectral import token_count, tokenize
from e2crf_core.e2crf import decide
from e2crf_core.errors import LabError
from e2crf_core.runs.archive import Archive
from e2crf_core.runs.replay import check_same_weights
from e2crf_core.sampling.sampler import Sampler

INTENSITY_MARGIN = 0.05
"""Additional log margin if r decides, because r is taken as recorded."""
INTENSITY_ELSEWHERE = 0.35
"""The same after recording another trigger, whose r differs: `benchmarks.whatif_law` measured up to 47%."""
RESAMPLES = 200
TIME_MARGIN = 0.15
"""Relative error to allow for in seconds: equal work varies this much between runs on a machine in use."""


@dataclass(frozen=True)
class Prediction:
    """The decisions, cost, and time predicted by a what-if, with low and high ends.

    `reasons` (steps, n) are the Reason codes of the watched sample, `share` is the share of tokens recomputed
    in the batch, and `seconds` the compute time. `exact` means that the decisions are certain, not estimated.
    """

    reasons: np.ndarray
    share: float
    share_low: float
    share_high: float
    seconds: float
    seconds_low: float
    seconds_high: float
    exact: bool


@dataclass(frozen=True)
class Trace:
    """The part of a record that decisions depend on, step by step.

    `z` and `u` (steps, 1, n, 2M) are the tokens and network inputs of the watched sample, `r` (steps,) is the
    event intensity in force, and `gain` (steps, n) the measured gain, None if not recorded. `problem` has the
    noise of the whole batch, `alone` that of the watched sample.
    """

    problem: Problem
    alone: Problem
    z: Tensor
    u: Tensor
    r: np.ndarray
    gain: np.ndarray | None


def predictable(archive: Archive) -> tuple[str, ...]:
    """Return the triggers whose decisions can be predicted from this record."""
    recorded = {policy.trigger for _, _, policy in archive.recorder.policies}
    able = {"clock": True, "states": True, "network": False}
    return tuple(name for name, rule in TRIGGERS.items() if able.get(rule.depends, recorded == {name}))


def trace(archive: Archive, model: ScoreModel) -> Trace:
    """Read a record for predictions. Raises LabError if the model is not the one that made it."""
    check_same_weights(archive, model)
    spec, recorder = archive.spec, archive.recorder
    if recorder.n != token_count(recorder.N):
        raise LabError(
            "the tokens of this imported network are no half spectrum: record again to see another policy"
        )
    sampler = Sampler.of(model, spec.config)
    alone, _ = sampler.begin(1, spec.seed, spec.watch)
    series = (recorder.column("series").astype(np.float64) - model.mean) / model.std
    z = torch.as_tensor(tokenize(series)).to(model.dtype)[:, None]
    u = torch.addcmul(alone.u0[: len(z), None].cpu(), alone.c_in[: len(z), None].cpu(), z)
    noise = noise_stream(spec.config.noise, spec.seed, spec.num, model.mask, dtype=model.dtype)
    problem = replace(alone, noise=noise)
    e, drift = recorder.column("e").astype(np.float64), recorder.column("drift").astype(np.float64)
    gain = None
    if "gain" in predictable(archive):
        weight = np.stack([influence(alone, i).cpu().numpy() for i in range(len(e))])
        gain = _held(np.where(drift > 0, e / np.where(drift > 0, drift * weight, 1), np.nan))
    r = np.concatenate([[np.nan], recorder.column("r")[:-1].astype(np.float64)])
    return Trace(problem, alone, z, u, r, gain)


def _held(values: np.ndarray) -> np.ndarray:
    """Fill gaps in values (steps, ...) with the last value before them, or else the first one."""
    order = np.where(np.isnan(values), -1, np.arange(len(values))[:, None])
    last = np.maximum.accumulate(order, axis=0)
    first = np.argmax(order >= 0, axis=0)
    return np.take_along_axis(values, np.where(last < 0, first, last), axis=0)


def decisions(policy: CachePolicy, seen: Trace) -> np.ndarray:
    """Return reason codes (steps, b, n) by `decide` on the record; b is 1 while all samples agree."""
    problem, host = seen.problem, torch.float64
    state = SamplerState(step=0, z=seen.z[0], past=(), base=None, cache=None)
    cache, clock = first_cache(problem, state), None
    made: list[Tensor] = []
    for i, (z, u) in enumerate(zip(seen.z, seen.u, strict=True)):
        known = None
        if clock is not None:
            known = cache = replace(
                cache,
                clock=clock,
                r=torch.tensor([seen.r[i]], dtype=host),
                gain=cache.gain if seen.gain is None else torch.as_tensor(seen.gain[i][None]).to(z),
            )
        reasons, _, _ = decide(policy, problem, SamplerState(i, z, (), None, known))
        made.append(reasons)
        if known is None and not bool(reasons.any()):
            continue  # a late start: there is no cache yet
        current = renewed(policy, reasons)
        clock = tick(clock or cache.clock, current, i, policy.clock)
        # States and inputs are one sample's; with probes, each sample of the batch has separate decisions.
        now = (current[:1] > 0)[..., None].to(z.device)
        cache = replace(cache, z=torch.where(now, z, cache.z), u=torch.where(now, u, cache.u))
        if policy.tau_safe:
            cache = replace(cache, rested=(reasons == 0).all(1))
    widest = max(len(reasons) for reasons in made)
    return torch.stack([reasons.expand(widest, -1) for reasons in made]).numpy()


def refusal(archive: Archive, policy: CachePolicy) -> str | None:
    """Return why this record cannot predict `policy`, or None if it can."""
    if policy.trigger not in predictable(archive):
        return f"trigger {policy.trigger!r} measures the network: record a run with it to predict from"
    if policy.adapt:
        return "adaptation moves tau by errors that only a real run shows: switch it off to predict"
    return None


def margin(policy: CachePolicy, recorded: CachePolicy) -> float:
    """Return the log of the factor of error in a predicted share; 0 if decisions depend only on the clock."""
    by_intensity = 0.0
    if policy.tau_safe or policy.tau_warn:
        by_intensity = INTENSITY_MARGIN if policy.trigger == recorded.trigger else INTENSITY_ELSEWHERE
    by_tau = policy.rule.replay_error_by_tau * abs(math.log(policy.tau / recorded.tau))
    return policy.rule.replay_error + by_intensity + by_tau


def predict(archive: Archive, seen: Trace, policy: CachePolicy) -> Prediction:
    """Predict the run with `policy` throughout. Raises LabError for what the record does not show."""
    refused = refusal(archive, policy)
    if refused:
        raise LabError(refused)
    spec = archive.spec
    error = margin(policy, archive.recorder.policies[-1][2])
    by_sample = error > 0
    # Decisions based on data are one sample's and need its noise; those on the clock hold for the batch.
    reasons = decisions(policy, replace(seen, problem=seen.alone) if by_sample else seen)
    share_of_step = (reasons > 0).mean((1, 2))
    if by_sample:
        share_of_step = np.minimum(1.0, share_of_step * batch_factor(archive, policy))
    share = float(share_of_step.mean())
    seconds, low, high = seconds_of(archive, share_of_step)
    return Prediction(
        reasons=reasons[:, spec.watch if reasons.shape[1] == spec.num else 0],
        share=share,
        share_low=share * math.exp(-error),
        share_high=min(1.0, share * math.exp(error)),
        seconds=seconds,
        seconds_low=low * math.exp(-error) * (1 - TIME_MARGIN),
        seconds_high=high * math.exp(error) * (1 + TIME_MARGIN),
        exact=not by_sample,
    )


def batch_factor(archive: Archive, policy: CachePolicy) -> float:
    """Return the batch's share of tokens over the watched sample's, as recorded with this trigger; else 1."""
    recorder = archive.recorder
    if {old.trigger for _, _, old in recorder.policies} != {policy.trigger}:
        return 1.0
    return float(recorder.column("share").mean() / (recorder.column("reasons") > 0).mean())


def seconds_of(archive: Archive, share_of_step: np.ndarray) -> tuple[float, float, float]:
    """Return seconds for step shares (steps,) from a line fit to recorded steps, with a 95% interval."""
    recorder = archive.recorder
    x = recorder.column("share").astype(np.float64)
    y = recorder.column("seconds")
    # A hiccup of the machine is not a cost of the method.
    fair = y <= np.quantile(y, 0.98)
    x, y = x[fair], y[fair]
    rng = np.random.default_rng(0)
    totals = []
    for sample in range(RESAMPLES + 1):
        rows = np.arange(len(x)) if sample == 0 else rng.integers(0, len(x), len(x))
        base, slope = cost_line(x[rows], y[rows])
        totals.append(base * len(share_of_step) + slope * share_of_step.sum())
    low, high = np.quantile(totals[1:], [0.025, 0.975])
    return float(totals[0]), float(low), float(high)


def cost_line(share: np.ndarray, seconds: np.ndarray) -> tuple[float, float]:
    """Fit step seconds = base + slope * share, neither negative; proportional if all shares are equal."""
    spread = share - share.mean()
    if (spread**2).sum() < 1e-6 * len(share):
        return (0.0, float(seconds.mean() / share.mean())) if share.mean() else (float(seconds.mean()), 0.0)
    slope = max(0.0, float((spread * seconds).sum() / (spread**2).sum()))
    base = float(seconds.mean() - slope * share.mean())
    if base < 0:
        return 0.0, float((share * seconds).sum() / (share**2).sum())
    return base, slope
