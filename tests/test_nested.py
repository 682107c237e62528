"""The trigger `nested` runs the prefixes that its schedule names, and nothing else."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from e2crf_core import PRESETS, CachePolicy, LabError, Reason, Sampler
from e2crf_core.caching.triggers import TRIGGERS
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.io.userfiles import user_dir
from e2crf_core.sampling import nested_live
from e2crf_core.sampling.calibrations import (
    calibration_key,
    error_model_of,
    is_calibrated,
    read_error_model,
    save_error_model,
)
from e2crf_core.sampling.nested import schedule_of
from e2crf_core.tuning.space import SearchSpace
from tests.conftest import make_model
from tests.test_error_model import EDGES, causal_model, run_with_prefixes

PLAN = {"steps": 14, "solver": "dpmpp_2m", "grid": "log_snr"}
NESTED = CachePolicy.of("nested")


@pytest.fixture(scope="module")
def causal() -> ScoreModel:
    """Provide a small causal network with random weights, in float64."""
    return causal_model()


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.parametrize("predictor", ["hold", "linear"])
@pytest.mark.parametrize("clock", ["log_snr", "profile"])
@pytest.mark.parametrize("tau", [0.02, 0.2])
def test_it_computes_the_prefixes_of_its_schedule(
    causal: ScoreModel, tau: float, predictor: str, clock: str
) -> None:
    """A test model has no profile, so both clocks agree with that of the plainly written run."""
    policy = NESTED.replace(tau=tau, predictor=predictor, clock=clock)
    sampler = Sampler(causal, policy, **PLAN)
    prefixes = schedule_of(error_model_of(causal, sampler.plan), policy).prefixes
    assert len(set(prefixes)) > 1
    expected = run_with_prefixes(*sampler.begin(3, 5), prefixes, predictor == "linear")
    made = sampler.sample(3, seed=5)
    assert relative(made.tokens, expected.numpy()) < 1e-9
    assert made.token_share == pytest.approx(sum(prefixes) / (causal.n * sampler.plan.steps))
    events = list(sampler.events(3, seed=5))
    assert [int((event.reasons > 0).sum()) for event in events] == list(prefixes)
    for event, m in zip(events, prefixes, strict=True):
        assert (event.reasons[:m] != Reason.REUSED).all() and (event.reasons[m:] == Reason.REUSED).all()
        assert ((event.e > event.tau) == (event.reasons > 0)).all()


def test_a_late_start_leaves_the_gaussian_denoiser_alone_until_the_first_refresh(causal: ScoreModel) -> None:
    sampler = Sampler(causal, NESTED.replace(tau=0.5), **PLAN)
    problem, state = sampler.begin(2, 1)
    first = next(i for i, event in enumerate(sampler.events(2, seed=1)) if event.tokens)
    assert first > 0
    with torch.inference_mode():
        for _ in range(first):
            state, info = sampler.step(problem, state, sampler.policy)
            assert state.cache is None and info.rows == 0
        state, _ = sampler.step(problem, state, sampler.policy)
    assert state.cache is not None and state.cache.kv is None


def test_an_error_that_no_plan_keeps_to_is_not_promised_in_silence(
    causal: ScoreModel, caplog: pytest.LogCaptureFixture
) -> None:
    """A long plan refreshes at some calls only, so that its best schedule has an error too."""
    long = {"steps": 80, "solver": "euler_maruyama", "grid": "linear"}
    for tau, warned in ((0.5, False), (1e-4, True)):
        caplog.clear()
        Sampler(causal, NESTED.replace(tau=tau), **long).sample(1)
        assert any("no plan of 80 steps" in line for line in caplog.messages) == warned


def test_no_keys_and_values_are_kept_whatever_the_trigger(causal: ScoreModel) -> None:
    for name in TRIGGERS:
        policy = CachePolicy.of(name)
        sampler = Sampler(causal, policy.replace(k_low=2) if name == "bands" else policy, **PLAN)
        problem, state = sampler.begin(2, 1)
        with torch.inference_mode():
            for _ in range(sampler.plan.steps):
                state, info = sampler.step(problem, state, sampler.policy)
                computed = (info.reasons > 0).sum(1)
                # Whatever a trigger chooses, whole bands are run from the lowest up.
                assert set(computed.tolist()) <= {0, *EDGES}
                assert all(bool((row[:m] > 0).all()) for row, m in zip(info.reasons, computed, strict=True))
        assert state.cache is None or state.cache.kv is None


def test_exact_equals_the_uncached_sampler_and_a_sample_does_not_depend_on_its_batch(
    causal: ScoreModel,
) -> None:
    plain = Sampler(causal, policy=None, **PLAN).sample(4, seed=2)
    exact = Sampler(causal, PRESETS["exact"], **PLAN).sample(4, seed=2)
    assert relative(exact.tokens, plain.tokens) < 1e-12
    for policy in (NESTED, CachePolicy.of("paper").replace(tau=0.3), CachePolicy(trigger="gain", tau=0.05)):
        together = Sampler(causal, policy, **PLAN).sample(4, seed=2)
        alone = Sampler(causal, policy, batch=1, **PLAN).sample(4, seed=2)
        assert relative(alone.tokens, together.tokens) < 1e-9


def test_without_feedback_the_live_rule_is_the_plan(
    causal: ScoreModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nested_live, "MEMORY", 0.0)
    planned, live = (
        Sampler(causal, CachePolicy.of(name).replace(tau=0.1), **PLAN).sample(3, seed=5)
        for name in ("nested", "nested_live")
    )
    assert relative(live.tokens, planned.tokens) < 1e-12  # planned steps are taken together


def test_samples_that_are_harder_to_predict_are_computed_more(
    causal: ScoreModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pilot's residuals are made smaller or larger than they were, so that all runs look hard or easy."""
    monkeypatch.setattr(nested_live, "MEMORY", 0.5)
    shown = nested_live.pilot_misses

    def run(factor: float) -> tuple[float, float]:
        monkeypatch.setattr(nested_live, "pilot_misses", lambda *about: shown(*about) / factor)
        sampler = Sampler(causal, CachePolicy.of("nested_live").replace(tau=0.1), **PLAN)
        *_, last = sampler.steps(2, 5)
        assert last.after.cache is not None
        factors = last.after.cache.gain
        assert bool((factors == factors[:, :1]).all()), "one factor a sample"
        return float(factors[:, 0].log().mean()), sampler.sample(2, seed=5).token_share

    (easy, less), (hard, more) = run(0.05), run(20.0)
    assert easy < 0 < hard and less < more


def test_a_smaller_tau_costs_more_and_errs_less(causal: ScoreModel) -> None:
    plain = Sampler(causal, policy=None, **PLAN).sample(8, seed=3)
    shares, errors = [], []
    for tau in (0.3, 0.05, 1e-6):
        made = Sampler(causal, NESTED.replace(tau=tau), **PLAN).sample(8, seed=3)
        shares.append(made.token_share)
        errors.append(relative(made.tokens, plain.tokens))
    assert shares == sorted(shares) and errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-9


def test_a_live_change_of_tau_acts_at_the_next_step(causal: ScoreModel) -> None:
    sampler = Sampler(causal, NESTED.replace(tau=0.5), **PLAN)
    problem, state = sampler.begin(2, 1)
    exact = NESTED.replace(tau=1e-7)
    with torch.inference_mode():
        for i in range(sampler.plan.steps):
            state, info = sampler.step(problem, state, exact if i >= 6 else sampler.policy)
            if i >= 6 and i < sampler.plan.steps - 1:
                assert info.rows == 2 * causal.n


def test_a_change_of_trigger_in_the_middle_computes_what_was_never_computed(causal: ScoreModel) -> None:
    sampler = Sampler(causal, NESTED.replace(tau=0.5), **PLAN)
    problem, state = sampler.begin(2, 1)
    with torch.inference_mode():
        for i in range(sampler.plan.steps):
            policy = (
                CachePolicy(trigger="log_snr", tau=50.0, predictor="linear") if i >= 3 else sampler.policy
            )
            state, _ = sampler.step(problem, state, policy)
    assert state.cache is not None and bool((state.cache.clock.at >= 0).all())
    assert bool(torch.isfinite(state.z).all())


def test_full_attention_gets_the_best_schedule_of_whole_refreshes() -> None:
    model = make_model()
    made = list(Sampler(model, NESTED.replace(tau=0.1), **PLAN).events(2, seed=1))
    assert {int((event.reasons > 0).sum()) for event in made} == {0, model.n}


def test_a_calibration_is_kept_in_the_users_folder_and_read_back(
    causal: ScoreModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("E2CRF_HOME", str(tmp_path))
    sampler = Sampler(causal, NESTED, **{**PLAN, "steps": 11})
    assert not is_calibrated(causal, sampler.plan)
    sampler.sample(1, seed=1)
    path = user_dir() / "calibrations" / f"{calibration_key(causal, sampler.plan)}.npz"
    kept, measured = read_error_model(path), error_model_of(causal, sampler.plan)
    for tau in (0.01, 0.1, 0.4):
        assert kept.schedule(tau) == measured.schedule(tau)


def test_a_kept_calibration_predicts_what_it_predicted_with_and_without_calls_between_candidates(
    causal: ScoreModel, tmp_path: Path
) -> None:
    """Files keep outputs in half precision, and sums only where they do not follow from the outputs."""
    every = error_model_of(causal, Sampler(causal, NESTED, **PLAN).plan)
    some = replace(every, steps=2 * every.steps, candidates=tuple(2 * call for call in every.candidates))
    for number, errors in enumerate((every, some)):
        path = tmp_path / f"{number}.npz"
        save_error_model(errors, path)
        kept = read_error_model(path)
        for detail in (0.0, 1.0):
            before, after = errors.tables(detail), kept.tables(detail)
            np.testing.assert_allclose(after.start, before.start, rtol=1e-2)
            large = np.isfinite(before.error) & (before.error > 1e-4)
            np.testing.assert_allclose(after.error[large], before.error[large], rtol=1e-2)


@pytest.mark.parametrize("damage", [b"", b"no archive", b"PK\x03\x04" + bytes(40)])
def test_a_damaged_calibration_is_rejected(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "damaged.npz"
    path.write_bytes(damage)
    with pytest.raises(LabError, match="damaged"):
        read_error_model(path)


def test_policies_keep_their_json_and_old_files_their_meaning() -> None:
    policy = NESTED.replace(tau=0.08, detail=0.5)
    assert CachePolicy.from_json(policy.to_json()) == policy
    stored = json.loads(PRESETS["balanced"].to_json())
    del stored["detail"]
    assert CachePolicy.from_json(json.dumps(stored)) == PRESETS["balanced"]


def test_a_search_calibrates_plans_only_where_it_is_asked_to() -> None:
    assert "nested" not in SearchSpace(13).triggers
    assert SearchSpace(13, triggers=("nested",)).triggers == ("nested",)


def test_a_model_made_in_inference_mode_is_calibrated_within_a_run() -> None:
    """The Live page loads and runs its model on a thread that never records gradients."""
    with torch.inference_mode():
        model = causal_model()
        made = Sampler(model, NESTED, **{**PLAN, "steps": 9}).sample(1, seed=1)
    assert np.isfinite(made.tokens).all()
