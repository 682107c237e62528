"""Measure late starts: the error of a few network calls when the first is made later, at equal numbers of calls.

    python -m benchmarks.late_start

Preset `multistep` and denser ones of its kind (40 steps of DPM-Solver++ 2M on the profile grid). A later start leaves
more of the calls for the rest, so rows are compared at equal calls. Relative L2 to the uncached twin: geometric
mean over seeds with Student's 95% interval of the mean logarithm.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from e2crf_core import CachePolicy, Sampler, load_checkpoint
from e2crf_core.data.datasets import load_dataset
from e2crf_core.io.files import replace_file
from e2crf_core.io.json_files import read_json, write_json
from e2crf_core.io.provenance import Provenance
from e2crf_core.quality.distances import relative_l2
from e2crf_core.quality.protocol import log_interval

RESULTS = Path(__file__).resolve().parent / "results" / "late_start_cpu.json"
PLAN: dict[str, Any] = {"steps": 40, "solver": "dpmpp_2m", "grid": "profile"}
CALLS = (4, 5, 8)
STARTS = (0.0, 1.0, 2.0, 3.0, 4.0)
TAUS = np.geomspace(0.4, 4.0, 40)
POLICY = CachePolicy.preset("multistep")


def policy_with(model: Any, calls: int, start: float) -> CachePolicy | None:
    """Return the policy with the smallest tau that makes so many calls after a start; None if none does."""
    problem, _ = Sampler(model, POLICY, **PLAN).begin(1, 0)
    ticks, levels = problem.clocks[POLICY.clock].tolist(), problem.levels
    for tau in TAUS:
        last, made = None, 0
        for tick, level in zip(ticks, levels, strict=True):
            if level - levels[0] >= start and (last is None or tick - last > tau):
                last, made = tick, made + 1
        if made == calls:
            return POLICY.replace(tau=float(tau), start=start)
    return None


def measure(checkpoint: str, num: int, seeds: int) -> dict[str, Any]:
    """Return provenance and, by calls and start, the relative L2 with its interval."""
    model = load_checkpoint(checkpoint, "cpu")
    plain = [Sampler(model, None, **PLAN).sample(num, seed).series for seed in range(seeds)]
    rows = []
    for calls in CALLS:
        for start in STARTS:
            policy = policy_with(model, calls, start)
            if policy is None:
                continue
            errors = []
            for seed, twin in enumerate(plain):
                made = Sampler(model, policy, **PLAN).sample(num, seed)
                assert round(made.token_share * PLAN["steps"]) == calls
                errors.append(relative_l2(*((x - model.mean) / model.std for x in (made.series, twin))))
            error = asdict(log_interval(errors))
            rows.append({"calls": calls, "start": start, "tau": policy.tau, "relative_l2": error})
    data = load_dataset(model.dataset)
    provenance = Provenance.now(
        data=data.digest, checkpoint=model.digest(), seeds=range(seeds), batch=min(num, 64)
    )
    return {"provenance": provenance.to_json(), "rows": rows}


def page(stored: dict[str, Any]) -> str:
    """Return the results as a Markdown page."""
    lines = [
        "# Late starts at equal numbers of network calls",
        "",
        "Written by `python -m benchmarks.late_start`: 40 steps of DPM-Solver++ 2M on the profile grid,"
        f" {stored['seeds']} seeds of {stored['num']} samples. Relative L2 to the uncached twin by start in log(a/s),"
        " with its 95% interval over seeds.",
        "",
        "| data | calls | " + " | ".join(f"start {start:g}" for start in STARTS) + " |",
        "|---" * (2 + len(STARTS)) + "|",
    ]
    for data, study in stored["data"].items():
        for calls in CALLS:
            cells = {row["start"]: row["relative_l2"] for row in study["rows"] if row["calls"] == calls}
            shown = [
                f"{e['value']:.3f} ({e['low']:.3f}-{e['high']:.3f})" if (e := cells.get(start)) else ""
                for start in STARTS
            ]
            lines.append(f"| {data} | {calls} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoints", nargs="+", default=["ecg", "household", "stocks", "wind"])
    parser.add_argument("--num", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    stored: dict[str, Any] = {"num": arguments.num, "seeds": arguments.seeds, "data": {}}
    if arguments.out.is_file():
        before = read_json(arguments.out)
        if (before["num"], before["seeds"]) == (arguments.num, arguments.seeds):
            stored = before
    for checkpoint in arguments.checkpoints:
        stored["data"][checkpoint] = measure(checkpoint, arguments.num, arguments.seeds)
        write_json(arguments.out, stored)
        text = page(stored)
        replace_file(arguments.out.with_suffix(".md"), lambda path, text=text: path.write_text(text))  # type: ignore[misc]
    print(text)


if __name__ == "__main__":
    main()
