"""Is there a better nested plan? Other predictors, clocks and numbers of steps, by the work of equal error.

    python -m benchmarks.nested_variants

Each variant runs nested plans over a grid of tau on common noise. Its work at an error is read between the two plans
around it (log-log; errors are made to fall with work first), and divided by that of the plans that ship: 40 steps,
`linear`, on the profile's clock. Errors are medians over samples, relative to the converged solution, in units of the
data; work counts prefixes in whole forwards a sample, and nothing is timed, so other programs may run beside it.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.localization_rows import CONVERGED, LEVELS
from benchmarks.origin import causal_checkpoints, provenance_of
from e2crf_core import CachePolicy, Sampler, ScoreModel, load_checkpoint
from e2crf_core.commands.terminal import ProgressLine
from e2crf_core.io.json_files import write_json
from e2crf_core.quality.protocol import log_interval
from e2crf_core.runs.answer import trace_run, whole_forwards
from e2crf_core.sampling.calibrations import DEFAULT_PLANS
from e2crf_core.sampling.error_model import sample_errors

RESULTS = Path(__file__).resolve().parent / "results" / "nested_variants_cpu.json"
NESTED = CachePolicy.of("nested")
SHIPPED = "as shipped"
VARIANTS: Mapping[str, tuple[CachePolicy, int]] = {
    SHIPPED: (NESTED, 40),
    "no predictor": (NESTED.replace(predictor="hold"), 40),
    "quadratic predictor": (NESTED.replace(predictor="quadratic"), 40),
    "Hermite predictor": (NESTED.replace(predictor="hermite"), 40),
    "clock log(a/s)": (NESTED.replace(clock="log_snr"), 40),
    "28 steps": (NESTED, 28),
    "20 steps": (NESTED, 20),
    "16 steps": (NESTED, 16),
}
TAUS = np.geomspace(0.3, 0.02, 10)


def work_at(level: float, plans: np.ndarray) -> float:
    """Return the work at which plans (K, 2) of work and error reach an error; NaN outside of their range."""
    work, error = plans[np.argsort(plans[:, 0])].T
    falling = np.minimum.accumulate(error)
    if not falling[-1] <= level <= falling[0]:
        return float("nan")
    return float(np.exp(np.interp(-np.log(level), -np.log(falling), np.log(work))))


def plans_of(
    model: ScoreModel, policy: CachePolicy, steps: int, num: int, seed: int, twin: np.ndarray
) -> np.ndarray:
    """Return (K, 2): work in whole forwards a sample, and the median error, of plans over the grid of tau."""
    variance = (model.v * model.mask).double().numpy()
    rows = []
    for tau in TAUS:
        config = replace(DEFAULT_PLANS[0], policy=policy.replace(tau=float(tau)), steps=steps)
        trace = trace_run(Sampler.of(model, config), num, seed)
        error = np.median(sample_errors(trace.tokens, twin, variance))
        rows.append((whole_forwards(model, trace.computed), error))
    return np.array(rows)


def study(model: ScoreModel, num: int, seeds: range, progress: ProgressLine) -> dict[str, Any]:
    """Return, by variant and error, the work over that of the shipped plans with its interval over seeds."""
    work: dict[str, dict[float, list[float]]] = {name: {x: [] for x in LEVELS["data"]} for name in VARIANTS}
    done = 0
    for seed in seeds:
        twin = Sampler.of(model, CONVERGED).sample(num, seed).tokens
        for name, (policy, steps) in VARIANTS.items():
            plans = plans_of(model, policy, steps, num, seed, twin)
            for level, found in work[name].items():
                found.append(work_at(level, plans))
            done += 1
            progress(done, len(seeds) * len(VARIANTS))
    return {
        name: {
            str(level): {
                "work": float(np.mean(found)) if np.isfinite(found).all() else None,
                "over_shipped": ratio(found, work[SHIPPED][level]),
            }
            for level, found in levels.items()
        }
        for name, levels in work.items()
    }


def ratio(work: list[float], shipped: list[float]) -> dict[str, float] | None:
    """Return the ratio with its interval; None if a seed's plans do not reach the error."""
    values = np.array(work) / np.array(shipped)
    return asdict(log_interval(values.tolist())) if np.isfinite(values).all() else None


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoints", nargs="+", default=causal_checkpoints())
    parser.add_argument("--num", type=int, default=48)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    seeds = range(900, 900 + arguments.seeds)
    stored: dict[str, Any] = {
        "num": arguments.num,
        "provenance": provenance_of(arguments.checkpoints, seeds, arguments.num),
        "data": {},
    }
    for name in arguments.checkpoints:
        model = load_checkpoint(name, "cpu")
        stored["data"][name] = study(model, arguments.num, seeds, ProgressLine(f"{name}, plans"))
        write_json(arguments.out, stored)
        for variant, levels in stored["data"][name].items():
            print(name, variant, *(f"{level}: {said(found)};" for level, found in levels.items()))


def said(found: Mapping[str, Any]) -> str:
    """Say the work, and its ratio to that of the shipped plans."""
    over = found["over_shipped"]
    if over is None:
        return "not reached"
    return f"{found['work']:.2f}, {over['value']:.2f} ({over['low']:.2f}-{over['high']:.2f})"


if __name__ == "__main__":
    main()
