"""Requests for samples, batched: those with equal settings run together, for no sample depends on its batch.

One worker thread owns the model. The queue is bounded; a job that is cancelled leaves the batch it runs in at
the next step, and its part of the work ends there.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from torch import Tensor

from e2crf_core.caching.events import StepEvent
from e2crf_core.caching.policy import CachePolicy
from e2crf_core.caching.state import Cache, Problem, SamplerState, StepInfo
from e2crf_core.diffusion.noise import NoiseStream
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.diffusion.solvers import make_plan
from e2crf_core.errors import LabError
from e2crf_core.sampling.sampler import Sampler, check_request, observe, synchronize

SECONDS = (0.001, 0.01, 0.1, 0.2, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0)


class QueueFull(LabError):
    """No more requests are taken now; `retry_after` seconds is when it may be worth another try."""

    def __init__(self, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__(f"the queue is full: try again in {retry_after} s")


@dataclass(frozen=True)
class Settings:
    """What requests must agree in to run in one batch."""

    policy: CachePolicy
    solver: str
    grid: str
    steps: int


@dataclass(frozen=True)
class Answer:
    """Series (num, N, M) in data units; seconds waited and computed; share of tokens recomputed in its batches."""

    series: np.ndarray
    queue_seconds: float
    seconds: float
    token_share: float


class Job:
    """One request. `done` is called once, from the worker or from `cancel`; then `answer` or `error` is set.

    With `on_event`, the job's first sample is watched and every step is reported, from the worker.
    """

    def __init__(
        self,
        settings: Settings,
        num: int,
        seed: int,
        *,
        done: Callable[[], object] = lambda: None,
        on_event: Callable[[StepEvent], object] | None = None,
    ) -> None:
        self.settings, self.num, self.seed = settings, num, seed
        self.done, self.on_event = done, on_event
        self.created = time.monotonic()
        self.started: float | None = None
        self.answer: Answer | None = None
        self.error: str | None = None
        self.cancelled = False
        self.taken = 0
        self.parts: list[np.ndarray] = []
        self.seconds = 0.0
        self.rows = 0.0

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        self.cancelled = True


@dataclass(frozen=True)
class Piece:
    """Samples first..first+count-1 of a job, in one batch."""

    job: Job
    first: int
    count: int


class Metrics:
    """Prometheus figures of one queue, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("e2crf_requests", "Requests by outcome", ["outcome"], registry=self.registry)
        self.samples = Counter("e2crf_samples", "Samples delivered", registry=self.registry)
        self.steps = Counter(
            "e2crf_sample_steps", "Solver steps taken, counted for every sample", registry=self.registry
        )
        self.tokens = Counter("e2crf_tokens_recomputed", "Tokens recomputed", registry=self.registry)
        self.waiting = Gauge("e2crf_queue_jobs", "Requests that wait or run", registry=self.registry)
        self.queue_seconds = Histogram(
            "e2crf_queue_seconds",
            "Time until a request's first step",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.run_seconds = Histogram(
            "e2crf_run_seconds", "Compute time of a batch", buckets=SECONDS, registry=self.registry
        )
        self.batch = Histogram(
            "e2crf_batch_samples",
            "Samples in a batch",
            buckets=tuple(float(2**k) for k in range(11)),
            registry=self.registry,
        )


class JoinedNoise(NoiseStream):
    """The noise of several requests side by side, each keyed by its own seed and sample numbers."""

    def __init__(self, parts: Sequence[NoiseStream]) -> None:
        self.parts = tuple(parts)
        self.batch = sum(part.batch for part in parts)

    def initial(self) -> Tensor:
        return torch.cat([part.initial() for part in self.parts])

    def at(self, step: int) -> Tensor:
        return torch.cat([part.at(step) for part in self.parts])

    def uniform(self, step: int) -> Tensor:
        return torch.cat([part.uniform(step) for part in self.parts])


def keep_samples(state: SamplerState, index: Tensor) -> SamplerState:
    """The state of samples `index` (b,) alone. Their future is what it would have been."""
    batch = len(state.z)

    def take(x: Tensor | None) -> Tensor | None:
        return None if x is None else x[index.to(x.device)]

    def rows(x: Tensor) -> Tensor:
        return x[index] if len(x) == batch else x

    cache = state.cache
    if cache is not None:
        kv = None
        if cache.kv is not None:
            kv = cache.kv.clone()
            kv.keys, kv.values, kv.valid = (x[:, index.to(x.device)] for x in (kv.keys, kv.values, kv.valid))
        clock = cache.clock
        taken = {
            name: take(getattr(cache, name))
            for name in (
                "feature",
                "output",
                "slope",
                "curve",
                "u",
                "z",
                "gain",
                "r",
                "rate",
                "scale",
                "rested",
            )
        }
        cache = Cache(
            kv=kv,
            clock=replace(
                clock, at=rows(clock.at), previous=rows(clock.previous), refreshed=rows(clock.refreshed)
            ),
            residual=take(cache.residual),
            **taken,  # type: ignore[arg-type]
        )
    z, *past = (x[index.to(x.device)] for x in (state.z, *state.past))
    return SamplerState(state.step, z, tuple(past), take(state.base), cache)


class SampleQueue:
    """A bounded queue and its worker. `limit` counts requests that wait, run, or are being answered.

    `batch` bounds the samples that run together. Use as a context manager, or `close`.
    """

    def __init__(self, model: ScoreModel, *, limit: int = 64, batch: int = 64) -> None:
        if limit < 1 or batch < 1:
            raise LabError(f"queue limit {limit} and batch {batch} must be at least 1")
        self.model, self.limit, self.batch = model, limit, batch
        self.metrics = Metrics()
        self._pending: list[Job] = []
        self._held = 0
        self._lock = threading.Condition()
        self._open = True
        # Seconds that one sample takes for one step, as measured last; a guess before anything was.
        self._pace = 1e-3
        self._thread = threading.Thread(target=self._work, name="samples", daemon=True)
        self._thread.start()

    def __enter__(self) -> SampleQueue:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def depth(self) -> int:
        """Requests that hold a place."""
        return self._held

    @property
    def alive(self) -> bool:
        """Whether the worker runs."""
        return self._thread.is_alive()

    def submit(self, job: Job) -> None:
        """Take a request, which holds its place until `release`. Raises QueueFull, and LabError for a bad one."""
        check_request(job.num, job.seed)
        settings = job.settings
        make_plan(self.model.schedule, settings.steps, settings.solver, settings.grid)
        with self._lock:
            if not self._open:
                raise LabError("the server is stopping")
            if self._held >= self.limit:
                self.metrics.requests.labels("refused").inc()
                raise QueueFull(self._retry_after())
            self._held += 1
            self.metrics.waiting.set(self._held)
            self._pending.append(job)
            self._lock.notify()

    def release(self, job: Job) -> None:
        """Give back the place of a job that has been answered, or that nobody waits for."""
        job.cancel()
        with self._lock:
            if job in self._pending:
                self._pending.remove(job)
            self._held -= 1
            self.metrics.waiting.set(self._held)
        outcome = "done" if job.answer is not None else "failed" if job.error else "cancelled"
        self.metrics.requests.labels(outcome).inc()

    def close(self) -> None:
        """Refuse new requests, end running ones, and stop the worker."""
        with self._lock:
            self._open = False
            self._lock.notify()
        self._thread.join()

    def _retry_after(self) -> int:
        work = sum((job.num - job.taken) * job.settings.steps for job in self._pending)
        return min(60, max(1, math.ceil(self._pace * work)))

    def _work(self) -> None:
        while True:
            with self._lock:
                while self._open and not self._pending:
                    self._lock.wait()
                if not self._open:
                    for job in self._pending:
                        self._finish(job, "the server is stopping")
                    self._pending.clear()
                    return
                pieces = self._take()
            if not pieces:
                continue
            try:
                self._run(pieces)
            except Exception as fault:  # one bad batch must not end the service
                for job in {piece.job for piece in pieces}:
                    self._finish(job, f"{type(fault).__name__}: {fault}")
                    with self._lock:
                        if job in self._pending:
                            self._pending.remove(job)

    def _take(self) -> list[Piece]:
        """The oldest request and all that can run with it, up to the batch; a large one is cut."""
        self._pending = [job for job in self._pending if not job.cancelled]
        pieces: list[Piece] = []
        room = self.batch
        for job in list(self._pending):
            if pieces and job.settings != pieces[0].job.settings:
                continue
            count = min(room, job.num - job.taken)
            pieces.append(Piece(job, job.taken, count))
            job.taken += count
            room -= count
            if job.taken == job.num:
                self._pending.remove(job)
            if not room:
                break
        return pieces

    def _run(self, pieces: list[Piece]) -> None:
        settings = pieces[0].job.settings
        sampler = Sampler(
            self.model,
            settings.policy,
            steps=settings.steps,
            solver=settings.solver,
            grid=settings.grid,
            batch=self.batch,
        )
        begin = time.monotonic()
        for piece in pieces:
            if piece.job.started is None:
                piece.job.started = begin
                self.metrics.queue_seconds.observe(begin - piece.job.created)
        self.metrics.batch.observe(sum(piece.count for piece in pieces))
        with torch.inference_mode():
            problem, state = _begin(sampler, pieces)
            total, rows = len(state.z), 0.0
            while state.step < settings.steps:
                if any(p.job.cancelled for p in pieces) or not self._open:
                    pieces, problem, state = self._drop(pieces, problem, state)
                    if not pieces:
                        return
                before, clock = state, time.perf_counter()
                state, info = sampler.step(problem, state, settings.policy)
                rows += info.rows / len(state.z)
                self.metrics.steps.inc(len(state.z))
                self.metrics.tokens.inc(info.rows)
                if any(p.job.on_event for p in pieces):
                    synchronize(self.model.device)
                    seconds = time.perf_counter() - clock
                    _report(sampler, pieces, problem, before, info, seconds, state)
            tokens = state.z.cpu().numpy()
        seconds = time.monotonic() - begin
        self._pace = seconds / (total * settings.steps)
        self.metrics.run_seconds.observe(seconds)
        self._deliver(pieces, self.model.series(tokens), seconds, rows / (self.model.n * settings.steps))

    def _drop(
        self, pieces: list[Piece], problem: Problem, state: SamplerState
    ) -> tuple[list[Piece], Problem, SamplerState]:
        """What is left of a batch without its cancelled jobs; nothing when the server stops."""
        if not self._open:
            for job in {piece.job for piece in pieces}:
                self._finish(job, "the server is stopping")
            return [], problem, state
        left = [piece for piece in pieces if not piece.job.cancelled]
        if not left:
            return [], problem, state
        kept, offset, noises = [], 0, []
        assert isinstance(problem.noise, JoinedNoise)
        for piece, noise in zip(pieces, problem.noise.parts, strict=True):
            if not piece.job.cancelled:
                kept.append(torch.arange(offset, offset + piece.count))
                noises.append(noise)
            offset += piece.count
        return left, replace(problem, noise=JoinedNoise(noises)), keep_samples(state, torch.cat(kept))

    def _deliver(self, pieces: list[Piece], series: np.ndarray, seconds: float, share: float) -> None:
        offset = 0
        for piece in pieces:
            job, part = piece.job, series[offset : offset + piece.count]
            offset += piece.count
            job.parts.append(part)
            job.seconds += seconds
            job.rows += share * piece.count
            if sum(map(len, job.parts)) < job.num:
                continue
            whole = np.concatenate(job.parts)
            if not np.isfinite(whole).all():
                self._finish(job, "the samples are not finite with these settings")
                continue
            assert job.started is not None
            job.answer = Answer(whole, job.started - job.created, job.seconds, job.rows / job.num)
            self.metrics.samples.inc(job.num)
            self._finish(job, None)

    def _finish(self, job: Job, error: str | None) -> None:
        job.error, job.parts = error, []
        job.done()


def _begin(sampler: Sampler, pieces: Sequence[Piece]) -> tuple[Problem, SamplerState]:
    """The start of a batch made of pieces, each with its job's seed and its own sample numbers."""
    begun = [sampler.begin(piece.count, piece.job.seed, piece.first) for piece in pieces]
    problem = replace(begun[0][0], noise=JoinedNoise([problem.noise for problem, _ in begun]))
    z = torch.cat([state.z for _, state in begun])
    return problem, SamplerState(step=0, z=z, past=(), base=None, cache=None)


def _report(
    sampler: Sampler,
    pieces: Sequence[Piece],
    problem: Problem,
    before: SamplerState,
    info: StepInfo,
    seconds: float,
    after: SamplerState,
) -> None:
    """Send the step to jobs that asked for events and whose first sample is in this batch."""
    offset = 0
    for piece in pieces:
        if piece.job.on_event is not None and piece.first == 0:
            piece.job.on_event(observe(sampler, problem, before, info, seconds, offset, 0, after))
        offset += piece.count
