"""Implement `eval`: compare a table of solvers and policies; resumable."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser("eval", help="measure a table of solvers and policies; goes on after a kill")
    parser.add_argument("--checkpoint", default="ecg", help="name of a shipped checkpoint, or a folder")
    parser.add_argument(
        "--configs", type=Path, required=True, help="JSON list of name, solver, grid, steps, policy"
    )
    parser.add_argument("--num", type=int, default=1000, help="samples of each run")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each row, with seeds of their own")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first repeat")
    parser.add_argument("--batch", type=int, default=64, help="samples run together")
    parser.add_argument("--directions", type=int, default=1000, help="projections of sliced Wasserstein")
    parser.add_argument(
        "--learned",
        action="store_true",
        help="also discriminative and predictive score and context-FID: seconds to minutes a run",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the report; goes on with what it holds"
    )
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> None:
    """Run what is missing, write the results, and print the summary."""
    from e2crf_core.caching.presets import presets_of
    from e2crf_core.commands.terminal import ProgressLine, check_out_folder
    from e2crf_core.evaluation.config import load_configs
    from e2crf_core.evaluation.evaluate import evaluate
    from e2crf_core.evaluation.reading import reading
    from e2crf_core.evaluation.shards import Task
    from e2crf_core.models.checkpoints import load_checkpoint
    from e2crf_core.models.training_data import training_data
    from e2crf_core.sampling.calibrations import calibrate_for
    from e2crf_core.sampling.sampler import Sampler

    check_out_folder(arguments.out)
    model = load_checkpoint(arguments.checkpoint, arguments.device)
    configs = load_configs(arguments.configs, presets_of(model))
    for config in configs.values():
        calibrate_for(model, config.policy, Sampler.of(model, config).plan, ProgressLine("calibrating"))
    task = Task(
        model=model,
        dataset=training_data(model),
        configs=configs,
        num=arguments.num,
        repeats=arguments.repeats,
        seed=arguments.seed,
        batch=arguments.batch,
        directions=arguments.directions,
    )
    evaluation = evaluate(task, arguments.out, learned=arguments.learned, progress=ProgressLine)
    print("\n".join(reading(evaluation)))
    names = ("report.html", "results.json", "results.csv")
    written = [name for name in names if (arguments.out / name).is_file()]
    print(f"written to {arguments.out}: {', '.join(written)}")
