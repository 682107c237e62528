"""Does error feedback pay for nested bands? Trigger `nested_live` against `nested`, at equal cost.

    python -m benchmarks.error_feedback --checkpoints wind-causal

Both run on the same noise, 40 cheap steps of DPM-Solver++(2M). Cost counts prefixes in whole forwards; errors are
RMS over samples against their uncached twins, in standard deviations of the data. A row with feedback is
compared with the plans of `nested` next to it in cost (log-log; their errors are made to fall with cost first), seed by
seed.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from e2crf_core import CachePolicy, Sampler, ScoreModel, load_checkpoint
from e2crf_core.commands.terminal import ProgressLine
from e2crf_core.data.datasets import load_dataset
from e2crf_core.io.json_files import write_json
from e2crf_core.io.provenance import Provenance
from e2crf_core.quality.protocol import log_interval
from e2crf_core.runs.answer import trace_run, whole_forwards
from e2crf_core.sampling.error_model import sample_errors

RESULTS = Path(__file__).resolve().parent / "results" / "error_feedback_cpu.json"
PLAN: dict[str, Any] = {"steps": 40, "solver": "dpmpp_2m", "grid": "profile"}
PLANS = np.geomspace(0.3, 0.02, 24)
TAUS = (0.2, 0.14, 0.1, 0.07, 0.05, 0.035)


def measured(
    model: ScoreModel, rule: str, tau: float, num: int, seed: int, twin: np.ndarray
) -> tuple[float, float]:
    """Return cost (whole forwards a sample) and RMS error of a run."""
    trace = trace_run(Sampler(model, CachePolicy.of(rule).replace(tau=tau), **PLAN), num, seed)
    variance = (model.v * model.mask).double().numpy()
    errors = sample_errors(trace.tokens, twin, variance)
    return whole_forwards(model, trace.computed), float(np.sqrt(np.square(errors).mean()))


def against_plans(cost: float, plans: np.ndarray) -> float:
    """Return the error that plans (K, 2) of cost and error reach at a cost."""
    plans = plans[np.argsort(plans[:, 0])]
    best = np.minimum.accumulate(plans[:, 1])
    return float(np.exp(np.interp(np.log(cost), np.log(plans[:, 0]), np.log(best))))


def study(checkpoint: str, num: int, seeds: int, progress: ProgressLine) -> dict[str, Any]:
    """Return, by tau, cost, error, and its ratio to that of plans of equal cost, with its interval over seeds."""
    model = load_checkpoint(checkpoint, "cpu")
    runs: dict[float, list[tuple[float, float, float]]] = {tau: [] for tau in TAUS}
    for seed in range(seeds):
        twin = Sampler(model, None, **PLAN).sample(num, seed).tokens
        plans = np.array([measured(model, "nested", float(tau), num, seed, twin) for tau in PLANS])
        for tau in TAUS:
            cost, error = measured(model, "nested_live", tau, num, seed, twin)
            runs[tau].append((cost, error, error / against_plans(cost, plans)))
        progress(seed + 1, seeds)
    rows = []
    for tau, found in runs.items():
        cost, error, ratio = np.array(found).T
        rows.append(
            {
                "tau": tau,
                "cost": cost.mean(),
                "error": error.mean(),
                "ratio": asdict(log_interval(ratio.tolist())),
            }
        )
    provenance = Provenance.now(
        data=load_dataset(model.dataset).digest, checkpoint=model.digest(), seeds=range(seeds), batch=num
    )
    return {"provenance": provenance.to_json(), "rows": rows}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoints", nargs="+", required=True, help="spectrally causal checkpoints")
    parser.add_argument("--num", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    stored: dict[str, Any] = {"num": arguments.num, "seeds": arguments.seeds, "data": {}}
    for checkpoint in arguments.checkpoints:
        name = Path(checkpoint).name
        stored["data"][name] = study(
            checkpoint, arguments.num, arguments.seeds, ProgressLine(f"{name}, seeds")
        )
        write_json(arguments.out, stored)
        for row in stored["data"][name]["rows"]:
            ratio = row["ratio"]
            print(
                f"{name} tau {row['tau']:g}: cost {row['cost']:.2f}, error {row['error']:.4f},"
                f" {ratio['value']:.2f} ({ratio['low']:.2f}-{ratio['high']:.2f}) times that of plans of equal cost"
            )


if __name__ == "__main__":
    main()
