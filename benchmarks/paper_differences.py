"""Measure the effect of each difference between preset `paper` and the published text, one at a time.

    python -m benchmarks.paper_differences --checkpoints ecg wind

Every row moves one field of the preset toward the text, or switches off one of our choices. It is compared
with its uncached twin on the same noise: the share of tokens it recomputed and the relative L2 of its
samples.
docs/method.md explains the differences.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from e2crf_core import CachePolicy, Sampler, load_checkpoint
from e2crf_core.io.files import replace_file
from e2crf_core.quality.distances import relative_l2

RESULTS = Path(__file__).resolve().parent / "results" / "paper_differences_cpu.md"
PAPER = CachePolicy.preset("paper")
ROWS = {
    "preset paper": PAPER,
    "tau 0.04, the published 0.01": PAPER.replace(tau=0.04),
    "no rest below tau_safe": PAPER.replace(tau_safe=0.0),
    "no probes": PAPER.replace(probe_share=0.0),
    "5% probes": PAPER.replace(probe_share=0.05),
    "no refresh on r, no refresh every R": PAPER.replace(tau_warn=0.0, refresh_every=0),
    "no correction of probed features": PAPER.replace(correct=False),
}


def measure(checkpoint: str, steps: int, num: int, seeds: int) -> list[str]:
    """Return one line of a Markdown table for each row: tokens in percent, relative L2 and its range over seeds."""
    model = load_checkpoint(checkpoint, "cpu")
    shares: dict[str, list[float]] = {row: [] for row in ROWS}
    errors: dict[str, list[float]] = {row: [] for row in ROWS}
    for seed in range(seeds):
        plain = Sampler(model, steps=steps, policy=None).sample(num, seed).series
        for row, policy in ROWS.items():
            made = Sampler(model, policy, steps=steps).sample(num, seed)
            scaled = [(x - model.mean) / model.std for x in (made.series, plain)]
            shares[row].append(made.token_share)
            errors[row].append(relative_l2(*scaled))
    return [
        f"| {checkpoint} | {row} | {100 * np.mean(shares[row]):.1f}% | {np.mean(errors[row]):.3f} "
        f"({min(errors[row]):.3f}-{max(errors[row]):.3f}) |"
        for row in ROWS
    ]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoints", nargs="+", default=["ecg", "wind"])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--num", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    lines = [
        "# What the differences between preset `paper` and the published text do",
        "",
        f"Written by `python -m benchmarks.paper_differences`: {arguments.steps} Euler-Maruyama steps, "
        f"{arguments.seeds} seeds of {arguments.num} samples. Relative L2 to the uncached twin: mean and range.",
        "",
        "| data | row | tokens recomputed | relative L2 |",
        "| --- | --- | --- | --- |",
    ]
    for checkpoint in arguments.checkpoints:
        lines += measure(checkpoint, arguments.steps, arguments.num, arguments.seeds)
        print("\n".join(lines[-len(ROWS) :]), flush=True)
    replace_file(arguments.out, lambda path: path.write_text("\n".join(lines) + "\n", encoding="utf-8"))


if __name__ == "__main__":
    main()
