"""Does the lab run as fast outside Python, and are its samples the same?

    python -m benchmarks.outside [--threads 2] [--rounds 12] [--batches 1 16] [--headers ORT/include]

One policy is exported (`deploy export --format cpp,aoti`) and drawn in four ways, in turns: by Python on torch's own
kernels, by Python on ONNX Runtime, by Python from the package that AOTInductor compiled, and by the C++ program on
ONNX Runtime. Networks and tables are loaded before the clock starts, and all ways use the same number of threads.
*equal* is the largest difference from Python's samples on the same noise, in units of standardized data (bar: 1e-4).
*whole programs* are timed from their start until the samples are a file, which is what a caller waits for.

Ratios are taken within a round; their geometric mean is given with its 95% interval. The C++ program links the library
in ONNX Runtime's Python package; without --headers it is built with the stand-in for its headers that the tests use.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.origin import provenance_of
from benchmarks.timing import clocked, in_turns, interval
from e2crf_core import LabError, Sampler, load_checkpoint
from e2crf_core.caching.policy import PRESETS, CachePolicy
from e2crf_core.caching.presets import presets_for
from e2crf_core.deploy.export import ExportedSampler, export_config
from e2crf_core.diffusion.noise import noise_stream
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.io.json_files import write_json
from e2crf_core.io.provenance import machine
from e2crf_core.network.forward import band_edges_of
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.sampler import warm_up

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "outside_cpu.json"
STAND_IN = ROOT / "tests" / "cpp"
BAR = 1e-4
PYTHON, ONNX, AOTI, CPP = "Python", "Python, ONNX Runtime", "AOTInductor package", "C++, ONNX Runtime"
PROGRAM = """
import sys
import numpy, torch
from e2crf_core import Sampler, load_checkpoint
from e2crf_core.caching.policy import CachePolicy

torch.set_num_threads({threads})
sampler = Sampler(load_checkpoint("{checkpoint}", "cpu"), CachePolicy.from_json({policy!r}), steps={steps})
numpy.save(sys.argv[1], sampler.sample({batch}, int(sys.argv[2])).series)
"""


class Program:
    """The C++ program of an export in `folder`, built and ready to run."""

    def __init__(self, folder: Path, headers: Path = STAND_IN, *, flags: Sequence[str] = ("-O2",)) -> None:
        import onnxruntime

        libraries = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))
        if shutil.which("g++") is None or not libraries:
            raise LabError("the C++ program needs g++ and a build of ONNX Runtime with a shared library")
        self._folder, self._place = folder, TemporaryDirectory(prefix="e2crf-cpp-")
        place = Path(self._place.name)
        for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
            (place / name).symlink_to(libraries[0])
        self._program, source = place / "sampler", folder / "sampler.cpp"
        build = ["g++", "-std=c++17", *flags, f"-I{headers}", str(source), f"-L{place}", "-lonnxruntime"]
        subprocess.run([*build, "-o", str(self._program)], check=True)

    def run(self, *arguments: str, threads: int = 1) -> subprocess.CompletedProcess[str]:
        """Run the program with COUNT SEED OUT [NOISE] on its own export."""
        environment = {**os.environ, "LD_LIBRARY_PATH": self._place.name, "E2CRF_THREADS": str(threads)}
        command = [str(self._program), str(self._folder), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True)


def write_noise(path: Path, model: ScoreModel, config: SamplerConfig, num: int, seed: int) -> None:
    """Write the noise of a run as the C++ program reads it: of the start, then of each step."""
    stream = noise_stream(config.noise, seed, num, model.mask, dtype=torch.float32)
    rows = [stream.initial(), *(stream.at(i) for i in range(config.steps))]
    path.write_bytes(torch.stack(rows).numpy().astype("<f4").tobytes())


def drawn(program: Program, model: ScoreModel, config: SamplerConfig, num: int, seed: int) -> np.ndarray:
    """Return the series (num, N, M) of the C++ program on the noise of Python's run."""
    with TemporaryDirectory() as place:
        noise, out = Path(place) / "noise.f32", Path(place) / "out.f32"
        write_noise(noise, model, config, num, seed)
        done = program.run(str(num), str(seed), str(out), str(noise))
        if done.returncode:
            raise LabError(done.stderr.strip())
        return np.fromfile(out, "<f4").reshape(num, model.length, -1)


def differences(
    model: ScoreModel, config: SamplerConfig, folder: Path, program: Program, num: int
) -> dict[str, float]:
    """Return the largest difference of each way from Python's samples, in units of standardized data."""
    eager = Sampler.of(model, config).sample(num, 5).series
    series = {
        ONNX: ExportedSampler(folder, "onnx").sample(num, 5),
        AOTI: ExportedSampler(folder, "aoti").sample(num, 5),
        CPP: drawn(program, model, config, num, 5),
    }
    return {name: float((np.abs(made - eager) / model.std).max()) for name, made in series.items()}


def measure(
    model: ScoreModel, config: SamplerConfig, folder: Path, program: Program, threads: int, rounds: int
) -> dict[str, Any]:
    """Measure the seconds of drawing one batch in each way, and those of whole programs."""
    num = config.batch
    runs: dict[str, Callable[[int], float]] = {}
    for name, backend in ((PYTHON, "eager"), (ONNX, "onnxruntime")):
        sampler = Sampler(model, config.policy, steps=config.steps, batch=num, backend=backend)
        warm_up(sampler, num, 0)
        runs[name] = lambda turn, sampler=sampler: sampler.draw(num, turn).seconds
    package = ExportedSampler(folder, "aoti")
    runs[AOTI] = lambda turn: clocked(lambda: package.sample(num, turn))
    with TemporaryDirectory() as place:
        out = str(Path(place) / "out.f32")

        def compiled(turn: int) -> float:
            return float(program.run(str(num), str(turn), out, threads=threads).stdout)

        runs[CPP] = compiled
        for run in runs.values():
            run(0)
        seconds = in_turns(runs, rounds)
        assert config.policy is not None
        policy = config.policy.to_json()
        text = PROGRAM.format(
            threads=threads, checkpoint=model.name, policy=policy, steps=config.steps, batch=num
        )
        command = [sys.executable, "-c", text, str(Path(place) / "out.npy")]
        whole = {
            PYTHON: lambda turn: clocked(lambda: subprocess.run([*command, str(turn)], check=True)),
            CPP: lambda turn: clocked(lambda: program.run(str(num), str(turn), out, threads=threads)),
        }
        programs = in_turns(whole, max(2, rounds // 3))
    return {"batch": num, "rows": rows_of(seconds), "programs": rows_of(programs)}


def rows_of(seconds: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Return each way's seconds, and how many times as fast as Python it is."""
    first = seconds[PYTHON]
    return [
        {"name": name, "seconds": interval(own), "over_python": interval(first / own)}
        for name, own in seconds.items()
    ]


def policy_of(model: ScoreModel, preset: str) -> CachePolicy:
    """Return a preset as it is for the model's kind of network."""
    return presets_for(bool(band_edges_of(model.network)))[preset]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", default="ecg")
    parser.add_argument("--policy", default="balanced", choices=list(PRESETS))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 16])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--headers", type=Path, default=STAND_IN, help="folder of onnxruntime_cxx_api.h")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args(argv)
    # The package is compiled for a number of threads.
    torch.set_num_threads(arguments.threads)
    model = load_checkpoint(arguments.checkpoint, "cpu")
    stored: dict[str, Any] = {
        "machine": machine(),
        "plan": {
            name: getattr(arguments, name) for name in ("checkpoint", "policy", "steps", "rounds", "threads")
        },
        "provenance": provenance_of([arguments.checkpoint], range(arguments.rounds), max(arguments.batches)),
        "bar": BAR,
        "batches": [],
    }
    with TemporaryDirectory(prefix="e2crf-outside-") as place:
        folder = Path(place) / "export"
        policy = policy_of(model, arguments.policy)
        config = SamplerConfig(policy, arguments.steps)
        export_config(model, config, folder, formats=("cpp", "aoti"))
        program = Program(folder, arguments.headers)
        stored["equal"] = differences(model, config, folder, program, 4)
        for batch in arguments.batches:
            config = SamplerConfig(policy, arguments.steps, batch=batch)
            rounds = max(3, arguments.rounds // (1 if batch == 1 else 3))
            stored["batches"].append(measure(model, config, folder, program, arguments.threads, rounds))
            write_json(arguments.out, stored)
            print(f"batch {batch}: done", flush=True)
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
