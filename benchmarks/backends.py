"""Measure each backend: the time of a whole network call beside eager's, and what its precision costs.

    python -m benchmarks.backends

Calls of all backends take turns in one process; ratios are taken within a round, and their median and quartiles
are reported. Errors are those of whole runs (40 steps of DPM-Solver++ 2M on the profile grid) to the uncached
float32 twin on the same noise, by the protocol: without a cache, which shows the precision alone, and with the
preset `multistep`, and nested bands on a causal network, which shows the precision and the cache together. These
runs take turns too; their speedup is that over the twin. On a causal network, runs with nested bands take turns on all
backends. Backends that cannot run here are listed with the reason.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.origin import provenance_of
from benchmarks.timing import draws_in_turns, interval
from e2crf_core import CachePolicy, LabError, Sampler, load_checkpoint
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.io.json_files import write_json
from e2crf_core.io.provenance import machine
from e2crf_core.network.backends import BACKENDS
from e2crf_core.network.forward import band_edges_of
from e2crf_core.runs.quality import twin_quality
from e2crf_core.sampling.backend_choice import BackendChoice, choose_backend, interleaved

RESULTS = Path(__file__).resolve().parent / "results" / "backends_cpu.json"
PLAN: dict[str, Any] = {"steps": 40, "solver": "dpmpp_2m", "grid": "profile"}
NO_CACHE = "no cache"
NESTED_ROUNDS = 40
QUARTILES = (0.25, 0.5, 0.75)


def available(model: ScoreModel, names: list[str]) -> tuple[list[BackendChoice], dict[str, str]]:
    """Return the backends that run here, eager first, and the reason for each that does not."""
    choices, missing = [choose_backend(model, None, "eager", 1)], {}
    for name in names:
        if name != "eager":
            try:
                choices.append(choose_backend(model, None, name, 1))
            except LabError as fault:
                missing[name] = str(fault)
    return choices, missing


def times(
    model: ScoreModel, choices: list[BackendChoice], batch: int, seconds: float
) -> list[dict[str, Any]]:
    """Return, for each backend, the median seconds of a call, and its ratio to eager's with quartiles."""
    taken = np.array(interleaved(model, choices, batch, seconds))
    rows = []
    for choice, own in zip(choices, taken, strict=True):
        low, ratio, high = np.quantile(own / taken[0], QUARTILES)
        row = {"backend": choice.name, "batch": batch, "rounds": len(own), "seconds": float(np.median(own))}
        rows.append({**row, "ratio": float(ratio), "ratio_low": float(low), "ratio_high": float(high)})
    return rows


def policies(model: ScoreModel) -> dict[str, CachePolicy | None]:
    """Return the caches to measure: none, whole refreshes, and nested bands if the network is causal."""
    nested = {"nested bands": CachePolicy.of("nested")} if band_edges_of(model.network) else {}
    return {NO_CACHE: None, "multistep": CachePolicy.preset("multistep"), **nested}


def combinations(
    model: ScoreModel, choices: list[BackendChoice], num: int, seed: int, rounds: int
) -> list[dict[str, Any]]:
    """Return, for each backend with and without a cache, what it changed in whole runs, and its speedup."""
    samplers = {
        (choice.name, label): Sampler(model, policy, **PLAN, backend=choice.name, batch=num)
        for choice in choices
        for label, policy in policies(model).items()
        # Compiling takes a while for each length of a prefix; times of that are taken by `nested_times`.
        if not (label == "nested bands" and choice.name.startswith("compiled"))
    }
    made = {key: sampler.sample(num, seed) for key, sampler in samplers.items()}
    seconds = draws_in_turns({str(key): sampler for key, sampler in samplers.items()}, num, rounds)
    plain = ("eager", NO_CACHE)
    twin, rows = made.pop(plain), []
    for key, run in made.items():
        quality = twin_quality(run.series, twin.series, model)
        row = {"backend": key[0], "policy": key[1], "token_share": run.token_share}
        row |= {"relative_l2": asdict(quality.error.pooled), "median_l2": asdict(quality.error.median)}
        row["speedup"] = interval(seconds[str(plain)] / seconds[str(key)])
        if quality.judgment is not None:
            row["change"] = asdict(quality.judgment.primary.change)
            row["verdict"] = quality.judgment.verdict
        rows.append(row)
    return rows


def nested_times(
    model: ScoreModel, choices: list[BackendChoice], batch: int, rounds: int
) -> list[dict[str, Any]]:
    """Return, for each backend, the seconds of a run with nested bands, and how many times it is as fast as eager."""
    nested = CachePolicy.of("nested")
    samplers = {
        choice.name: Sampler(model, nested, **PLAN, backend=choice.name, batch=batch) for choice in choices
    }
    for sampler in samplers.values():
        sampler.draw(batch, 0)
    seconds = draws_in_turns(samplers, batch, rounds)
    return [
        {
            "backend": name,
            "batch": batch,
            "rounds": rounds,
            "seconds": interval(own),
            "over_eager": interval(seconds["eager"] / own),
        }
        for name, own in seconds.items()
    ]


def table(stored: dict[str, Any]) -> str:
    """Return the measurements of one checkpoint as text."""
    lines = [
        f"{row['backend']:<18} batch {row['batch']:<4} {1e3 * row['seconds']:8.2f} ms"
        f"  {row['ratio']:.3f} of eager ({row['ratio_low']:.3f} to {row['ratio_high']:.3f})"
        for row in stored["times"]
    ]
    lines += [
        f"{row['backend']:<18} {row['policy']:<12} {row['speedup']['value']:.2f} times as fast,"
        f" relative L2 {row['relative_l2']['value']:.2g}"
        f" ({row['relative_l2']['low']:.2g} to {row['relative_l2']['high']:.2g}) {row.get('verdict', '')}"
        for row in stored["errors"]
    ]
    lines += [
        f"{row['backend']:<18} batch {row['batch']:<4} nested bands: {row['over_eager']['value']:.2f} times as fast as"
        f" eager ({row['over_eager']['low']:.2f} to {row['over_eager']['high']:.2f})"
        for row in stored["nested"]
    ]
    lines += [f"{name:<18} {reason}" for name, reason in stored["missing"].items()]
    return "\n".join(lines)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoints", nargs="+", default=["ecg", "wind-causal"])
    parser.add_argument("--backends", nargs="+", default=list(BACKENDS), choices=list(BACKENDS))
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--seconds", type=float, default=20.0, help="time for the calls of a batch size")
    parser.add_argument("--num", type=int, default=32, help="samples whose error is measured")
    parser.add_argument("--rounds", type=int, default=4, help="turns of whole runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    stored: dict[str, Any] = {"machine": machine(), "num": arguments.num, "data": {}}
    stored["provenance"] = provenance_of(arguments.checkpoints, [arguments.seed], max(arguments.batches))
    for name in arguments.checkpoints:
        model = load_checkpoint(name, "cpu")
        choices, missing = available(model, arguments.backends)
        study = stored["data"][name] = {"missing": missing, "times": [], "errors": [], "nested": []}
        for batch in arguments.batches:
            study["times"] += times(model, choices, batch, arguments.seconds)
            if band_edges_of(model.network):
                study["nested"] += nested_times(model, choices, batch, NESTED_ROUNDS)
        study["errors"] = combinations(model, choices, arguments.num, arguments.seed, arguments.rounds)
        write_json(arguments.out, stored)
        print(f"{name}\n{table(study)}")


if __name__ == "__main__":
    main()
