"""A run on a worker thread: start, pause, step, resume, stop, and change the policy while it runs."""

from __future__ import annotations

import gc
import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import torch

from e2crf_core.caching.policy import CachePolicy
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import Cancelled, LabError, make_whole
from e2crf_core.io.memory import give_back
from e2crf_core.models.checkpoints import load_checkpoint
from e2crf_core.progress import Cancel
from e2crf_core.runs.comparison import Comparison, compare
from e2crf_core.runs.line import Ticket
from e2crf_core.runs.twin import TWINS, Twin
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.observing import Observer
from e2crf_core.sampling.recorder import Recorder
from e2crf_core.sampling.sampler import Sampler, check_request, warm_up

FINISHED = frozenset({"done", "stopped", "failed"})
MAX_LIVE_NUM = 1024
MAX_PACE = 1e4
WAIT_S = 0.05
"""Seconds between a paused or sleeping worker's checks whether it should end."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunSpec:
    """The request for a run: `num` samples of `seed` from a checkpoint by `config`, in one batch.

    `watch` is the sample whose details are recorded, and `pace` the maximum steps per second (0: no limit).
    With `compare`, an uncached run on the same noise follows, so that speed and quality can be stated.
    """

    checkpoint: str
    num: int
    seed: int
    config: SamplerConfig = field(default_factory=SamplerConfig)
    device: str = "auto"
    watch: int = 0
    pace: float = 0.0
    compare: bool = True

    def __post_init__(self) -> None:
        """Reject an invalid run; steps are checked with the model's schedule, before the first one."""
        make_whole(self, "num", "seed", "watch")
        check_request(self.num, self.seed)
        if self.num > MAX_LIVE_NUM:
            raise LabError(
                f"num {self.num}: a recorded run takes at most {MAX_LIVE_NUM} samples", field="num"
            )
        if self.config.policy is None:
            raise LabError("a recorded run needs a policy", field="policy", remedy="use 'exact' for no cache")
        check_watch(self.watch, self.num)
        if not 0 <= self.pace <= MAX_PACE:
            raise LabError(
                f"pace {self.pace}: must lie between 0 (no limit) and {MAX_PACE:g} steps a second",
                field="pace",
            )

    @property
    def policy(self) -> CachePolicy:
        """Return the policy of the first step."""
        assert self.config.policy is not None
        return self.config.policy


def check_watch(watch: int, num: int) -> None:
    """Raise LabError unless `watch` names one of `num` samples."""
    if not 0 <= watch < num:
        raise LabError(f"watch {watch}: must name one of the samples 0..{num - 1}", field="watch")


@dataclass(frozen=True)
class RunResult:
    """The result of a run: `samples` (num, N, M) in data units, its cost, and any comparison."""

    samples: np.ndarray
    seconds: float
    token_share: float
    flop_share: float
    comparison: Comparison | None = None

    @property
    def speedup_tokens(self) -> float:
        """Return the tokens of a full run over tokens recomputed."""
        return 1.0 / self.token_share

    @property
    def speedup_flops(self) -> float:
        """Return the operations of a full run over operations spent."""
        return 1.0 / self.flop_share


@cache
def _keep_loaded() -> None:
    """Keep the garbage collector from scanning what is loaded by the first run, which stays, while steps run.

    Only once: frozen objects are never collected.
    """
    gc.freeze()


class RunHandle:
    """Controls one run. All methods may be called from any thread; none blocks except `wait`.

    `status` goes ready -> loading -> running <-> paused -> comparing -> done, or ends in stopped or failed
    (with `error`). `twin` is the uncached twin, once known. With `orphan_s`, the worker stops if `touch` is not
    called for that many seconds. With a `ticket`, it is waiting until it has a slot, which it gives back while
    it is paused.
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
        self.ticket: Ticket | None = None
        self.twin: Twin | None = None
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

    # ---- state of the run

    @property
    def policy(self) -> CachePolicy:
        """Return the policy in force from the next step on."""
        return self._policy[1]

    @property
    def policy_version(self) -> int:
        """Return the number of policy changes so far."""
        return self._policy[0]

    @property
    def pace(self) -> float:
        """Return the maximum steps per second; 0 is no limit."""
        return self._pace

    @property
    def progress(self) -> float:
        """Return the completed share of the current phase (cached run or comparison)."""
        return 1.0 if self.status == "done" else self._done / self.spec.config.steps

    @property
    def eta_s(self) -> float | None:
        """Estimate the seconds left in the current phase from the mean step so far; None if unknown."""
        if self.status not in ("running", "comparing") or not self._done:
            return None
        each = self._step_seconds / self._done
        if self.status == "running" and self._pace:
            each = max(each, 1.0 / self._pace)
        return each * (self.spec.config.steps - self._done)

    @property
    def idle_s(self) -> float:
        """Return the seconds since somebody was last seen watching."""
        return time.monotonic() - self._touched

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the run has ended; return False on timeout."""
        return self._ended.wait(timeout)

    # ---- controls

    def touch(self) -> None:
        """Report that somebody is watching."""
        self._touched = time.monotonic()

    def start(self) -> None:
        """Begin, or continue when paused."""
        self._go.set()
        self._launch()

    def resume(self) -> None:
        """Continue after `pause`."""
        self.start()

    def pause(self) -> None:
        """Pause before the next step."""
        self._go.clear()

    def step_once(self) -> None:
        """Take exactly one step, then pause."""
        self._go.clear()
        with self._lock:
            self._single += 1
        self._launch()

    def stop(self) -> None:
        """End the run; what was recorded remains."""
        self._stop = True

    def skip_compare(self) -> None:
        """Skip the uncached twin, or end it early."""
        self._skip = True

    def set_policy(self, policy: CachePolicy) -> int:
        """Replace the policy from the next step on; return its version."""
        with self._lock:
            version = self._policy[0] + 1
            self._policy = (version, policy)
        return version

    def set_pace(self, pace: float) -> None:
        """Change the limit on steps per second; 0 is no limit."""
        self._pace = min(max(0.0, pace), MAX_PACE)

    def set_watch(self, watch: int) -> None:
        """Record another sample's details from the next step on. Raises LabError for an unknown sample."""
        check_watch(watch, self.spec.num)
        self._watch = watch

    # ---- the worker

    def _launch(self) -> None:
        with self._lock:
            if self._thread is None:
                self.status = "loading"
                self.touch()
                self._thread = threading.Thread(target=self._work, name=f"run-{self.id[:6]}", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        try:
            if self._has_turn(lambda: False):
                self.status = "loading"
                with torch.inference_mode():
                    self._run()
            else:
                self.status = "stopped"
        except LabError as fault:
            self.error, self.status = str(fault), "failed"
        except Exception as fault:  # a page must show it rather than wait for ever
            log.exception("run of %s failed", self.spec.checkpoint)
            self.error, self.status = f"{type(fault).__name__}: {fault}", "failed"
        finally:
            # Dropped, so that the run and its ticket do not keep one another in memory.
            ticket, self.ticket = self.ticket, None
            if ticket is not None:
                ticket.give()
            self._ended.set()
            give_back()

    def _has_turn(self, given_up: Cancel) -> bool:
        """Wait for a slot; return False when the run must end, or once `given_up()`."""
        if self.ticket is None or self.ticket.holds:
            return True
        self.status = "waiting"
        return self.ticket.take(lambda: self._stop or self._orphaned() or given_up())

    def _run(self) -> None:
        """Load the model, take the steps, and compare."""
        self.model = self._load(self.spec.checkpoint, self.spec.device)
        try:
            self.twin = self._first_twin(self.model)
            result = self._cached(self.model)
        except Cancelled:
            self.status = "stopped"
            return
        self.result = result
        if self.spec.compare and not self._skip and self._has_turn(lambda: self._skip):
            self._compare(self.model, result)
        self.status = "done"

    def _first_twin(self, model: ScoreModel) -> Twin | None:
        spec, ended = self.spec, lambda: self._stop or self._orphaned()
        request = (model, spec.config, spec.num, spec.seed)
        return None if self._watch else TWINS.soon(*request, compute=spec.compare, cancelled=ended)

    def _cached(self, model: ScoreModel) -> RunResult:
        """Run and record the cached sampler. Raises Cancelled when it is stopped."""
        spec = self.spec
        sampler = Sampler.of(model, spec.config)
        recorder = Recorder(spec.config.steps, model.n, model.length, len(model.channels), spec.num)
        recorder.policies.append((0, *self._policy))
        warm_up(sampler, spec.num, spec.seed)
        self.recorder = recorder
        _keep_loaded()
        due, rows, prepared = time.perf_counter(), 0, 0

        def policy(i: int) -> CachePolicy:
            version, policy = self._policy
            if recorder.policies[-1][1] != version:
                recorder.policies.append((i, version, policy))
            return policy

        steps = sampler.steps(
            spec.num, spec.seed, policy=policy, cancelled=lambda: not self._may_step(), timed=True
        )
        observer = Observer()
        for step in steps:
            version, info = recorder.policies[-1][1], step.info
            recorder.append(
                observer.record(
                    step.problem, step.before, info, step.seconds, self._watch, version, step.after
                )
            )
            rows, prepared = rows + info.rows, prepared + info.samples
            self._done, self._step_seconds = step.after.step, self._step_seconds + step.seconds
            due = self._keep_pace(due)
        return RunResult(
            samples=model.series(step.after.z.cpu().numpy()),
            seconds=self._step_seconds,
            token_share=rows / (spec.num * model.n * spec.config.steps),
            flop_share=sampler.flops(rows, prepared, spec.num) / sampler.full_flops(spec.num),
        )

    def _compare(self, model: ScoreModel, result: RunResult) -> None:
        """Run the uncached twin and add the comparison to the result, unless it is cancelled."""
        spec = self.spec
        self._done, self._step_seconds, self.status = 0, 0.0, "comparing"
        sampler = Sampler.of(model, spec.config.twin)
        path = []
        try:
            for step in sampler.steps(spec.num, spec.seed, cancelled=self._no_twin, timed=True):
                self._step_seconds += step.seconds
                self._done = step.after.step
                path.append(step.info.denoised[0].cpu().numpy())
        except Cancelled:
            return
        plain = model.series(step.after.z.cpu().numpy())
        if self.twin is None and not self._watch:
            self.twin = Twin(plain, model.series(np.stack(path)), self._step_seconds)
            TWINS.keep(model, spec.config, spec.seed, self.twin)
        seconds = {"seconds": result.seconds, "seconds_uncached": self._step_seconds}
        self.result = replace(result, comparison=compare(result.samples, plain, model, **seconds))

    def _no_twin(self) -> bool:
        return self._stop or self._skip or self._orphaned()

    def _orphaned(self) -> bool:
        if self.orphan_s is None or time.monotonic() - self._touched <= self.orphan_s:
            return False
        self.error = f"stopped: nobody was watching for {self.orphan_s:g} s"
        return True

    def _may_step(self) -> bool:
        """Wait while paused; return False when the run must end."""
        while not self._stop and not self._orphaned():
            if self._go.is_set():
                if not self._has_turn(lambda: not self._go.is_set()):
                    continue
                self.status = "running"
                return True
            with self._lock:
                if self._single:
                    self._single -= 1
                    return True
            if self.ticket is not None:
                self.ticket.give()
            self.status = "paused"
            self._go.wait(WAIT_S if self._done else 0.02)
        return False

    def _keep_pace(self, due: float) -> float:
        """Sleep to keep the pace; return the time at which the next step is due."""
        now = time.perf_counter()
        if not self._pace:
            return now
        due = max(due + 1.0 / self._pace, now - 0.1)
        while (left := due - time.perf_counter()) > 0 and self._pace and not self._stop:
            time.sleep(min(left, WAIT_S))
        return due
