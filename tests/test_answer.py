"""Answers and twins: equal to a headless run, kept once, never those of other weights."""

from dataclasses import replace

import numpy as np
import pytest

from e2crf_core.caching.policy import PRESETS, CachePolicy
from e2crf_core.diffusion.spectral import tokenize
from e2crf_core.errors import Cancelled, LabError
from e2crf_core.evaluation.alone import own_error, solvers_alone, without_network
from e2crf_core.quality.distances import relative_l2, relative_l2_per_sample
from e2crf_core.quality.protocol import whitened_errors
from e2crf_core.runs.answer import answer, standardized, variance_pair
from e2crf_core.runs.run import RunSpec
from e2crf_core.runs.twin import TwinStore, compute_twin, step_errors
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.sampler import Sampler
from tests.conftest import make_model
from tests.tiny import ended

MODEL = replace(make_model(), mean=np.array([3.0, -1.0], np.float32), std=np.array([2.0, 0.5], np.float32))
PLAIN = replace(MODEL, dataset="")
PLAN = {"steps": 20, "solver": "dpmpp_2m", "grid": "log_snr"}
CACHED = SamplerConfig(CachePolicy(trigger="log_snr", tau=1.8, predictor="linear"), **PLAN)
PAPER = SamplerConfig(CachePolicy.of("paper").replace(tau=0.5, refresh_every=0), **PLAN)


@pytest.fixture
def store(tmp_path):
    return TwinStore(tmp_path / "twins")


@pytest.mark.parametrize("config", [CACHED, PAPER], ids=["clock", "paper"])
def test_an_answer_equals_a_headless_run_to_the_last_bit(config, store):
    reply = answer(MODEL, config, 5, 3, twin=store.twin(MODEL, config, 3, 5))
    samples = Sampler.of(MODEL, config).sample(3, 5)
    plain = Sampler.of(MODEL, config.twin).sample(3, 5)
    np.testing.assert_array_equal(reply.series, samples.series)
    np.testing.assert_array_equal(reply.twin.series, plain.series)
    expected = relative_l2(*(standardized(MODEL, s.series) for s in (samples, plain)))
    assert reply.error.pooled.value == pytest.approx(expected, rel=1e-12)
    assert reply.tokens == pytest.approx(samples.token_share * PLAN["steps"] * MODEL.n)


def test_errors_of_bands_in_data_units_add_up_to_the_whole(store):
    reply = answer(MODEL, CACHED, 1, 4, twin=store.twin(MODEL, CACHED, 4, 1))
    total = sum(band.value**2 for band in reply.band_units) ** 0.5
    assert total == pytest.approx(reply.error.pooled.value, rel=1e-6)
    assert len(reply.band_units) == len(reply.error.bands)
    assert all(band.low <= band.high for band in reply.band_units)


def test_the_pair_that_stands_for_the_data_has_the_variance_of_its_tokens():
    x = np.random.default_rng(0).standard_normal((2, MODEL.length, len(MODEL.channels)))
    by_pair = whitened_errors(x, 0 * x, variance_pair(MODEL))
    v, mask = (t.numpy() for t in (MODEL.v, MODEL.mask))
    by_variance = (np.square(tokenize(x)) / v * mask).sum(-1) / mask.sum(-1)
    np.testing.assert_allclose(by_pair, by_variance, rtol=1e-4)


def test_everything_computed_costs_the_number_of_steps_and_has_no_error(store):
    reply = answer(MODEL, SamplerConfig(PRESETS["exact"], **PLAN), 0, 2, twin=store.twin(MODEL, CACHED, 2, 0))
    assert reply.cost == pytest.approx(PLAN["steps"]) and reply.error.pooled.value < 1e-6
    never = answer(
        MODEL, SamplerConfig(CachePolicy(trigger="never"), **PLAN), 0, 2, twin=store.twin(MODEL, CACHED, 2, 0)
    )
    assert never.cost == pytest.approx(1.0) and (never.share > 0).sum() == 1


def test_a_cancelled_answer_ends(store):
    with pytest.raises(Cancelled):
        answer(MODEL, CACHED, 0, 2, twin=store.twin(MODEL, CACHED, 2, 0), cancelled=lambda: True)
    with pytest.raises(LabError):
        answer(MODEL, CACHED, 0, 0)


def test_the_path_of_a_twin_ends_in_its_sample():
    twin = compute_twin(MODEL, CACHED, 2, 3)
    np.testing.assert_array_equal(twin.path[-1], twin.series[0])
    assert twin.path.shape == (PLAN["steps"], MODEL.length, len(MODEL.channels))


def test_the_error_at_the_last_step_is_the_error_of_the_sample(store):
    twin = store.twin(MODEL, CACHED, 1, 3)
    reply = answer(MODEL, CACHED, 3, 1, twin=twin)
    steps = Sampler.of(MODEL, CACHED).steps(1, 3)
    estimates = [MODEL.series(step.info.denoised.numpy())[0] for step in steps]
    errors = step_errors(MODEL, np.stack(estimates), twin.path)
    each = relative_l2_per_sample(*(standardized(MODEL, x) for x in (reply.series, twin.series)))
    assert errors[-1] == pytest.approx(each[0]) and errors[0] < 1e-6


def test_a_twin_is_kept_in_memory_and_on_disk_and_named_by_all_it_depends_on(store):
    twin = store.twin(MODEL, CACHED, 2, 0)
    assert store.twin(MODEL, replace(CACHED, policy=PRESETS["fast"]), 2, 0) is twin
    again = TwinStore(store.folder).find(MODEL, CACHED, 2, 0)
    np.testing.assert_array_equal(again.series, twin.series)
    np.testing.assert_array_equal(again.path, twin.path)
    for model, config, num, seed in (
        (MODEL, replace(CACHED, steps=21), 2, 0),
        (MODEL, replace(CACHED, solver="unipc_2"), 2, 0),
        (MODEL, CACHED, 3, 0),
        (MODEL, CACHED, 2, 1),
        (make_model(seed=1), CACHED, 2, 0),
        (replace(MODEL, std=np.ones(2, np.float32)), CACHED, 2, 0),
    ):
        assert store.find(model, config, num, seed) is None


def test_a_damaged_twin_is_computed_again(store):
    twin = store.twin(MODEL, CACHED, 2, 0)
    (path,) = store.folder.glob("*.npz")
    whole = path.read_bytes()
    for damaged in (whole[:100], b"", whole.replace(b"series", b"serien"), whole[:-40] + bytes(40)):
        path.write_bytes(damaged)
        np.testing.assert_array_equal(TwinStore(store.folder).twin(MODEL, CACHED, 2, 0).series, twin.series)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 4
    path.write_bytes(flipped)
    np.testing.assert_array_equal(TwinStore(store.folder).twin(MODEL, CACHED, 2, 0).series, twin.series)


def test_twins_stay_within_their_budgets(tmp_path):
    one = compute_twin(MODEL, CACHED, 2, 0).nbytes
    store = TwinStore(tmp_path, memory_bytes=int(1.5 * one), disk_bytes=3 * one)
    for seed in range(6):
        store.twin(MODEL, CACHED, 2, seed)
    assert 1 <= len(list(tmp_path.iterdir())) <= 3
    assert store.find(MODEL, CACHED, 2, 5) is not None and store.find(MODEL, CACHED, 2, 0) is None


def test_solvers_alone_come_closer_with_more_steps_and_pair_only_without_noise():
    config = replace(CACHED, steps=40)
    twin = compute_twin(MODEL, config, 2, 0)
    alone = list(solvers_alone(MODEL, config, 0, twin, calls=(3, 8, 20, 60)))
    assert [run.steps for run in alone] == [3, 8, 20] and alone[0].error > alone[-1].error
    assert own_error(MODEL, config, 0, twin) < alone[-1].error
    assert without_network(MODEL, config, 0, twin) > alone[-1].error
    noisy = replace(config, solver="ancestral")
    assert list(solvers_alone(MODEL, noisy, 0, twin)) == []
    assert own_error(MODEL, noisy, 0, twin) is None and without_network(MODEL, noisy, 0, twin) is None


def test_a_run_knows_its_twin_at_every_step_and_keeps_it_for_the_next(monkeypatch, tmp_path):
    monkeypatch.setenv("E2CRF_HOME", str(tmp_path))
    spec = RunSpec("test", 2, 41, CACHED, "cpu")
    first, again = ended(spec, PLAIN), ended(replace(spec, compare=False), PLAIN)
    np.testing.assert_array_equal(first.twin.series, first.result.comparison.samples_uncached)
    assert again.twin is first.twin
    errors = step_errors(PLAIN, first.recorder.column("x0"), first.twin.path)
    each = relative_l2_per_sample(
        *(standardized(PLAIN, x) for x in (first.result.samples, first.twin.series))
    )
    assert errors[-1] == pytest.approx(each[0])
    long = replace(CACHED, steps=60)
    unknown = ended(RunSpec("test", 20, 42, long, "cpu", compare=False), PLAIN)
    assert unknown.twin is None
    late = ended(RunSpec("test", 20, 42, long, "cpu"), PLAIN)
    np.testing.assert_array_equal(late.twin.path[-1], late.twin.series[0])
