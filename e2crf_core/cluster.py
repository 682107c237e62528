"""Work that does not fit one machine, on Ray: trials of a study, shards of an evaluation, a run on another node.

What is sent is data (a model, a setting, numbers of samples) and what comes back is data, so results are those
of one machine with the same seeds. The driver writes every finished shard to disk: a worker that dies costs the
shards it was at work on, and those are drawn again.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from e2crf_core.arrays import read_npz
from e2crf_core.checkpoints import choose_device, replace_file
from e2crf_core.data import Dataset
from e2crf_core.drawing import Cancel, Part, draw
from e2crf_core.errors import LabError
from e2crf_core.evaluation import heldout_blocks
from e2crf_core.metrics import standard_metrics
from e2crf_core.model import ScoreModel
from e2crf_core.policy import CachePolicy
from e2crf_core.recorder import Recorder
from e2crf_core.run import FINISHED, RunHandle, RunResult, RunSpec
from e2crf_core.sampler import check_request, warm_up
from e2crf_core.statistics import measure
from e2crf_core.tuning import Bench, Job, Outcome, measure_job
from e2crf_core.tuning_space import Setting

RETRIES = 3
POLL = 0.05
OBJECT_STORE = 100 * 2**20
MAX_SAMPLES = 10**10
_LOCAL = "local"


def ray_module() -> Any:
    """Ray. Raises LabError where it is not installed."""
    try:
        import ray
    except ImportError:
        raise LabError("Ray is not installed: pip install -r requirements-cluster.txt") from None
    return ray


def connect(address: str = _LOCAL, workers: int = 2, gpus: int = 0) -> None:
    """Join the cluster at `address`, or start one of `workers` processes here for `local`.

    Nodes of a cluster need this package in the same version, and its data sets where distances are measured.
    Raises LabError when the cluster cannot be reached.
    """
    ray = ray_module()
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == _LOCAL:
        if not 1 <= workers <= 1024:
            raise LabError(f"workers {workers}: must lie between 1 and 1024")
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
    """Leave the cluster; one that `connect` started here ends."""
    ray = ray_module()
    if ray.is_initialized():
        ray.shutdown()


def _on(model: ScoreModel, device: str) -> ScoreModel:
    target = choose_device(device)
    return model if model.device == target else model.to(target)


class RayExecutor:
    """Measures the trials of a study on the cluster; see tuning.Executor. `gpus` is the share a trial takes."""

    def __init__(self, *, gpus: float = 0) -> None:
        self._ray = ray_module()
        self._measure = self._ray.remote(max_retries=RETRIES, num_gpus=gpus)(measure_job)
        self._bench: Bench | None = None
        self._reference: Any = None

    def run(self, bench: Bench, jobs: Sequence[Job], cancelled: Cancel) -> Iterator[Outcome]:
        """See Executor."""
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
class Evaluation:
    """`num` samples of a setting, drawn in shards of `shard`, `batch` of them together."""

    setting: Setting
    num: int
    seed: int = 0
    shard: int = 250
    batch: int = 50

    def __post_init__(self) -> None:
        """Refuse what could not be drawn."""
        check_request(1, self.seed)
        if not 1 <= self.num <= MAX_SAMPLES:
            raise LabError(f"num {self.num}: must lie between 1 and {MAX_SAMPLES}")
        if self.shard < 1 or self.batch < 1:
            raise LabError(f"shard {self.shard} and batch {self.batch} must be at least 1")

    @property
    def firsts(self) -> range:
        """The number of the first sample of every shard."""
        return range(0, self.num, self.shard)

    def count(self, first: int) -> int:
        """Samples in the shard that begins at `first`: the last one takes what is left."""
        return min(self.shard, self.num - first)

    def fingerprint(self, model: ScoreModel) -> dict[str, Any]:
        """What shards in one folder must agree in. More samples may be added to old ones."""
        told = {**asdict(self), "setting": self.setting.to_json(), "checkpoint": model.digest()}
        told.pop("num")
        return json.loads(json.dumps(told))


@dataclass(frozen=True)
class Shard:
    """Series (count, N, M) in data units of samples first.., what they took, and the process that drew them.

    `seconds` passed on the clock; `cpu_seconds` were computed, which on a busy machine is less.
    """

    first: int
    series: np.ndarray
    seconds: float
    cpu_seconds: float
    rows: int
    prepared: int
    process: int


def draw_shard(model: ScoreModel, task: Evaluation, first: int, device: str = "auto") -> Shard:
    """Draw one shard: a pure function of its arguments, wherever it runs."""
    sampler = task.setting.sampler(_on(model, device), task.batch)
    last = first + task.count(first)
    warm_up(sampler, min(task.batch, last - first), task.seed)
    begin = time.process_time()
    parts: list[Part] = [
        draw(sampler, min(task.batch, last - start), task.seed, start)
        for start in range(first, last, task.batch)
    ]
    return Shard(
        first,
        np.concatenate([part.series for part in parts]),
        sum(part.seconds for part in parts),
        time.process_time() - begin,
        sum(part.rows for part in parts),
        sum(part.prepared for part in parts),
        os.getpid(),
    )


def run_shards(
    model: ScoreModel,
    task: Evaluation,
    out: Path,
    *,
    on_ray: bool = False,
    device: str = "auto",
    gpus: float = 0,
    cancelled: Cancel = lambda: False,
) -> Iterator[Shard]:
    """Draw what is missing in `out`, here or on the cluster, yielding each shard once it is on disk.

    The cluster holds at most a few shards a worker in flight, so memory does not grow with `num`. Raises LabError
    when `out` holds another evaluation, or when a shard failed for good.
    """
    _claim(out, task.fingerprint(model))
    missing = [first for first in task.firsts if _find(out, task, first) is None]
    drawn = (
        _on_cluster(model, task, missing, device, gpus, cancelled)
        if on_ray
        else (draw_shard(model, task, first, device) for first in missing)
    )
    for shard in drawn:
        _write(out, shard)
        yield shard
        if cancelled():
            return


def _on_cluster(
    model: ScoreModel, task: Evaluation, missing: list[int], device: str, gpus: float, cancelled: Cancel
) -> Iterator[Shard]:
    ray = ray_module()
    remote = ray.remote(max_retries=RETRIES, num_gpus=gpus)(draw_shard)
    reference = ray.put(model.to("cpu"))
    width = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
    queue = list(missing)
    flying: dict[Any, int] = {}
    try:
        while queue or flying:
            while queue and len(flying) < width:
                first = queue.pop(0)
                flying[remote.remote(reference, task, first, device)] = first
            if cancelled():
                return
            done, _ = ray.wait(list(flying), num_returns=1, timeout=POLL)
            for one in done:
                first = flying.pop(one)
                try:
                    yield ray.get(one)
                except ray.exceptions.RayError as fault:
                    reason = " ".join(str(fault).split())[:200]
                    raise LabError(
                        f"shard {first} failed {RETRIES + 1} times ({reason}); finished shards are kept: run again"
                    ) from None
    finally:
        for one in flying:
            ray.cancel(one, force=True)


def _path(out: Path, first: int, count: int) -> Path:
    return out / "shards" / f"{first:011d}-{count}.npz"


def _find(out: Path, task: Evaluation, first: int) -> Path | None:
    """The file that holds a shard: the whole one, or one cut by an equal num. Its name tells, unopened."""
    paths = (_path(out, first, count) for count in (task.shard, task.count(first)))
    return next((path for path in paths if path.is_file()), None)


def _claim(out: Path, mine: dict[str, Any]) -> None:
    path = out / "shards.json"
    if path.is_file():
        try:
            theirs = json.loads(path.read_text())
        except ValueError:
            theirs = {}
        differ = [key for key in mine if theirs.get(key) != mine[key]]
        if differ:
            raise LabError(f"{out} holds shards that differ in {', '.join(differ)}: name another --out")
        return
    if out.is_dir() and any(out.iterdir()):
        raise LabError(f"{out} is not empty and holds no shards: name another --out")
    replace_file(path, lambda p: p.write_text(json.dumps(mine, indent=1) + "\n"))


def _write(out: Path, shard: Shard) -> None:
    def write(path: Path) -> None:
        with path.open("wb") as file:
            arrays: dict[str, Any] = {name: np.asarray(value) for name, value in vars(shard).items()}
            np.savez(file, **arrays)

    replace_file(_path(out, shard.first, len(shard.series)), write)


def _read(out: Path, task: Evaluation, first: int) -> Shard:
    path = _find(out, task, first)
    if path is None:
        raise LabError(f"shard {first} is not in {out}: run the evaluation to its end")
    try:
        stored = read_npz(path)
        numbers: dict[str, Any] = {
            name: int(stored[name]) for name in ("first", "rows", "prepared", "process")
        }
        clocks: dict[str, Any] = {name: float(stored[name]) for name in ("seconds", "cpu_seconds")}
        return Shard(series=stored["series"], **numbers, **clocks)
    except (LabError, KeyError, ValueError, TypeError):
        raise LabError(f"shard {path} is damaged: delete it and run again") from None


def collect(out: Path, task: Evaluation) -> tuple[np.ndarray, list[Shard]]:
    """All series (num, N, M) in order of their numbers, and the shards they came in."""
    shards = [_read(out, task, first) for first in task.firsts]
    series = np.concatenate([shard.series for shard in shards])[: task.num]
    return series, shards


def assess(model: ScoreModel, dataset: Dataset, task: Evaluation, out: Path) -> dict[str, Any]:
    """Distances of all samples to held-out data with intervals and floors, and what they cost."""
    series, shards = collect(out, task)
    held, train = (dataset.standardise(dataset.x[i]) for i in (dataset.heldout, dataset.train))
    made, blocks = dataset.standardise(series), heldout_blocks(dataset)
    figures = {
        metric.name: asdict(
            measure(made, held, metric, train=train, resamples=50, floor_repeats=5, blocks=blocks)
        )
        for metric in standard_metrics(len(dataset.channels), directions=200)
    }
    sampler = task.setting.sampler(model, task.batch)
    rows, prepared = sum(s.rows for s in shards), sum(s.prepared for s in shards)
    drawn = sum(len(s.series) for s in shards)
    return {
        "checkpoint": model.name,
        "digest": model.digest(),
        "setting": task.setting.to_json(),
        "num": task.num,
        "seed": task.seed,
        "shards": len(shards),
        "processes": len({s.process for s in shards}),
        "seconds_of_work": sum(s.seconds for s in shards),
        "cpu_seconds": sum(s.cpu_seconds for s in shards),
        "flop_share": sampler.flops(rows, prepared, drawn) / sampler.full_flops(drawn),
        "figures": figures,
    }


class RunHost:
    """Holds a run on a node. Calls come one at a time; the run has a thread of its own."""

    CALLS = (
        "start",
        "resume",
        "pause",
        "step_once",
        "stop",
        "skip_compare",
        "set_policy",
        "set_pace",
        "set_watch",
    )

    def __init__(self, model: ScoreModel, spec: RunSpec, orphan_s: float | None) -> None:
        self.handle = RunHandle(spec, orphan_s=orphan_s, load=lambda _, device: _on(model, device))

    def call(self, name: str, *arguments: Any) -> Any:
        """One of the methods of a run handle."""
        if name not in self.CALLS:
            raise LabError(f"a run has no call {name!r}")
        return getattr(self.handle, name)(*arguments)

    def pull(self, cursor: int, watched: bool) -> dict[str, Any]:
        """The state of the run, and its steps from `cursor` on."""
        handle = self.handle
        if watched:
            handle.touch()
        told: dict[str, Any] = {
            name: getattr(handle, name)
            for name in ("status", "error", "progress", "eta_s", "pace", "policy_version")
        }
        recorder = handle.recorder
        if recorder is not None:
            rows, cursor = recorder.since(cursor)
            told["shape"] = (recorder.steps, recorder.n, recorder.N, recorder.M, recorder.batch)
            told["rows"] = {name: column.copy() for name, column in rows.items()}
            told["policies"] = list(recorder.policies)
        # The status was read first: where it says finished, no step can be missing from the rows read after it.
        return told | {"cursor": cursor, "result": handle.result}


class RemoteRun:
    """A run whose sampler sits on a node of the cluster, with the members of RunHandle that pages use.

    Steps are fetched by cursor into a recorder here. When the node is lost, `status` is failed and what was
    fetched stays.
    """

    def __init__(
        self, spec: RunSpec, model: ScoreModel, *, orphan_s: float | None = None, gpus: float = 0
    ) -> None:
        self.spec, self.model = spec, model
        self.id = secrets.token_urlsafe(16)
        self.orphan_s = orphan_s
        self.status = "ready"
        self.error: str | None = None
        self.recorder: Recorder | None = None
        self.result: RunResult | None = None
        self.progress = 0.0
        self.eta_s: float | None = None
        self.pace = spec.pace
        self.policy = spec.policy
        self.policy_version = 0
        self._ray = ray_module()
        host = self._ray.remote(num_cpus=1, num_gpus=gpus)(RunHost)
        self._host = host.remote(self._ray.put(model.to("cpu")), spec, orphan_s)
        self._touched = time.monotonic()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def touch(self) -> None:
        """Say that somebody is watching."""
        self._touched = time.monotonic()

    def start(self) -> None:
        """Begin, or go on when paused."""
        self._call("start")

    def resume(self) -> None:
        """Go on after `pause`."""
        self._call("resume")

    def pause(self) -> None:
        """Hold before the next step."""
        self._call("pause")

    def step_once(self) -> None:
        """Take exactly one step, then hold."""
        self._call("step_once")

    def stop(self) -> None:
        """End the run; what was recorded stays."""
        self._call("stop")

    def skip_compare(self) -> None:
        """Leave out the uncached twin, or end it early."""
        self._call("skip_compare")

    def set_policy(self, policy: CachePolicy) -> int:
        """Replace the policy from the next step on; returns its version."""
        self.policy = policy
        return int(self._ray.get(self._host.call.remote("set_policy", policy)))

    def set_pace(self, pace: float) -> None:
        """Change the limit on steps a second; 0 is unlimited."""
        self._call("set_pace", pace)

    def set_watch(self, watch: int) -> None:
        """Record the details of another sample from the next step on."""
        if not 0 <= watch < self.spec.num:
            raise LabError(f"watch {watch}: must name one of the samples 0..{self.spec.num - 1}")
        self._call("set_watch", watch)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the run has ended and all its steps are here; False on time-out."""
        return self._ended.wait(timeout)

    def _call(self, name: str, *arguments: Any) -> None:
        self._host.call.remote(name, *arguments)
        self.touch()
        if self._thread is None:
            self.status = "loading"
            self._thread = threading.Thread(target=self._follow, name=f"remote-{self.id[:6]}", daemon=True)
            self._thread.start()

    def _follow(self) -> None:
        cursor = 0
        try:
            while True:
                watched = self.orphan_s is None or time.monotonic() - self._touched <= self.orphan_s
                told = self._ray.get(self._host.pull.remote(cursor, watched))
                cursor = self._take(told, cursor)
                if self.status in FINISHED:
                    return
                time.sleep(POLL)
        except self._ray.exceptions.RayError as fault:
            self.error = f"the node of this run is gone: {' '.join(str(fault).split())[:200]}"
            self.status = "failed"
        finally:
            self._ended.set()
            self._ray.kill(self._host)

    def _take(self, told: dict[str, Any], cursor: int) -> int:
        if "shape" in told:
            recorder = self.recorder or Recorder(*told["shape"])
            recorder.policies[:] = told["policies"]
            rows = told["rows"]
            for index in range(told["cursor"] - cursor):
                event = SimpleNamespace(**{name: column[index] for name, column in rows.items()})
                recorder.append(event)  # type: ignore[arg-type]
            self.recorder = recorder
        self.result = told["result"]
        self.error, self.progress, self.eta_s = told["error"], told["progress"], told["eta_s"]
        self.pace, self.policy_version = told["pace"], told["policy_version"]
        self.status = told["status"]
        return int(told["cursor"])


def scaling(model: ScoreModel, task: Evaluation, out: Path, workers: int, *, on_ray: bool) -> dict[str, Any]:
    """Seconds to draw all of `task` anew with so many workers, after one shard that is not counted."""
    first = replace(task, num=min(task.num, task.shard * max(1, workers)), seed=task.seed + 1)
    list(run_shards(model, first, out / f"warm-{workers}-{on_ray}", on_ray=on_ray))
    begin = time.perf_counter()
    shards = list(run_shards(model, task, out / f"timed-{workers}-{on_ray}", on_ray=on_ray))
    seconds = time.perf_counter() - begin
    return {
        "workers": workers,
        "ray": on_ray,
        "seconds": seconds,
        "samples_per_second": task.num / seconds,
        "seconds_of_work": sum(s.seconds for s in shards),
        "cpu_seconds": sum(s.cpu_seconds for s in shards),
        "processes": len({s.process for s in shards}),
    }
