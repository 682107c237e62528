"""Where does the time go, what does each idea save, and how far is the lab from what this machine can do?

    make bench            (python -m benchmarks.speed)
    python -m benchmarks.speed --tiny      every part once, in about two minutes; draw no conclusions from it

*waterfall*: from the public network on N positions to the lab's fastest way, one idea after another, for two plans:
`balanced` keeps the paper's 1000 Euler-Maruyama steps, and `few` takes 40 steps of a better solver. Nested bands need
a spectrally causal network, so they are measured where one is known for the data (--causal). These are times; what an
idea does to samples stands in the solver study and in docs/localization.md.
*floor*: the least seconds that a call's operations and bytes take at this machine's measured peak, beside the call's.
*parts*: where a step that calls the network goes, and one that does not.
*curves*: time, memory, and what nine reused steps in ten save, over N, M, batch and layers of an untrained network.

Everything takes turns after a warm-up, in an order that reverses every round. Ratios are taken within a round; their
geometric mean is given with its 95% interval. Long runs of equal steps are measured on a part of the steps.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.origin import provenance_of
from benchmarks.public_network import STEPS, PublicNetwork, public_flops
from benchmarks.speed_curves import measure_curves
from benchmarks.speed_parts import measure_floor, measure_parts
from benchmarks.timing import clocked, in_turns, interval, machine_peak, repeated
from e2crf_core import CachePolicy, LabError, Sampler, load_checkpoint
from e2crf_core.caching.presets import preset_of
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.io.extras import installed
from e2crf_core.io.json_files import write_json
from e2crf_core.io.provenance import machine
from e2crf_core.network.onnx import PACKAGES
from e2crf_core.sampling.sampler import warm_up

HERE = Path(__file__).resolve().parent
PARTS = ("waterfall", "floor", "parts", "curves")
FEW: dict[str, Any] = {"steps": 40, "solver": "dpmpp_2m", "grid": "profile"}
BATCHES = (1, 16, 64)
FORTY, NESTED = "40 steps, ", "nested bands, "
BACKEND_NAMES = {
    "eager": "fused segments",
    "eager-bf16": "bfloat16",
    "compiled": "compiled",
    "compiled-bf16": "compiled bfloat16",
    "onnxruntime": "ONNX Runtime",
}
BARS = {1: 100.0, 16: 300.0}
"""The least speedup of `balanced` over the public network."""
SOME = 20
"""The steps of an uncached run that are measured, of which all cost the same."""

Run = Callable[[int], float]


def public_run(tokens: int, channels: int, batch: int, calls: int, steps: int) -> Run:
    """Return a run that takes the seconds of a whole run of the public sampler, from a few of its steps."""
    network, t = PublicNetwork(tokens, channels), torch.tensor(0.5)
    x = torch.randn(batch, tokens, channels)
    with torch.inference_mode():
        network.step(x, t)

    def run(turn: int) -> float:
        with torch.inference_mode():
            return steps * repeated(lambda: network.step(x, t), calls)(turn)

    return run


def uncached_run(model: ScoreModel, batch: int, plan: dict[str, Any]) -> Run:
    """Return a run that takes the seconds of an uncached run, from some of its steps."""
    sampler = Sampler(model, None, batch=batch, **plan)
    warm_up(sampler, batch, 0)
    some = min(SOME if batch < 64 else SOME // 4, sampler.plan.steps)

    def run(turn: int) -> float:
        steps = itertools.islice(sampler.steps(batch, turn), some)
        return sampler.plan.steps / some * clocked(lambda: list(steps))

    return run


def cached_run(model: ScoreModel, policy: CachePolicy, batch: int, plan: dict[str, Any], way: str) -> Run:
    """Return a run that takes the seconds of a cached run, `single` steps or fused ones on a backend."""
    sampler = Sampler(model, policy, batch=batch, backend="eager" if way == "single" else way, **plan)
    warm_up(sampler, batch, 0)
    sampler.draw(batch, 0)
    if way == "single":
        return lambda turn: clocked(lambda: [step.seconds for step in sampler.steps(batch, turn)])
    return lambda turn: sampler.draw(batch, turn).seconds


def backend_rows(
    model: ScoreModel,
    policy: CachePolicy,
    batch: int,
    plan: dict[str, Any],
    label: str,
    backends: Sequence[str],
) -> tuple[dict[str, Run], dict[str, str]]:
    """Return a run of fused segments on each backend, and the reasons of those that cannot run here."""
    rows, missing = {}, {}
    for backend in backends:
        try:
            rows[f"{label}{BACKEND_NAMES[backend]}"] = cached_run(model, policy, batch, plan, backend)
        except LabError as fault:
            missing[BACKEND_NAMES[backend]] = str(fault)
    return rows, missing


def rows_of(
    model: ScoreModel, causal: ScoreModel | None, batch: int, steps: int, backends: Sequence[str]
) -> tuple[dict[str, Run], dict[str, list[str]], dict[str, str]]:
    """Return runs by name, the names of each waterfall in order, and why backends are missing."""
    balanced, few = CachePolicy.preset("balanced"), CachePolicy.preset("multistep")
    many: dict[str, Any] = {"steps": steps}
    channels, calls = len(model.channels), max(1, 16 // batch)
    first = {
        "public network, N positions": public_run(model.length, channels, batch, calls, steps),
        "half spectrum": public_run(model.n, 2 * channels, batch, calls, steps),
        "the lab's network on E3": uncached_run(model, batch, many),
    }
    kept, missing = backend_rows(model, balanced, batch, many, "", backends)
    thousand = {"whole refreshes": cached_run(model, balanced, batch, many, "single"), **kept}
    forty = {
        f"{FORTY}no cache": uncached_run(model, batch, FEW),
        f"{FORTY}whole refreshes": cached_run(model, few, batch, FEW, "single"),
    }
    last, policy = model, few
    if causal is not None:
        last, policy = causal, CachePolicy.of("nested")
        forty[f"{FORTY}nested bands"] = cached_run(last, policy, batch, FEW, "single")
        tolerant = preset_of("balanced", causal)
        thousand[f"{NESTED}fused segments"] = cached_run(causal, tolerant, batch, many, "eager")
        if "onnxruntime" in backends and installed(*PACKAGES):
            thousand[f"{NESTED}ONNX Runtime"] = cached_run(causal, tolerant, batch, many, "onnxruntime")
    # Compiling takes a minute for each length of a prefix, so it is measured on whole forwards only.
    quick = [backend for backend in backends if not backend.startswith("compiled")]
    forty |= backend_rows(last, policy, batch, FEW, FORTY, quick)[0]
    chains = {"balanced": [*first, *thousand], "few": [*first, *forty]}
    return {**first, **thousand, **forty}, chains, missing


def measure_waterfall(
    model: ScoreModel, causal: ScoreModel | None, batch: int, steps: int, rounds: int, backends: Sequence[str]
) -> dict[str, Any]:
    """Measure every row, in turns; a ratio is the seconds of the first row, or of the row before, over a row's."""
    rows, chains, missing = rows_of(model, causal, batch, steps, backends)
    seconds = in_turns(rows, rounds)
    first = seconds[next(iter(rows))]
    result: dict[str, Any] = {"batch": batch, "rounds": rounds, "missing": missing, "chains": {}}
    for chain, names in chains.items():
        before, result["chains"][chain] = first, []
        for name in names:
            row = {
                "name": name,
                "seconds": interval(seconds[name]),
                "over_first": interval(first / seconds[name]),
            }
            result["chains"][chain].append({**row, "over_previous": interval(before / seconds[name])})
            before = seconds[name]
    result["bar"] = BARS.get(batch)
    if causal is not None and f"{FORTY}bfloat16" in seconds:
        half = seconds[f"{FORTY}fused segments"] / seconds[f"{FORTY}bfloat16"]
        result["bfloat16_with_nested_bands"] = {**interval(half), "bar": 1.25}
    return result


def parser() -> argparse.ArgumentParser:
    """Return the command's options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS)
    made.add_argument("--checkpoints", nargs="*", default=["ecg", "wind"])
    made.add_argument("--causal", nargs="*", default=["ecg=ecg-causal", "wind=wind-causal"])
    made.add_argument("--batches", type=int, nargs="*", default=list(BATCHES))
    made.add_argument("--steps", type=int, default=STEPS, help="steps of `balanced`")
    made.add_argument("--rounds", type=int, default=16, help="turns at batch 1; larger batches take fewer")
    made.add_argument("--threads", type=int, default=torch.get_num_threads())
    made.add_argument("--backends", nargs="*", choices=list(BACKEND_NAMES), default=list(BACKEND_NAMES))
    made.add_argument("--tiny", action="store_true")
    made.add_argument("--out", type=Path, default=HERE / "results" / "speed_cpu.json")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and write the results, a part at a time."""
    arguments = parser().parse_args(argv)
    torch.set_num_threads(arguments.threads)
    if arguments.tiny:
        arguments.checkpoints, arguments.batches, arguments.rounds, arguments.steps = ["wind"], [2], 2, 60
        arguments.backends = ["eager", "eager-bf16"]
    causal = dict(pair.split("=", 1) for pair in arguments.causal)
    stored: dict[str, Any] = {
        "machine": machine(),
        "plan": {"steps": arguments.steps, "rounds": arguments.rounds, "few": FEW},
        "provenance": provenance_of(
            [*arguments.checkpoints, *causal.values()], range(arguments.rounds), max(arguments.batches)
        ),
        "peak": machine_peak(),
        "data": {},
    }
    for name in arguments.checkpoints:
        model = load_checkpoint(name, "cpu")
        nested = load_checkpoint(causal[name], "cpu") if name in causal else None
        study: dict[str, Any] = {"length": model.length, "channels": len(model.channels), "tokens": model.n}
        study |= {"public_operations": public_flops(model.length), "batches": []}
        stored["data"][name] = study
        for batch in arguments.batches:
            rounds = max(2 if arguments.tiny else 4, arguments.rounds // (1 if batch == 1 else 3))
            place: dict[str, Any] = {"batch": batch}
            study["batches"].append(place)
            if "floor" in arguments.parts:
                place["floor"] = measure_floor(model, batch, stored["peak"], 2 * rounds)
            if "parts" in arguments.parts:
                place["parts"] = measure_parts(model, batch, rounds)
            if "waterfall" in arguments.parts:
                place["waterfall"] = measure_waterfall(
                    model, nested, batch, arguments.steps, rounds, arguments.backends
                )
            write_json(arguments.out, stored)
            print(f"{name}, batch {batch}: done", flush=True)
    if "curves" in arguments.parts:
        stored["curves"] = measure_curves(tiny=arguments.tiny)
    write_json(arguments.out, stored)
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
