"""Continue a reused output between recomputes: hold it, or extrapolate its divided differences on a clock.

    F(t) = F_0 + first F[t_0, t_1] + second F[t_0, t_1, t_2]        (Newton form; t_0 is the last recompute)

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
    output = cache.output
    if not policy.predicts or cache.slope is None:
        return output
    ticks, clock = problem.clocks[cache.clock.unit], cache.clock
    moved = (ticks[step] - ticks[clock.at]).to(output)
    gap = (ticks[clock.at] - ticks[clock.previous]).to(output)
    first, second = weights(policy, moved, gap)
    continued = torch.addcmul(output, cache.slope, first[..., None])
    if second is None or cache.curve is None:
        return continued
    return torch.addcmul(continued, cache.curve, second[..., None])


def weights(policy: CachePolicy, moved: Tensor, gap: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the weights (..., n) of first and second differences; None if no predictor uses the second.

    `moved` (..., n) is the distance on the clock since a token's last recompute, `gap` (..., n) that between
    the last two.
    """
    cut = policy.predictor_split
    if not 0 < cut < moved.shape[-1] or policy.predictor_above == policy.predictor:
        return _weights(policy.predictor, moved, gap)
    low = _weights(policy.predictor, moved[..., :cut], gap[..., :cut])
    high = _weights(policy.predictor_above, moved[..., cut:], gap[..., cut:])
    first = torch.cat([low[0], high[0]], dim=-1)
    if low[1] is None and high[1] is None:
        return first, None
    both = (torch.zeros_like(w[0]) if w[1] is None else w[1] for w in (low, high))
    return first, torch.cat(tuple(both), dim=-1)


def _weights(predictor: str, moved: Tensor, gap: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the weights of one predictor, as `weights` does."""
    if predictor == "hold":
        return torch.zeros_like(moved), None
    if predictor == "linear":
        return moved, None
    if predictor == "quadratic":
        return moved, moved * (moved + gap)
    # HiCache (arXiv:2508.16984): the monomials x and x² of the distance, in units of the last interval, become
    # sigma^i H_i(sigma x). H_2 does not vanish at 0, so values computed at this step are kept unchanged.
    s = CONTRACTION**2
    second = torch.where(moved > 0, 4 * s**2 * moved.square() - 2 * s * gap.square(), 0.0)
    return 2 * s * moved, second
