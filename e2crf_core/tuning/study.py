"""Run a study: many settings measured on common noise against the same held-out series, searched by optuna.

A trial runs few samples before many, and ends early once a finished trial is cheaper and, on the samples so
far, certainly better. All measurements of a trial are stored with it, so that a killed study resumes where it
stopped, on one machine or several (`cluster.RayExecutor`).
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from e2crf_core.data.datasets import Dataset, require_heldout
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import Cancelled, LabError
from e2crf_core.evaluation.anchors import converged, deterministic, no_network
from e2crf_core.io.arrays import read_npz
from e2crf_core.io.files import replace_file
from e2crf_core.io.locks import claim, claiming
from e2crf_core.io.provenance import machine
from e2crf_core.io.sets import file_digest
from e2crf_core.models.heldout import heldout_blocks
from e2crf_core.progress import Cancel, never
from e2crf_core.quality.intervals import real_floor
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.sampler import warm_up
from e2crf_core.tuning.executors import Executor, Local, Outcome, TrialJob
from e2crf_core.tuning.measure import BESIDE, Bench, Point, StudySpec, front_points, measure, with_more
from e2crf_core.tuning.space import FIELDS, SearchSpace, fit_steps, measure_ranges, starting_points
from e2crf_core.tuning.storage import open_study
from e2crf_core.tuning.stored import (
    CUT,
    SCHEMA,
    guarded,
    measured_point,
    ordered_params,
    queue,
    read_attributes,
    sealed,
    set_attribute,
    stored_point,
    why_failed,
)

REFERENCE_STEPS = (1000, 500, 300, 200, 100, 50)
REFERENCE_SHARE = 0.25


class Study:
    """A resumable search. `points` grows as trials end; `since` returns the new ones.

    `out` holds the storage (unless `storage` names another) and the reference's series. Raises LabError if it
    holds a study with other settings, or if another process is working on it.
    """

    def __init__(
        self,
        model: ScoreModel,
        dataset: Dataset,
        out: Path,
        spec: StudySpec | None = None,
        *,
        space: SearchSpace | None = None,
        minutes: float = 15.0,
        reference_steps: int | None = None,
        storage: str | None = None,
        executor: Executor | None = None,
    ) -> None:
        if not 0 < minutes <= 1e5:
            raise LabError(f"minutes {minutes}: a positive budget is expected")
        require_heldout(dataset)
        spec = spec or StudySpec()
        self.model, self.dataset, self.out, self.spec = model, dataset, out, spec
        self.minutes, self.executor = minutes, executor or Local()
        self.space = space or SearchSpace(model.n, ranges=measure_ranges(model))
        if spec.quality == "relative_l2" and not self.space.one_plan:
            raise LabError(
                "quality relative_l2 compares with the uncached twin: give one solver, one grid and one number of"
                " steps, or use marginal_wasserstein, which compares across solvers"
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
        with claiming(out, "study") as self._lock:
            self.study, self.storage = guarded(out, lambda: open_study(out, storage))
        self._claim()
        self.points: list[Point] = []
        self.reference: Point | None = None
        self._reference_steps = reference_steps
        self._clock = time.monotonic()
        self._spent = float(self._attributes().get("spent", 0.0))
        guarded(out, self._load)

    @property
    def spent(self) -> float:
        """Return the seconds of the budget used so far, over all sessions."""
        return self._spent

    @property
    def floor(self) -> float | None:
        """Return the distance of as many real series to the held-out ones; None for relative L2."""
        if self.spec.quality == "relative_l2":
            return None
        known = self._attributes().get("floor")
        if known is not None:
            return float(known)
        data = self.dataset
        train = data.standardize(data.x[data.train])
        value = real_floor(self.bench.held, self.spec.num, self.spec.metric, train=train, repeats=10).value
        set_attribute(self.study, "floor", value)
        return value

    @property
    def no_network(self) -> float | None:
        """Return the distance of samples without the network, which every trial must beat."""
        if self.spec.quality == "relative_l2":
            return None
        known = self._attributes().get("no_network")
        if known is not None:
            return float(known)
        value = self.bench.distance(no_network(self.model, self.spec.num, self.spec.seed))
        set_attribute(self.study, "no_network", value)
        return value

    @property
    def spreads(self) -> dict[str, float]:
        """Return how much the distances of `measure.BESIDE` vary between draws of as many real series."""
        known = self._attributes().get("spreads")
        if known is not None:
            return {name: float(value) for name, value in known.items()}
        data, spreads = self.dataset, {}
        train = data.standardize(data.x[data.train])
        for metric in BESIDE:
            floor = real_floor(self.bench.held, self.spec.num, metric, train=train, repeats=20)
            spreads[metric.name] = floor.high - floor.low
        set_attribute(self.study, "spreads", spreads)
        return spreads

    def release(self) -> None:
        """Let another process use the study; `run` does so when it ends."""
        set_attribute(self.study, "driver", None)
        self._lock.release()

    def since(self, cursor: int) -> tuple[list[Point], int]:
        """Return points that ended after `cursor`, and the next cursor."""
        count = len(self.points)
        return self.points[cursor:count], count

    def front(self) -> list[Point]:
        """Return the best points, cheapest first, including the reference."""
        known = [self.reference, *self.points] if self.reference else self.points
        return front_points(known, self.spec.cost)

    def run(self, cancelled: Cancel = never, max_trials: int | None = None) -> Iterator[Point]:
        """Measure until the budget is spent, `cancelled` is true, or `max_trials` more have ended.

        Yields each point as it is measured. Trials that were cut short are tried again on resume.
        """
        if not self._lock.is_locked:
            self._lock = claim(self.out, "study")
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
            _ = self.floor, self.no_network  # stored here, so that every picture of the study can show them
            yield self.reference
        if not self.study.get_trials(deepcopy=False):
            for origin, setting in starting_points(self.space, self.reference.setting):
                queue(self.study, self.space.params(setting) or {}, origin)
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

    def _reference_config(self) -> SamplerConfig:
        """Return the uncached reference of every change: the only plan, or the converged sampler.

        Samples of deterministic solvers on common noise are pairs, which few samples suffice to compare. A space
        of stochastic solvers alone has the published sampler as reference.
        """
        space = self.space
        if space.one_plan:
            return SamplerConfig(None, space.steps[1], space.solvers[0], space.grids[0])
        best = converged(self.model)
        paired = [name for name in space.solvers if deterministic(name)]
        if paired:
            solver = best.solver if best.solver in paired else paired[0]
            grid = best.grid if best.grid in space.grids else space.grids[-1]
            steps = self._reference_steps or min(max(best.steps, space.steps[0]), space.steps[1])
            return SamplerConfig(None, fit_steps(solver, steps), solver, grid)
        solver = "euler_maruyama" if "euler_maruyama" in space.solvers else space.solvers[0]
        grid = "linear" if "linear" in space.grids else space.grids[0]
        steps = self._reference_steps or self._affordable_steps(solver, grid)
        return SamplerConfig(None, steps, solver, grid)

    def _measure_reference(self, cancelled: Cancel) -> Point:
        """Measure the reference, and keep its series."""
        setting = self._reference_config()
        sampler = self.bench.sampler(setting)
        bench = self.bench
        if self.spec.quality == "relative_l2":
            parts = [
                sampler.draw(self.spec.batch, self.spec.seed, i, cancelled=cancelled)
                for i in range(0, self.spec.num, self.spec.batch)
            ]
            bench = replace(bench, twin=np.concatenate([p.series for p in parts]))
            self.bench = bench
        rungs, _, series = measure(bench, setting, (), cancelled)
        self._save_twin(series)
        point = Point(-1, "reference", setting, rungs, complete=True)
        set_attribute(self.study, "reference", point.to_json())
        self._spend()
        return point

    def _affordable_steps(self, solver: str, grid: str) -> int:
        """Return the most steps at which the reference costs no more than its share of the budget."""
        sampler = self.bench.sampler(SamplerConfig(None, 50, solver, grid))
        warm_up(sampler, self.spec.batch, self.spec.seed)
        loop = sampler.steps(self.spec.batch, self.spec.seed, timed=True)
        times = [step.seconds for step in islice(loop, 5)]
        each = float(np.median(times)) * self.spec.num / self.spec.batch
        able = [s for s in REFERENCE_STEPS if self.space.steps[0] <= s <= self.space.steps[1]]
        within = [s for s in able if s * each <= REFERENCE_SHARE * 60 * self.minutes]
        return max(within, default=min(able, default=self.space.steps[1]))

    def _ask(self) -> TrialJob:
        # A fresh sampler for every trial, keyed by what is known: a resumed study proposes what an
        # uninterrupted one would have proposed.
        count = len(self.study.get_trials(deepcopy=False))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.study.sampler = optuna.samplers.TPESampler(
                seed=self.spec.seed + 7919 * count, multivariate=True, group=True, n_startup_trials=12
            )
        trial = self.study.ask()
        guarded(self.out, lambda: ordered_params(self.study.get_trials(deepcopy=False)[trial.number]))
        setting = self.space.suggest(trial)
        trial.set_user_attr("setting", setting.to_json())
        return TrialJob(trial.number, setting, tuple(self.front()))

    def _tell(self, job: TrialJob, outcome: Outcome) -> Point | None:
        if len(outcome) == 2:
            self._abandon(job.number, outcome[1])
            return None
        _, rungs, beaten = outcome
        trial = self.study.get_trials(deepcopy=False)[job.number]
        origin = str(trial.user_attrs.get("origin", "search"))
        point = Point(job.number, origin, job.setting, rungs, beaten is None, beaten)
        self.storage.set_trial_user_attr(trial._trial_id, "point", stored_point(point, trial))
        if beaten is None:
            last = point.last
            self.study.tell(job.number, [last.cost(self.spec.cost), last.quality])
        else:
            self.study.tell(job.number, state=TrialState.PRUNED)
        self.points.append(point)
        return point

    def _abandon(self, number: int, why: str) -> None:
        trial = self.study.get_trials(deepcopy=False)[number]
        self.storage.set_trial_user_attr(trial._trial_id, "why", sealed(why))
        self.study.tell(number, state=TrialState.FAIL)

    def _spend(self) -> None:
        now = time.monotonic()
        self._spent, self._clock = self._spent + now - self._clock, now
        set_attribute(self.study, "spent", self._spent)

    def _attributes(self) -> dict[str, Any]:
        return guarded(self.out, lambda: read_attributes(self.study))

    def _claim(self) -> None:
        """Ensure that only this process works on the study, and measures as at its start."""
        ours = {
            "schema": SCHEMA,
            "checkpoint": self.model.digest(),
            "dataset": self.dataset.name,
            "data": self.dataset.digest,
            "device": str(self.model.device),
            "spec": asdict(self.spec),
            "space": {k: v for k, v in self.space.to_json().items() if k != "ranges"},
            # A study keeps the values it may choose from, so a version that knows more of them cannot
            # continue it.
            "choices": {name: FIELDS[name].metadata["choices"] for name in self.space.fields},
        }
        ours = json.loads(json.dumps(ours))
        attrs = self._attributes()
        theirs = attrs.get("fingerprint")
        if theirs is None:
            set_attribute(self.study, "space", self.space.to_json())
            set_attribute(self.study, "machine", machine())
            set_attribute(self.study, "fingerprint", ours)
        else:
            # The name of a data set may change, its content may not.
            differ = [key for key in ours if key != "dataset" and theirs.get(key) != ours[key]]
            if differ:
                raise LabError(
                    f"the study in {self.out} differs in {', '.join(differ)}",
                    field="out",
                    remedy="name another folder, or use its settings",
                )
            self.space = SearchSpace.from_json(attrs["space"])
        me = {"host": socket.gethostname(), "pid": os.getpid(), "thread": threading.get_ident()}
        set_attribute(self.study, "driver", me)

    def _load(self) -> None:
        """Load what is stored: finished points; interrupted trials return to the queue."""
        attrs = read_attributes(self.study)
        stored = attrs.get("reference")
        self.reference = with_more(Point.from_json(stored), attrs) if stored else None
        if self.reference is not None and self.spec.quality == "relative_l2":
            self.bench = replace(self.bench, twin=self._load_twin(attrs.get("twin")))
        retried = set(attrs.get("retried", []))
        for trial in self.study.get_trials(deepcopy=False):
            point = measured_point(trial, self.spec.cost, SCHEMA)
            if point is not None:
                self.points.append(with_more(point, attrs))
                continue
            if trial.state == TrialState.RUNNING:
                self._abandon(trial.number, CUT)
            elif trial.state == TrialState.WAITING or why_failed(trial) != CUT or trial.number in retried:
                continue
            # An enqueued trial may have been killed before it had read its values.
            params = ordered_params(trial)
            if params is None and "setting" in trial.user_attrs:
                params = trial.params
            if params is not None:
                queue(self.study, params, trial.user_attrs.get("origin", "search"))
            retried.add(trial.number)
            set_attribute(self.study, "retried", sorted(retried))

    def _twin_path(self) -> Path:
        return self.out / "reference.npz"

    def _save_twin(self, series: np.ndarray) -> None:
        def write(path: Path) -> None:
            with path.open("wb") as file:
                np.savez(file, series=series)

        replace_file(self._twin_path(), write)
        set_attribute(self.study, "twin", file_digest(self._twin_path()))

    def _load_twin(self, digest: str | None) -> np.ndarray:
        path = self._twin_path()
        if not path.is_file() or file_digest(path) != digest:
            raise LabError(
                f"{path} is missing or damaged", field="out", remedy="begin the study in a new folder"
            )
        return read_npz(path)["series"]
