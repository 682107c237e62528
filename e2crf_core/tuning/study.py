"""A study: many settings measured on common noise against the same held-out series, searched by optuna.

A trial runs few samples before many and ends early once a finished trial is cheaper and, on the samples so far,
certainly better. Everything a trial measured is stored with it, so that a study that was killed goes on where
it stopped, on one machine or several (`cluster.RayExecutor`).
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import optuna
import torch
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from e2crf_core.data.datasets import Dataset
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import Cancelled, LabError
from e2crf_core.evaluation.heldout import heldout_blocks
from e2crf_core.io.files import replace_file
from e2crf_core.io.provenance import machine
from e2crf_core.progress import Cancel
from e2crf_core.quality.distances import relative_l2, sliced_wasserstein_metric
from e2crf_core.quality.intervals import centered_interval, real_floor, resample_picks
from e2crf_core.sampling.batch import Part, draw
from e2crf_core.sampling.sampler import check_request, synchronize, warm_up
from e2crf_core.tuning.space import FIELDS, SearchSpace, Setting, measure_ranges, starting_points
from e2crf_core.tuning.storage import missing_driver, shown

SCHEMA = 1
QUALITIES = ("sliced_wasserstein", "relative_l2")
COSTS = ("seconds", "flops")
REFERENCE_STEPS = (1000, 500, 300, 200, 100, 50)
REFERENCE_SHARE = 0.25
GROWTH = 4
# A finished trial must be this much cheaper before its quality may end another: timings are not exact.
CHEAPER = 0.95
CUT = "cut short"


@dataclass(frozen=True)
class StudySpec:
    """How trials are measured. `num` samples in batches of `batch`, all trials with the same `seed`.

    `quality` sliced_wasserstein is the distance to held-out series, comparable between all solvers;
    relative_l2 is the distance to the uncached twin, which asks for a space with one plan. `cost` seconds is
    wall clock for a sample, flops operations for a sample. `width` trials are proposed at once.
    """

    num: int = 64
    batch: int = 16
    seed: int = 0
    quality: str = "sliced_wasserstein"
    cost: str = "seconds"
    directions: int = 256
    resamples: int = 100
    width: int = 1

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        check_request(self.num, self.seed)
        if self.quality not in QUALITIES:
            raise LabError(f"unknown quality {self.quality!r}: use {' or '.join(QUALITIES)}")
        if self.cost not in COSTS:
            raise LabError(f"unknown cost {self.cost!r}: use {' or '.join(COSTS)}")
        if not 2 <= self.batch <= self.num or self.num % self.batch:
            raise LabError(
                f"num {self.num}: must be a multiple of the batch {self.batch}, which is 2 or more"
            )
        if min(self.directions, self.resamples) < 1 or not 1 <= self.width <= 1000:
            raise LabError("directions and resamples must be at least 1, width between 1 and 1000")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Samples after which a trial is looked at: a batch, then four times as many, up to `num`."""
        sizes, size = [], self.batch
        while size < self.num:
            sizes.append(size)
            size *= GROWTH
        return (*sizes, self.num)


@dataclass(frozen=True)
class Rung:
    """A trial's figures on its first `num` samples.

    `seconds` (median over batches, with the range seen) and `flops` are for one sample. `quality` has the 95%
    interval `low`..`high`; `replicates` are its values on the bootstrap resamples that all trials share, so
    the difference of two trials has an interval of its own, far narrower than the two.
    """

    num: int
    seconds: float
    seconds_low: float
    seconds_high: float
    flops: float
    token_share: float
    flop_share: float
    quality: float
    low: float
    high: float
    replicates: tuple[float, ...]

    def cost(self, name: str) -> float:
        """Seconds or flops of a sample."""
        return self.seconds if name == "seconds" else self.flops

    def change(self, other: Rung) -> tuple[float, float, float]:
        """Quality of this less that of `other` on the same samples, and its 95% interval; positive is worse."""
        value = self.quality - other.quality
        low, high = centered_interval(value, np.subtract(self.replicates, other.replicates))
        return value, low, high


@dataclass(frozen=True)
class Point:
    """A measured setting. `origin` says who proposed it; `beaten_by` names the trial that ended it early."""

    number: int
    origin: str
    setting: Setting
    rungs: tuple[Rung, ...]
    complete: bool
    beaten_by: int | None = None

    @property
    def last(self) -> Rung:
        """The figures on most samples."""
        return self.rungs[-1]

    def at(self, num: int) -> Rung | None:
        """The figures on exactly `num` samples."""
        return next((rung for rung in self.rungs if rung.num == num), None)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` restores an equal point."""
        return {**asdict(self), "setting": self.setting.to_json()}

    @staticmethod
    def from_json(stored: dict[str, Any]) -> Point:
        """Inverse of `to_json`."""
        rungs = tuple(Rung(**{**rung, "replicates": tuple(rung["replicates"])}) for rung in stored["rungs"])
        return Point(**{**stored, "setting": Setting.from_json(stored["setting"]), "rungs": rungs})


@dataclass(frozen=True)
class Bench:
    """All that measuring a setting needs, and nothing that changes: safe to send to another machine.

    `held` (m, N, M) are standardized held-out series, `blocks` (m,) their overlaps, `twin` (num, N, M) the
    uncached series in data units that relative L2 is measured against.
    """

    model: ScoreModel
    held: np.ndarray
    blocks: np.ndarray
    spec: StudySpec
    mean: np.ndarray
    std: np.ndarray
    twin: np.ndarray | None = None

    def rung(self, setting: Setting, parts: Sequence[Part]) -> Rung:
        """Figures of the batches drawn so far."""
        spec, model = self.spec, self.model
        series = np.concatenate([part.series for part in parts])
        num = len(series)
        sampler = setting.sampler(model, spec.batch)
        each = [part.seconds / len(part.series) for part in parts]
        rows, prepared = sum(p.rows for p in parts), sum(p.prepared for p in parts)
        flops = sampler.flops(rows, prepared, num)
        value, replicates = self._quality(series)
        low, high = centered_interval(value, replicates)
        return Rung(
            num=num,
            seconds=float(np.median(each)),
            seconds_low=float(min(each)),
            seconds_high=float(max(each)),
            flops=flops / num,
            token_share=rows / (num * model.n * setting.steps),
            flop_share=flops / sampler.full_flops(num),
            quality=value,
            low=low,
            high=high,
            replicates=tuple(float(f"{x:.7g}") for x in replicates),
        )

    def _quality(self, series: np.ndarray) -> tuple[float, np.ndarray]:
        spec = self.spec
        scaled = ((series - self.mean) / self.std).astype(np.float32)
        picks = resample_picks(
            len(series), len(self.held), resamples=spec.resamples, seed=spec.seed, blocks=self.blocks
        )
        if spec.quality == "relative_l2":
            assert self.twin is not None
            twin = ((self.twin[: len(series)] - self.mean) / self.std).astype(np.float32)
            error, energy = (np.square(x, dtype=np.float64).sum((1, 2)) for x in (scaled - twin, twin))
            each = np.array([np.sqrt(error[i].sum() / energy[i].sum()) for i, _ in picks])
            return relative_l2(scaled, twin), each
        metric = sliced_wasserstein_metric(directions=spec.directions)
        return metric(scaled, self.held), metric.values(scaled, self.held, picks)


def measure(
    bench: Bench,
    setting: Setting,
    front: Sequence[Point] = (),
    cancelled: Cancel = lambda: False,
) -> tuple[tuple[Rung, ...], int | None, np.ndarray]:
    """Run a setting on few samples, then more: its figures, who beat it (None: nobody), its series.

    After a size that is not the last, the trial ends if some point of `front` is cheaper and certainly better
    on those very samples.
    """
    spec = bench.spec
    sampler = setting.sampler(bench.model, spec.batch)
    warm_up(sampler, spec.batch, spec.seed)
    rungs: list[Rung] = []
    parts: list[Part] = []
    for size in spec.sizes:
        for first in range(len(parts) * spec.batch, size, spec.batch):
            parts.append(draw(sampler, spec.batch, spec.seed, first, cancelled))
        rungs.append(bench.rung(setting, parts))
        if size < spec.num:
            for rival in front:
                theirs = rival.at(size)
                if theirs is not None and dominates(theirs, rungs[-1], spec.cost):
                    return tuple(rungs), rival.number, np.concatenate([p.series for p in parts])
    return tuple(rungs), None, np.concatenate([p.series for p in parts])


def dominates(one: Rung, other: Rung, cost: str) -> bool:
    """Whether `one` is clearly cheaper than `other`, and better with an interval that excludes chance."""
    return one.cost(cost) <= CHEAPER * other.cost(cost) and other.change(one)[1] > 0


def pareto_front(points: Sequence[Point], cost: str) -> list[Point]:
    """Complete points that no other one beats in both cost and quality, cheapest first."""
    front: list[Point] = []
    complete = [point for point in points if point.complete]
    for point in sorted(complete, key=lambda p: (p.last.cost(cost), p.last.quality)):
        if not front or point.last.quality < front[-1].last.quality:
            front.append(point)
    return front


@dataclass(frozen=True)
class Job:
    """A trial to be measured, and the finished ones that may end it early."""

    number: int
    setting: Setting
    front: tuple[Point, ...]


Outcome = tuple[int, tuple[Rung, ...], int | None] | tuple[int, str]
"""(trial, rungs, beaten by), or (trial, why it failed)."""


class Executor(Protocol):
    """Where trials are measured. Yields each outcome as it is there; may end early when cancelled."""

    def run(self, bench: Bench, jobs: Sequence[Job], cancelled: Cancel) -> Iterator[Outcome]: ...


class Local:
    """Measures trials in this process, one after the other."""

    def run(self, bench: Bench, jobs: Sequence[Job], cancelled: Cancel) -> Iterator[Outcome]:
        """See Executor."""
        for job in jobs:
            try:
                yield measure_job(bench, job, cancelled)
            except Cancelled:
                return


def measure_job(bench: Bench, job: Job, cancelled: Cancel = lambda: False) -> Outcome:
    """`measure` for a job; a setting that cannot run is an outcome, not the end of the study."""
    try:
        rungs, beaten, _ = measure(bench, job.setting, job.front, cancelled)
    except LabError as fault:
        return job.number, str(fault)
    if not all(np.isfinite(rung.quality) for rung in rungs):
        return job.number, "samples were not finite"
    return job.number, rungs, beaten


def open_storage(out: Path, url: str | None) -> optuna.storages.BaseStorage:
    """SQLite in `out` by default; a `journal:FILE`, or any URL that SQLAlchemy knows (PostgreSQL, SQLite).

    Raises LabError, without the URL's password, when it cannot be opened or its driver is not installed.
    """
    if url is None:
        out.mkdir(parents=True, exist_ok=True)
        url = f"sqlite:///{(out / 'study.db').resolve()}"
    try:
        if url.startswith("journal:"):
            backend = JournalFileBackend(url.removeprefix("journal:"))
            return optuna.storages.JournalStorage(backend)
        return optuna.storages.RDBStorage(url)
    except ImportError:
        raise LabError(f"study storage {shown(url)!r} cannot be opened: {missing_driver(url)}") from None
    except Exception as fault:  # drivers raise what they like; the way out is the same
        reason = " ".join(str(fault).split())[:200]
        url = shown(url)
        raise LabError(f"study storage {url!r} cannot be opened: {type(fault).__name__}: {reason}") from None


def study_name(folder: Path) -> str:
    """What the study of a folder is called in its storage."""
    return f"e2crf-{folder.resolve().name}"


def stored_study(folder: Path) -> optuna.Study:
    """The study that SQLite holds in `folder`, as optuna knows it. Raises what optuna raises for a damaged one."""
    return optuna.load_study(study_name=study_name(folder), storage=open_storage(folder, None))


class Study:
    """A resumable search. `points` grows as trials end; `since` hands out what is new.

    `out` holds the storage (unless `storage` names another), and the reference's series. Raises LabError when
    it holds a study of other settings, or when another process is at work on it.
    """

    def __init__(
        self,
        model: ScoreModel,
        dataset: Dataset,
        out: Path,
        spec: StudySpec = StudySpec(),
        *,
        space: SearchSpace | None = None,
        minutes: float = 15.0,
        reference_steps: int | None = None,
        storage: str | None = None,
        executor: Executor | None = None,
    ) -> None:
        if not 0 < minutes <= 1e5:
            raise LabError(f"minutes {minutes}: a positive budget is expected")
        if len(dataset.heldout) < 8:
            raise LabError(
                f"data set {dataset.name!r} has {len(dataset.heldout)} held-out windows, 8 are needed"
            )
        self.model, self.dataset, self.out, self.spec = model, dataset, out, spec
        self.minutes, self.executor = minutes, executor or Local()
        self.space = space or SearchSpace(model.n, ranges=measure_ranges(model))
        if spec.quality == "relative_l2" and not self.space.one_plan:
            raise LabError(
                "quality relative_l2 compares with the uncached twin: give one solver, one grid and one number of"
                " steps, or use sliced_wasserstein, which compares across solvers"
            )
        self.bench = Bench(
            model=model,
            held=dataset.standardize(dataset.x[dataset.heldout]),
            blocks=heldout_blocks(dataset),
            spec=spec,
            mean=dataset.mean,
            std=dataset.std,
        )
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.storage = open_storage(out, storage)
        self.study = optuna.create_study(
            storage=self.storage,
            study_name=study_name(out),
            directions=["minimize", "minimize"],
            load_if_exists=True,
        )
        self._claim()
        self.points: list[Point] = []
        self.reference: Point | None = None
        self._reference_steps = reference_steps
        self._clock = time.monotonic()
        self._spent = float(self.study.user_attrs.get("spent", 0.0))
        self._load()

    @property
    def spent(self) -> float:
        """Seconds of the budget used so far, over all sessions."""
        return self._spent

    @property
    def floor(self) -> float | None:
        """What real series of the same number score against the held-out ones; None for relative L2."""
        if self.spec.quality != "sliced_wasserstein":
            return None
        known = self.study.user_attrs.get("floor")
        if known is not None:
            return float(known)
        data = self.dataset
        metric = sliced_wasserstein_metric(directions=self.spec.directions)
        train = data.standardize(data.x[data.train])
        value = real_floor(self.bench.held, self.spec.num, metric, train=train, repeats=10).value
        self.study.set_user_attr("floor", value)
        return value

    def release(self) -> None:
        """Let another process take the study; `run` does so at its end."""
        self.study.set_user_attr("driver", None)

    def since(self, cursor: int) -> tuple[list[Point], int]:
        """Points that ended after `cursor`, and the cursor to ask with next."""
        count = len(self.points)
        return self.points[cursor:count], count

    def front(self) -> list[Point]:
        """The best points, cheapest first; the reference counts."""
        known = [self.reference, *self.points] if self.reference else self.points
        return pareto_front(known, self.spec.cost)

    def run(self, cancelled: Cancel = lambda: False, max_trials: int | None = None) -> Iterator[Point]:
        """Measure until the budget is spent, `cancelled` is true, or `max_trials` more have ended.

        Yields each point as it is measured. Trials that were cut short are tried again on resume.
        """
        try:
            yield from self._run(cancelled, max_trials)
        finally:
            self._spend()
            self.release()

    def _run(self, cancelled: Cancel, max_trials: int | None) -> Iterator[Point]:
        self._clock = time.monotonic()

        def over() -> bool:
            return cancelled() or self._spent + time.monotonic() - self._clock > 60 * self.minutes

        if self.reference is None:
            try:
                self.reference = self._measure_reference(cancelled)
            except Cancelled:
                return
            _ = self.floor  # stored here, so that every picture of the study can show it
            yield self.reference
        if not self.study.get_trials(deepcopy=False):
            for origin, setting in starting_points(self.space, self.reference.setting):
                self.study.enqueue_trial(self.space.params(setting) or {}, user_attrs={"origin": origin})
        ended = 0
        while not over() and (max_trials is None or ended < max_trials):
            width = self.spec.width if max_trials is None else min(self.spec.width, max_trials - ended)
            jobs = [self._ask() for _ in range(width)]
            open_jobs = {job.number: job for job in jobs}
            for outcome in self.executor.run(self.bench, jobs, over):
                job = open_jobs.pop(outcome[0])
                self._spend()
                ended += 1
                point = self._tell(job, outcome)
                if point is not None:
                    yield point
            for number in open_jobs:
                self._abandon(number, CUT)
            if open_jobs and over():
                return

    def _measure_reference(self, cancelled: Cancel) -> Point:
        """The uncached run that every change is told against: the published sampler, or the one plan there is."""
        space = self.space
        plan = (space.solvers[0], space.grids[0], space.steps[1])
        if not space.one_plan:
            solver = "euler_maruyama" if "euler_maruyama" in space.solvers else space.solvers[0]
            grid = "linear" if "linear" in space.grids else space.grids[0]
            plan = (solver, grid, self._reference_steps or self._affordable_steps(solver, grid))
        setting = Setting(*plan, None)
        setting.sampler(self.model, self.spec.batch)
        bench = self.bench
        if self.spec.quality == "relative_l2":
            parts = [
                draw(
                    setting.sampler(self.model, self.spec.batch),
                    self.spec.batch,
                    self.spec.seed,
                    i,
                    cancelled,
                )
                for i in range(0, self.spec.num, self.spec.batch)
            ]
            bench = replace(bench, twin=np.concatenate([p.series for p in parts]))
            self.bench = bench
        rungs, _, series = measure(bench, setting, (), cancelled)
        self._save_twin(series)
        point = Point(-1, "reference", setting, rungs, complete=True)
        self.study.set_user_attr("reference", point.to_json())
        self._spend()
        return point

    def _affordable_steps(self, solver: str, grid: str) -> int:
        """The most steps at which the reference costs no more than its share of the budget."""
        sampler = Setting(solver, grid, 50, None).sampler(self.model, self.spec.batch)
        warm_up(sampler, self.spec.batch, self.spec.seed)
        times = []
        with torch.inference_mode():
            problem, state = sampler.begin(self.spec.batch, self.spec.seed)
            for _ in range(5):
                begin = time.perf_counter()
                state, _ = sampler.step(problem, state, sampler.policy)
                synchronize(self.model.device)
                times.append(time.perf_counter() - begin)
        each = float(np.median(times)) * self.spec.num / self.spec.batch
        able = [s for s in REFERENCE_STEPS if self.space.steps[0] <= s <= self.space.steps[1]]
        within = [s for s in able if s * each <= REFERENCE_SHARE * 60 * self.minutes]
        return max(within, default=min(able, default=self.space.steps[1]))

    def _ask(self) -> Job:
        # A fresh sampler for every trial, keyed by what is known: a resumed study proposes what an unbroken one
        # would have proposed.
        count = len(self.study.get_trials(deepcopy=False))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.study.sampler = optuna.samplers.TPESampler(
                seed=self.spec.seed + 7919 * count, multivariate=True, group=True, n_startup_trials=12
            )
        trial = self.study.ask()
        setting = self.space.suggest(trial)
        trial.set_user_attr("setting", setting.to_json())
        return Job(trial.number, setting, tuple(self.front()))

    def _tell(self, job: Job, outcome: Outcome) -> Point | None:
        if len(outcome) == 2:
            self._abandon(job.number, outcome[1])
            return None
        _, rungs, beaten = outcome
        trial = self.study.get_trials(deepcopy=False)[job.number]
        origin = str(trial.user_attrs.get("origin", "search"))
        point = Point(job.number, origin, job.setting, rungs, beaten is None, beaten)
        trial_id = trial._trial_id
        self.storage.set_trial_user_attr(trial_id, "point", point.to_json())
        if beaten is None:
            last = point.last
            self.study.tell(job.number, [last.cost(self.spec.cost), last.quality])
        else:
            self.study.tell(job.number, state=TrialState.PRUNED)
        self.points.append(point)
        return point

    def _abandon(self, number: int, why: str) -> None:
        trial = self.study.get_trials(deepcopy=False)[number]
        self.storage.set_trial_user_attr(trial._trial_id, "why", why)
        self.study.tell(number, state=TrialState.FAIL)

    def _spend(self) -> None:
        now = time.monotonic()
        self._spent, self._clock = self._spent + now - self._clock, now
        self.study.set_user_attr("spent", self._spent)

    def _claim(self) -> None:
        """Be the one process at work on this study, and one that measures as it was begun."""
        mine = {
            "schema": SCHEMA,
            "checkpoint": self.model.digest(),
            "dataset": self.dataset.name,
            "device": str(self.model.device),
            "spec": asdict(self.spec),
            "space": {k: v for k, v in self.space.to_json().items() if k != "ranges"},
            # A study keeps the values it may choose from: a version that knows more of them cannot go on with it.
            "choices": {name: FIELDS[name].metadata["choices"] for name in self.space.fields},
        }
        mine = json.loads(json.dumps(mine))
        attrs = self.study.user_attrs
        theirs = attrs.get("fingerprint")
        if theirs is None:
            self.study.set_user_attr("fingerprint", mine)
            self.study.set_user_attr("space", self.space.to_json())
            self.study.set_user_attr("machine", machine())
        else:
            differ = [key for key in mine if theirs.get(key) != mine[key]]
            if differ:
                raise LabError(
                    f"the study in {self.out} differs in {', '.join(differ)}: name another --out, or use its settings"
                )
            self.space = SearchSpace.from_json(attrs["space"])
        driver = attrs.get("driver")
        me = {"host": socket.gethostname(), "pid": os.getpid(), "thread": threading.get_ident()}
        if (
            driver
            and driver["host"] == me["host"]
            and driver["pid"] != me["pid"]
            and process_alive(driver["pid"])
        ):
            raise LabError(f"process {driver['pid']} is at work on the study in {self.out}: stop it first")
        self.study.set_user_attr("driver", me)

    def _load(self) -> None:
        """Take up what is stored: finished points; trials that were cut are put back in the queue."""
        stored = self.study.user_attrs.get("reference")
        self.reference = Point.from_json(stored) if stored else None
        if self.reference is not None and self.spec.quality == "relative_l2":
            self.bench = replace(self.bench, twin=self._load_twin())
        retried = set(self.study.user_attrs.get("retried", []))
        for trial in self.study.get_trials(deepcopy=False):
            if "point" in trial.user_attrs and trial.state.is_finished():
                self.points.append(Point.from_json(trial.user_attrs["point"]))
                continue
            if trial.state == TrialState.RUNNING:
                self._abandon(trial.number, CUT)
            elif trial.user_attrs.get("why") != CUT or trial.number in retried:
                continue
            # A trial that was enqueued may have been killed before it had read its own values.
            params = trial.system_attrs.get("fixed_params")
            if params is None and "setting" in trial.user_attrs:
                params = trial.params
            if params is not None:
                origin = trial.user_attrs.get("origin", "search")
                self.study.enqueue_trial(params, user_attrs={"origin": origin})
            retried.add(trial.number)
            self.study.set_user_attr("retried", sorted(retried))

    def _twin_path(self) -> Path:
        return self.out / "reference.npz"

    def _save_twin(self, series: np.ndarray) -> None:
        def write(path: Path) -> None:
            with path.open("wb") as file:
                np.savez(file, series=series, checkpoint=np.array(self.model.digest()))

        replace_file(self._twin_path(), write)

    def _load_twin(self) -> np.ndarray:
        try:
            with np.load(self._twin_path(), allow_pickle=False) as stored:
                if str(stored["checkpoint"]) == self.model.digest():
                    return stored["series"]
        except (OSError, ValueError, KeyError):
            pass
        raise LabError(
            f"{self._twin_path()} is missing or of another checkpoint: begin the study in a new --out"
        )


def process_alive(pid: int) -> bool:
    """Whether a process of this machine is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class StudyHandle:
    """A study on a worker thread, for pages. No method blocks but `wait`.

    `status` goes ready -> running -> done, or ends in stopped or failed (with `error`); `start` after stopped
    goes on. `make` builds the study, on the worker.
    """

    def __init__(self, make: Callable[[], Study]) -> None:
        self._make = make
        self.status = "ready"
        self.error: str | None = None
        self.study: Study | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, or go on when stopped."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._stop.clear()
        self.status, self.error = "running", None
        self._thread = threading.Thread(target=self._work, name="study", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End soon; nothing that was measured is lost."""
        self._stop.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the worker has ended; False on time-out."""
        if self._thread is not None:
            self._thread.join(timeout)
            return not self._thread.is_alive()
        return True

    def since(self, cursor: int) -> tuple[list[Point], int]:
        """Points that ended after `cursor`, and the cursor to ask with next."""
        return self.study.since(cursor) if self.study is not None else ([], cursor)

    def _work(self) -> None:
        try:
            self.study = self._make()
            for _ in self.study.run(cancelled=self._stop.is_set):
                pass
            self.status = "stopped" if self._stop.is_set() else "done"
        except LabError as fault:
            self.error, self.status = str(fault), "failed"
        except Exception as fault:  # a page must show it rather than wait for ever
            self.error, self.status = f"{type(fault).__name__}: {fault}", "failed"
