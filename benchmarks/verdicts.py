"""Read the stored solver study under the protocol: which rows are as good as their reference, by both distances.

    python -m benchmarks.verdicts

Needs no run: the study keeps every distance of every seed, and all rows of a seed share their noise. Each change is
paired by seed, with Student's 95% interval (`quality.protocol`). The second table counts the network calls that
solvers alone need for the error of preset `multistep`, without interpolation.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from e2crf_core.io.files import replace_file
from e2crf_core.quality.interval import Interval
from e2crf_core.quality.intervals import seed_spread
from e2crf_core.quality.protocol import PRIMARY, SPECTRAL_MARGIN, Equivalence, Judgment

RESULTS = Path(__file__).resolve().parent / "results"
STUDY = RESULTS / "solver_study_cpu.json"
CONVERGED, SLOW, MULTISTEP = "DPM++ 40 (converged)", "EM 1000", "DPM++ 40 + E²-CRF, tau 1.8"
ROWS = {
    "EM 1000 + E²-CRF, balanced": SLOW,
    "EM 1000 + E²-CRF, fast": SLOW,
    "DPM++ 5": CONVERGED,
    "DPM++ 8": CONVERGED,
    "DPM++ 10": CONVERGED,
    "DPM++ 20": CONVERGED,
    "ETD-AB2 5": CONVERGED,
    "ETD-AB2 8": CONVERGED,
    "ETD-AB2 10": CONVERGED,
    "ETD-AB3 8": CONVERGED,
    "UniPC 8": CONVERGED,
    "UniPC 10": CONVERGED,
    "UniPC 12, start 2": CONVERGED,
    MULTISTEP: CONVERGED,
    "DPM++ 40 + E²-CRF, tau 1.4, start 2": CONVERGED,
}
"""Rows of the study, and the rows they are compared with."""


def judgment(study: dict[str, Any], name: str, reference: str) -> Judgment | None:
    """Return the protocol's judgment of a row of a stored study; None if it lacks one of the two rows."""
    rows = {row["config"]["name"]: row["metrics"] for row in study["rows"]}
    if name not in rows or reference not in rows:
        return None

    def change(metric: str, relative: bool) -> Interval:
        own, theirs = (np.array(rows[row][metric]["values"]) for row in (name, reference))
        spread = seed_spread(((own - theirs) / (theirs.mean() if relative else 1)).tolist())
        return Interval(spread.value, spread.low, spread.high)

    num = study["num"] * study["repeats"]
    return Judgment(
        Equivalence(change(PRIMARY, True), num),
        Equivalence(change("log_spectral_distance", False), num, SPECTRAL_MARGIN, "dB"),
    )


def reading(study: dict[str, Any]) -> list[str]:
    """Return one sentence for each row that is judged."""
    lines = []
    for name, reference in ROWS.items():
        judged = judgment(study, name, reference)
        if judged is not None:
            lines.append(f"{name} against {reference}: {judged.describe()}: {judged.verdict}.")
    return lines


ALONE = {"dpmpp_2m": "DPM-Solver++", "unipc_2": "UniPC", "etd_ab2": "ETD-AB2"}


def calls_alone(study: dict[str, Any], solver: str = "dpmpp_2m") -> tuple[float, int | None]:
    """Return the mean error of `multistep` to the converged samples, and the calls a solver alone needs for it."""
    errors = {name: float(np.mean(values)) for name, values in study["to_converged"].items()}
    steps = {row["config"]["name"]: row["config"] for row in study["rows"]}
    goal = errors[MULTISTEP]
    able = [
        steps[name]["steps"]
        for name, error in errors.items()
        if steps[name]["policy"] is None and steps[name]["solver"] == solver and error <= goal
    ]
    return goal, min(able, default=None)


def page(studies: dict[str, Any]) -> str:
    """Return both tables as Markdown."""
    first = next(iter(studies.values()))
    lines = [
        "# The solver study under the protocol",
        "",
        f"Written by `python -m benchmarks.verdicts` from solver_study_cpu.json: {first['repeats']} seeds of"
        f" {first['num']} samples on common noise. Changes against the reference with Student's 95% interval over"
        " seeds; as good: at most 5% and 0.5 dB farther from real data, by the upper ends.",
        "",
        "| data | row | reference | marginal Wasserstein | log-spectral distance | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for data, study in studies.items():
        for name, reference in ROWS.items():
            judged = judgment(study, name, reference)
            if judged is None or judged.spectral is None:
                continue
            cells = percent(judged.primary.change), decibels(judged.spectral.change), judged.verdict
            lines.append(f"| {data} | {name} | {reference} | {' | '.join(cells)} |")
    lines += [
        "",
        "Network calls for the relative L2 to the converged samples that `multistep` reaches with 5:",
        "",
        f"| data | relative L2 of multistep | {' | '.join(f'{title} alone' for title in ALONE.values())} |",
        "|---" * (2 + len(ALONE)) + "|",
    ]
    for data, study in studies.items():
        calls = [calls_alone(study, solver)[1] for solver in ALONE]
        cells = ["more than measured" if count is None else f"{count}" for count in calls]
        lines.append(f"| {data} | {calls_alone(study)[0]:.3f} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def percent(change: Interval) -> str:
    """Format a share with its interval."""
    return f"{100 * change.value:+.1f}% ({100 * change.low:+.1f} to {100 * change.high:+.1f})"


def decibels(change: Interval) -> str:
    """Format a change in dB with its interval."""
    return f"{change.value:+.2f} dB ({change.low:+.2f} to {change.high:+.2f})"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--study", type=Path, default=STUDY)
    parser.add_argument("--out", type=Path, default=RESULTS / "verdicts.md")
    arguments = parser.parse_args()
    text = page(json.loads(arguments.study.read_text(encoding="utf-8")))
    replace_file(arguments.out, lambda path: path.write_text(text, encoding="utf-8"))
    print(text)


if __name__ == "__main__":
    main()
