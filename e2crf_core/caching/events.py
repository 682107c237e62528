"""Describe what one step of a cached sampler did, for people and pages."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np


class Reason(IntEnum):
    """The reason why a token was recomputed, or that it was reused."""

    REUSED = 0
    LOW_BAND = 1
    EVENT = 2
    PROBE = 3
    REFRESH = 4


@dataclass(frozen=True)
class StepEvent:
    """One step as seen at one watched sample (arrays without B) and over the whole batch.

    `share` is the mean share of tokens recomputed in the batch and `tokens` their number; `flops` is the cost
    of the step, `flops_full` its cost without a cache, and `seconds` its compute time. `tau` is the threshold
    in force for `e` (n,), the event scores; `r` is the event intensity (E4). `reasons` (n,) and
    `batch_reasons` (B, n) hold Reason codes. Since each token's last recompute, `drift` (n,) is
    |c_in z - u|² and `age` (n,) the number of steps. `spectrum` (n, M) is |X_k| of the noisy state in
    standardized units; `x0` (N, M), the current denoised estimate, and `series` (N, M), the noisy state, are in data
    units.
    """

    step: int
    t: float
    log_snr: float
    policy_version: int
    share: float
    tokens: int
    flops: int
    flops_full: int
    seconds: float
    tau: float
    r: float
    r_mean: float
    reasons: np.ndarray
    batch_reasons: np.ndarray
    e: np.ndarray
    drift: np.ndarray
    age: np.ndarray
    spectrum: np.ndarray
    x0: np.ndarray
    series: np.ndarray
