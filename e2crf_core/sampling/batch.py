"""One batch drawn and timed: what studies, policy cards, clusters and servers have in common."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch

from e2crf_core.errors import Cancelled
from e2crf_core.progress import Cancel, never
from e2crf_core.sampling.sampler import Sampler, synchronize


@dataclass(frozen=True)
class Part:
    """One batch: series (b, N, M) in data units, its compute time and recomputed rows."""

    series: np.ndarray
    seconds: float
    rows: int
    prepared: int


def draw(sampler: Sampler, num: int, seed: int, first: int = 0, cancelled: Cancel = never) -> Part:
    """One batch of `num` samples numbered from `first`. Raises Cancelled when `cancelled` says so."""
    rows = prepared = 0
    begin = time.perf_counter()
    with torch.inference_mode():
        problem, state = sampler.begin(num, seed, first)
        for _ in range(sampler.plan.steps):
            if cancelled():
                raise Cancelled
            state, info = sampler.step(problem, state, sampler.policy)
            rows, prepared = rows + info.rows, prepared + info.samples
        tokens = state.z.cpu().numpy()
    synchronize(sampler.model.device)
    seconds = time.perf_counter() - begin
    return Part(sampler.model.series(tokens), seconds, rows, prepared)
