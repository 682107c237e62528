"""Laws of collapsed segments: steps taken as one equal single steps, for all solvers, schedules, and predictors."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from e2crf_core import PRESETS, CachePolicy, Sampler
from e2crf_core.caching.triggers import COMMON, TRIGGERS, Trigger, input_drift, register
from e2crf_core.diffusion.schedules import VE
from e2crf_core.diffusion.solvers import SOLVERS
from e2crf_core.errors import Cancelled
from e2crf_core.sampling.finite import NotFinite
from tests.conftest import make_model
from tests.test_error_model import causal_model

MODELS = {"vp": make_model(), "ve": replace(make_model(), schedule=VE())}
POLICIES = {
    "hold": CachePolicy(trigger="fixed", refresh_every=5),
    "linear, late": CachePolicy(trigger="log_snr", tau=1.0, start=2.0, predictor="linear"),
    "hermite": CachePolicy(trigger="log_snr", tau=0.9, predictor="hermite", clock="profile"),
    "tokens": CachePolicy(
        trigger="bands",
        bands=((4, 0.9), (99, 2.5)),
        predictor="quadratic",
        predictor_split=3,
        predictor_above="hold",
        correct=True,
    ),
    "never": CachePolicy(trigger="never"),
}
STEPS = 21


def singly(sampler: Sampler, num: int, seed: int, first: int = 0) -> np.ndarray:
    """Return the tokens of a run of single steps."""
    *_, step = sampler.steps(num, seed, first)
    return step.after.z.numpy()


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.parametrize("schedule", MODELS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_equals_its_single_steps(solver: str, schedule: str) -> None:
    for name in ("linear, late", "tokens"):
        sampler = Sampler(MODELS[schedule], POLICIES[name], steps=STEPS, solver=solver, grid="log_snr")
        assert sampler.segments() is not None
        for batch in (1, 16):
            assert relative(sampler.draw(batch, 3).tokens, singly(sampler, batch, 3)) < 1e-12, name


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_every_predictor_equals_its_single_steps(
    policy: CachePolicy, dtype: torch.dtype, bound: float
) -> None:
    sampler = Sampler(make_model(dtype=dtype), policy, steps=40)
    part, single = sampler.draw(3, 5), singly(sampler, 3, 5)
    assert relative(part.tokens, single) < bound
    assert part.rows == sum(step.info.rows for step in sampler.steps(3, 5))


def test_nested_bands_of_a_causal_network_equal_their_single_steps() -> None:
    plan = {"steps": 14, "solver": "dpmpp_2m", "grid": "log_snr"}
    sampler = Sampler(causal_model(), CachePolicy.of("nested"), **plan)
    assert sampler.segments() is not None
    assert relative(sampler.draw(3, 3).tokens, singly(sampler, 3, 3)) < 1e-12


def test_a_leap_is_a_call_and_what_reuses_it(model) -> None:
    sampler = Sampler(model, POLICIES["hold"], steps=STEPS)
    with torch.inference_mode():
        leaps = list(sampler.leaps(*sampler.begin(2, 1)))
    assert [leap.before.step for leap in leaps] == [0, 5, 10, 15, 20]
    assert [leap.after.step for leap in leaps] == [5, 10, 15, 20, 21]
    assert all(leap.rows == 2 * model.n for leap in leaps)


def test_a_run_can_be_joined_between_two_calls(model) -> None:
    sampler = Sampler(model, POLICIES["hold"], steps=STEPS, solver="unipc_2", grid="log_snr")
    with torch.inference_mode():
        problem, state = sampler.begin(2, 1)
        for _ in range(7):
            state, _ = sampler.step(problem, state, sampler.policy)
        leaps = list(sampler.leaps(problem, state))
    assert [leap.after.step for leap in leaps] == [8, 9, 10, 15, 20, 21]
    assert relative(leaps[-1].after.z.numpy(), singly(sampler, 2, 1)) < 1e-12


class Undeclared(Trigger):
    """A rule that looks at the state and does not say so."""

    name, help, reads = "undeclared", "drift", COMMON | {"tau"}

    def score(self, policy, problem, state):
        """|c_in z - u|²."""
        return input_drift(problem, state).cpu().double()


@pytest.mark.parametrize(
    "policy",
    [
        None,
        CachePolicy(trigger="always"),
        CachePolicy.of("paper"),
        CachePolicy(trigger="rate", tau=0.1),
        POLICIES["hold"].replace(probe_share=0.1),
        POLICIES["hold"].replace(tau_warn=0.5),
        CachePolicy(trigger="log_snr", tau=0.5, adapt=True),
    ],
    ids=str,
)
def test_what_a_run_decides_is_decided_at_every_step(model, policy) -> None:
    sampler = Sampler(model, policy, steps=12)
    with torch.inference_mode():
        assert len(list(sampler.leaps(*sampler.begin(2, 1)))) == 12


def test_a_rule_that_does_not_say_what_it_reads_decides_at_every_step(model) -> None:
    register(Undeclared)
    try:
        sampler = Sampler(model, CachePolicy(trigger="undeclared", tau=0.5), steps=12)
        assert sampler.segments() is None
        np.testing.assert_array_equal(sampler.draw(2, 1).tokens, singly(sampler, 2, 1))
    finally:
        del TRIGGERS["undeclared"]


def test_tables_are_made_once_for_a_plan(model) -> None:
    first, second = (Sampler(model, PRESETS["balanced"], steps=30, batch=batch) for batch in (1, 2))
    assert first.segments() is second.segments() is not None
    assert Sampler(model, PRESETS["fast"], steps=30).segments() is not first.segments()
    assert Sampler(make_model(), PRESETS["balanced"], steps=30).segments() is not first.segments()


def test_a_segment_that_breaks_names_the_step(model) -> None:
    broken = replace(model, mu=model.mu + 1e200)
    sampler = Sampler(broken, POLICIES["hold"], steps=STEPS)
    faults = []
    for run in (lambda: sampler.draw(2, 1), lambda: singly(sampler, 2, 1)):
        with pytest.raises(NotFinite) as fault:
            run()
        faults.append((fault.value.step, fault.value.tokens, fault.value.samples))
    assert faults[0] == faults[1]


def test_a_run_is_cancelled_between_segments(model) -> None:
    done = []
    with pytest.raises(Cancelled):
        Sampler(model, POLICIES["hold"], steps=STEPS).draw(
            1, 1, progress=lambda step, steps: done.append(step), cancelled=lambda: bool(done)
        )
    assert done == [5]
