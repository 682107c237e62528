"""How much of the saved work becomes saved time, and what do watching and the order of imports cost?

    python -m benchmarks.engine [--parts speed watching imports] [--rounds 12] [--steps 1000] [--batches 1 16 64]

*speed*: `balanced`, `fast` and the uncached sampler take turns. The speedup that a share of work allows is the
operations of the uncached run over those of the cached one; the bars are 80% of it for `balanced` at batch 1 and 70%
for `fast`. Tables that are made once for a plan are no part of a run. The seconds of a reused step are those of the
segments without their calls (bar: 25 µs at batch 1).
*watching*: a run that is recorded, beside the same run of single steps that nobody watches; the two take turns every
50 steps (bars: 5% at batch 16 and 64, 15% at batch 1).
*imports*: a program that imports torch before the package, beside one that imports it after, while four processes spin
(bar: 5%).

Runs take turns after a warm-up, in an order that reverses every round. Ratios are taken within a round; their
geometric mean is given with its 95% interval.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.origin import provenance_of
from benchmarks.timing import clocked, draws_in_turns, in_turns, interval
from e2crf_core.caching.policy import PRESETS
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.io.files import replace_file
from e2crf_core.io.provenance import machine
from e2crf_core.models.checkpoints import load_checkpoint
from e2crf_core.sampling.observing import Observer
from e2crf_core.sampling.recorder import Recorder
from e2crf_core.sampling.sampler import Sampler, warm_up
from e2crf_core.sampling.segments import run_segment

HERE = Path(__file__).resolve().parent
PARTS = ("speed", "watching", "imports")
CACHED = ("balanced", "fast")
BARS = {"balanced": 0.8, "fast": 0.7}
SPINNERS = 4
BLOCK = 50
FIRST = {"torch first": "import torch, e2crf_core", "package first": "import e2crf_core, torch"}
PROGRAM = """
{first}
import time
from e2crf_core import CachePolicy, Sampler, load_checkpoint

torch.set_num_threads(2)
sampler = Sampler(load_checkpoint("{checkpoint}", "cpu"), CachePolicy.preset("balanced"), steps={steps})
sampler.sample(16, 0)
begin = time.perf_counter()
sampler.sample(16, 1)
print(time.perf_counter() - begin)
"""


def measure_speed(model: ScoreModel, steps: int, batch: int, rounds: int) -> dict[str, Any]:
    """Measure the presets' speedups, beside those that their share of work allows."""
    samplers: dict[str, Sampler] = {"uncached": Sampler(model, None, steps=steps, batch=batch)}
    samplers |= {name: Sampler(model, PRESETS[name], steps=steps, batch=batch) for name in CACHED}
    for sampler in samplers.values():
        warm_up(sampler, batch, 0)
    seconds = draws_in_turns(samplers, batch, rounds)
    result: dict[str, Any] = {"uncached": {"seconds": interval(seconds["uncached"])}}
    for name in CACHED:
        part = samplers[name].draw(batch, 0)
        allowed = samplers[name].full_flops(batch) / samplers[name].flops(part.rows, part.prepared, batch)
        speedup = seconds["uncached"] / seconds[name]
        result[name] = {
            "seconds": interval(seconds[name]),
            "speedup": interval(speedup),
            "allowed": allowed,
            "reached": interval(speedup / allowed),
            "bar": BARS[name] if batch == 1 else None,
            "reused_step_us": interval(
                [1e6 * reused_step(samplers[name], batch, turn) for turn in range(rounds)]
            ),
        }
    return result


def reused_step(sampler: Sampler, batch: int, seed: int) -> float:
    """Return the seconds of a reused step: all segments once more, without their calls."""
    segments = sampler.segments()
    assert segments is not None and sampler.policy is not None
    total, taken = 0.0, 0
    with torch.inference_mode():
        problem, state = sampler.begin(batch, seed)
        for segment in segments.values():
            reused = segment.last - segment.first - bool(segment.reasons.any())
            after, _, _ = run_segment(problem, state, sampler.policy, segment)
            begun = replace(state, cache=after.cache)
            total += clocked(lambda: segment.advance(problem, begun, begun.cache)) * bool(reused)  # noqa: B023
            taken += reused
            state = after
    return total / taken


def measure_watching(model: ScoreModel, steps: int, batch: int, rounds: int) -> dict[str, Any]:
    """Measure what recording a run costs, beside the same single steps that nobody watches.

    The two runs of a round take turns every BLOCK steps: the machine's speed changes from second to second.
    """
    sampler = Sampler(model, PRESETS["balanced"], steps=steps, batch=batch)
    warm_up(sampler, batch, 0)

    def round_of(seed: int) -> tuple[float, float]:
        plain, watched = (sampler.steps(batch, seed, timed=True) for _ in range(2))
        recorder = Recorder(steps, model.n, model.length, len(model.channels), batch)
        observer = Observer()

        def watch() -> None:
            for step in islice(watched, BLOCK):
                recorder.append(
                    observer.record(step.problem, step.before, step.info, step.seconds, 0, 0, step.after)
                )

        runs = {
            "plain": lambda turn: clocked(lambda: sum(step.seconds for step in islice(plain, BLOCK))),
            "recorded": lambda turn: clocked(watch),
        }
        seconds = in_turns(runs, -(-steps // BLOCK))
        looked = clocked(lambda: recorder.column("series"))
        return seconds["plain"].sum(), seconds["recorded"].sum() + looked

    plain, recorded = np.array([round_of(seed) for seed in range(rounds)]).T
    return {
        "seconds": interval(plain),
        "recorded_over_plain": interval(recorded / plain),
        "bar": 1.15 if batch == 1 else 1.05,
    }


def measure_imports(checkpoint: str, steps: int, rounds: int) -> dict[str, Any]:
    """Measure a program in both orders of its imports while SPINNERS processes keep the cores busy."""
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(SPINNERS)]

    def run(first: str) -> Callable[[int], float]:
        text = PROGRAM.format(first=FIRST[first], checkpoint=checkpoint, steps=steps)
        return lambda turn: float(
            subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True).stdout
        )

    try:
        seconds = in_turns({name: run(name) for name in FIRST}, rounds)
    finally:
        for process in spinning:
            process.kill()
            process.wait()
    ratio = seconds["torch first"] / seconds["package first"]
    return {
        **{name: interval(values) for name, values in seconds.items()},
        "torch_first_over_package_first": interval(ratio),
        "bar": 1.05,
        "threads": 2,
        "batch": 16,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--checkpoint", default="ecg")
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 16, 64])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=HERE / "results" / "engine_cpu.json")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    name, steps, rounds = arguments.checkpoint, arguments.steps, arguments.rounds
    model = load_checkpoint(name, "cpu")
    results: dict[str, Any] = {
        "machine": machine(),
        "plan": {"solver": "euler_maruyama", "steps": steps, "rounds": rounds},
        "provenance": provenance_of([name], range(rounds), max(arguments.batches)),
    }
    for batch in arguments.batches:
        # A batch of 16 takes as long as 8 samples alone, so large batches take fewer turns.
        turns = max(3, rounds // (1 if batch == 1 else 4))
        if "speed" in arguments.parts:
            results[f"speed, batch {batch}"] = measure_speed(model, steps, batch, turns)
        if "watching" in arguments.parts:
            results[f"watching, batch {batch}"] = measure_watching(model, steps, batch, turns)
    if "imports" in arguments.parts:
        results["imports"] = measure_imports(name, steps, rounds)
    text = json.dumps(results, indent=1)
    print(text)
    replace_file(arguments.out, lambda path: path.write_text(text + "\n"))


if __name__ == "__main__":
    main()
