"""Evaluate one configuration on many samples, in shards drawn in any order, anywhere, and kept on disk.

A shard is a pure function of a model, a configuration, and sample numbers, so results equal those of one
machine with the same seeds. Finished shards are never drawn again.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from e2crf_core.data.datasets import Dataset
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError, make_whole
from e2crf_core.evaluation.shard_files import claim_folder, read_arrays, write_arrays
from e2crf_core.io.locks import claimed
from e2crf_core.models.checkpoints import choose_device
from e2crf_core.models.heldout import heldout_blocks
from e2crf_core.progress import Cancel, never
from e2crf_core.quality.distances import standard_metrics
from e2crf_core.quality.intervals import measure
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.sampler import Part, Sampler, check_request, warm_up

MAX_SAMPLES = 10**10
STATEMENT = "shards.json"


def on_device(model: ScoreModel, device: str) -> ScoreModel:
    """Move the model to this machine's device: `auto`, `cpu`, or `cuda`."""
    target = choose_device(device)
    return model if model.device == target else model.to(target)


@dataclass(frozen=True)
class BulkTask:
    """A task of `num` samples drawn by `config`, in shards of `shard` and batches of `config.batch`."""

    config: SamplerConfig
    num: int
    seed: int = 0
    shard: int = 250

    def __post_init__(self) -> None:
        """Reject what cannot be drawn."""
        make_whole(self, "num", "seed", "shard")
        check_request(1, self.seed)
        if not 1 <= self.num <= MAX_SAMPLES:
            raise LabError(f"num {self.num}: must lie between 1 and {MAX_SAMPLES}", field="num")
        if self.shard < 1 or self.config.batch < 1:
            raise LabError(f"shard {self.shard} and batch {self.config.batch} must be at least 1")

    @property
    def firsts(self) -> range:
        """Return the number of the first sample in every shard."""
        return range(0, self.num, self.shard)

    def count(self, first: int) -> int:
        """Return the number of samples in the shard that begins at `first`; the last one takes the rest."""
        return min(self.shard, self.num - first)

    def fingerprint(self, model: ScoreModel) -> dict[str, Any]:
        """Return the settings that shards in one folder must share; more samples may be added to old ones."""
        stored = {
            "config": self.config.to_json(),
            "seed": self.seed,
            "shard": self.shard,
            "checkpoint": model.digest(),
        }
        return json.loads(json.dumps(stored))


@dataclass(frozen=True)
class BulkShard:
    """The series (count, N, M) in data units of samples from `first`, their cost, and the drawing process.

    `seconds` is wall-clock time; `cpu_seconds` is compute time, which is less on a busy machine.
    """

    first: int
    series: np.ndarray
    seconds: float
    cpu_seconds: float
    rows: int
    prepared: int
    process: int


def draw_shard(model: ScoreModel, task: BulkTask, first: int, device: str = "auto") -> BulkShard:
    """Draw one shard, a pure function of its arguments wherever it runs."""
    sampler = Sampler.of(on_device(model, device), task.config)
    last = first + task.count(first)
    warm_up(sampler, min(task.config.batch, last - first), task.seed)
    begin = time.process_time()
    parts: list[Part] = [
        sampler.draw(min(task.config.batch, last - start), task.seed, start)
        for start in range(first, last, task.config.batch)
    ]
    return BulkShard(
        first,
        np.concatenate([part.series for part in parts]),
        sum(part.seconds for part in parts),
        time.process_time() - begin,
        sum(part.rows for part in parts),
        sum(part.prepared for part in parts),
        os.getpid(),
    )


def draw_here(
    model: ScoreModel, task: BulkTask, missing: Sequence[int], cancelled: Cancel, device: str = "auto"
) -> Iterator[BulkShard]:
    """Draw shards in this process, one after the other; `run_shards` can end it between two."""
    for first in missing:
        yield draw_shard(model, task, first, device)


Draw = Callable[[ScoreModel, BulkTask, Sequence[int], Cancel], Iterator[BulkShard]]
"""Function that draws shards and yields each once finished, in any order; may end early when cancelled."""


def run_shards(
    model: ScoreModel,
    task: BulkTask,
    out: Path,
    *,
    draw: Draw = draw_here,
    cancelled: Cancel = never,
) -> Iterator[BulkShard]:
    """Draw what is missing in `out`, and yield each shard once it is on disk.

    Raises LabError if `out` holds another evaluation, or if a shard fails permanently.
    """
    with claimed(out, "shards"):
        claim_folder(out / STATEMENT, task.fingerprint(model), "an evaluation in shards")
        missing = [first for first in task.firsts if _find(out, task, first) is None]
        for shard in draw(model, task, missing, cancelled):
            _write(out, shard)
            yield shard
            if cancelled():
                return


def _path(out: Path, first: int, count: int) -> Path:
    return out / "shards" / f"{first:011d}-{count}.npz"


def _find(out: Path, task: BulkTask, first: int) -> Path | None:
    """Find the file of a shard, whole or cut by an equal `num`, by its name alone."""
    paths = (_path(out, first, count) for count in (task.shard, task.count(first)))
    return next((path for path in paths if path.is_file()), None)


def _write(out: Path, shard: BulkShard) -> None:
    arrays = {name: np.asarray(value) for name, value in vars(shard).items()}
    write_arrays(_path(out, shard.first, len(shard.series)), out / STATEMENT, arrays)


def _read(out: Path, task: BulkTask, first: int) -> BulkShard:
    path = _find(out, task, first)
    if path is None:
        raise LabError(f"shard {first} is not in {out}: run the evaluation to its end")
    stored = read_arrays(path, out / STATEMENT)
    numbers: dict[str, Any] = {name: int(stored[name]) for name in ("first", "rows", "prepared", "process")}
    clocks: dict[str, Any] = {name: float(stored[name]) for name in ("seconds", "cpu_seconds")}
    return BulkShard(series=stored["series"], **numbers, **clocks)


def collect(out: Path, task: BulkTask) -> tuple[np.ndarray, list[BulkShard]]:
    """Return all series (num, N, M) in order of their numbers, and their shards."""
    shards = [_read(out, task, first) for first in task.firsts]
    series = np.concatenate([shard.series for shard in shards])[: task.num]
    return series, shards


def assess(model: ScoreModel, dataset: Dataset, task: BulkTask, out: Path) -> dict[str, Any]:
    """Return distances of all samples to held-out data with intervals and floors, and their cost."""
    series, shards = collect(out, task)
    held, train = (dataset.standardize(dataset.x[i]) for i in (dataset.heldout, dataset.train))
    samples, blocks = dataset.standardize(series), heldout_blocks(dataset)
    distances = {
        metric.name: asdict(
            measure(samples, held, metric, train=train, resamples=50, floor_repeats=5, blocks=blocks)
        )
        for metric in standard_metrics(len(dataset.channels), directions=200)
    }
    sampler = Sampler.of(model, task.config)
    rows, prepared = sum(s.rows for s in shards), sum(s.prepared for s in shards)
    drawn = sum(len(s.series) for s in shards)
    return {
        "checkpoint": model.name,
        "digest": model.digest(),
        "data": dataset.digest,
        "config": task.config.to_json(),
        "num": task.num,
        "seed": task.seed,
        "shards": len(shards),
        "processes": len({s.process for s in shards}),
        "seconds_of_work": sum(s.seconds for s in shards),
        "cpu_seconds": sum(s.cpu_seconds for s in shards),
        "flop_share": sampler.flops(rows, prepared, drawn) / sampler.full_flops(drawn),
        "distances": distances,
    }
