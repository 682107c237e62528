"""Backends run whole forwards elsewhere: the samples stay those of eager, up to what the precision costs."""

from __future__ import annotations

import copy
import functools
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from e2crf_core import CachePolicy, LabError, Sampler
from e2crf_core.cli import main
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.io.extras import installed
from e2crf_core.network.backends import BACKENDS, backend_of
from e2crf_core.network.graphs import FeatureGraph
from e2crf_core.network.kept import Conditions
from e2crf_core.network.onnx import PACKAGES
from e2crf_core.network.transformer import ScoreTransformer
from e2crf_core.sampling.config import SamplerConfig
from tests.conftest import make_model
from tests.shape_checks import unchecked

NEEDS_ONNX = pytest.mark.skipif(not installed(*PACKAGES), reason="ONNX Runtime is optional")
WHOLE = CachePolicy(trigger="log_snr", tau=1.2, predictor="linear")
SINGLE = CachePolicy(trigger="gain", tau=0.3)
PLAN = {"steps": 24, "solver": "ddim", "grid": "log_snr"}


@pytest.fixture(scope="module")
def model() -> ScoreModel:
    """Provide a small float32 model."""
    return make_model(dtype=torch.float32)


@pytest.fixture(scope="module")
def causal(model: ScoreModel) -> ScoreModel:
    """Provide the same model with a spectrally causal network."""
    network = ScoreTransformer(replace(model.network.config, bands=(3, 6)), model.mu, model.v)
    network.load_state_dict(model.network.state_dict())
    return replace(model, network=network.eval().requires_grad_(False))


def relative(series: np.ndarray, reference: np.ndarray) -> float:
    """Return the relative L2 distance of series to a reference."""
    return float(np.linalg.norm(series - reference) / np.linalg.norm(reference))


@pytest.mark.parametrize(
    ("backend", "most"),
    [
        ("eager-bf16", 0.02),
        pytest.param("onnxruntime", 1e-4, marks=NEEDS_ONNX),
        pytest.param("onnxruntime-int8", 0.1, marks=NEEDS_ONNX),
    ],
)
def test_samples_of_a_backend_are_those_of_eager(model, backend, most):
    for policy in (None, WHOLE):
        eager = Sampler(model, policy, **PLAN).sample(3, 1)
        other = Sampler(model, policy, **PLAN, backend=backend).sample(3, 1)
        error = relative(other.series, eager.series)
        assert error < most and other.token_share == eager.token_share
        assert backend == "onnxruntime" or error > 1e-7, "lower precision must show"


def test_prefixes_of_a_causal_network_run_on_a_backend(causal):
    # Single tokens become prefixes, of other lengths for each sample.
    eager = Sampler(causal, SINGLE, **PLAN).sample(3, 1)
    half = Sampler(causal, SINGLE, **PLAN, backend="eager-bf16").sample(3, 1)
    assert 0 < half.token_share < 0.5
    assert 1e-7 < relative(half.series, eager.series) < 0.05


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler")
def test_compiled_samples_are_those_of_eager(model):
    small = replace(model.network.config, layers=1, hidden=8)
    network = ScoreTransformer(small, model.mu, model.v).eval().requires_grad_(False)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.15 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    model = replace(model, network=network)
    eager = Sampler(model, WHOLE, **PLAN).sample(2, 1).series
    with unchecked():
        compiled = Sampler(model, WHOLE, **PLAN, backend="compiled").sample(2, 1).series
    assert relative(compiled, eager) < 1e-4


def test_every_prefix_of_a_network_compiles_however_many_there_are(model, monkeypatch):
    # The limit is that of tracing; what is done with the trace takes most of the time and is left out.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    monkeypatch.setattr("e2crf_core.network.backends.require_compiler", lambda *args, **settings: None)
    edges = tuple(range(1, model.n))
    assert len(edges) > 8, "torch gives up at eight compilations of one function"
    causal = ScoreTransformer(replace(model.network.config, bands=edges), model.mu, model.v)
    compiled = backend_of(causal.eval().requires_grad_(False), "compiled")
    u, log_snr = torch.randn(2, model.n, 4), torch.tensor(0.3)
    with unchecked(), torch.inference_mode():
        for m in (*edges, model.n):
            plain = FeatureGraph(causal, m)(u, log_snr)
            torch.testing.assert_close(compiled.features(u, log_snr, m), plain, atol=1e-4, rtol=1e-4)


def test_a_policy_that_recomputes_single_tokens_needs_eager(model):
    with pytest.raises(LabError, match="single tokens") as caught:
        Sampler(model, SINGLE, **PLAN, backend="eager-bf16")
    assert caught.value.field == "backend" and "eager" in caught.value.remedy
    choice = Sampler(model, SINGLE, **PLAN, backend="auto").backend
    assert choice.name == "eager" and "single tokens" in choice.reason


def test_unknown_and_missing_backends_are_one_clear_line(model, monkeypatch):
    with pytest.raises(LabError, match="unknown backend 'cuda'") as caught:
        SamplerConfig(backend="cuda")
    assert all(name in caught.value.remedy for name in BACKENDS)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(LabError, match="no-such-compiler"):
        Sampler(make_model(dtype=torch.float32), WHOLE, **PLAN, backend="compiled")
    with pytest.raises(LabError, match="float32"):
        Sampler(make_model(), WHOLE, **PLAN, backend="onnxruntime-int8")
    monkeypatch.setattr("e2crf_core.network.onnx.PACKAGES", ("no_such_package",))
    with pytest.raises(LabError, match="more packages") as caught:
        backend_of(make_model(dtype=torch.float32).network, "onnxruntime")
    assert caught.value.field == "backend" and "pip install" in caught.value.remedy


@NEEDS_ONNX
def test_auto_measures_and_says_why(model, monkeypatch):
    monkeypatch.setattr("e2crf_core.sampling.backend_choice.SECONDS", 0.05)
    sampler = Sampler(model, WHOLE, **PLAN, batch=4, backend="auto")
    assert sampler.config.backend in ("eager", "onnxruntime")
    assert "of eager's time for a call of 4 samples" in sampler.backend.reason
    assert Sampler(model, WHOLE, **PLAN, batch=4, backend="auto").backend == sampler.backend
    eager = Sampler(model, WHOLE, **PLAN).sample(2, 1).series
    assert relative(sampler.sample(2, 1).series, eager) < 1e-4


def test_auto_measures_compiled_code_once_it_is_there_and_says_so_before(model, monkeypatch):
    monkeypatch.setattr("e2crf_core.sampling.backend_choice.SECONDS", 0.05)
    monkeypatch.setattr("e2crf_core.sampling.backend_choice.PACKAGES", ("no_such_package",))
    monkeypatch.setattr("e2crf_core.network.backends.require_compiler", lambda *args, **settings: None)
    monkeypatch.setattr(torch, "compile", lambda graph, **settings: graph)
    model = replace(model, network=copy.deepcopy(model.network))
    before = Sampler(model, WHOLE, **PLAN, batch=4, backend="auto").backend
    assert before.name == "eager" and "compiled code was not tried" in before.reason
    assert "pip install no_such_package" in before.reason
    Sampler(model, None, **PLAN, backend="compiled").sample(1, 1)
    alone = Sampler(model, WHOLE, **PLAN, batch=4, backend="auto").backend
    assert "was not tried" in alone.reason, "code for one sample is not that for several"
    Sampler(model, None, **PLAN, backend="compiled").sample(4, 1)
    after = Sampler(model, WHOLE, **PLAN, batch=4, backend="auto").backend
    assert after.name in ("eager", "compiled") and "compiled took" in after.reason


def test_conditions_are_kept_between_runs_and_dropped_when_weights_change():
    model = make_model(dtype=torch.float32)
    level = torch.tensor(0.25, dtype=torch.float64)
    first = Conditions.of(model.network).at(model.network, 0.25, level)
    assert Conditions.of(model.network).at(model.network, 0.25, level) is first
    assert torch.equal(first, model.network.condition(level))
    before = Sampler(model, WHOLE, **PLAN).sample(2, 1).series
    with torch.no_grad():
        model.network.modulation.weight.add_(0.1)
    after = Sampler(model, WHOLE, **PLAN).sample(2, 1).series
    assert np.abs(after - before).max() > 0
    twin = model.to("cpu")
    np.testing.assert_array_equal(Sampler(twin, WHOLE, **PLAN).sample(2, 1).series, after)


def test_kept_conditions_are_bounded(monkeypatch):
    model = make_model(dtype=torch.float32)
    one = model.network.condition(torch.tensor(0.0)).nbytes
    monkeypatch.setattr("e2crf_core.network.kept.LIMIT_BYTES", 2 * one)
    conditions = Conditions()
    made = [conditions.at(model.network, level, torch.tensor(level)) for level in (0.0, 1.0, 2.0)]
    again = [conditions.at(model.network, level, torch.tensor(level)) for level in (0.0, 1.0, 2.0)]
    assert [a is b for a, b in zip(made, again, strict=True)] == [True, True, False]


def test_a_configuration_keeps_its_backend_and_its_reference_is_eager():
    config = SamplerConfig(WHOLE, 8, backend="eager-bf16")
    assert SamplerConfig.from_json(config.to_json()) == config
    assert config.twin.backend == "eager" and "eager-bf16" in config.describe()
    old = {name: value for name, value in config.to_json().items() if name != "backend"}
    assert SamplerConfig.from_json(old).backend == "eager"


def test_the_command_refuses_an_unknown_backend_in_one_line(tmp_path, capsys):
    assert main(["sample", "--backend", "gpu", "--out", str(tmp_path / "x.npz")]) == 2
    assert "unknown backend 'gpu'" in capsys.readouterr().err and not (tmp_path / "x.npz").exists()
