"""Run solvers alone and with E²-CRF on common noise, and measure every distance of each.

    python -m benchmarks.solver_study

Deterministic rows share their starting noise, so each has a relative L2 to the converged solution. The paper's
sampler, 1000 Euler-Maruyama steps, is included for the first data set. The reading follows the protocol
(`benchmarks.verdicts`); what a cache saves at equal error is measured by `benchmarks.localization`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.origin import full_checkpoints
from benchmarks.verdicts import reading
from e2crf_core.commands.terminal import ProgressLine
from e2crf_core.diffusion.schedules import VP
from e2crf_core.diffusion.solvers import make_plan
from e2crf_core.errors import LabError
from e2crf_core.evaluation.config import load_configs
from e2crf_core.evaluation.results import to_json, write_results
from e2crf_core.evaluation.shards import Task, read_shards, run_shards
from e2crf_core.evaluation.summary import summarize
from e2crf_core.evaluation.tables import Evaluation, TableRow
from e2crf_core.io.files import replace_file
from e2crf_core.models.checkpoints import load_checkpoint
from e2crf_core.models.training_data import training_data
from e2crf_core.quality.distances import LOG_SPECTRAL_DISTANCE, relative_l2
from e2crf_core.quality.protocol import PRIMARY

HERE = Path(__file__).resolve().parent
CONVERGED = "DPM++ 40 (converged)"
SHOWN = (PRIMARY, LOG_SPECTRAL_DISTANCE.name)


def deterministic(row: TableRow) -> bool:
    """Return whether a row's samples are a function of their starting noise alone."""
    config = row.config
    return not any(r.sigma for r in make_plan(VP(), config.steps, config.solver, config.grid).rows)


def errors(task: Task, e: Evaluation, out: Path) -> dict[str, list[float]]:
    """Return each deterministic row's relative L2 to the converged solution, one value per repeat."""

    def series(name: str) -> list[np.ndarray]:
        return [task.dataset.standardize(shard.series) for shard in read_shards(out, task, name)]

    truth = series(CONVERGED)
    return {
        row.name: [relative_l2(a, b) for a, b in zip(series(row.name), truth, strict=True)]
        for row in e.rows
        if deterministic(row) and row.name != CONVERGED
    }


def study(task: Task, out: Path) -> dict[str, Any]:
    """Run what is missing and return the evaluation's `to_json` with this study's results added."""
    run_shards(task, out, ProgressLine(f"{task.model.name}, steps"))
    e = summarize(task, out, ProgressLine("measuring"))
    write_results(e, out)
    stored = {**to_json(e), "to_converged": errors(task, e, out)}
    del stored["pairs"]  # half of the file, and a function of its rows
    return {**stored, "reading": reading(stored)}


def page(studies: dict[str, dict[str, Any]]) -> str:
    """Format the study as a Markdown page."""
    first = next(iter(studies.values()))
    about = ", ".join(f"{k} {v}" for k, v in first["machine"].items() if v is not None)
    parts = [
        f"# Solvers alone and with E²-CRF\n\nWritten by `python -m benchmarks.solver_study`: {first['repeats']} repeats"
        f" of {first['num']} samples; {about}. All rows of a data set start from the same noise and take turns in one"
        " process; times are medians, distances have 95% intervals over seeds. Which rows are as good as their"
        " reference: [verdicts.md](verdicts.md).\n",
    ]
    for name, s in studies.items():
        rows = []
        for r in s["rows"]:
            label, metrics = r["config"]["name"], r["metrics"]
            error = s["to_converged"].get(label)
            cells = [label, f"{r['config']['steps'] * r['token_share']:.1f}", f"{r['seconds']['median']:.2f}"]
            for metric in SHOWN:
                q = metrics[metric]
                cells.append(f"{q['value']:.4f} ({q['low']:.4f}-{q['high']:.4f})")
            rows.append([*cells, "" if error is None else f"{np.mean(error):.3f}"])
        titles = [s["titles"][metric] for metric in SHOWN]
        floors = ", ".join(f"{s['floors'][metric]['value']:.4f}" for metric in SHOWN)
        lines = [["row", "calls", "seconds", *titles, "L2 to converged"], ["---"] * (4 + len(SHOWN)), *rows]
        text = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
        parts.append(f"## {name}\n\n{text}\n\nReal against real: {floors}.\n")
    return "\n".join(parts)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--checkpoints", nargs="*", help="names or folders; by default all shipped with full attention"
    )
    parser.add_argument("--num", type=int, default=48, help="samples of each run")
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0, help="of the first repeat")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--work", type=Path, default=Path("artifacts/solver_study"), help="where shards are kept"
    )
    parser.add_argument("--results", type=Path, default=HERE / "results")
    arguments = parser.parse_args()
    studies: dict[str, dict[str, Any]] = {}
    try:
        for place, name in enumerate(arguments.checkpoints or full_checkpoints()):
            model = load_checkpoint(name, arguments.device)
            configs = load_configs(HERE / "configs" / "solvers.json")
            if place == 0:
                configs |= load_configs(HERE / "configs" / "solvers_em.json")
            task = Task(
                model=model,
                dataset=training_data(model),
                configs=configs,
                num=arguments.num,
                repeats=arguments.repeats,
                seed=arguments.seed,
                directions=300,
            )
            studies[model.name] = study(task, arguments.work / f"{model.name}-seed{arguments.seed}")
    except LabError as fault:
        raise SystemExit(f"error: {fault}") from None
    if not studies:
        raise SystemExit("error: no checkpoint is shipped: name one with --checkpoints")
    stem = arguments.results / f"solver_study_{'cpu' if arguments.device == 'cpu' else 'gpu'}"
    text = page(studies)
    replace_file(stem.with_suffix(".md"), lambda path: path.write_text(text))
    replace_file(
        stem.with_suffix(".json"), lambda path: path.write_text(json.dumps(studies, indent=1) + "\n")
    )
    print(f"written: {stem.with_suffix('.md')} and .json")


if __name__ == "__main__":
    main()
