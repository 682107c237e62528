"""Collapse the steps between two network calls into one map, where the calls are known before a run.

A policy that decides by the clock alone has the same calls in every run of a plan. From one call to the next,
F is a known combination of what the call left (its value O, slope S and curve Q; see `predictors`), and E3
and E8 are affine. So the state y = (z, b, D_1, D_2) after a segment of steps is, coordinate by coordinate,

    y' = c + A y + G_O O + G_S S + G_Q Q + sum_k W_k xi_k

with coefficients that depend on the plan alone. One backward sweep over a segment's rows gives them all: it
carries the influence of each row's results on y' (the adjoint of E8). Only the parts of y that the solver
ever reads are carried; for most solvers that is z alone. Results equal those of single steps up to rounding.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from e2crf_core.caching.feedback import first_cache, tick
from e2crf_core.caching.policy import CachePolicy
from e2crf_core.caching.predictors import weights
from e2crf_core.caching.state import Cache, Clock, Problem, SamplerState
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.diffusion.solvers import HOLD, Plan
from e2crf_core.e2crf import decide, recompute
from e2crf_core.network.host import own_settings
from e2crf_core.network.kept import kept_for

LIMIT_BYTES = 1 << 26
"""Tables larger than this are not built: beside such a network, single steps cost little."""
KEPT = 8
"""The number of plans whose tables are kept for each network."""

Z, BASE, FIRST, SECOND = range(4)
"""Places in y = (z, b, D_1, D_2)."""


@dataclass(frozen=True)
class Segment:
    """The steps first..last-1: a call at `first`, if any, and one affine map.

    `reasons` (1, n) are the call's Reason codes, all REUSED without a call. `carried` names the parts of y that are
    read and written, R of them. Weights have shape (R, 1, n, 2M), None where they vanish: `own` for each part
    read, `kept` for output, slope, and curve; `noise` is (R, k, n, 2M) for the segment's k steps.
    """

    first: int
    last: int
    reasons: Tensor
    carried: tuple[int, ...]
    constant: Tensor
    own: tuple[Tensor | None, ...]
    kept: tuple[Tensor | None, ...]
    noise: Tensor | None

    def advance(self, problem: Problem, state: SamplerState, cache: Cache | None) -> SamplerState:
        """Return the state after the segment's last step, given the cache that its call left."""
        before = (state.z, state.base, *state.past, None, None)
        left = (None, None, None) if cache is None else (cache.output, cache.slope, cache.curve)
        total = self.constant
        for weight, value in (
            *zip(self.own, (before[place] for place in self.carried), strict=True),
            *zip(self.kept, left, strict=True),
        ):
            if weight is not None and value is not None:
                total = torch.addcmul(total, weight, value)
        if self.noise is not None:
            total = total + problem.noise.mixed(self.first, self.noise)
        after = dict(zip(self.carried, total.expand(len(total), *state.z.shape).unbind(), strict=True))
        past = tuple(after[place] for place in (FIRST, SECOND) if place in after)
        return SamplerState(self.last, after[Z], past, after.get(BASE), cache)


@own_settings()
def run_segment(
    problem: Problem, state: SamplerState, policy: CachePolicy, segment: Segment
) -> tuple[SamplerState, int, int]:
    """Run a segment; return the state after it, the tokens recomputed, and the samples with any of them."""
    cache, rows, samples = state.cache, 0, 0
    if bool(segment.reasons.any()):
        cache, chosen = recompute(policy, problem, state, segment.reasons)
        rows, samples = chosen.rows, chosen.samples
    return segment.advance(problem, state, cache), rows, samples


def decisions(
    policy: CachePolicy, problem: Problem, state: SamplerState
) -> Iterator[tuple[Tensor, Clock | None]]:
    """Yield the Reason codes (1, n) of each step and the clock after it, for a policy that is `scheduled`."""
    for i in range(problem.plan.steps):
        state = replace(state, step=i)
        reasons, _, _ = decide(policy, problem, state)
        if bool(reasons.any()):
            cache = state.cache or first_cache(problem, state)
            state = replace(state, cache=replace(cache, clock=tick(cache.clock, reasons, i, policy.clock)))
        yield reasons, None if state.cache is None else state.cache.clock


@own_settings()
def make_segments(policy: CachePolicy, problem: Problem, state: SamplerState) -> Mapping[int, Segment] | None:
    """Return a plan's segments by their first step, from the start of a one-sample run.

    Returns None where single steps do as well: the policy is not scheduled, no step reuses, the samples are
    conditioned on observed values, or the tables would take more than LIMIT_BYTES.
    """
    carried = _carried(problem)
    size = len(carried) * problem.plan.steps * problem.model.mu.numel() * problem.model.mu.element_size()
    if not policy.scheduled or problem.conditioning is not None or size > LIMIT_BYTES:
        return None
    with torch.inference_mode():
        decided = list(decisions(policy, problem, state))
        called = [i for i, (reasons, _) in enumerate(decided) if bool(reasons.any())]
        if len(called) == problem.plan.steps:
            return None
        rows, segments = AffineRows.of(problem), {}
        starts = [0, *(i for i in called if i), problem.plan.steps]
        for first, last in pairwise(starts):
            reasons, clock = decided[first]
            segments[first] = _segment(policy, problem, rows, carried, first, last, reasons, clock)
    return segments


def _carried(problem: Problem) -> tuple[int, ...]:
    """Return the places of y that a later row may read."""
    rows = problem.plan.rows
    used = {Z}
    if any(row.base or row.kept != HOLD for row in rows):
        used.add(BASE)
    if problem.exponential is not None:
        used |= {FIRST, SECOND} if problem.plan.order > 2 else {FIRST}
    if any(row.before or row.kept[3] for row in rows):
        used.add(FIRST)
    if any(row.earlier or row.kept[4] for row in rows):
        used |= {FIRST, SECOND}
    return tuple(sorted(used))


Weight = Any
"""A float, or an array (n, 2M)."""


@dataclass(frozen=True)
class AffineRows:
    """E3 and E8 of every step as x = skip z + out F + shift, z' = offset + mix · (z, b, x, D_1, D_2).

    x is D, which an exponential integrator replaces by F itself. Arrays are float64, (steps, n, 2M).
    """

    mix: list[tuple[Weight, ...]]
    kept: list[tuple[float, ...]]
    skip: np.ndarray
    out: np.ndarray
    shift: np.ndarray
    offset: np.ndarray | None
    sigma: list[float]

    @staticmethod
    def of(problem: Problem) -> AffineRows:
        """Read the tables of a problem."""
        skip, out, shift = (x.double().cpu().numpy() for x in (problem.c_skip, problem.c_out, problem.d0))
        rows, offset = problem.plan.rows, None
        mix: list[tuple[Weight, ...]] = [row.mix for row in rows]
        if problem.exponential is not None:
            table = problem.exponential
            own, offset, outputs = (
                x.double().cpu().numpy() for x in (table.own, table.offset, table.weights)
            )
            missing = (0.0,) * (3 - problem.plan.order)
            mix[:-1] = [(own[i], 0.0, *outputs[i], *missing) for i in range(len(rows) - 1)]
            skip, out, shift = skip.copy(), out.copy(), shift.copy()
            skip[:-1], out[:-1], shift[:-1] = 0.0, 1.0, 0.0
        return AffineRows(
            mix, [row.kept for row in rows], skip, out, shift, offset, [row.sigma for row in rows]
        )


def _segment(
    policy: CachePolicy,
    problem: Problem,
    rows: AffineRows,
    carried: tuple[int, ...],
    first: int,
    last: int,
    reasons: Tensor,
    clock: Clock | None,
) -> Segment:
    """Return one segment by a backward sweep."""
    shape = (len(carried), *problem.model.mu.shape)
    influence: list[Any] = [None] * 4
    for row, place in enumerate(carried):
        influence[place] = np.zeros(shape)
        influence[place][row] = 1.0
    constant, noise = np.zeros(shape), np.zeros((last - first, *shape))
    arrived = np.zeros((last - first, *shape))
    for i in reversed(range(first, last)):
        z, base, one, two = influence
        if rows.sigma[i]:
            noise[i - first] = rows.sigma[i] * z
        if rows.offset is not None and i < len(rows.offset):
            constant += z * rows.offset[i]
        mix, kept = rows.mix[i], rows.kept[i]
        pairs = [[(mix[k], z), (kept[k], base)] for k in range(5)]
        pairs[2].append((1.0, one))
        pairs[3].append((1.0, two))
        own, held, estimate, newest, oldest = (_sum(pair) for pair in pairs)
        if estimate is not None:
            arrived[i - first] = estimate
            own = _sum([(1.0, own), (rows.skip[i], estimate)])
        influence = [own, held, newest, oldest]
    steps = slice(first, last)
    constant += np.einsum("krnc,knc->rnc", arrived, rows.shift[steps])
    arrived *= rows.out[steps, None]
    left: list[np.ndarray | None] = [None] * 3
    if clock is not None:
        left = _kept(policy, problem, clock, steps, arrived)
    dtype, device = problem.model.dtype, problem.model.device

    def table(values: np.ndarray | None) -> Tensor | None:
        if values is None or not values.any():
            return None
        return torch.as_tensor(values).to(device, dtype)

    fixed = torch.as_tensor(constant[:, None]).to(device, dtype)
    return Segment(
        first=first,
        last=last,
        reasons=reasons,
        carried=carried,
        constant=fixed,
        own=tuple(table(None if influence[p] is None else influence[p][:, None]) for p in carried),
        kept=tuple(table(None if w is None else w[:, None]) for w in left),
        noise=table(noise.swapaxes(0, 1)),
    )


def _sum(pairs: list[tuple[Weight, Any]]) -> Any:
    """Return the sum of weight times value, without vanishing terms; None if nothing is left."""
    total = None
    for weight, value in pairs:
        if value is not None and not (isinstance(weight, float) and weight == 0):
            total = weight * value if total is None else total + weight * value
    return total


def _kept(
    policy: CachePolicy, problem: Problem, clock: Clock, steps: slice, arrived: np.ndarray
) -> list[np.ndarray | None]:
    """Return the weights (R, n, 2M) of output, slope, and curve, from F's influence (k, R, n, 2M) at each step."""
    held: list[np.ndarray | None] = [arrived.sum(0), None, None]
    if policy.predicts:
        ticks = problem.clocks[clock.unit]
        gap = (ticks[clock.at] - ticks[clock.previous]).expand(steps.stop - steps.start, -1)
        for place, weight in enumerate(weights(policy, ticks[steps, None] - ticks[clock.at], gap), 1):
            if weight is not None:
                held[place] = np.einsum("krnc,kn->rnc", arrived, weight.numpy())
    return held


_lock = threading.Lock()


def segments_of(
    policy: CachePolicy, model: ScoreModel, plan: Plan, begin: Callable[[], tuple[Problem, SamplerState]]
) -> Mapping[int, Segment] | None:
    """Return `make_segments` from `begin()`, the start of a one-sample run; kept for a network's last plans."""
    moments = b"".join(x.double().cpu().numpy().tobytes() for x in (model.mu, model.v, model.mask))
    plan_key = (plan.solver, plan.grid, plan.steps, model.schedule, model.profile)
    key = (policy, plan_key, model.device, model.dtype, moments)
    kept = kept_for(model.network).setdefault("segments", OrderedDict())
    with _lock:
        known, made = key in kept, kept.get(key)
    if not known:
        made = make_segments(policy, *begin())
    with _lock:
        kept[key] = made
        kept.move_to_end(key)
        while len(kept) > KEPT:
            kept.popitem(last=False)
    return made
