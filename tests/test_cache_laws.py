"""Laws of the cache (E4-E7): what must hold for any weights, any data, any policy."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.polynomial.hermite import hermval

from e2crf_core.caching.events import Reason
from e2crf_core.caching.policy import CLOCKS, PRESETS, CachePolicy
from e2crf_core.caching.predictors import reused_output
from e2crf_core.caching.selection import Selection
from e2crf_core.caching.state import Problem
from e2crf_core.caching.triggers import TRIGGERS
from e2crf_core.diffusion.score_model import Profile, ScoreModel
from e2crf_core.e2crf import decide, step
from e2crf_core.network.forward import plain_forward, selective_forward
from e2crf_core.network.kvcache import KVCache, StaleRead
from e2crf_core.sampling.calibration import calibrate
from e2crf_core.sampling.sampler import Sampler
from tests.conftest import make_model

EVERY_POLICY = {
    "exact": CachePolicy(trigger="always"),
    "never": CachePolicy(trigger="never"),
    "paper": PRESETS["paper"],
    "paper_unweighted": PRESETS["paper"].replace(energy_weighting=False, tau=1.0, probe_share=0.2),
    "gain": CachePolicy(trigger="gain", tau=0.05, k_low=1, probe_share=0.1, correct=True, adapt=True),
    "probes_corrected": CachePolicy(trigger="gain", tau=50.0, probe_share=0.02, correct=True, alpha=0.9),
    "log_snr": CachePolicy(trigger="log_snr", tau=0.3),
    "log_snr_linear": CachePolicy(trigger="log_snr", tau=0.3, predictor="linear"),
    "log_snr_hermite": CachePolicy(trigger="log_snr", tau=0.3, predictor="hermite"),
    "bands_split": CachePolicy(
        trigger="bands", predictor="linear", predictor_split=3, predictor_above="hermite"
    ),
    "log_snr_quadratic": CachePolicy(trigger="log_snr", tau=0.3, k_low=2, predictor="quadratic"),
    "bands": CachePolicy(trigger="bands", bands=((4, 0.1), (99, 0.7)), correct=True),
    "rate": CachePolicy(trigger="rate", tau=0.1, adapt=True, tau_warn=0.9, tau_safe=0.01),
    "fixed": CachePolicy(trigger="fixed", refresh_every=7),
    "nested": CachePolicy.of("nested"),
}


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.parametrize("batch", [1, 16])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_exact_equals_the_uncached_sampler(batch: int, dtype: torch.dtype, bound: float) -> None:
    model = make_model(dtype=dtype)
    exact = Sampler(model, PRESETS["exact"], steps=30).sample(batch, seed=3)
    plain = Sampler(model, steps=30, cached=False).sample(batch, seed=3)
    assert relative(exact.tokens, plain.tokens) < bound
    assert exact.token_share == plain.token_share == 1.0


def test_shipped_checkpoint_exact_equals_uncached() -> None:
    from e2crf_core import load_checkpoint

    model = load_checkpoint("ecg", device="cpu")
    for batch in (1, 16):
        exact = Sampler(model, PRESETS["exact"], steps=12).sample(batch, seed=1)
        plain = Sampler(model, steps=12, cached=False).sample(batch, seed=1)
        assert relative(exact.series, plain.series) < 1e-5


def forward_parts(model: ScoreModel, batch: int) -> tuple[torch.Tensor, torch.Tensor, KVCache]:
    network, level = model.network, torch.tensor(0.3, dtype=model.dtype)
    u = network.prepare(torch.randn(batch, model.n, 2 * len(model.channels), dtype=model.dtype), level)
    condition = network.condition(level)
    cache = KVCache(
        network.layers, batch, model.n, network.width, device=torch.device("cpu"), dtype=model.dtype
    )
    return u, condition, cache


def test_selecting_every_token_equals_the_plain_forward(model: ScoreModel) -> None:
    u, condition, cache = forward_parts(model, 3)
    plain = plain_forward(model.network, u, condition)
    sample = torch.arange(3).repeat_interleave(model.n)
    token = torch.arange(model.n).repeat(3)
    counts = torch.full((3,), model.n)
    rows = selective_forward(model.network, u.flatten(0, 1), condition, cache, sample, token, counts)
    torch.testing.assert_close(rows.view_as(plain), plain, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("mask_seed", range(6))
def test_unchanged_input_recomputed_in_part_gives_what_is_kept(model: ScoreModel, mask_seed: int) -> None:
    u, condition, cache = forward_parts(model, 4)
    plain = plain_forward(model.network, u, condition, cache=cache)
    generator = torch.Generator().manual_seed(mask_seed)
    mask = torch.rand(4, model.n, generator=generator) < torch.tensor([[0.1], [0.5], [0.9], [0.0]])
    chosen = Selection.of(mask, 4, torch.device("cpu"))
    rows = selective_forward(
        model.network, chosen.take(u), condition, cache, chosen.sample, chosen.token, chosen.counts
    )
    torch.testing.assert_close(rows, chosen.take(plain), rtol=1e-10, atol=1e-10)


def test_reading_what_was_never_written_raises(model: ScoreModel) -> None:
    u, condition, cache = forward_parts(model, 2)
    one = torch.tensor([0])
    with pytest.raises(StaleRead, match="layer 0"):
        selective_forward(model.network, u[0, :1], condition, cache, one, one, torch.tensor([1, 0]))


def test_keys_and_values_come_from_each_layers_own_input(model: ScoreModel) -> None:
    u, condition, cache = forward_parts(model, 2)
    plain_forward(model.network, u, condition, cache=cache)
    h = model.network.embed(u, None)
    for layer in range(model.network.layers):
        _, k, v = model.network.qkv(layer, h, condition)
        torch.testing.assert_close(cache.keys[layer], k)
        torch.testing.assert_close(cache.values[layer], v)
        from e2crf_core.network.forward import attend

        q = model.network.qkv(layer, h, condition)[0]
        h = model.network.finish(layer, h, attend(q, k, v, model.network.heads), condition)


@pytest.mark.parametrize("name", EVERY_POLICY)
def test_a_sample_is_the_same_alone_and_in_any_batch(model: ScoreModel, name: str) -> None:
    sampler = Sampler(model, EVERY_POLICY[name], steps=40)
    together = sampler.sample(5, seed=11).tokens
    small = Sampler(model, EVERY_POLICY[name], steps=40, batch=2).sample(5, seed=11).tokens
    assert relative(small, together) < 1e-8
    with torch.inference_mode():
        problem, state = sampler.begin(1, 11, first=3)
        for _ in range(40):
            state, _ = sampler.step(problem, state, sampler.policy)
    assert relative(state.z.numpy()[0], together[3]) < 1e-8


@pytest.mark.parametrize("name", EVERY_POLICY)
def test_two_runs_in_one_process_are_equal(model: ScoreModel, name: str) -> None:
    sampler = Sampler(model, EVERY_POLICY[name], steps=25)
    first = sampler.sample(3, seed=5)
    Sampler(model, EVERY_POLICY["gain"], steps=12).sample(2, seed=9)
    again = sampler.sample(3, seed=5)
    np.testing.assert_array_equal(first.tokens, again.tokens)
    assert first.token_share == again.token_share
    assert not np.array_equal(first.tokens, sampler.sample(3, seed=6).tokens)


@pytest.mark.parametrize("name", EVERY_POLICY)
def test_work_done_and_saved_add_up(model: ScoreModel, name: str) -> None:
    events = list(Sampler(model, EVERY_POLICY[name], steps=30).events(num=4, seed=2))
    assert len(events) == 30
    for event in events:
        computed = (event.batch_reasons != Reason.REUSED).sum()
        assert computed == event.tokens == round(event.share * 4 * model.n)
        assert computed + (event.batch_reasons == Reason.REUSED).sum() == 4 * model.n
        assert 0 < event.flops <= event.flops_full
        assert (event.flops == event.flops_full) == (computed == 4 * model.n)
    total = sum(e.tokens for e in events) / (30 * 4 * model.n)
    made = Sampler(model, EVERY_POLICY[name], steps=30).sample(4, seed=2)
    assert made.token_share == pytest.approx(total)
    assert made.flop_share == pytest.approx(sum(e.flops for e in events) / sum(e.flops_full for e in events))


@pytest.mark.parametrize("name", EVERY_POLICY)
def test_a_step_may_be_taken_again_from_the_same_state(model: ScoreModel, name: str) -> None:
    sampler = Sampler(model, EVERY_POLICY[name], steps=30)
    with torch.inference_mode():
        problem, state = sampler.begin(2, 4)
        for _ in range(9):
            state, _ = step(problem, state, sampler.policy)
        once, info = step(problem, state, sampler.policy)
        twice, again = step(problem, state, sampler.policy)
    torch.testing.assert_close(once.z, twice.z, rtol=0, atol=0)
    torch.testing.assert_close(info.reasons, again.reasons, rtol=0, atol=0)


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


class OfClock(torch.nn.Module):
    """A network whose output is a function of log(a/s) alone, the same for every token."""

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
    """The problem, and what is reused (n, 4) at each of its first steps when F is `curve` of log(a/s)."""
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
    """Give the cache outputs that are quadratic in the clock's reading: they are continued exactly."""
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


def test_every_trigger_is_covered() -> None:
    assert {p.trigger for p in EVERY_POLICY.values()} == set(TRIGGERS)
