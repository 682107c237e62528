"""Predictors are exact for outputs that are polynomials of their clock."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.polynomial.hermite import hermval

from e2crf_core.caching.policy import CLOCKS, CachePolicy
from e2crf_core.caching.predictors import reused_output
from e2crf_core.caching.state import Problem
from e2crf_core.diffusion.score_model import Profile, ScoreModel
from e2crf_core.e2crf import step
from e2crf_core.sampling.sampler import Sampler


class OfClock(torch.nn.Module):
    """A network whose output depends on log(a/s) alone and is the same for every token."""

    layers, heads, width, prepare_flops = 1, 1, 4, 0

    def __init__(self, curve: Callable[[float], float]) -> None:
        super().__init__()
        self.curve = curve

    def condition(self, log_snr: torch.Tensor) -> torch.Tensor:
        return torch.tensor(self.curve(float(log_snr)), dtype=torch.float64)

    def prepare(self, u: torch.Tensor, log_snr: torch.Tensor) -> torch.Tensor:
        return u

    def embed(self, u: torch.Tensor, index: torch.Tensor | None) -> torch.Tensor:
        return torch.ones(*u.shape[:-1], 4, dtype=torch.float64)

    def qkv(self, layer: int, h: torch.Tensor, condition: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return h, h, h

    def finish(
        self, layer: int, h: torch.Tensor, attended: torch.Tensor, condition: torch.Tensor
    ) -> torch.Tensor:
        return h * condition

    def head(self, feature: torch.Tensor) -> torch.Tensor:
        return feature


def continued(
    model: ScoreModel, policy: CachePolicy, curve: Callable[[float], float], steps: int = 40
) -> tuple[Problem, list[torch.Tensor]]:
    """Return the problem, and the reused outputs (n, 4) of its first steps when F is `curve` of log(a/s)."""
    outputs = []
    with torch.inference_mode():
        problem, state = Sampler(replace(model, network=OfClock(curve)), policy, steps=60).begin(1, 0)
        for i in range(steps):
            state, _ = step(problem, state, policy)
            outputs.append(reused_output(policy, problem, state.cache, i)[0])
    return problem, outputs


@pytest.mark.parametrize("clock", CLOCKS)
def test_predictors_are_exact_for_outputs_that_are_polynomials_of_their_clock(
    model: ScoreModel, clock: str
) -> None:
    """Outputs that are quadratic in the clock are extrapolated exactly."""
    shaped = replace(model, profile=Profile((-3.0, 0.0, 3.0), (0.4, 2.2, 0.4)))

    def reading(level: float) -> float:
        return float(shaped.profile.clock([-8.0, level, 8.0])[1]) if clock == "profile" else level

    def parabola(level: float) -> float:
        return 1 + 0.3 * reading(level) - 0.02 * reading(level) ** 2

    policy = CachePolicy(trigger="fixed", refresh_every=5, predictor="quadratic", clock=clock)
    problem, outputs = continued(shaped, policy, parabola)
    for i in range(15, 40):
        truth = parabola(problem.levels[i])
        torch.testing.assert_close(outputs[i], torch.full_like(outputs[i], truth), rtol=1e-4, atol=1e-4)


def test_the_hermite_predictor_follows_its_polynomials(model: ScoreModel) -> None:
    """Against numpy's Hermite series, with differences of the outputs at the last three recomputes."""
    sigma, every = 0.5, 5
    policy = CachePolicy(trigger="fixed", refresh_every=every, predictor="hermite")
    problem, outputs = continued(model, policy, lambda level: float(np.sin(level)))
    ticks = problem.clocks["log_snr"].numpy()
    refreshed = [i for i in range(40) if torch.allclose(outputs[i], outputs[i].new_tensor(np.sin(ticks[i])))]
    assert refreshed == list(range(0, 40, every))
    for i in range(2 * every + 1, 40):
        a, b, c = (i // every - back for back in range(3))
        at = [every * k for k in (a, b, c)]
        gap = ticks[at[0]] - ticks[at[1]]
        first = (np.sin(ticks[at[0]]) - np.sin(ticks[at[1]])) / gap
        before = (np.sin(ticks[at[1]]) - np.sin(ticks[at[2]])) / (ticks[at[1]] - ticks[at[2]])
        second = (first - before) / (ticks[at[0]] - ticks[at[2]])
        x = sigma * (ticks[i] - ticks[at[0]]) / gap
        terms = [np.sin(ticks[at[0]]), sigma * first * gap, sigma**2 * second * gap**2]
        truth = float(hermval(x, terms)) if i > at[0] else terms[0]
        torch.testing.assert_close(outputs[i], torch.full_like(outputs[i], truth), rtol=1e-9, atol=1e-9)


def test_low_and_high_frequencies_follow_predictors_of_their_own(model: ScoreModel) -> None:
    whole = CachePolicy(trigger="fixed", refresh_every=5, predictor="quadratic")
    split = whole.replace(predictor_split=3, predictor_above="hold")
    turned = whole.replace(predictor="hold", predictor_split=3, predictor_above="quadratic")
    found = {
        p: continued(model, p, np.sin)[1] for p in (whole, whole.replace(predictor="hold"), split, turned)
    }
    for quadratic, held, low, high in zip(*found.values(), strict=True):
        torch.testing.assert_close(low, torch.cat([quadratic[:3], held[3:]]), rtol=0, atol=0)
        torch.testing.assert_close(high, torch.cat([held[:3], quadratic[3:]]), rtol=0, atol=0)
    assert not torch.equal(found[split][23], found[whole][23])


def test_a_live_change_of_clock_drops_differences_stated_on_the_other(model: ScoreModel) -> None:
    shaped = replace(model, profile=Profile((-3.0, 0.0, 3.0), (0.2, 2.6, 0.2)))
    one = CachePolicy(trigger="bands", bands=((4, 0.2), (100, 0.5)), predictor="linear")
    other = one.replace(clock="profile")
    with torch.inference_mode():
        problem, state = Sampler(shaped, one, steps=60).begin(2, 0)
        for i in range(40):
            state, info = step(problem, state, one if i < 20 else other)
            if i >= 20 and 0 < info.rows < 2 * model.n and state.cache.clock.unit == "profile":
                untouched = (info.reasons == 0).expand(2, -1)
                assert not state.cache.slope[untouched].any()
                return
    pytest.fail("no step recomputed only some tokens after the change")
