"""Measure the effect of each difference between preset `paper` and the published text, one at a time.

    python -m benchmarks.paper_differences --checkpoints ecg

Every row moves one field of the preset toward the text, or switches off one of our choices; `paper_literal` moves
all at once. It is compared with its uncached twin on the same noise: the share of tokens it recomputed and the
relative L2 of its samples, with Student's 95% interval of the mean logarithm over seeds. A stopped run goes on with
the seeds that are missing. docs/method.md explains the differences.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.study import Parts
from e2crf_core import CachePolicy, Sampler, ScoreModel, load_checkpoint
from e2crf_core.io.files import replace_file
from e2crf_core.io.json_files import write_json
from e2crf_core.io.provenance import Provenance
from e2crf_core.models.training_data import training_data
from e2crf_core.progress import Progress
from e2crf_core.quality.distances import relative_l2
from e2crf_core.quality.protocol import log_interval
from e2crf_core.runs.answer import standardized

RESULTS = Path(__file__).resolve().parent / "results" / "paper_differences_cpu.json"
PAPER, LITERAL = CachePolicy.preset("paper"), CachePolicy.preset("paper_literal")
ROWS = {
    "preset paper": PAPER,
    "preset paper_literal": LITERAL,
    "paper_literal at the threshold of paper, 0.0025": LITERAL.replace(tau=0.0025),
    "tau 0.04, the published 0.01": PAPER.replace(tau=0.04),
    "no rest below tau_safe": PAPER.replace(tau_safe=0.0),
    "no probes": PAPER.replace(probe_share=0.0),
    "5% probes": PAPER.replace(probe_share=0.05),
    "no refresh on r, no refresh every R": PAPER.replace(tau_warn=0.0, refresh_every=0),
    "no correction of probed features": PAPER.replace(correct=False),
    "K = 3": PAPER.replace(k_low=3),
    "K = 5": PAPER.replace(k_low=5),
}


def measure(checkpoint: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return provenance and, for each row, the share of tokens and the relative L2 with its interval."""
    model = load_checkpoint(checkpoint, "cpu")
    provenance = Provenance.now(
        data=training_data(model).digest,
        checkpoint=model.digest(),
        seeds=range(options.seeds),
        batch=min(options.num, 64),
    )
    rows = {name: policy.to_json() for name, policy in ROWS.items()}
    sizes = [options.steps, options.num, provenance.checkpoint]
    parts = Parts.open(options.work / f"{checkpoint}.json", {"rows": rows, "sizes": sizes}, checkpoint)
    names = [f"seed {seed}" for seed in range(options.seeds)]
    parts.expect(names)
    found = [
        parts.get(name, lambda p, s=seed: one_seed(model, options, s, p)) for seed, name in enumerate(names)
    ]
    return {
        "provenance": provenance.to_json(),
        "rows": {
            row: {
                "token_share": float(np.mean([part[row][0] for part in found])),
                "relative_l2": asdict(log_interval([part[row][1] for part in found])),
            }
            for row in ROWS
        },
    }


def one_seed(
    model: ScoreModel, options: argparse.Namespace, seed: int, progress: Progress
) -> dict[str, list[float]]:
    """Return each row's share of tokens and relative L2 to the uncached twin on one seed."""
    plan = {"steps": options.steps, "solver": "euler_maruyama"}
    plain = Sampler(model, None, **plan).sample(options.num, seed).series
    made = {}
    for done, (row, policy) in enumerate(ROWS.items()):
        drawn = Sampler(model, policy, **plan).sample(options.num, seed)
        scaled = [standardized(model, x) for x in (drawn.series, plain)]
        made[row] = [drawn.token_share, relative_l2(*scaled)]
        progress(done + 1, len(ROWS))
    return made


def page(stored: dict[str, Any]) -> str:
    """Return the results as a Markdown page."""
    lines = [
        "# The effect of each difference between preset `paper` and the published text",
        "",
        f"Written by `python -m benchmarks.paper_differences`: {stored['steps']} Euler-Maruyama steps,"
        f" {stored['seeds']} seeds of {stored['num']} samples. Relative L2 to the uncached twin: geometric mean over"
        " seeds with its 95% interval.",
        "",
        "| data | row | tokens recomputed | relative L2 |",
        "| --- | --- | --- | --- |",
    ]
    for data, study in stored["data"].items():
        for name, row in study["rows"].items():
            error = row["relative_l2"]
            interval = f"{error['value']:.3f} ({error['low']:.3f}-{error['high']:.3f})"
            lines.append(f"| {data} | {name} | {100 * row['token_share']:.1f}% | {interval} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoints", nargs="+", default=["ecg"])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--num", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("artifacts/paper_differences"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    stored: dict[str, Any] = {name: getattr(arguments, name) for name in ("steps", "num", "seeds")}
    stored["data"] = {}
    for checkpoint in arguments.checkpoints:
        stored["data"][checkpoint] = measure(checkpoint, arguments)
        write_json(arguments.out, stored)
        text = page(stored)
        replace_file(arguments.out.with_suffix(".md"), lambda path, text=text: path.write_text(text))  # type: ignore[misc]
    print(text)


if __name__ == "__main__":
    main()
