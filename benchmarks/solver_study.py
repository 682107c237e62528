"""Does a cache still pay beside a good solver? Compare solvers alone and with E²-CRF on common noise.

    python -m benchmarks.solver_study

"Equal quality" has two readings. By distance to held-out data: the fastest row whose interval of the sliced
Wasserstein distance overlaps that of a target row, or lies below it. By error, the sharper reading:
deterministic rows share their starting noise, so each has a relative L2 to the converged solution, and a
cached row is compared with the time that solvers alone need for the same error (log-log between measured
rows, best grid at each point). The paper's sampler, 1000 Euler-Maruyama steps, is included for the first data
set.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from e2crf_core.commands.terminal import ProgressLine
from e2crf_core.diffusion.schedules import VP
from e2crf_core.diffusion.solvers import make_plan
from e2crf_core.errors import LabError
from e2crf_core.evaluation.config import load_configs
from e2crf_core.evaluation.results import stored_timing, to_json, write_results
from e2crf_core.evaluation.shards import Task, read_shards, run_shards
from e2crf_core.evaluation.summary import summarize
from e2crf_core.evaluation.tables import Evaluation, TableRow, spanned
from e2crf_core.io.files import replace_file
from e2crf_core.models.checkpoints import list_checkpoints, load_checkpoint
from e2crf_core.models.training_data import training_data
from e2crf_core.quality.distances import relative_l2
from e2crf_core.quality.interval import Interval

HERE = Path(__file__).resolve().parent
CONVERGED = "DPM++ 40 (converged)"
SLOWEST = "EM 1000"


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


def seconds_alone(e: Evaluation, error: dict[str, list[float]], wanted: float) -> float | None:
    """Return the shortest time (s) in which any solver alone reaches an error, or None if none does."""
    families: dict[tuple[str, str], list[TableRow]] = {}
    for row in e.rows:
        if row.config.policy is None and row.name in error:
            families.setdefault((row.config.solver, row.config.grid), []).append(row)
    found = []
    for rows in families.values():
        points = sorted((np.mean(error[row.name]), row.seconds.value) for row in rows)
        x, y = np.log(np.array(points)).T
        if x[0] <= np.log(wanted) <= x[-1]:
            found.append(float(np.exp(np.interp(np.log(wanted), x, y))))
    return min(found, default=None)


def calls(row: TableRow) -> float:
    """Return the network calls of a row, in whole forwards."""
    return row.config.steps * row.token_share


def ratio(slow: TableRow, fast: TableRow, shards: dict[str, list[float]]) -> Interval:
    """Return how many times faster one row is, within each repeat."""
    pairs = zip(shards[slow.name], shards[fast.name], strict=True)
    return spanned([a / b for a, b in pairs])


def verdict(e: Evaluation, seconds: dict[str, list[float]], target: str) -> dict[str, Any] | None:
    """Find the fastest rows, alone and cached, that are not worse than a target row by sliced Wasserstein."""
    than = e.row(target)
    alone, cached = e.fastest(than, cached=False), e.fastest(than, cached=True)
    if alone is None or cached is None:
        return None
    return {
        "target": target,
        "alone": alone.name,
        "alone_calls": calls(alone),
        "cached": cached.name,
        "cached_calls": calls(cached),
        "cached_faster_than_alone": stored_timing(ratio(alone, cached, seconds)),
        "cached_faster_than_target": stored_timing(ratio(than, cached, seconds)),
        "alone_faster_than_target": stored_timing(ratio(than, alone, seconds)),
    }


def study(task: Task, out: Path) -> dict[str, Any]:
    """Run what is missing and return the evaluation's `to_json` with this study's results added."""
    run_shards(task, out, ProgressLine(f"{task.model.name}, steps"))
    e = summarize(task, out, ProgressLine("measuring"))
    write_results(e, out)
    seconds = {name: [shard.seconds for shard in read_shards(out, task, name)] for name in task.names}
    error = errors(task, e, out)
    equal = []
    for row in e.rows:
        if row.config.policy is not None and row.name in error:
            wanted = float(np.mean(error[row.name]))
            alone = seconds_alone(e, error, wanted)
            equal.append(
                {
                    "row": row.name,
                    "calls": calls(row),
                    "error": wanted,
                    "seconds": row.seconds.value,
                    "seconds_alone": alone,
                    "faster": None if alone is None else alone / row.seconds.value,
                }
            )
    targets = [CONVERGED, *([SLOWEST] if SLOWEST in seconds else [])]
    verdicts = [v for v in (verdict(e, seconds, target) for target in targets) if v is not None]
    em = [
        {
            "row": row.name,
            "speedup": stored_timing(row.speedup_twin),
            "intervals_overlap": bool(row.quality.overlaps(e.row(SLOWEST).quality)),
        }
        for row in e.rows
        if row.config.solver == "euler_maruyama" and row.speedup_twin is not None
    ]
    added = {"to_converged": error, "equal_error": equal, "verdicts": verdicts, "euler_maruyama": em}
    return {**to_json(e), **added}


def _times(timing: dict[str, float]) -> str:
    return f"{timing['median']:.2f}x ({timing['low']:.2f}-{timing['high']:.2f})"


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows])


def page(studies: dict[str, dict[str, Any]], minutes: float) -> str:
    """Format the study as a Markdown page."""
    first = next(iter(studies.values()))
    about = ", ".join(f"{k} {v}" for k, v in first["machine"].items() if v is not None)
    parts = [
        f"# Solvers alone and with E²-CRF\n\nWritten by `python -m benchmarks.solver_study` in {minutes:.0f} minutes:"
        f" {first['repeats']} repeats of {first['num']} samples; {about}. All rows of a data set start from the same"
        " noise and take turns in one process; times are medians, ratios are within a repeat (median and range).\n",
    ]
    for name, s in studies.items():
        floor = s["floors"]["sliced_wasserstein_time"]["value"]
        parts.append(f"## {name}\n")
        for v in s["verdicts"]:
            parts.append(
                f"- Not worse than `{v['target']}` by sliced Wasserstein: alone `{v['alone']}`, cached `{v['cached']}`"
                f" ({v['cached_calls']:.1f} calls): cached is {_times(v['cached_faster_than_alone'])} as fast as the"
                f" solver alone, {_times(v['cached_faster_than_target'])} as fast as the target."
            )
        for row in s["euler_maruyama"]:
            parts.append(
                f"- `{row['row']}`: {_times(row['speedup'])} as fast as uncached, intervals"
                f" {'overlap' if row['intervals_overlap'] else 'do not overlap'}."
            )
        faster = {row["row"]: row for row in s["equal_error"]}
        rows = []
        for r in s["rows"]:
            label, q = r["config"]["name"], r["metrics"]["sliced_wasserstein_time"]
            error, equal = s["to_converged"].get(label), faster.get(label)
            rows.append(
                [
                    label,
                    f"{r['config']['steps'] * r['token_share']:.1f}",
                    f"{r['seconds']['median']:.2f}",
                    f"{q['value']:.4f} ({q['low']:.4f}-{q['high']:.4f})",
                    "" if error is None else f"{np.mean(error):.3f}",
                    "" if equal is None or equal["faster"] is None else f"{equal['faster']:.2f}x",
                ]
            )
        head = [
            "row",
            "calls",
            "seconds",
            "SW time",
            "L2 to converged",
            "against solver alone at equal error",
        ]
        parts.append(f"\n{_table(head, rows)}\n\nReal against real: {floor:.4f}.\n")
    return "\n".join(parts)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoints", nargs="*", help="names or folders; by default all that are shipped")
    parser.add_argument("--num", type=int, default=48, help="samples of each run")
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0, help="of the first repeat")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--work", type=Path, default=Path("artifacts/solver_study"), help="where shards are kept"
    )
    parser.add_argument("--results", type=Path, default=HERE / "results")
    arguments = parser.parse_args()
    begin = time.monotonic()
    studies: dict[str, dict[str, Any]] = {}
    try:
        for place, name in enumerate(arguments.checkpoints or list_checkpoints()):
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
    text = page(studies, (time.monotonic() - begin) / 60)
    replace_file(stem.with_suffix(".md"), lambda path: path.write_text(text))
    replace_file(
        stem.with_suffix(".json"), lambda path: path.write_text(json.dumps(studies, indent=1) + "\n")
    )
    print(f"written: {stem.with_suffix('.md')} and .json")


if __name__ == "__main__":
    main()
