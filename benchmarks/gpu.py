"""How fast is the lab on a GPU, does the host ever wait, and are its samples those of the CPU? Under nine minutes.

    python -m benchmarks.gpu

*noise*: the stream `counter` on CPU and GPU, compared to the last bit, and the seconds of both streams.
*waits*: a scheduled run under torch's own check, which fails at the first operation for which the host waits.
*samples*: relative L2 of the GPU's samples to the CPU's, on the same noise.
*speed*: the public network, the uncached sampler, and `balanced` on each backend, in turns, at each batch size; on
spectrally causal networks, where `balanced` is nested bands, without compiled code: it is compiled for every prefix.

Parts that do not fit into the time are left out and named. Without a GPU the command says so and measures nothing.
"""

from __future__ import annotations

import argparse
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.origin import provenance_of
from benchmarks.public_network import STEPS, PublicNetwork
from benchmarks.timing import clocked, in_turns, interval, machine_peak, repeated
from e2crf_core import LabError, Sampler, load_checkpoint
from e2crf_core.caching.presets import preset_of
from e2crf_core.diffusion.noise import NOISES, noise_stream
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.io.json_files import write_json
from e2crf_core.io.provenance import machine
from e2crf_core.network.forward import band_edges_of
from e2crf_core.sampling.calibrations import DEFAULT_PLANS
from e2crf_core.sampling.sampler import warm_up

RESULTS = Path(__file__).resolve().parent / "results" / "gpu.json"
BATCHES = (1, 16, 64, 256, 1024)
CHECKPOINTS = ("ecg", "stocks-causal")
BACKENDS = ("eager", "cudagraphs", "compiled", "compiled-bf16")
CAUSAL_BACKENDS = ("eager", "eager-bf16", "cudagraphs")
LIMIT_S = 500.0
"""Seconds after which nothing new is begun."""


def compare_noise(model: ScoreModel, batch: int, rounds: int) -> dict[str, Any]:
    """Compare the stream `counter` on both devices, and time the noise of a step of both streams on the GPU."""
    here = noise_stream("counter", 7, batch, model.mask.cpu(), dtype=torch.float32)
    there = noise_stream("counter", 7, batch, model.mask, dtype=torch.float32)
    equal = all(torch.equal(here.at(step), there.at(step).cpu()) for step in (0, 17, 999))

    def drawn(name: str) -> Callable[[int], float]:
        stream = noise_stream(name, 7, batch, model.mask, dtype=torch.float32)

        def run(turn: int) -> float:
            def work() -> None:
                for step in range(64):
                    stream.at(64 * turn + step)
                torch.cuda.synchronize()

            return clocked(work) / 64

        return run

    seconds = in_turns({name: drawn(name) for name in NOISES}, rounds)
    return {"equal": equal, "batch": batch, **{name: interval(x) for name, x in seconds.items()}}


def count_waits(model: ScoreModel, batch: int, steps: int) -> str | None:
    """Return the first operation of a scheduled run for which the host waits; None if there is none."""
    sampler = Sampler(model, preset_of("balanced", model), steps=steps, batch=batch, noise="counter")
    sampler.draw(batch, 0)
    # The last segment ends with a look at the samples, which waits; a run may end so.
    last = max(sampler.segments() or {}, default=steps - 1)
    with torch.inference_mode():
        leaps = sampler.leaps(*sampler.begin(batch, 0))
        torch.cuda.set_sync_debug_mode("error")
        try:
            for leap in leaps:
                if leap.after.step >= last:
                    break
        except RuntimeError as fault:
            place = traceback.extract_tb(fault.__traceback__)[-1]
            return f"{Path(place.filename).name}:{place.lineno} {place.line}: {fault}".splitlines()[0]
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return None


def compare_samples(name: str, model: ScoreModel, num: int) -> dict[str, float]:
    """Return the relative L2 of the GPU's samples to the CPU's after 40 cheap steps, uncached and `balanced`."""
    result = {}
    for label, policy in (("uncached", None), ("balanced", preset_of("balanced", model))):
        config = replace(DEFAULT_PLANS[0], policy=policy, noise="counter")
        here, there = (
            Sampler.of(m, config).sample(num, 3).series for m in (load_checkpoint(name, "cpu"), model)
        )
        result[label] = float(np.linalg.norm(there - here) / np.linalg.norm(here))
    return result


def measure_speed(
    model: ScoreModel, batch: int, steps: int, rounds: int, time_left: Callable[[], bool]
) -> dict[str, Any]:
    """Measure the seconds of whole runs in turns; those of the public network from 20 of its steps."""
    public = PublicNetwork(model.length, len(model.channels)).to(model.device)
    x = torch.randn(batch, model.length, len(model.channels), device=model.device)
    t = torch.tensor(0.5, device=model.device)

    def steps_of_public() -> None:
        with torch.inference_mode():
            public.step(x, t)
            torch.cuda.synchronize()

    steps_of_public()  # the first step starts libraries
    runs: dict[str, Callable[[int], float]] = {}
    runs["public network"] = lambda turn: STEPS * repeated(steps_of_public, 20)(turn)
    missing: dict[str, str] = {}
    balanced = preset_of("balanced", model)
    backends = CAUSAL_BACKENDS if band_edges_of(model.network) else BACKENDS
    settings = [("uncached", None, "eager"), *((f"balanced, {name}", balanced, name) for name in backends)]
    for label, policy, backend in settings:
        if not time_left():
            missing[label] = "no time was left"
            continue
        try:
            made = Sampler(model, policy, steps=steps, batch=batch, backend=backend, noise="counter")
            warm_up(made, batch, 0)
            made.draw(batch, 0)
        except (LabError, RuntimeError) as fault:
            missing[label] = str(fault).splitlines()[0]
            continue
        runs[label] = lambda turn, made=made: made.draw(batch, turn).seconds
    seconds = in_turns(runs, rounds)
    first = seconds["public network"]
    rows = {name: {"seconds": interval(x), "over_public": interval(first / x)} for name, x in seconds.items()}
    return {"batch": batch, "rows": rows, "missing": missing}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoints", nargs="+", default=list(CHECKPOINTS))
    parser.add_argument("--batches", type=int, nargs="*", default=list(BATCHES))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args(argv)
    if not torch.cuda.is_available():
        raise SystemExit("no NVIDIA GPU that torch can use: this benchmark needs one (nvidia-smi lists them)")
    begin = time.monotonic()

    def time_left() -> bool:
        return time.monotonic() - begin < LIMIT_S

    models = {name: load_checkpoint(name, "cuda") for name in arguments.checkpoints}
    first = next(iter(models.values()))
    stored: dict[str, Any] = {
        "machine": machine(),
        "plan": {"steps": arguments.steps, "rounds": arguments.rounds},
        "provenance": provenance_of(arguments.checkpoints, range(arguments.rounds), max(arguments.batches)),
        "peak": machine_peak(device="cuda"),
        "noise": compare_noise(first, 64, arguments.rounds),
        "waits": {name: count_waits(model, 16, arguments.steps) for name, model in models.items()},
        "samples": {name: compare_samples(name, model, 8) for name, model in models.items()},
        "speed": {name: [] for name in models},
    }
    print(f"noise, waits and samples: {time.monotonic() - begin:.0f} s", flush=True)
    for name, model in models.items():
        for batch in arguments.batches:
            if time_left():
                part = measure_speed(model, batch, arguments.steps, arguments.rounds, time_left)
            else:
                part = {"batch": batch, "rows": {}, "missing": {"all": "no time was left"}}
            stored["speed"][name].append(part)
            write_json(arguments.out, stored)
            print(f"{name}, batch {batch}: {time.monotonic() - begin:.0f} s", flush=True)
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
