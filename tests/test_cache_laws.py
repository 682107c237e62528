"""Laws of the cache (E4-E7): what must hold for any weights, any data, any policy."""

import numpy as np
import pytest
import torch

from e2crf_core.caching.events import Reason
from e2crf_core.caching.policy import PRESETS, CachePolicy
from e2crf_core.caching.selection import Selection
from e2crf_core.caching.triggers import TRIGGERS
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.e2crf import step
from e2crf_core.network.forward import plain_forward, selective_forward
from e2crf_core.network.kvcache import KVCache, StaleRead
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
    "late": CachePolicy(trigger="log_snr", tau=0.3, start=1.0),
    "paper_literal": PRESETS["paper_literal"],
    "nested": CachePolicy.of("nested"),
    "nested_live": CachePolicy.of("nested_live"),
}


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.parametrize("batch", [1, 16])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_exact_equals_the_uncached_sampler(batch: int, dtype: torch.dtype, bound: float) -> None:
    model = make_model(dtype=dtype)
    exact = Sampler(model, PRESETS["exact"], steps=30).sample(batch, seed=3)
    plain = Sampler(model, steps=30, policy=None).sample(batch, seed=3)
    assert relative(exact.tokens, plain.tokens) < bound
    assert exact.token_share == plain.token_share == 1.0


def test_shipped_checkpoint_exact_equals_uncached() -> None:
    from e2crf_core import load_checkpoint

    model = load_checkpoint("ecg", device="cpu")
    for batch in (1, 16):
        exact = Sampler(model, PRESETS["exact"], steps=12).sample(batch, seed=1)
        plain = Sampler(model, steps=12, policy=None).sample(batch, seed=1)
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


def test_every_trigger_is_covered() -> None:
    assert {p.trigger for p in EVERY_POLICY.values()} == set(TRIGGERS)
