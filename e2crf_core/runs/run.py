"""A run on a worker thread: start, pause, one step, resume, stop, and a policy that may change while it runs."""

from __future__ import annotations

import gc
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from e2crf_core.caching.policy import PRESETS, CachePolicy
from e2crf_core.data.datasets import load_dataset
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.diffusion.solvers import make_plan
from e2crf_core.errors import LabError
from e2crf_core.models.checkpoints import load_checkpoint
from e2crf_core.quality.distances import relative_l2, sliced_wasserstein_metric
from e2crf_core.quality.intervals import real_floor
from e2crf_core.sampling.recorder import Recorder
from e2crf_core.sampling.sampler import Sampler, check_request, observe, synchronize, warm_up

FINISHED = frozenset({"done", "stopped", "failed"})
MAX_LIVE_NUM = 1024


@dataclass(frozen=True)
class RunSpec:
    """What to run. `pace` limits steps a second (0: none); `watch` is the sample whose details are recorded.

    With `compare`, an uncached run on the same noise follows, so that speed and quality can be stated.
    """

    checkpoint: str
    steps: int
    num: int
    seed: int
    device: str = "auto"
    policy: CachePolicy = PRESETS["balanced"]
    watch: int = 0
    pace: float = 0.0
    compare: bool = True
    solver: str = "euler_maruyama"
    grid: str = "linear"

    def __post_init__(self) -> None:
        """Refuse what no worker could run. Steps are checked with the model's schedule, before the first one."""
        check_request(self.num, self.seed)
        if self.num > MAX_LIVE_NUM:
            raise LabError(f"num {self.num}: a live run takes at most {MAX_LIVE_NUM} samples")
        if not 0 <= self.watch < self.num:
            raise LabError(f"watch {self.watch}: must name one of the samples 0..{self.num - 1}")
        if not 0 <= self.pace <= 1e4:
            raise LabError(f"pace {self.pace}: must lie between 0 (unlimited) and 10000 steps a second")


@dataclass(frozen=True)
class Comparison:
    """A cached run beside its uncached twin on the same noise. Distances are in standardized units.

    `seconds` are sums of step times, each measured after a warm-up call; pauses, pacing and recording count on
    neither side. The floor is the distance between real held-out sets of `floor_sizes` series. Distances are None
    for a model without a data set.
    """

    samples_uncached: np.ndarray
    seconds_uncached: float
    speedup_wall: float
    relative_l2: float
    sliced_wasserstein: float | None
    sliced_wasserstein_uncached: float | None
    sliced_wasserstein_floor: float | None
    floor_sizes: tuple[int, int] | None


@dataclass(frozen=True)
class RunResult:
    """What a finished run made: `samples` (num, N, M) in data units, its cost, and the comparison if one was made."""

    samples: np.ndarray
    seconds: float
    token_share: float
    flop_share: float
    comparison: Comparison | None = None

    @property
    def hit_rate(self) -> float:
        """Share of tokens that were reused."""
        return 1.0 - self.token_share

    @property
    def speedup_tokens(self) -> float:
        """Tokens of a full run over tokens recomputed."""
        return 1.0 / self.token_share

    @property
    def speedup_flops(self) -> float:
        """Operations of a full run over operations spent."""
        return 1.0 / self.flop_share


@dataclass(frozen=True)
class Distance:
    """Sliced Wasserstein (p = 2, time domain, standardized) to the held-out set, and the real-vs-real floor."""

    value: float
    floor: float
    floor_sizes: tuple[int, int]


def distance_to_heldout(samples: np.ndarray, model: ScoreModel) -> Distance | None:
    """How far samples (num, N, M) in data units are from the held-out series of the model's data set.

    None for a model that does not say what data it was trained on.
    """
    if not model.dataset:
        return None
    dataset = load_dataset(model.dataset)
    metric = sliced_wasserstein_metric(directions=1000)
    held = dataset.standardize(dataset.x[dataset.heldout])
    floor = real_floor(held, len(samples), metric)
    return Distance(metric(dataset.standardize(samples), held), floor.value, floor.sizes)


def compare(
    samples: np.ndarray,
    samples_uncached: np.ndarray,
    model: ScoreModel,
    *,
    seconds: float,
    seconds_uncached: float,
) -> Comparison:
    """Speed and quality of cached against uncached samples (num, N, M) in data units, and the real-data floor."""
    cached, plain = distance_to_heldout(samples, model), distance_to_heldout(samples_uncached, model)
    scaled = [(x - model.mean) / model.std for x in (samples, samples_uncached)]
    return Comparison(
        samples_uncached=samples_uncached,
        seconds_uncached=seconds_uncached,
        speedup_wall=seconds_uncached / seconds,
        relative_l2=relative_l2(*scaled),
        sliced_wasserstein=cached.value if cached else None,
        sliced_wasserstein_uncached=plain.value if plain else None,
        sliced_wasserstein_floor=cached.floor if cached else None,
        floor_sizes=cached.floor_sizes if cached else None,
    )


class RunHandle:
    """Controls one run. All methods may be called from any thread; none blocks but `wait`.

    `status` goes ready -> loading -> running <-> paused -> comparing -> done, or ends in stopped or failed
    (with `error`). With `orphan_s`, the worker stops when `touch` was not called for so many seconds.
    """

    def __init__(
        self,
        spec: RunSpec,
        *,
        orphan_s: float | None = None,
        load: Callable[[str, str], ScoreModel] = load_checkpoint,
    ) -> None:
        self.spec = spec
        self.id = secrets.token_urlsafe(16)
        self.orphan_s = orphan_s
        self.status = "ready"
        self.error: str | None = None
        self.recorder: Recorder | None = None
        self.result: RunResult | None = None
        self.model: ScoreModel | None = None
        self._load = load
        self._policy = (0, spec.policy)
        self._pace = spec.pace
        self._watch = spec.watch
        self._lock = threading.Lock()
        self._go = threading.Event()
        self._ended = threading.Event()
        self._single = 0
        self._stop = False
        self._skip = False
        self._touched = time.monotonic()
        self._done = 0
        self._step_seconds = 0.0
        self._thread: threading.Thread | None = None

    @property
    def policy(self) -> CachePolicy:
        """The policy in force from the next step on."""
        return self._policy[1]

    @property
    def policy_version(self) -> int:
        """Counts changes of the policy."""
        return self._policy[0]

    @property
    def pace(self) -> float:
        """Steps a second at most; 0 is unlimited."""
        return self._pace

    @property
    def progress(self) -> float:
        """Share of the present phase (cached run, or comparing) that is done."""
        return 1.0 if self.status == "done" else self._done / self.spec.steps

    @property
    def eta_s(self) -> float | None:
        """Seconds left in the present phase, from the mean step so far; None where none can be given."""
        if self.status not in ("running", "comparing") or not self._done:
            return None
        each = self._step_seconds / self._done
        if self.status == "running" and self._pace:
            each = max(each, 1.0 / self._pace)
        return each * (self.spec.steps - self._done)

    def touch(self) -> None:
        """Say that somebody is watching."""
        self._touched = time.monotonic()

    def start(self) -> None:
        """Begin, or go on when paused."""
        self._go.set()
        self._launch()

    def resume(self) -> None:
        """Go on after `pause`."""
        self.start()

    def pause(self) -> None:
        """Hold before the next step."""
        self._go.clear()

    def step_once(self) -> None:
        """Take exactly one step, then hold."""
        self._go.clear()
        with self._lock:
            self._single += 1
        self._launch()

    def stop(self) -> None:
        """End the run; what was recorded stays."""
        self._stop = True

    def skip_compare(self) -> None:
        """Leave out the uncached twin, or end it early."""
        self._skip = True

    def set_policy(self, policy: CachePolicy) -> int:
        """Replace the policy from the next step on; returns its version."""
        with self._lock:
            version = self._policy[0] + 1
            self._policy = (version, policy)
        return version

    def set_pace(self, pace: float) -> None:
        """Change the limit on steps a second; 0 is unlimited."""
        self._pace = min(max(0.0, pace), 1e4)

    def set_watch(self, watch: int) -> None:
        """Record the details of another sample from the next step on."""
        if not 0 <= watch < self.spec.num:
            raise LabError(f"watch {watch}: must name one of the samples 0..{self.spec.num - 1}")
        self._watch = watch

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the run has ended; False on time-out."""
        return self._ended.wait(timeout)

    def _launch(self) -> None:
        with self._lock:
            if self._thread is None:
                self.status = "loading"
                self.touch()
                self._thread = threading.Thread(target=self._work, name=f"run-{self.id[:6]}", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        try:
            with torch.inference_mode():
                self._run()
        except LabError as fault:
            self.error, self.status = str(fault), "failed"
        except Exception as fault:  # a page must show it rather than wait for ever
            self.error, self.status = f"{type(fault).__name__}: {fault}", "failed"
        finally:
            self._ended.set()

    def _run(self) -> None:
        spec = self.spec
        self.model = self._load(spec.checkpoint, spec.device)
        make_plan(self.model.schedule, spec.steps, spec.solver, spec.grid)
        sampler = Sampler(self.model, spec.policy, steps=spec.steps, solver=spec.solver, grid=spec.grid)
        recorder = Recorder(spec.steps, self.model.n, self.model.length, len(self.model.channels), spec.num)
        recorder.policies.append((0, *self._policy))
        problem, state = sampler.begin(spec.num, spec.seed)
        warm_up(sampler, spec.num, spec.seed)
        self.recorder = recorder
        # What is loaded by now stays: keep the collector from walking it while steps run.
        gc.freeze()
        version, due, rows, prepared = 0, time.perf_counter(), 0, 0
        while state.step < spec.steps:
            if not self._may_step():
                self.status = "stopped"
                return
            if self._policy[0] != version:
                recorder.policies.append((state.step, *self._policy))
            version, policy = self._policy
            begin = time.perf_counter()
            after, info = sampler.step(problem, state, policy)
            synchronize(self.model.device)
            seconds = time.perf_counter() - begin
            recorder.append(observe(sampler, problem, state, info, seconds, self._watch, version, after))
            state, rows, prepared = after, rows + info.rows, prepared + info.samples
            self._done, self._step_seconds = state.step, self._step_seconds + seconds
            due = self._keep_pace(due)
        full = spec.num * self.model.n * spec.steps
        result = RunResult(
            samples=self.model.series(state.z.cpu().numpy()),
            seconds=self._step_seconds,
            token_share=rows / full,
            flop_share=sampler.flops(rows, prepared, spec.num) / sampler.full_flops(spec.num),
        )
        self.result = result
        if spec.compare and not self._skip:
            self._compare(result)
        else:
            self.status = "done"

    def _compare(self, result: RunResult) -> None:
        assert self.model is not None
        spec = self.spec
        self._done, self._step_seconds, self.status = 0, 0.0, "comparing"
        sampler = Sampler(self.model, steps=spec.steps, solver=spec.solver, grid=spec.grid, cached=False)
        problem, state = sampler.begin(spec.num, spec.seed)
        while state.step < spec.steps:
            if self._stop or self._skip or self._orphaned():
                self.status = "done"
                return
            begin = time.perf_counter()
            state, _ = sampler.step(problem, state, spec.policy)
            synchronize(self.model.device)
            self._step_seconds += time.perf_counter() - begin
            self._done = state.step
        plain = self.model.series(state.z.cpu().numpy())
        comparison = compare(
            result.samples, plain, self.model, seconds=result.seconds, seconds_uncached=self._step_seconds
        )
        self.result = replace(result, comparison=comparison)
        self.status = "done"

    def _orphaned(self) -> bool:
        if self.orphan_s is None or time.monotonic() - self._touched <= self.orphan_s:
            return False
        self.error = f"stopped: nobody was watching for {self.orphan_s:g} s"
        return True

    def _may_step(self) -> bool:
        """Wait while paused; False when the run is to end."""
        while not self._stop and not self._orphaned():
            if self._go.is_set():
                self.status = "running"
                return True
            with self._lock:
                if self._single:
                    self._single -= 1
                    return True
            self.status = "paused"
            self._go.wait(0.05 if self._done else 0.02)
        return False

    def _keep_pace(self, due: float) -> float:
        """Sleep as the pace asks; returns the time at which the next step is due."""
        now = time.perf_counter()
        if not self._pace:
            return now
        due = max(due + 1.0 / self._pace, now - 0.1)
        while (left := due - time.perf_counter()) > 0 and self._pace and not self._stop:
            time.sleep(min(left, 0.05))
        return due
