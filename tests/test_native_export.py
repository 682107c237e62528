"""An exported policy runs elsewhere: on ONNX Runtime, from Python and C++, and as a compiled package."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from e2crf_core import CachePolicy, Sampler
from e2crf_core.deploy.export import ExportedSampler, export_config
from e2crf_core.diffusion.noise import NoiseStream
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.io.extras import installed
from e2crf_core.network.onnx import PACKAGES
from e2crf_core.network.transformer import ScoreTransformer
from e2crf_core.sampling.config import SamplerConfig
from tests.conftest import make_model

HEADER = Path(__file__).parent / "cpp"
COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="building needs a C++ compiler")
# Two calls that are mixed, a stochastic solver, and an odd length, with two channels of different units.
CONFIG = SamplerConfig(
    CachePolicy(trigger="log_snr", tau=1.2, predictor="linear"), 24, "sde_dpmpp_2m", "log_snr"
)


def small_model() -> ScoreModel:
    """Return a model of one layer, quick to compile."""
    model = make_model(length=21, dtype=torch.float32)
    config = replace(model.network.config, layers=1, hidden=8)
    network = ScoreTransformer(config, model.mu, model.v)
    network.load_state_dict(
        {name: value for name, value in model.network.state_dict().items() if name in network.state_dict()}
        | {"blocks.0.up.weight": model.network.blocks[0].up.weight[:8]}
        | {"blocks.0.up.bias": model.network.blocks[0].up.bias[:8]}
        | {"blocks.0.down.weight": model.network.blocks[0].down.weight[:, :8]}
    )
    mean, std = np.array([3.0, -20.0], np.float32), np.array([0.5, 7.0], np.float32)
    return replace(model, network=network.eval().requires_grad_(False), mean=mean, std=std)


def library(folder: Path) -> Path | None:
    """Put ONNX Runtime's shared library, from its Python package, into `folder` under the name that it links by."""
    import onnxruntime

    libraries = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))
    if not libraries:
        return None
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / name).symlink_to(libraries[0])
    return folder


def write_noise(path: Path, model: ScoreModel, num: int, seed: int) -> None:
    """Write the noise of a run: of the start, then of each step."""
    stream = NoiseStream(seed, num, model.mask, dtype=torch.float32)
    rows = [stream.initial(), *(stream.at(i) for i in range(CONFIG.steps))]
    path.write_bytes(torch.stack(rows).numpy().astype("<f4").tobytes())


@COMPILER
@pytest.mark.skipif(not installed(*PACKAGES), reason="ONNX Runtime is optional")
def test_the_cpp_program_draws_the_series_of_python(tmp_path: Path) -> None:
    model, out = small_model(), tmp_path / "out.f32"
    report = export_config(model, CONFIG, tmp_path / "export", formats=("cpp",))
    assert 1 < report["calls"] < report["steps"]
    found = library(tmp_path)
    if found is None:
        pytest.skip("this build of ONNX Runtime holds no shared library")
    program = tmp_path / "sampler"
    source = tmp_path / "export" / "sampler.cpp"
    build = ["g++", "-std=c++17", "-O1", "-Wall", "-Werror", f"-I{HEADER}", str(source)]
    subprocess.run([*build, f"-L{found}", "-lonnxruntime", "-o", str(program)], check=True)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "LD_LIBRARY_PATH": str(found)}
        return subprocess.run([program, *arguments], env=environment, capture_output=True, text=True)

    for num in (1, 3):
        write_noise(tmp_path / "noise.f32", model, num, 5)
        done = run(str(tmp_path / "export"), str(num), "5", str(out), str(tmp_path / "noise.f32"))
        assert done.returncode == 0, done.stderr
        series = np.fromfile(out, "<f4").reshape(num, model.length, 2)
        eager = Sampler.of(model, CONFIG).sample(num, 5).series
        onnx = ExportedSampler(tmp_path / "export", "onnx").sample(num, 5)
        assert max((np.abs(one - eager) / model.std).max() for one in (series, onnx)) < 1e-4
    # With its own noise, a sample is the same alone and in a batch, and another seed gives another one.
    own = []
    for num, seed in (("3", "7"), ("1", "7"), ("1", "8")):
        assert run(str(tmp_path / "export"), num, seed, str(out)).returncode == 0
        own.append(np.fromfile(out, "<f4").reshape(-1, model.length, 2))
    np.testing.assert_allclose(own[0][:1], own[1], rtol=1e-4, atol=1e-3)
    assert np.abs(own[1] - own[2]).max() > 0.1
    missing = run(str(tmp_path / "nothing"), "1", "1", str(out))
    assert missing.returncode == 1 and "run.bin" in missing.stderr
    (tmp_path / "noise.f32").write_bytes(b"short")
    short = run(str(tmp_path / "export"), "1", "1", str(out), str(tmp_path / "noise.f32"))
    assert short.returncode == 1 and "ends too early" in short.stderr


@COMPILER
def test_a_compiled_package_draws_the_series_of_eager(tmp_path: Path) -> None:
    model = small_model()
    report = export_config(model, CONFIG, tmp_path, formats=("aoti",))
    assert max(report["differences"]["aoti"].values()) < 1e-4
    exported = ExportedSampler(tmp_path, "aoti")
    for num in (1, 3):
        eager = Sampler.of(model, CONFIG).sample(num, 5).series
        assert (np.abs(exported.sample(num, 5) - eager) / model.std).max() < 1e-4
