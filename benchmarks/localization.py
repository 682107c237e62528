"""Does spectral localization pay? Compare nested bands on causal networks with solvers alone, at equal error.

    python -m benchmarks.localization --causal stocks=runs/stocks-causal wind=runs/wind-causal --quick

Every row draws from the same noise and is compared with the converged solution of its own network
(DPM-Solver++(2M), many calls), so a row's error comes from its solver and its cache only. Errors are relative
and per sample: in units of the data's standard deviation, and whitened, where each frequency's error is
divided by its own variance. Rows:

- solvers alone, on the shipped network with full attention and on the causal one, with 3 to 20 calls;
- 40 cheap steps whose refreshes of all tokens are planned for an error (trigger `nested` on full attention),
  starting late where that pays: the best known method without a frequency axis;
- 40 cheap steps with nested bands on the causal network, for errors in data units and whitened (`detail` 1).

Seconds are medians over rounds in which all rows take turns. At each error level, a method's time is that of
its fastest row whose median error is at most that level; nothing is interpolated.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from e2crf_core import CachePolicy, Sampler, SamplerConfig, ScoreModel, load_checkpoint, predict
from e2crf_core.commands.terminal import ProgressLine
from e2crf_core.io.json_files import write_json
from e2crf_core.io.provenance import machine
from e2crf_core.sampling.calibrations import error_model_of
from e2crf_core.sampling.error_model import sample_errors

RESULTS = Path("benchmarks/results/localization_cpu.json")
SOLVERS = ("dpmpp_2m", "unipc_2", "etd_ab2", "etd_ab3")
GRIDS = ("profile", "log_snr")
CALLS = (3, 4, 5, 6, 7, 8, 10, 12, 16, 20)
TAUS = (0.2, 0.14, 0.1, 0.08, 0.06, 0.045, 0.035, 0.025)
LEVELS = (0.1, 0.05, 0.035)
CHEAP = {"steps": 40, "solver": "dpmpp_2m", "grid": "profile"}
CONVERGED = SamplerConfig(None, steps=160, solver="dpmpp_2m", grid="profile")


@dataclass(frozen=True)
class TimedRow:
    """One way to sample: `network` is full or causal; `method` is solver, whole, or nested."""

    name: str
    network: str
    method: str
    config: SamplerConfig


def rows_of(quick: bool) -> list[TimedRow]:
    """Return all rows of the study."""
    rows = []
    for network in ("full", "causal"):
        for solver in SOLVERS[:3] if quick else SOLVERS:
            for grid in GRIDS[:1] if quick else GRIDS:
                for calls in CALLS[1:8:2] if quick else CALLS:
                    config = SamplerConfig(None, steps=calls, solver=solver, grid=grid)
                    rows.append(TimedRow(f"{network} {solver} {grid} {calls}", network, "solver", config))
    for method, network, detail in (
        ("whole", "full", 0.0),
        ("nested", "causal", 0.0),
        ("detail", "causal", 1.0),
    ):
        for tau in TAUS[::2] if quick else TAUS:
            policy = CachePolicy.of("nested").replace(tau=tau, detail=detail)
            rows.append(
                TimedRow(f"{network} {method} tau {tau:g}", network, method, SamplerConfig(policy, **CHEAP))
            )
    return rows


def measure_errors(
    models: dict[str, ScoreModel], rows: list[TimedRow], seeds: list[int], num: int, progress: ProgressLine
) -> dict[str, dict[str, Any]]:
    """Measure the median and 90% quantile of each row's errors per sample, with its calls and cost."""
    twins = {
        name: [Sampler.of(model, CONVERGED).sample(num, seed).tokens for seed in seeds]
        for name, model in models.items()
    }
    table = {}
    for done, row in enumerate(rows):
        model = models[row.network]
        variance = (model.v * model.mask).double().numpy()
        made = [Sampler.of(model, row.config).sample(num, seed) for seed in seeds]
        entry: dict[str, Any] = {"network": row.network, "method": row.method, "config": row.config.to_json()}
        for label, detail in (("data", 0.0), ("whitened", 1.0)):
            parts = [
                sample_errors(m.tokens, twin, variance, detail)
                for m, twin in zip(made, twins[row.network], strict=True)
            ]
            errors = np.concatenate(parts)
            entry[label] = {"median": float(np.median(errors)), "high": float(np.quantile(errors, 0.9))}
            entry[label]["rms"] = float(np.sqrt(np.square(errors).mean()))
        policy = row.config.policy
        if policy is not None:
            forecast = predict(model, policy, **CHEAP)
            entry |= {"predicted": forecast.error, "calls": forecast.calls, "cost": forecast.cost}
        else:
            entry |= {"calls": row.config.steps, "cost": float(row.config.steps)}
        table[row.name] = entry
        progress(done + 1, len(rows))
    return table


def measure_seconds(
    models: dict[str, ScoreModel], rows: list[TimedRow], batch: int, rounds: int, progress: ProgressLine
) -> dict[str, list[float]]:
    """Measure the seconds of one batch for each row, in rounds in which all rows take turns."""
    samplers = {row.name: Sampler.of(models[row.network], replace(row.config, batch=batch)) for row in rows}
    for sampler in samplers.values():
        sampler.sample(batch, 0)
    seconds: dict[str, list[float]] = {row.name: [] for row in rows}
    for turn in range(rounds):
        for row in rows:
            begin = time.perf_counter()
            samplers[row.name].sample(batch, 0)
            seconds[row.name].append(time.perf_counter() - begin)
        progress(turn + 1, rounds)
    return seconds


def fastest(
    table: dict[str, Any], methods: tuple[str, ...], level: float, kind: str, seconds: dict[str, float]
) -> Any:
    """Return name and seconds of the fastest row of `methods` with median error at most `level`, or None."""
    fit = [n for n, r in table.items() if r["method"] in methods and r[kind]["median"] <= level]
    return min(((seconds[n], n) for n in fit), default=None)


def gains(table: dict[str, Any], seconds: dict[str, float]) -> list[dict[str, Any]]:
    """Return the best row without a frequency axis, the best nested row, and their time ratio by level."""
    found = []
    for kind, nested in (("data", ("nested",)), ("whitened", ("nested", "detail"))):
        for level in LEVELS if kind == "data" else (0.5, 0.35, 0.2):
            before = fastest(table, ("solver", "whole"), level, kind, seconds)
            alone = fastest(table, ("solver",), level, kind, seconds)
            after = fastest(table, nested, level, kind, seconds)
            entry: dict[str, Any] = {"error": kind, "level": level}
            for label, best in (("solver", alone), ("whole", before), ("nested", after)):
                entry[label] = None if best is None else {"row": best[1], "seconds": best[0]}
            entry["gain"] = before[0] / after[0] if before and after else None
            entry["gain_over_solvers"] = alone[0] / after[0] if alone and after else None
            found.append(entry)
    return found


def report(results: dict[str, Any]) -> str:
    """Format the study as Markdown: gains, then predicted and measured errors of every planned schedule."""
    lines = [
        "# Localization: nested bands against solvers alone",
        "",
        f"`{results['provenance']['command']}`",
        "",
    ]
    lines += [
        "Gain: time of the best row without a frequency axis over that of nested bands, at equal median error.",
        "",
    ]
    lines += ["| data | batch | error | level | best solver | best whole | nested | gain | over solvers |"]
    lines += ["|---|---|---|---|---|---|---|---|---|"]
    for data, study in results["data"].items():
        for batch, entries in study["gains"].items():
            for e in entries:
                cells = [
                    "none" if e[k] is None else f"{e[k]['seconds'] * 1e3:.0f} ms ({e[k]['row']})"
                    for k in ("solver", "whole", "nested")
                ]
                ratios = ["" if e[k] is None else f"{e[k]:.2f}x" for k in ("gain", "gain_over_solvers")]
                row = [data, batch, e["error"], f"{e['level']:g}", *cells, *ratios]
                lines.append("| " + " | ".join(row) + " |")
    lines += [
        "",
        "| data | row | cost | predicted | measured (rms) | median | whitened median |",
        "|---|---|---|---|---|---|---|",
    ]
    for data, study in results["data"].items():
        for name, r in study["rows"].items():
            if "predicted" in r:
                lines.append(
                    f"| {data} | {name} | {r['cost']:.2f} | {r['predicted']:.4f} | {r['data']['rms']:.4f} |"
                    f" {r['data']['median']:.4f} | {r['whitened']['median']:.4f} |"
                )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the study for some data sets and write JSON and Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--causal", nargs="+", required=True, metavar="DATA=FOLDER", help="causal checkpoints"
    )
    parser.add_argument("--quick", action="store_true", help="fewer rows, seeds and rounds")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 48])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    seeds, num = (list(range(2)), 16) if arguments.quick else (list(range(5)), 48)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    command = "python -m benchmarks.localization " + " ".join(sys.argv[1:])
    results: dict[str, Any] = {
        "schema": 1,
        "provenance": {
            "command": command,
            "commit": commit,
            "machine": machine(),
            "seeds": seeds,
            "num": num,
        },
        "data": {},
    }
    for pair in arguments.causal:
        data, folder = pair.split("=", 1)
        models = {"full": load_checkpoint(data, "cpu"), "causal": load_checkpoint(folder, "cpu")}
        for name, model in models.items():
            error_model_of(
                model,
                Sampler.of(model, SamplerConfig(None, **CHEAP)).plan,
                ProgressLine(f"calibrating {name}"),
            )
        rows = rows_of(arguments.quick)
        table = measure_errors(models, rows, seeds, num, ProgressLine(f"{data} errors"))
        study: dict[str, Any] = {
            "checkpoints": {n: m.digest() for n, m in models.items()},
            "rows": table,
            "gains": {},
        }
        for batch in arguments.batches:
            line = ProgressLine(f"{data} batch {batch}")
            seconds = measure_seconds(models, rows, batch, 3 if arguments.quick else arguments.rounds, line)
            medians = {name: float(np.median(times)) for name, times in seconds.items()}
            for name, value in medians.items():
                table[name].setdefault("seconds", {})[str(batch)] = value
            study["gains"][str(batch)] = gains(table, medians)
            # Write after each batch size, so that an interrupted study keeps what it has measured.
            results["data"][data] = study
            write_json(arguments.out, results)
            arguments.out.with_suffix(".md").write_text(report(results))
    print(json.dumps({data: study["gains"] for data, study in results["data"].items()}, indent=1))


if __name__ == "__main__":
    main()
