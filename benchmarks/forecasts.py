"""Is the error of nested plans what was predicted without a run?

    python -m benchmarks.forecasts

For each causal checkpoint and each tolerated error tau, the plan of 40 cheap steps is run and compared with its
uncached twins: RMS over samples of the relative error, in standard deviations of the data (`detail` 0) and whitened
(`detail` 1). Seeds differ from those of the pilot run. A ratio above 1 means that errors are larger than predicted.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.origin import causal_checkpoints
from e2crf_core import CachePolicy, Sampler, load_checkpoint, predict
from e2crf_core.commands.terminal import ProgressLine
from e2crf_core.data.datasets import load_dataset
from e2crf_core.io.json_files import write_json
from e2crf_core.io.provenance import Provenance
from e2crf_core.quality.protocol import log_interval
from e2crf_core.sampling.calibrations import DEFAULT_PLANS
from e2crf_core.sampling.error_model import sample_errors

RESULTS = Path(__file__).resolve().parent / "results" / "forecasts_cpu.json"
PLAN = DEFAULT_PLANS[0]
TAUS = (0.2, 0.14, 0.1, 0.07, 0.05, 0.035, 0.025, 0.018)
WITHIN = 1.3
"""The factor within which the median over the taus should lie, either way."""


def study(checkpoint: str, num: int, seeds: int, progress: ProgressLine) -> dict[str, Any]:
    """Return predicted and measured errors by detail and tau, and the median of their ratio for each detail."""
    model = load_checkpoint(checkpoint, "cpu")
    variance = (model.v * model.mask).double().numpy()
    twins = [Sampler.of(model, PLAN).sample(num, seed).tokens for seed in range(seeds)]
    rows, medians = [], {}
    for detail in (0.0, 1.0):
        policies = [CachePolicy.of("nested").replace(tau=tau, detail=detail) for tau in TAUS]
        middle = []
        for place, policy in enumerate(policies):
            forecast = predict(model, policy, steps=PLAN.steps, solver=PLAN.solver, grid=PLAN.grid)
            sampler = Sampler.of(model, replace(PLAN, policy=policy))
            ratios = []
            for seed, twin in enumerate(twins):
                errors = sample_errors(sampler.sample(num, seed).tokens, twin, variance, detail)
                ratios.append(float(np.sqrt(np.square(errors).mean())) / forecast.error)
            stated = {"detail": detail, "tau": policy.tau, "predicted": forecast.error, "cost": forecast.cost}
            rows.append({**stated, "ratio": asdict(log_interval(ratios))})
            middle.append(rows[-1]["ratio"]["value"])
            progress(int(detail) * len(policies) + place + 1, 2 * len(policies))
        medians[f"{detail:g}"] = float(np.median(middle))
    provenance = Provenance.now(
        data=load_dataset(model.dataset).digest, checkpoint=model.digest(), seeds=range(seeds), batch=num
    )
    return {"rows": rows, "median_ratio": medians, "provenance": provenance.to_json()}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checkpoints", nargs="+", default=causal_checkpoints())
    parser.add_argument("--num", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    stored: dict[str, Any] = {"num": arguments.num, "seeds": arguments.seeds, "checkpoints": {}}
    for checkpoint in arguments.checkpoints:
        name = Path(checkpoint).name
        line = ProgressLine(f"{name}, plans")
        stored["checkpoints"][name] = study(checkpoint, arguments.num, arguments.seeds, line)
        write_json(arguments.out, stored)
        for detail, ratio in stored["checkpoints"][name]["median_ratio"].items():
            verdict = "within" if 1 / WITHIN <= ratio <= WITHIN else "NOT within"
            print(
                f"{name}, detail {detail}: measured errors are {ratio:.2f} times the predicted ones ({verdict} 30%)"
            )


if __name__ == "__main__":
    main()
