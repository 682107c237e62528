"""Run work that does not fit one machine on Ray: trials of a study, and shards of an evaluation.

Only data is sent (a model, a setting, sample numbers) and only data comes back, so results equal those of one
machine with the same seeds. The driver keeps every finished trial and shard: if a worker dies, only its
current work is lost, and that is repeated. Runs on another node are in remote_run.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.evaluation.bulk import BulkShard, BulkTask, draw_shard
from e2crf_core.io.extras import require
from e2crf_core.progress import Cancel
from e2crf_core.tuning.executors import Outcome, TrialJob, measure_job
from e2crf_core.tuning.measure import Bench

RETRIES = 3
POLL = 0.05
OBJECT_STORE = 100 * 2**20
LOCAL = "local"


def ray_module() -> Any:
    """Import and return Ray. Raises LabError if it is not installed."""
    require("cluster", "work on a Ray cluster", "ray")
    import ray

    return ray


_joining = threading.Lock()


def connect(address: str = LOCAL, workers: int = 2, gpus: int = 0) -> None:
    """Join the cluster at `address`, or for `local` start one with `workers` processes here.

    Cluster nodes need the same version of this package, and its data sets if distances are measured.
    Raises LabError when the cluster cannot be reached.
    """
    with _joining:
        _connect(address, workers, gpus)


def _connect(address: str, workers: int, gpus: int) -> None:
    ray = ray_module()
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == LOCAL:
        if not 1 <= workers <= 1024:
            raise LabError(f"workers {workers}: must lie between 1 and 1024")
        # Ray would run workers at the lowest priority, unlike every other way of measuring.
        os.environ.setdefault("RAY_worker_niceness", "0")
        options |= {
            "num_cpus": workers,
            "num_gpus": gpus,
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE,
        }
    try:
        ray.init(address=address, **options)
    except (ConnectionError, ValueError, RuntimeError, OSError) as fault:
        reason = " ".join(str(fault).split())[:200]
        raise LabError(f"Ray cluster {address!r} cannot be reached: {reason}") from None


def disconnect() -> None:
    """Leave the cluster; a cluster that `connect` started here is shut down."""
    ray = ray_module()
    if ray.is_initialized():
        ray.shutdown()


class RayExecutor:
    """An executor (see tuning.Executor) that measures trials on the cluster. `gpus` is a trial's share."""

    def __init__(self, *, gpus: float = 0) -> None:
        self._ray = ray_module()
        self._measure = self._ray.remote(max_retries=RETRIES, num_gpus=gpus)(measure_job)
        self._bench: Bench | None = None
        self._reference: Any = None

    def run(self, bench: Bench, jobs: Sequence[TrialJob], cancelled: Cancel) -> Iterator[Outcome]:
        """Measure trials as defined by Executor."""
        ray = self._ray
        if bench is not self._bench:
            self._bench, self._reference = bench, ray.put(bench)
        open_jobs = {self._measure.remote(self._reference, job): job for job in jobs}
        while open_jobs:
            if cancelled():
                for task in open_jobs:
                    ray.cancel(task, force=True)
                return
            done, _ = ray.wait(list(open_jobs), num_returns=1, timeout=POLL)
            for task in done:
                job = open_jobs.pop(task)
                try:
                    yield ray.get(task)
                except ray.exceptions.RayError as fault:
                    yield job.number, f"{type(fault).__name__}: {' '.join(str(fault).split())[:200]}"


@dataclass(frozen=True)
class RayShards:
    """A shard source on the cluster (see shards.Draw). Each node chooses `device`; `gpus` is a shard's share.

    Only a few shards per worker are in flight, so memory does not grow with their number. Raises LabError
    when a shard fails permanently.
    """

    device: str = "auto"
    gpus: float = 0

    def __call__(
        self, model: ScoreModel, task: BulkTask, missing: Sequence[int], cancelled: Cancel
    ) -> Iterator[BulkShard]:
        """Draw shards as defined by shards.Draw."""
        ray = ray_module()
        remote = ray.remote(max_retries=RETRIES, num_gpus=self.gpus)(draw_shard)
        reference = ray.put(model.to("cpu"))
        width = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
        queue = list(missing)
        flying: dict[Any, int] = {}
        try:
            while queue or flying:
                while queue and len(flying) < width:
                    first = queue.pop(0)
                    flying[remote.remote(reference, task, first, self.device)] = first
                if cancelled():
                    return
                done, _ = ray.wait(list(flying), num_returns=1, timeout=POLL)
                for one in done:
                    first = flying.pop(one)
                    try:
                        yield ray.get(one)
                    except ray.exceptions.RayTaskError as fault:
                        raise LabError(f"shard {first}: {fault.cause}; finished shards are kept") from None
                    except ray.exceptions.RayError as fault:
                        reason = " ".join(str(fault).split())[:200]
                        raise LabError(
                            f"shard {first} failed {RETRIES + 1} times ({reason}); finished shards are kept: run again"
                        ) from None
        finally:
            for one in flying:
                ray.cancel(one, force=True)
