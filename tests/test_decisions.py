"""What each rule decides, and what follows a recompute: cutoffs, refreshes, probes, feedback, adaptation."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from e2crf_core.caching.events import Reason
from e2crf_core.caching.policy import PRESETS, CachePolicy
from e2crf_core.diffusion.score_model import Profile, ScoreModel
from e2crf_core.e2crf import decide, step
from e2crf_core.sampling.calibration import calibrate
from e2crf_core.sampling.sampler import Sampler


def run_reasons(model: ScoreModel, policy: CachePolicy, steps: int = 60, num: int = 2) -> np.ndarray:
    return np.stack([e.batch_reasons for e in Sampler(model, policy, steps=steps).events(num=num, seed=1)])


def test_tokens_up_to_the_cutoff_are_always_computed(model: ScoreModel) -> None:
    reasons = run_reasons(model, CachePolicy(trigger="log_snr", tau=1.0, k_low=3))
    assert (reasons[:, :, :4] != Reason.REUSED).all()
    assert (reasons[:, :, 4:] == Reason.REUSED).any()


def test_refresh_interval_bounds_the_age_of_every_token(model: ScoreModel) -> None:
    events = Sampler(model, CachePolicy(trigger="gain", tau=1e4, refresh_every=9), steps=60).events(num=2)
    ages = np.stack([e.age for e in events])
    assert ages.max() == 9


def test_a_smaller_threshold_never_computes_fewer_tokens(model: ScoreModel) -> None:
    for trigger, taus in {
        "log_snr": (0.05, 0.2, 0.8),
        "gain": (1e-4, 1e-2, 1.0),
        "rate": (0.01, 0.1, 1.0),
    }.items():
        shares = [
            Sampler(model, CachePolicy(trigger=trigger, tau=tau), steps=60).sample(2).token_share
            for tau in taus
        ]
        assert shares == sorted(shares, reverse=True) and shares[0] > shares[-1], trigger


def test_probes_are_a_random_share_of_the_tokens_above_the_cutoff(model: ScoreModel) -> None:
    policy = CachePolicy(trigger="gain", tau=1e4, k_low=0, probe_share=0.25)
    reasons = run_reasons(model, policy, steps=200, num=4)[1:]
    share = (reasons[:, :, 1:] == Reason.PROBE).mean()
    assert share == pytest.approx(0.25, abs=0.02)
    assert (reasons[:, :, 0] == Reason.LOW_BAND).all()


def test_bands_recompute_low_frequencies_more_often(model: ScoreModel) -> None:
    reasons = run_reasons(model, CachePolicy(trigger="bands", bands=((4, 0.1), (999, 0.9))), steps=200)
    often = (reasons != Reason.REUSED).mean((0, 1))
    assert (often[:4] > 4 * often[4:].max()).all()


def test_warning_refreshes_and_calm_rests(model: ScoreModel) -> None:
    warned = run_reasons(model, CachePolicy(trigger="gain", tau=1e-6, tau_warn=1e-6))
    assert (warned[2:] == Reason.REFRESH).all()
    rested = run_reasons(model, CachePolicy(trigger="gain", tau=1e-6, tau_safe=9.0))
    computed = (rested != Reason.REUSED).any(-1)
    assert computed[0].all() and not (computed[1:] & computed[:-1])[1:].any(), (
        "a rest follows every recompute"
    )
    assert computed[2:].any()


def test_published_rule_decides_by_energy_weighted_drift(model: ScoreModel) -> None:
    policy = CachePolicy(trigger="paper", tau=0.5, energy_eps=1e-3)
    sampler = Sampler(model, policy, steps=40)
    with torch.inference_mode():
        problem, state = sampler.begin(3, 0)
        checked = 0
        for _ in range(25):
            reasons, _, _ = decide(policy, problem, state)
            if state.cache is not None:
                drift = (state.z - state.cache.z).square().sum(-1)
                tau_k = policy.tau / (policy.energy_eps + state.z.square().sum(-1))
                torch.testing.assert_close(reasons > 0, drift > tau_k)
                checked += int((reasons > 0).any() and (reasons == 0).any())
            state, _ = step(problem, state, policy)
    assert checked > 5


def test_the_published_rule_to_the_letter_counts_in_published_units(model: ScoreModel) -> None:
    """X_k is half of a token in energy, except at the two frequencies that are their own mirror image."""
    policy = PRESETS["paper_literal"].replace(tau=0.1, energy_eps=1e-3)
    with torch.inference_mode():
        problem, state = Sampler(model, policy, steps=40).begin(2, 0)
        for _ in range(6):
            state, _ = step(problem, state, policy)
        score = policy.rule.score(policy, problem, state)
        x, last = (model.magnitudes(z.numpy()) for z in (state.z, state.cache.z))
        change = model.magnitudes((state.z - state.cache.z).numpy())
    expected = np.square(change).sum(-1) * (policy.energy_eps + np.square(x).sum(-1))
    assert x.shape == last.shape
    np.testing.assert_allclose(score.numpy(), expected, rtol=1e-5)


def test_the_published_rule_to_the_letter_probes_where_others_refresh(model: ScoreModel) -> None:
    policy = PRESETS["paper_literal"].replace(
        tau=1e4, k_low=1, refresh_every=10, probe_share=0.5, tau_warn=0.0
    )
    reasons = run_reasons(model, policy, steps=45)
    assert (reasons[0] == Reason.REFRESH).all() and (reasons[1:] != Reason.REFRESH).all()
    probed = (reasons[1:] == Reason.PROBE).any((1, 2))
    np.testing.assert_array_equal(np.flatnonzero(probed) + 1, [10, 20, 30, 40])
    assert (reasons[1:, :, :2] == Reason.LOW_BAND).all()
    warned = run_reasons(model, policy.replace(refresh_every=0, tau_warn=1e-9), steps=20)
    assert (warned[2:, :, 2:] == Reason.PROBE).any((1, 2)).all()


def test_paper_feedback_moves_a_probed_feature_by_alpha(model: ScoreModel) -> None:
    policy = PRESETS["paper"].replace(
        tau=1e4, k_low=-1, probe_share=0.3, tau_safe=0.0, tau_warn=0.0, refresh_every=0
    )
    sampler = Sampler(model, policy, steps=60)
    with torch.inference_mode():
        problem, state = sampler.begin(1, 0)
        for _ in range(10):
            state, _ = step(problem, state, policy)
        kept = state.cache
        after, info = step(problem, state, policy)
        free = policy.replace(correct=False)
        fresh, _ = step(problem, state, free)
    probed = info.reasons[0] == Reason.PROBE
    assert probed.any() and not probed.all()
    alpha = min(policy.alpha, float(after.cache.r[0]) / 2)
    moved = after.cache.feature[0, probed] - kept.feature[0, probed]
    whole = fresh.cache.feature[0, probed] - kept.feature[0, probed]
    torch.testing.assert_close(moved, alpha * whole)
    torch.testing.assert_close(after.cache.feature[0, ~probed], kept.feature[0, ~probed], rtol=0, atol=0)


def test_a_damped_probe_leaves_its_token_as_stale_as_it_was(model: ScoreModel) -> None:
    policy = PRESETS["paper"].replace(
        tau=1e4, k_low=2, probe_share=0.3, tau_safe=0.0, tau_warn=0.0, refresh_every=0, predictor="linear"
    )
    with torch.inference_mode():
        problem, state = Sampler(model, policy, steps=60).begin(2, 0)
        for _ in range(10):
            before, kv = state, state.cache.kv.clone() if state.cache is not None else None
            state, info = step(problem, state, policy)
    kept, after = before.cache, state.cache
    probed, low = info.reasons == Reason.PROBE, info.reasons == Reason.LOW_BAND
    assert probed.any() and low.any() and after.clock.at.shape == probed.shape
    assert (after.feature[probed] != kept.feature[probed]).any()
    for old, new in ((kept.u, after.u), (kept.z, after.z), (kept.slope, after.slope)):
        torch.testing.assert_close(new[probed], old[probed], rtol=0, atol=0)
        assert (new[low] != old[low]).any()
    for old, new in ((kv.keys, after.kv.keys), (kv.values, after.kv.values)):
        torch.testing.assert_close(new[:, probed], old[:, probed], rtol=0, atol=0)
        assert (new[:, low] != old[:, low]).any()
    assert (after.clock.at[probed] < 9).all() and (after.clock.at[low] == 9).all()
    free = policy.replace(correct=False)
    with torch.inference_mode():
        whole, _ = step(problem, replace(before, cache=replace(kept, kv=kv)), free)
    assert (whole.cache.clock.at[probed] == 9).all(), "a probe taken whole counts as computed"


def test_band_feedback_corrects_tokens_that_were_not_recomputed(model: ScoreModel) -> None:
    base = CachePolicy(trigger="gain", tau=1e4, probe_share=0.3)
    corrected = base.replace(correct=True, alpha=0.5)
    with torch.inference_mode():
        problem, state = Sampler(model, base, steps=60).begin(1, 0)
        for _ in range(6):
            state, info = step(problem, state, base)
        plain, info = step(problem, state, base)
        after, _ = step(problem, state, corrected)
    reused = info.reasons[0] == Reason.REUSED
    torch.testing.assert_close(
        after.cache.feature[0, ~reused], plain.cache.feature[0, ~reused], rtol=0, atol=0
    )
    assert (after.cache.feature[0, reused] != plain.cache.feature[0, reused]).any()
    torch.testing.assert_close(after.cache.output, model.network.head(after.cache.feature))


def test_adaptation_brings_the_error_to_the_budget(model: ScoreModel) -> None:
    shares, errors = [], []
    for budget in (0.1, 0.3):
        policy = CachePolicy(trigger="log_snr", tau=0.3, adapt=True, error_budget=budget)
        sampler = Sampler(model, policy, steps=400)
        measured = []
        with torch.inference_mode():
            problem, state = sampler.begin(1, 0)
            for i in range(400):
                before = state.cache
                state, info = step(problem, state, policy)
                if before is not None and info.rows and 100 < i < 330:
                    change = problem.c_out[i] * (state.cache.output - before.output)
                    measured.append(float((change.square().sum() / (model.v * model.mask).sum()).sqrt()))
        errors.append(np.median(measured))
        shares.append(sampler.sample(1).token_share)
    assert errors[0] == pytest.approx(0.1, rel=0.5)
    assert errors[1] == pytest.approx(0.3, rel=0.5)
    assert shares[0] > shares[1]


def test_profile_clock_spends_refreshes_where_the_weight_is(model: ScoreModel) -> None:
    levels = tuple(np.linspace(-5, 4.5, 20))
    weights = tuple(4.0 if -1 < level < 1 else 0.4 for level in levels)
    shaped = replace(model, profile=Profile(levels, weights))
    policy = CachePolicy(trigger="log_snr", tau=0.3, clock="profile")
    events = list(Sampler(shaped, policy, steps=400).events(num=1))
    at = np.array([e.log_snr for e in events if e.tokens])
    inside, outside = (np.abs(at) < 0.8).sum() / 1.6, (at < -1.5).sum() / 3.5
    assert inside > 5 * outside
    plain = Sampler(model, policy, steps=400).sample(1, seed=2)
    even = Sampler(model, policy.replace(clock="log_snr"), steps=400).sample(1, seed=2)
    np.testing.assert_array_equal(plain.tokens, even.tokens)


def test_calibration_finds_a_profile_of_mean_one(model: ScoreModel) -> None:
    profile = calibrate(model, num=4, steps=64)
    assert np.mean(profile.weights) == pytest.approx(1.0, abs=0.01)
    assert min(profile.weights) > 0 and list(profile.levels) == sorted(profile.levels)
    assert profile == calibrate(model, num=4, steps=64)
