"""How a reused output continues between recomputes: held, or along its divided differences in log(a/s)."""

from __future__ import annotations

import torch
from torch import Tensor

from e2crf_core.policy import CachePolicy
from e2crf_core.state import Cache, Problem


def reused_output(policy: CachePolicy, problem: Problem, cache: Cache, step: int) -> Tensor:
    """F (B, n, 2M) of all tokens now: as kept, or continued along its divided differences in log(a/s)."""
    if policy.predictor == "hold" or cache.slope is None:
        return cache.output
    moved = (problem.levels[step] - cache.clock.level).to(cache.output)[..., None]
    output = torch.addcmul(cache.output, cache.slope, moved)
    if policy.predictor == "quadratic" and cache.curve is not None:
        output = torch.addcmul(output, cache.curve, moved * (moved + cache.clock.gap.to(output)[..., None]))
    return output
