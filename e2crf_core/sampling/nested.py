"""Plan refresh times of nested bands before the run, for a tolerated error of finished samples (E5).

tau is the error that reuse may cost a finished sample, in units of the data's standard deviation (of each
frequency's own, with `detail` 1): the same meaning for every data set, solver and number of steps. The times come
from the checkpoint's error model by dynamic programming; see `schedules` and `error_model`. A refresh of a band
refreshes all bands below it, which for a spectrally causal network is a contiguous prefix computed exactly (E6). A
network with full attention is one band: its schedule refreshes all tokens or none.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor

from e2crf_core.caching.policy import CachePolicy
from e2crf_core.caching.state import Problem, SamplerState
from e2crf_core.caching.triggers import COMMON, Trigger, register
from e2crf_core.sampling.calibrations import error_model_of
from e2crf_core.sampling.error_model import ErrorModel
from e2crf_core.sampling.schedules import RefreshSchedule

log = logging.getLogger(__name__)


def schedule_of(errors: ErrorModel, policy: CachePolicy) -> RefreshSchedule:
    """Return what a policy with the trigger `nested` computes at each call."""
    return errors.schedule(policy.tau, policy.detail, policy.predictor != "hold", policy.clock)


@register
class Nested(Trigger):
    """A rule that refreshes each band on schedule; it shows predicted errors of reuse until the next call.

    The score of band b at call i is the relative error of finished samples if the band is reused, instead of
    refreshed, until the next call that may refresh. Scheduled refreshes score above tau, all others below.
    """

    name = "nested"
    help = "each frequency band has refresh times of its own, planned for a tolerated error tau of finished samples"
    reads = (COMMON - {"start"}) | {"tau", "detail"}
    base: Mapping[str, Any] = {"tau": 0.05, "clock": "profile", "predictor": "linear"}
    late = True
    depends: Literal["clock", "states", "measured", "network"] = "clock"
    calibrated = True

    def score(self, policy: CachePolicy, problem: Problem, state: SamplerState) -> Tensor:
        """Return (1, n) relative errors; a live change of tau or detail takes effect at once."""
        key = ("nested", policy.tau, policy.detail, policy.predictor != "hold", policy.clock)
        scores = problem.once(key, lambda: self._scores(policy, problem))
        return scores[state.step][None]

    def _scores(self, policy: CachePolicy, problem: Problem) -> Tensor:
        """Return (steps, n) scores of the whole run, made once per policy."""
        errors = problem.once("error model", lambda: error_model_of(problem.model, problem.plan))
        return _planned_scores(errors, policy)

    def describe(self, policy: CachePolicy) -> str:
        """Describe the tolerated error."""
        detail = f", detail {policy.detail:.2g}" if policy.detail else ""
        return f"tolerated error {policy.tau:.3g}{detail}"

    def search_range(self, way: float) -> tuple[str, float, float]:
        """Return errors from an invisible one to a quarter of the data's standard deviation."""
        return "tau", 0.005, 0.25


@lru_cache(maxsize=64)
def _planned_scores(errors: ErrorModel, policy: CachePolicy) -> Tensor:
    """Return (steps, n) predicted errors of reuse, moved above or below tau to match the schedule."""
    schedule = schedule_of(errors, policy)
    if errors.trials.size and schedule.error > policy.tau:  # a calibration tries such plans on purpose
        log.warning(
            "nested: no plan of %d steps is predicted to err by at most tau %.3g; the best one errs by %.2g",
            errors.steps,
            policy.tau,
            schedule.error,
        )
    prefixes = torch.tensor(schedule.prefixes)
    reuse = reuse_errors(errors, prefixes.tolist(), policy)
    event = torch.arange(errors.edges[-1]) < prefixes[:, None]
    return torch.where(event, reuse.clamp(min=policy.tau * (1 + 1e-6)), reuse.clamp(max=policy.tau))


def reuse_errors(errors: ErrorModel, prefixes: list[int], policy: CachePolicy) -> Tensor:
    """Return (steps, n) relative errors of predicting each token's band until the next candidate."""
    tables = errors.tables(policy.detail, policy.predictor != "hold", policy.clock)
    end = len(errors.candidates)
    made = torch.zeros(errors.steps, errors.edges[-1], dtype=torch.float64)
    for band, (low, high) in enumerate(errors.bands):
        before, last, nearest = end, end, 0
        for call in range(errors.steps):
            while nearest + 1 < end and errors.candidates[nearest + 1] <= call:
                nearest += 1
            start = last == end
            squared = (
                tables.start[band, nearest + 1] if start else tables.error[band, before, last, nearest + 1]
            )
            made[call, low:high] = float(squared) ** 0.5
            if prefixes[call] >= high:
                before, last = last, nearest
    return torch.from_numpy(errors.corrected(made.numpy(), policy.detail))
