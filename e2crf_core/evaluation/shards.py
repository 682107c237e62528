"""Run an evaluation: every finished (row, repeat) is one shard on disk, written whole.

Repeats differ only in their seed. Within a repeat, all rows start from the same noise and run one after the
other in one process, in an order that reverses from repeat to repeat, so that a slowing machine favors no
row.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from e2crf_core.cuda import synchronize
from e2crf_core.data.datasets import Dataset, require_heldout
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError, make_whole
from e2crf_core.evaluation.config import Configs
from e2crf_core.evaluation.shard_files import claim_folder, read_arrays, write_arrays
from e2crf_core.io.provenance import machine, versions
from e2crf_core.progress import Progress, silent
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.sampler import Sampler, check_request

SCHEMA = 2
STATEMENT = "evaluation.json"


@dataclass(frozen=True)
class Task:
    """The measurements of an evaluation: repeat k draws `num` samples of each row with seed `seed + k`.

    `batch` samples run together; `directions` are the projections of sliced Wasserstein.
    """

    model: ScoreModel
    dataset: Dataset
    configs: Configs
    num: int
    repeats: int
    seed: int = 0
    batch: int = 64
    directions: int = 1000

    def __post_init__(self) -> None:
        """Reject what would fail after hours."""
        make_whole(self, "num", "seed", "repeats", "batch", "directions")
        check_request(self.num, self.seed)
        if self.num < 2:
            raise LabError(f"num {self.num}: a distance between sets needs at least 2 samples", field="num")
        if not 1 <= self.repeats <= 1000:
            raise LabError(f"repeats {self.repeats}: must lie between 1 and 1000", field="repeats")
        if self.batch < 1 or self.directions < 1:
            raise LabError(f"batch {self.batch} and directions {self.directions} must be at least 1")
        require_heldout(self.dataset)

    @property
    def names(self) -> list[str]:
        """Return the names of the rows, in the order of the table."""
        return list(self.configs)

    def sampler(self, name: str) -> Sampler:
        """Return the sampler of a row."""
        return Sampler.of(self.model, replace(self.configs[name], batch=self.batch))

    def fingerprint(self) -> dict[str, Any]:
        """Return the settings that all shards must share; more repeats may be added to old ones."""
        rows = json.dumps([stored_config(*row) for row in self.configs.items()], sort_keys=True)
        return {
            "schema": SCHEMA,
            "configs": hashlib.sha256(rows.encode()).hexdigest(),
            "checkpoint": self.model.digest(),
            "data": self.dataset.digest,
            "versions": versions(),
            "num": self.num,
            "seed": self.seed,
            "batch": self.batch,
            "device": str(self.model.device),
        }


def stored_config(name: str, config: SamplerConfig) -> dict[str, Any]:
    """Return what identifies a row, as plain JSON values. The batch belongs to the task, not to the row."""
    return {"name": name, **{key: value for key, value in config.to_json().items() if key != "batch"}}


@dataclass(frozen=True)
class Shard:
    """A finished run: series (num, N, M) in data units, its cost, and the `session` of its process."""

    series: np.ndarray
    seconds: float
    token_share: float
    flop_share: float
    flops: float
    session: str
    machine: dict[str, Any]


def claim(out: Path, task: Task) -> None:
    """Make `out` this task's folder. Raises LabError if it holds shards of another evaluation."""
    claim_folder(out / STATEMENT, task.fingerprint(), "an evaluation")


def shard_path(out: Path, index: int, repeat: int) -> Path:
    """Return the path of the shard for row `index` and a repeat."""
    return out / "shards" / f"{index:03d}-r{repeat:03d}.npz"


def read_shards(out: Path, task: Task, name: str) -> list[Shard]:
    """Read all repeats of a row. Raises LabError if one is missing or damaged."""
    index = task.names.index(name)
    return [read_shard(shard_path(out, index, repeat)) for repeat in range(task.repeats)]


def _write_shard(path: Path, shard: Shard) -> None:
    meta = {key: value for key, value in vars(shard).items() if key != "series"}
    arrays = {"series": shard.series, "meta": np.array(json.dumps(meta))}
    write_arrays(path, _statement(path), arrays)


def read_shard(path: Path) -> Shard:
    """Read one shard. Raises LabError for a missing or damaged file."""
    stored = read_arrays(path, _statement(path))
    return Shard(series=stored["series"], **json.loads(str(stored["meta"])))


def _statement(shard: Path) -> Path:
    return shard.parents[1] / STATEMENT


def run_shards(task: Task, out: Path, progress: Progress = silent) -> None:
    """Run what is missing in `out`. Progress counts network steps of all missing runs."""
    claim(out, task)
    missing = [
        (name, repeat) for name, repeat in _order(task) if not _path(task, out, name, repeat).is_file()
    ]
    total = sum(task.configs[name].steps for name, _ in missing)
    session, about = secrets.token_hex(4), machine()
    warm: set[str] = set()
    spent = 0
    for name, repeat in missing:
        sampler = task.sampler(name)
        if name not in warm:
            _warm(sampler, min(task.num, task.batch), task.seed)
            warm.add(name)

        def report(done: int, of: int, spent: int = spent, steps: int = task.configs[name].steps) -> None:
            progress(spent + steps * done // of, total)

        samples = sampler.sample(task.num, task.seed + repeat, progress=report)
        shard = Shard(
            series=samples.series,
            seconds=samples.seconds,
            token_share=samples.token_share,
            flop_share=samples.flop_share,
            flops=samples.flop_share * sampler.full_flops(task.num) / task.num,
            session=session,
            machine=about,
        )
        _write_shard(_path(task, out, name, repeat), shard)
        spent += task.configs[name].steps


def _order(task: Task) -> Iterator[tuple[str, int]]:
    """Yield all (row, repeat), reversing the order of the rows from repeat to repeat."""
    for repeat in range(task.repeats):
        for name in task.names if repeat % 2 == 0 else reversed(task.names):
            yield name, repeat


def _path(task: Task, out: Path, name: str, repeat: int) -> Path:
    return shard_path(out, task.names.index(name), repeat)


def _warm(sampler: Sampler, num: int, seed: int) -> None:
    """Run a few uncounted steps, so that no row pays for first-call costs."""
    for _ in islice(sampler.steps(num, seed), 8):
        pass
    synchronize(sampler.model.device)
