"""Implement `cluster`: large evaluations in shards, here or on Ray."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

from e2crf_core.errors import LabError

DEVICES = ("auto", "cpu", "cuda")


def add(commands: Any) -> None:
    """Register the commands."""
    parser = commands.add_parser("cluster", help="evaluate many samples in shards, on this machine or on Ray")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    evaluate = actions.add_parser("evaluate", help="draw samples in shards and measure them; resumes")
    evaluate.add_argument("--checkpoint", default="ecg", help="name of a shipped checkpoint, or a folder")
    evaluate.add_argument("--policy", default="balanced", help="preset name, JSON file, or 'none'")
    evaluate.add_argument("--steps", type=int, default=300, help="network calls of the solver")
    evaluate.add_argument("--solver", default="euler_maruyama")
    evaluate.add_argument("--grid", default="linear")
    evaluate.add_argument("--num", type=int, default=10_000, help="number of samples")
    evaluate.add_argument("--shard", type=int, default=250, help="samples that are lost at most at once")
    evaluate.add_argument("--batch", type=int, default=50, help="samples run together")
    evaluate.add_argument("--seed", type=int, default=0)
    evaluate.add_argument("--workers", type=int, default=2, help="processes of a local cluster")
    evaluate.add_argument("--ray", metavar="ADDRESS", help="a Ray cluster; 'local' starts one; default: none")
    evaluate.add_argument("--gpus", type=float, default=0, help="share of a GPU that a shard takes")
    evaluate.add_argument("--device", default="auto", help="auto, cpu or cuda, on each node")
    evaluate.add_argument("--out", type=Path, required=True, help="folder of the shards and the result")
    evaluate.set_defaults(command=_evaluate)


def _task(arguments: argparse.Namespace, model: Any) -> Any:
    from e2crf_core.caching.presets import presets_of
    from e2crf_core.commands.sample import load_policy_argument
    from e2crf_core.evaluation.bulk import BulkTask
    from e2crf_core.sampling.config import SamplerConfig

    policy = None if arguments.policy == "none" else load_policy_argument(arguments.policy, presets_of(model))
    config = SamplerConfig(policy, arguments.steps, arguments.solver, arguments.grid, arguments.batch)
    return BulkTask(config, arguments.num, arguments.seed, arguments.shard)


def _evaluate(arguments: argparse.Namespace) -> None:
    from e2crf_core.cluster.executor import RayShards, connect
    from e2crf_core.commands.terminal import ProgressLine, check_out_folder, interruptible
    from e2crf_core.evaluation.bulk import assess, draw_here, run_shards
    from e2crf_core.io.files import replace_file
    from e2crf_core.models.checkpoints import load_checkpoint
    from e2crf_core.models.training_data import training_data
    from e2crf_core.sampling.calibrations import calibrate_for
    from e2crf_core.sampling.sampler import Sampler

    check_out_folder(arguments.out)
    if not 0 <= arguments.gpus < float("inf"):
        raise LabError(f"gpus {arguments.gpus}: a share of 0 or more is expected", field="gpus")
    if arguments.device not in DEVICES:
        raise LabError(
            f"unknown device {arguments.device!r}", field="device", remedy=f"use one of {', '.join(DEVICES)}"
        )
    model = load_checkpoint(arguments.checkpoint, "cpu" if arguments.ray else arguments.device)
    task = _task(arguments, model)
    calibrate_for(model, task.config.policy, Sampler.of(model, task.config).plan, ProgressLine("calibrating"))
    dataset = training_data(model)
    if arguments.ray:
        connect(arguments.ray, arguments.workers, gpus=1 if arguments.gpus else 0)
    report = ProgressLine("shards")
    here = partial(draw_here, device=arguments.device)
    draw = RayShards(arguments.device, arguments.gpus) if arguments.ray else here
    with interruptible() as stopped:
        for done, _ in enumerate(run_shards(model, task, arguments.out, draw=draw, cancelled=stopped), 1):
            report(done, len(task.firsts))
        if stopped():
            raise LabError("stopped: finished shards are kept, the same command goes on")
    result = assess(model, dataset, task, arguments.out)
    replace_file(arguments.out / "result.json", lambda p: p.write_text(json.dumps(result, indent=1) + "\n"))
    distance = result["distances"]["sliced_wasserstein_time"]
    told = {name: result[name] for name in ("num", "shards", "processes", "seconds_of_work")}
    told |= {name: distance[name] for name in ("value", "low", "high", "floor")}
    print(json.dumps({"out": str(arguments.out), **told}))
