"""An exported policy runs elsewhere: on ONNX Runtime, from Python and C++, and as a compiled package."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.outside import Program, drawn
from e2crf_core import CachePolicy, LabError, Sampler
from e2crf_core.deploy.export import ExportedSampler, export_config
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.io.extras import installed
from e2crf_core.network.onnx import PACKAGES
from e2crf_core.network.transformer import ScoreTransformer
from e2crf_core.sampling.config import SamplerConfig
from tests.conftest import make_model

COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="building needs a C++ compiler")
# Two calls that are mixed, a stochastic solver, and an odd length, with two channels of different units.
CONFIG = SamplerConfig(
    CachePolicy(trigger="log_snr", tau=1.2, predictor="linear"), 24, "sde_dpmpp_2m", "log_snr"
)
NESTED = replace(CONFIG, policy=CachePolicy.of("nested").replace(tau=0.2))
EXPONENTIAL = replace(CONFIG, solver="etd_ab3")


def small_model(*bands: int) -> ScoreModel:
    """Return a model of one layer, quick to compile; `bands` are the edges of a causal one."""
    model = make_model(length=21, dtype=torch.float32)
    config = replace(model.network.config, layers=1, hidden=8, bands=bands)
    network = ScoreTransformer(config, model.mu, model.v)
    network.load_state_dict(
        {name: value for name, value in model.network.state_dict().items() if name in network.state_dict()}
        | {"blocks.0.up.weight": model.network.blocks[0].up.weight[:8]}
        | {"blocks.0.up.bias": model.network.blocks[0].up.bias[:8]}
        | {"blocks.0.down.weight": model.network.blocks[0].down.weight[:, :8]}
    )
    mean, std = np.array([3.0, -20.0], np.float32), np.array([0.5, 7.0], np.float32)
    return replace(model, network=network.eval().requires_grad_(False), mean=mean, std=std)


@COMPILER
@pytest.mark.skipif(not installed(*PACKAGES), reason="ONNX Runtime is optional")
def test_the_cpp_program_draws_the_series_of_python(tmp_path: Path) -> None:
    model, out = small_model(), tmp_path / "out.f32"
    folder, path = tmp_path / "export", str(out)
    report = export_config(model, CONFIG, folder, formats=("cpp",))
    assert 1 < report["calls"] < report["steps"]
    try:
        program = Program(folder, flags=("-O1", "-Wall", "-Werror"))
    except LabError as fault:
        pytest.skip(str(fault))

    def check(config: SamplerConfig, num: int) -> None:
        eager = Sampler.of(model, config).sample(num, 5).series
        onnx = ExportedSampler(folder, "onnx").sample(num, 5)
        series = drawn(program, model, config, num, 5)
        assert max((np.abs(one - eager) / model.std).max() for one in (series, onnx)) < 1e-4

    check(CONFIG, 1)
    check(CONFIG, 3)
    # With its own noise, a sample is the same alone and in a batch, and another seed gives another one.
    own = []
    for num, seed in (("3", "7"), ("1", "7"), ("1", "8")):
        done = program.run(num, seed, path)
        assert done.returncode == 0 and float(done.stdout) > 0
        own.append(np.fromfile(out, "<f4").reshape(-1, model.length, 2))
    np.testing.assert_allclose(own[0][:1], own[1], rtol=1e-4, atol=1e-3)
    assert np.abs(own[1] - own[2]).max() > 0.1
    (tmp_path / "noise.f32").write_bytes(b"short")
    short = program.run("1", "1", path, str(tmp_path / "noise.f32"))
    assert short.returncode == 1 and "ends too early" in short.stderr
    # An exponential integrator has weights for each coordinate.
    export_config(model, EXPONENTIAL, folder, formats=("cpp",))
    check(EXPONENTIAL, 2)
    # A causal network has a graph for each prefix of bands that the plan computes.
    model = small_model(3, 6)
    export_config(model, NESTED, folder, formats=("cpp",))
    assert len(list(folder.glob("network*.onnx"))) > 1
    check(NESTED, 3)
    (folder / "run.bin").unlink()
    missing = program.run("1", "1", path)
    assert missing.returncode == 1 and "run.bin" in missing.stderr


@COMPILER
def test_a_compiled_package_draws_the_series_of_eager(tmp_path: Path) -> None:
    model = small_model()
    report = export_config(model, CONFIG, tmp_path, formats=("aoti",))
    assert max(report["differences"]["aoti"].values()) < 1e-4
    exported = ExportedSampler(tmp_path, "aoti")
    for num in (1, 3):
        eager = Sampler.of(model, CONFIG).sample(num, 5).series
        assert (np.abs(exported.sample(num, 5) - eager) / model.std).max() < 1e-4
