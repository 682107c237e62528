"""How a reused output continues between recomputes: held, or along its divided differences on a clock.

The clock is the policy's: log(a/s), or log(a/s) stretched where this checkpoint's output changes fast. Between two
recomputes F bends where the samples make up their minds; on a clock that runs slowly there it is closer to a line.
"""

from __future__ import annotations

import torch
from torch import Tensor

from e2crf_core.policy import CachePolicy
from e2crf_core.state import Cache, Problem


def reused_output(policy: CachePolicy, problem: Problem, cache: Cache, step: int) -> Tensor:
    """F (B, n, 2M) of all tokens now: as kept, or continued along its divided differences (Newton's form)."""
    if policy.predictor == "hold" or cache.slope is None:
        return cache.output
    ticks, clock = problem.clocks[cache.clock.unit], cache.clock
    moved = (ticks[step] - ticks[clock.at]).to(cache.output)[..., None]
    output = torch.addcmul(cache.output, cache.slope, moved)
    if policy.predictor == "quadratic" and cache.curve is not None:
        gap = (ticks[clock.at] - ticks[clock.previous]).to(output)[..., None]
        output = torch.addcmul(output, cache.curve, moved * (moved + gap))
    return output
