"""Continue a reused output between recomputes: hold it, or extrapolate its divided differences on a clock.

The clock is the policy's: log(a/s), or log(a/s) stretched where this checkpoint's output changes quickly.
Between two recomputes, F curves where samples take shape; on a clock that runs slowly there, it is closer to
a line. Low and high frequencies may use separate predictors.
"""

from __future__ import annotations

import torch
from torch import Tensor

from e2crf_core.caching.policy import CachePolicy
from e2crf_core.caching.state import Cache, Problem
from e2crf_core.network.shapes import Float

CONTRACTION = 0.5
"""The sigma of the Hermite predictor: the published default, which halves a first-order step."""


def reused_output(policy: CachePolicy, problem: Problem, cache: Cache, step: int) -> Float[Tensor, "B n c"]:
    """Return F (B, n, 2M) of all tokens now, kept or continued; exact for tokens recomputed at this step."""
    cut = policy.predictor_split
    if not 0 < cut < cache.output.shape[1] or policy.predictor_above == policy.predictor:
        return _continued(policy.predictor, problem, cache, step, slice(None))
    low = _continued(policy.predictor, problem, cache, step, slice(cut))
    return torch.cat([low, _continued(policy.predictor_above, problem, cache, step, slice(cut, None))], dim=1)


def _continued(predictor: str, problem: Problem, cache: Cache, step: int, tokens: slice) -> Tensor:
    """Return F (B, t, 2M) for a slice of the tokens."""
    output = cache.output[:, tokens]
    if predictor == "hold" or cache.slope is None:
        return output
    ticks, clock = problem.clocks[cache.clock.unit], cache.clock
    at, previous = clock.at[:, tokens], clock.previous[:, tokens]
    moved = (ticks[step] - ticks[at]).to(output)[..., None]
    gap = (ticks[at] - ticks[previous]).to(output)[..., None]
    first, second = moved, moved * (moved + gap)
    if predictor == "hermite":
        # HiCache (arXiv:2508.16984): the monomials x and x² of the distance, in units of the last interval,
        # become sigma^i H_i(sigma x). H_2 does not vanish at 0, so values computed at this step are kept
        # unchanged.
        s = CONTRACTION**2
        first = 2 * s * moved
        second = torch.where(moved > 0, 4 * s**2 * moved.square() - 2 * s * gap.square(), 0.0)
    continued = torch.addcmul(output, cache.slope[:, tokens], first)
    if predictor != "linear" and cache.curve is not None:
        continued = torch.addcmul(continued, cache.curve[:, tokens], second)
    return continued
