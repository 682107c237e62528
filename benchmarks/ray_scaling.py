"""Measure how an evaluation scales with local Ray workers, one math thread per process.

    python -m benchmarks.ray_scaling

Draws the same samples in this process and on local clusters of one and two workers, in turns. Reports medians
and ranges over the rounds: wall-clock time, and the CPU time of all shards, which does not depend on the
machine's other load. Starting a cluster and each worker's first shard (its imports) are reported separately.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.origin import provenance_of
from e2crf_core.caching.policy import PRESETS
from e2crf_core.cluster.executor import RayShards, connect, disconnect
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.evaluation.bulk import BulkTask, Draw, draw_here, run_shards
from e2crf_core.io.provenance import machine
from e2crf_core.models.checkpoints import load_checkpoint
from e2crf_core.sampling.config import SamplerConfig

ROOT = Path(__file__).resolve().parent.parent
WAYS = ("this process", "1 worker", "2 workers")


def timed(model: ScoreModel, task: BulkTask, out: Path, draw: Draw) -> dict[str, float]:
    """Draw `task` anew and return its wall-clock and CPU seconds."""
    begin = time.perf_counter()
    shards = list(run_shards(model, task, out, draw=draw))
    return {
        "seconds": time.perf_counter() - begin,
        "cpu_seconds": sum(shard.cpu_seconds for shard in shards),
        "processes": float(len({shard.process for shard in shards})),
    }


def once(model: ScoreModel, task: BulkTask, folder: Path, way: str) -> dict[str, float]:
    """Measure one way once: start the cluster, warm up each worker with a shard, time it, and stop it."""
    if way == WAYS[0]:
        return timed(model, task, folder / "timed", draw_here) | {"start_seconds": 0.0, "warm_seconds": 0.0}
    workers = int(way[0])
    begin = time.perf_counter()
    connect(workers=workers)
    started = time.perf_counter()
    try:
        few = replace(task, num=2 * workers, shard=1, batch=1, seed=task.seed + 1)
        list(run_shards(model, few, folder / "warm", draw=RayShards("cpu")))
        warm = time.perf_counter()
        told = timed(model, task, folder / "timed", RayShards("cpu"))
    finally:
        disconnect()
    return told | {"start_seconds": started - begin, "warm_seconds": warm - started}


def spread(values: list[float]) -> dict[str, float]:
    """Return the median and range."""
    return {"median": float(np.median(values)), "low": min(values), "high": max(values)}


def main() -> int:
    """Measure all ways in turns, print a table, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoint", default="ecg")
    parser.add_argument("--policy", default="balanced", choices=list(PRESETS))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--num", type=int, default=120)
    parser.add_argument("--shard", type=int, default=10)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "ray_scaling_cpu.json")
    options = parser.parse_args()
    # Workers inherit this: with one thread each, two workers use two cores and not four threads.
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    model = load_checkpoint(options.checkpoint, "cpu")
    config = SamplerConfig(PRESETS[options.policy], options.steps, batch=options.batch)
    task = BulkTask(config, options.num, 0, options.shard)
    rounds: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    loads = []
    for index in range(options.rounds):
        for way in WAYS[index % 3 :] + WAYS[: index % 3]:
            loads.append(os.getloadavg()[0])
            with tempfile.TemporaryDirectory() as folder:
                rounds[way].append(once(model, task, Path(folder), way))
            print(
                f"round {index + 1}, {way}: {rounds[way][-1]['seconds']:.1f} s", file=sys.stderr, flush=True
            )
    ways: dict[str, Any] = {
        way: {name: spread([r[name] for r in found]) for name in found[0]} for way, found in rounds.items()
    }
    for way in WAYS:
        ratios = [a["seconds"] / b["seconds"] for a, b in zip(rounds[WAYS[0]], rounds[way], strict=True)]
        ways[way]["speedup"] = spread(ratios)
        one = ways[way]
        print(
            f"{way}: {one['seconds']['median']:.1f} s ({one['seconds']['low']:.1f} to {one['seconds']['high']:.1f}),"
            f" CPU {one['cpu_seconds']['median']:.1f} s, {one['speedup']['median']:.2f} times this process"
            f" ({one['speedup']['low']:.2f} to {one['speedup']['high']:.2f})"
        )
    result = {
        "provenance": provenance_of([options.checkpoint], (task.seed,), options.batch),
        "machine": machine(),
        "load_before_each": loads,
        "config": config.to_json(),
        "num": options.num,
        "shard": options.shard,
        "rounds": rounds,
        "ways": ways,
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
