"""Let measured residuals steer nested bands: each sample follows the plan for its own tolerated error (E5, E7).

A refresh at call i shows how far off the predictions P of the refreshed tokens were. Compared with the pilot run,

    ratio = sum_k w_k |F_k - P_k|² / the pilot's mean of the same,     s <- s^(1 - MEMORY) ratio^MEMORY

A sample with factor s is expected to miss its finished state by sqrt(s) times what the tables predict, so it
follows the plan for tau / sqrt(s): one that is harder to predict than the pilot refreshes more. With s = 1 this
is trigger `nested`. All bands of a sample share one factor, because a band that is refreshed off its plan drags
all lower bands along.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from e2crf_core.caching.policy import CLOCKS, CachePolicy
from e2crf_core.caching.predictors import reused_output
from e2crf_core.caching.state import NEVER, Cache, Problem, Recompute, SamplerState
from e2crf_core.caching.triggers import register
from e2crf_core.sampling.calibrations import error_model_of
from e2crf_core.sampling.error_model import ErrorModel, error_weights
from e2crf_core.sampling.nested import Nested

MEMORY = 0.1
"""The weight of one refresh. Larger ones follow the noise of single residuals (docs/localization.md)."""
LIMIT = 16.0
"""The largest factor s, either way."""
LEVELS = 10
"""Factors are rounded to so many steps per e-fold of tau, so that few plans are made."""


@register
class NestedLive(Nested):
    """The rule `nested` with error feedback: scores are predicted errors times the sample's measured factor."""

    name = "nested_live"
    help = "nested bands whose tolerated error follows the residuals measured in each sample (error feedback)"
    depends = "network"

    def score(self, policy: CachePolicy, problem: Problem, state: SamplerState) -> Tensor:
        """Return (b, n) relative errors of reuse until the next call that may refresh, each sample with its factor."""
        factors = np.ones(1) if state.cache is None else state.cache.gain[:, 0].double().cpu().numpy()
        rows = []
        for factor in np.exp(np.round(LEVELS * np.log(factors) / 2) / LEVELS):
            plan = policy.replace(tau=policy.tau / float(factor))
            rows.append(factor * super().score(plan, problem, state))
        return torch.cat(rows)

    def measure(
        self, policy: CachePolicy, problem: Problem, cache: Cache, seen: Recompute
    ) -> Mapping[str, Any]:
        """Return the factors s of the samples after a refresh, the same for all tokens, in `gain`."""
        errors = problem.once("error model", lambda: error_model_of(problem.model, problem.plan))
        chosen, known = seen.chosen, (cache.clock.at != NEVER) & (cache.clock.at != seen.step)
        weights = torch.as_tensor(error_weights(errors.variance, policy.detail))
        reused = reused_output(policy, problem, cache, seen.step)
        missed = chosen.take(cache.output) + seen.delta - chosen.take(reused)
        squared = (missed.square() * weights.to(missed)[chosen.token]).sum(-1)
        counted = known.to(missed).expand(chosen.batch, -1)
        pilot = pilot_misses(errors, policy, cache, seen.step).to(missed) * counted
        measured, expected = (
            chosen.per_sample(values).cpu().double()
            for values in (
                squared * chosen.take(counted[..., None])[:, 0],
                chosen.take(pilot[..., None])[:, 0],
            )
        )
        learns = (measured > 0) & (expected > 0)
        ratio = torch.where(learns, measured / expected.where(learns, torch.ones(())), 1.0)
        before = cache.gain[:, 0].cpu().double()
        after = (before ** (1 - MEMORY) * ratio**MEMORY).clamp(1 / LIMIT, LIMIT)
        return {"gain": torch.where(learns, after, before).to(cache.gain)[:, None].expand_as(cache.gain)}


def pilot_misses(errors: ErrorModel, policy: CachePolicy, cache: Cache, step: int) -> Tensor:
    """Return (b, n) the pilot's mean weighted squared error of predicting F at a call; 0 if it is unknown."""
    place = np.searchsorted(errors.candidates, np.arange(errors.steps), side="right") - 1
    ticks, now = errors.ticks[CLOCKS.index(policy.clock)], int(place[step])
    weights = error_weights(errors.variance, policy.detail)
    misses = np.zeros(cache.clock.at.shape)
    for low, high in errors.bands:
        f = errors.outputs[:, :, low:high].astype(np.float64)
        stretches = torch.stack([cache.clock.previous[:, low], cache.clock.at[:, low]], 1)
        for sample, (previous, at) in enumerate(stretches.tolist()):
            if at == NEVER or place[at] == now:
                continue
            a, p = place[at], place[previous]
            slope = (f[a] - f[p]) / (ticks[a] - ticks[p]) if p != a and policy.predicts else 0.0
            missed = f[now] - f[a] - slope * (ticks[now] - ticks[a])
            misses[sample, low:high] = (np.square(missed) * weights[low:high]).sum(-1).mean(0)
    return torch.as_tensor(misses)
