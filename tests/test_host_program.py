"""A program that imports the core may set torch's defaults and use NumPy's numbers: samples stay the same."""

import contextlib
import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from e2crf_core import LabError, Sampler, load_checkpoint
from e2crf_core.caching.policy import PRESETS, CachePolicy
from e2crf_core.data.gaps import Cutting
from e2crf_core.data.importing import import_file
from e2crf_core.evaluation.bulk import BulkTask
from e2crf_core.evaluation.shards import Task
from e2crf_core.models.checkpoints import save_checkpoint
from e2crf_core.models.training import Trainer, TrainSpec
from e2crf_core.network.host import own_draws
from e2crf_core.network.transformer import ScoreTransformer
from e2crf_core.runs.run import RunSpec
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.tuning.measure import StudySpec
from tests.conftest import make_model
from tests.rates import rates
from tests.studies import toy

POLICIES = (None, PRESETS["balanced"], CachePolicy(trigger="paper", tau=0.3, probe_share=0.1, correct=True))


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


HOSTS = {
    "default float64": lambda: default_dtype(torch.float64),
    "default bfloat16": lambda: default_dtype(torch.bfloat16),
    # No tensor can be computed there, so any that our code makes without saying where fails.
    "default device": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "inference": torch.inference_mode,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("checkpoint") / "small"
    save_checkpoint(make_model(dtype=torch.float32), out)
    return out


@pytest.mark.parametrize("host", HOSTS)
def test_samples_do_not_depend_on_what_the_host_program_set(folder, host):
    model = load_checkpoint(folder, "cpu")
    plain = [Sampler(model, policy, steps=10).sample(2, 1).series for policy in POLICIES]
    with HOSTS[host]():
        again = load_checkpoint(folder, "cpu")
        assert again.digest() == model.digest()
        for policy, expected in zip(POLICIES, plain, strict=True):
            np.testing.assert_array_equal(Sampler(again, policy, steps=10).sample(2, 1).series, expected)
        events = list(Sampler(again, POLICIES[2], steps=10).events(2, 1))
    assert len(events) == 10 and np.isfinite(events[-1].series).all()


def test_the_random_numbers_of_the_host_program_go_on_as_if_nothing_had_happened(folder, tmp_path):
    spec = TrainSpec(data="toy", width=16, layers=1, heads=2, hidden=16, steps=1, batch=4, evaluate_every=1)
    state = torch.get_rng_state()
    Sampler(load_checkpoint(folder, "cpu"), steps=10).sample(1, 0)
    trainer = Trainer(spec, toy(), tmp_path / "out")
    list(trainer.run())
    trainer.model()
    assert torch.equal(torch.get_rng_state(), state)


def test_first_weights_are_those_of_the_seed():
    """As if torch's own generator had been set to it, so that trainings of earlier versions can be repeated."""
    config = make_model().network.config
    torch.manual_seed(5)
    plain = ScoreTransformer(config).state_dict()
    with own_draws(5):
        own = ScoreTransformer(config).state_dict()
    assert all(torch.equal(own[name], value) for name, value in plain.items())


@pytest.mark.parametrize("host", [name for name in HOSTS if name != "inference"])
def test_neither_does_training(tmp_path, host):
    spec = TrainSpec(data="toy", width=16, layers=1, heads=2, hidden=16, steps=2, batch=4, evaluate_every=1)

    def weights(out):
        trainer = Trainer(spec, toy(), out)
        list(trainer.run())
        return trainer.model().digest()

    plain = weights(tmp_path / "plain")
    with HOSTS[host]():
        assert weights(tmp_path / "host") == plain


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_in_half_precision_is_refused_in_one_line(model, dtype):
    with pytest.raises(LabError, match=r"float32 or float64") as refusal:
        Sampler(model.to(dtype=dtype), steps=4)
    assert "\n" not in str(refusal.value)


def test_numpy_integers_are_integers(model):
    n = np.int64
    made = (
        SamplerConfig(steps=n(8), batch=np.int32(4)),
        Cutting(window=n(8), stride=np.uint8(4), max_gap=n(2)),
        RunSpec("ecg", n(2), n(3), SamplerConfig(steps=n(8)), watch=n(1)),
        StudySpec(num=n(8), batch=n(2), seed=n(1), directions=n(16), resamples=n(4), width=n(1)),
        TrainSpec(data="toy", steps=n(2), batch=n(4), seed=n(1), bands=(n(4),)),
        BulkTask(SamplerConfig(), n(8), n(1), n(4)),
    )
    for one in made:
        json.dumps(asdict(one))
    task = Task(model, toy(), {"a": SamplerConfig(steps=n(8))}, num=n(2), repeats=n(1), seed=n(0))
    json.dumps(task.fingerprint())
    sampler = Sampler(model, steps=n(10), batch=n(2))
    plain = Sampler(model, steps=10, batch=2).sample(3, 1)
    again = sampler.sample(n(3), n(1))
    np.testing.assert_array_equal(again.series, plain.series)
    json.dumps([again.token_share, again.flop_share, again.steps])


def test_a_file_is_imported_with_numpy_integers(tmp_path):
    rates(60, 2, holes=0).to_csv(tmp_path / "fx.csv", index=False)
    report = import_file(tmp_path / "fx.csv", window=np.int64(8), stride=np.int32(4), out=tmp_path / "out")
    assert report.windows > 2
    json.dumps(asdict(report))


@pytest.mark.parametrize("value", [2.5, "4", None, True, np.float64(4), [4]])
@pytest.mark.parametrize("field", ["steps", "batch"])
def test_what_is_no_integer_is_refused_by_name(field, value):
    with pytest.raises(LabError, match=field) as refusal:
        SamplerConfig(**{field: value})
    assert refusal.value.field == field
