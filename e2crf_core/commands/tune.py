"""Implement `tune`: search solver, steps, and policy for the best trade-off between speed and quality."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from e2crf_core.errors import LabError


def add(commands: Any) -> None:
    """Register the command."""
    tune = commands.add_parser("tune", help="search for the best policies; the same command resumes")
    tune.add_argument("--checkpoint", default="ecg", help="name of a shipped checkpoint, or a folder")
    tune.add_argument("--minutes", type=float, default=15.0, help="budget over all sessions")
    tune.add_argument("--trials", type=int, help="end after so many trials of this session, too")
    tune.add_argument("--out", type=Path, required=True, help="folder of the study")
    tune.add_argument("--num", type=int, default=64, help="samples of a finished trial")
    tune.add_argument("--batch", type=int, default=16, help="samples run together; also the first look")
    tune.add_argument("--seed", type=int, default=0)
    tune.add_argument(
        "--quality",
        default="marginal_wasserstein",
        help="or sliced_wasserstein; or relative_l2, for one solver and number of steps",
    )
    tune.add_argument("--cost", default="seconds", help="or flops")
    tune.add_argument("--solvers", help="separated by commas; default: four that compete")
    tune.add_argument("--grids", help="separated by commas; default: linear,log_snr,profile")
    tune.add_argument("--steps", default="4:1000", help="LOW:HIGH, or one number")
    tune.add_argument("--triggers", help="separated by commas, 'none' for no cache; default: all")
    tune.add_argument("--fields", help="policy fields to search, separated by commas, or 'all'")
    tune.add_argument(
        "--reference-steps", type=int, help="of the uncached run; default: what the budget allows"
    )
    tune.add_argument(
        "--latency-ms", type=float, help="choose the best point within so many ms a sample, in batches"
    )
    tune.add_argument("--latency-alone-ms", type=float, help="the same for a sample run by itself")
    tune.add_argument("--more", action="store_true", help="measure as many more samples as a decision needs")
    tune.add_argument(
        "--quality-budget",
        type=float,
        help="choose the fastest point at most so much worse: share of the distance, or relative L2",
    )
    tune.add_argument(
        "--storage",
        help="journal:FILE, or a database URL such as postgresql+psycopg://user:password@host/name, whose driver"
        ' must be installed (pip install "psycopg[binary]"); default: SQLite in the folder',
    )
    tune.add_argument("--device", default="auto", help="auto, cpu or cuda")
    tune.add_argument("--ray", metavar="ADDRESS", help="measure trials on a Ray cluster; 'local' starts one")
    tune.add_argument("--workers", type=int, default=1, help="trials proposed and measured at once")
    tune.set_defaults(command=run)


def _names(text: str | None, default: tuple[str, ...]) -> tuple[str, ...]:
    return default if text is None else tuple(part.strip() for part in text.split(",") if part.strip())


def _range(text: str) -> tuple[int, int]:
    low, _, high = text.partition(":")
    try:
        return int(low), int(high or low)
    except ValueError:
        raise LabError(f"{text!r} is not a number or LOW:HIGH", field="steps") from None


def _check_budgets(arguments: argparse.Namespace) -> None:
    """Reject, before any measurement, what could only fail after it."""
    for name in ("minutes", "latency_ms", "latency_alone_ms", "quality_budget", "trials", "workers"):
        value = getattr(arguments, name)
        if value is not None and not 0 < value < float("inf"):
            raise LabError(f"{value} must be above 0", field=name)


def _space(arguments: argparse.Namespace, model: Any) -> Any:
    """Return the search space with the ranges of this model."""
    from e2crf_core.tuning.space import SEARCHABLE, SearchSpace, measure_ranges

    default, steps = SearchSpace(model.n), _range(arguments.steps)
    space = SearchSpace(
        model.n,
        triggers=_names(arguments.triggers, default.triggers),
        fields=SEARCHABLE if arguments.fields == "all" else _names(arguments.fields, default.fields),
        solvers=_names(arguments.solvers, default.solvers),
        grids=_names(arguments.grids, default.grids),
        steps=steps,
    )
    return replace(space, ranges=measure_ranges(model))


def _study(arguments: argparse.Namespace) -> Any:
    """Open the study in the folder, new or resumed."""
    from e2crf_core.models.checkpoints import load_checkpoint
    from e2crf_core.models.training_data import training_data
    from e2crf_core.tuning.executors import Local
    from e2crf_core.tuning.measure import StudySpec
    from e2crf_core.tuning.study import Study

    spec = StudySpec(
        num=arguments.num,
        batch=arguments.batch,
        seed=arguments.seed,
        quality=arguments.quality,
        cost=arguments.cost,
        width=arguments.workers,
    )
    _range(arguments.steps)
    model = load_checkpoint(arguments.checkpoint, arguments.device)
    space = _space(arguments, model)
    executor: Any = Local()
    if arguments.ray:
        from e2crf_core.cluster.executor import RayExecutor, connect

        connect(arguments.ray, arguments.workers)
        executor = RayExecutor()
    return Study(
        model,
        training_data(model),
        arguments.out,
        spec,
        space=space,
        minutes=arguments.minutes,
        reference_steps=arguments.reference_steps,
        storage=arguments.storage,
        executor=executor,
    )


def _print_point(study: Any, point: Any, minutes: float) -> None:
    last = point.last
    end = "" if point.complete else f", beaten by {point.beaten_by} on {last.num} samples"
    print(
        f"{study.spent / 60:5.1f}/{minutes:g} min  trial {point.number}:"
        f" {1e3 * last.seconds:.3g} ms, quality {last.quality:.4g}{end}  ({point.setting.describe()})",
        file=sys.stderr,
        flush=True,
    )


def _pick(study: Any, arguments: argparse.Namespace) -> Any:
    """Choose a point by the budgets given."""
    from e2crf_core.tuning.choice import pick

    latency, alone = (
        None if given is None else given / 1e3 for given in (arguments.latency_ms, arguments.latency_alone_ms)
    )
    return pick(
        [study.reference, *study.points],
        study.reference,
        cost=study.spec.cost,
        quality=study.spec.quality,
        latency=latency,
        alone=alone,
        budget=arguments.quality_budget,
    )


def run(arguments: argparse.Namespace) -> None:
    """Search, choose, and warn; write study.json and policy.json; print the reading and one JSON line."""
    from e2crf_core.commands.terminal import ProgressLine, check_out_folder, interruptible
    from e2crf_core.io.extras import require

    require("tune", "tune", "optuna", "sqlalchemy")
    from e2crf_core.tuning.more import MOST, measure_more
    from e2crf_core.tuning.report import save_report
    from e2crf_core.tuning.warnings import advise

    check_out_folder(arguments.out)
    _check_budgets(arguments)
    study = _study(arguments)
    if study.points:
        print(f"resuming: {len(study.points)} trials, {study.spent / 60:.1f} min spent", file=sys.stderr)
    with interruptible() as stopped:
        for point in study.run(stopped, arguments.trials):
            _print_point(study, point, arguments.minutes)
        if study.reference is None:
            raise LabError(
                "the study ended before its reference was measured", field="minutes", remedy="give it more"
            )
        choice = _pick(study, arguments)
        if arguments.more and choice.needed is not None and choice.candidate is not None and not stopped():
            progress = ProgressLine("measuring more samples")
            num = min(choice.needed, MOST)
            measure_more(study, choice.candidate, num, cancelled=stopped, progress=progress)
            choice = _pick(study, arguments)
        inert, warnings = advise(study, choice.point)
    report = save_report(study, choice, inert, warnings)
    print(choice.why)
    for warning in warnings:
        print(f"warning ({warning.kind}): {warning.text}")
    for name, shares in report["importance"].items():
        print(f"{name} depends most on " + ", ".join(f"{k} {v:.0%}" for k, v in list(shares.items())[:4]))
    summary = {
        "out": str(arguments.out),
        "trials": len(study.points),
        "front": len(report["front"]),
        "chosen": choice.point.number,
        "within": choice.within,
        "setting": choice.point.setting.to_json(),
        "seconds_per_sample": choice.point.last.seconds,
        "quality": choice.point.last.quality,
        "stopped": stopped(),
    }
    print(json.dumps(summary))
