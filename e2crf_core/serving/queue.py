"""Batch requests for samples: a bounded queue and one worker thread that owns the model.

A canceled job leaves its batch at the next step, which ends its part of the work.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import replace

import numpy as np
import torch

from e2crf_core.caching.state import Problem, SamplerState
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.sampling.sampler import Sampler, check_request, synchronize
from e2crf_core.serving.batching import Answer, JoinedNoise, Piece, SampleJob, begin, keep_samples, report
from e2crf_core.serving.metrics import Metrics

STOPPING = "the server is stopping"

log = logging.getLogger(__name__)


class Stopping(LabError):
    """The server accepts no more requests, permanently."""

    def __init__(self) -> None:
        super().__init__(STOPPING)


class QueueFull(LabError):
    """The server accepts no requests at present; try again after `retry_after` seconds."""

    def __init__(self, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__(f"the queue is full: try again in {retry_after} s")


class SampleQueue:
    """A bounded queue and its worker. `limit` counts requests that wait, run, or are being answered.

    `batch` limits the samples that run together. Use as a context manager, or call `close`.
    """

    def __init__(self, model: ScoreModel, *, limit: int = 64, batch: int = 64) -> None:
        if limit < 1 or batch < 1:
            raise LabError(f"queue limit {limit} and batch {batch} must be at least 1")
        self.model, self.limit, self.batch = model, limit, batch
        self.metrics = Metrics()
        self._pending: list[SampleJob] = []
        self._held = 0
        self._lock = threading.Condition()
        self._open = True
        # Seconds per sample and step, as last measured; a guess before the first measurement.
        self._pace = 1e-3
        self._thread = threading.Thread(target=self._work, name="samples", daemon=True)
        self._thread.start()

    def __enter__(self) -> SampleQueue:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def depth(self) -> int:
        """Return the number of requests that hold a place."""
        return self._held

    @property
    def alive(self) -> bool:
        """Return whether the worker is running."""
        return self._thread.is_alive()

    def submit(self, job: SampleJob) -> None:
        """Accept a request; it holds a place until `release`. Raises QueueFull, or LabError if invalid."""
        check_request(job.num, job.seed)
        Sampler.of(self.model, job.config)
        with self._lock:
            if not self._open:
                raise Stopping
            if self._held >= self.limit:
                self.metrics.requests.labels("refused").inc()
                raise QueueFull(self._retry_after())
            self._held += 1
            self.metrics.waiting.set(self._held)
            self._pending.append(job)
            self._lock.notify()

    def release(self, job: SampleJob) -> None:
        """Free the place of a job that has been answered or that nobody waits for."""
        job.cancel()
        with self._lock:
            if job in self._pending:
                self._pending.remove(job)
            self._held -= 1
            self.metrics.waiting.set(self._held)
        outcome = "done" if job.answer is not None else "failed" if job.error else "cancelled"
        self.metrics.requests.labels(outcome).inc()

    def close(self) -> None:
        """Reject new requests, end running ones, and stop the worker."""
        with self._lock:
            self._open = False
            self._lock.notify()
        self._thread.join()

    def _retry_after(self) -> int:
        work = sum((job.num - job.taken) * job.config.steps for job in self._pending)
        return min(60, max(1, math.ceil(self._pace * work)))

    def _work(self) -> None:
        while True:
            with self._lock:
                while self._open and not self._pending:
                    self._lock.wait()
                if not self._open:
                    for job in self._pending:
                        self._finish(job, STOPPING)
                    self._pending.clear()
                    return
                pieces = self._take()
            if not pieces:
                continue
            try:
                self._run(pieces)
            except Exception as fault:  # one bad batch must not end the service
                log.exception("a batch failed")
                for job in {piece.job for piece in pieces}:
                    self._finish(job, f"{type(fault).__name__}: {fault}")
                    with self._lock:
                        if job in self._pending:
                            self._pending.remove(job)

    def _take(self) -> list[Piece]:
        """Return the oldest request and all that can run with it, up to the batch; a large one is split."""
        self._pending = [job for job in self._pending if not job.cancelled]
        pieces: list[Piece] = []
        room = self.batch
        for job in list(self._pending):
            if pieces and job.key != pieces[0].job.key:
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
        config = pieces[0].job.config
        sampler = Sampler.of(self.model, config)
        started = time.monotonic()
        for piece in pieces:
            if piece.job.started is None:
                piece.job.started = started
                self.metrics.queue_seconds.observe(started - piece.job.created)
        self.metrics.batch.observe(sum(piece.count for piece in pieces))
        with torch.inference_mode():
            problem, state = begin(sampler, pieces)
            total, rows = len(state.z), 0.0
            while state.step < config.steps:
                if any(p.job.cancelled for p in pieces) or not self._open:
                    pieces, problem, state = self._drop(pieces, problem, state)
                    if not pieces:
                        return
                before, clock = state, time.perf_counter()
                state, info = sampler.step(problem, state, config.policy)
                rows += info.rows / len(state.z)
                self.metrics.steps.inc(len(state.z))
                self.metrics.tokens.inc(info.rows)
                if any(p.job.on_event for p in pieces):
                    synchronize(self.model.device)
                    seconds = time.perf_counter() - clock
                    report(sampler, pieces, problem, before, info, seconds, state)
            tokens = state.z.cpu().numpy()
        seconds = time.monotonic() - started
        self._pace = seconds / (total * config.steps)
        self.metrics.run_seconds.observe(seconds)
        self._deliver(pieces, self.model.series(tokens), seconds, rows / (self.model.n * config.steps))

    def _drop(
        self, pieces: list[Piece], problem: Problem, state: SamplerState
    ) -> tuple[list[Piece], Problem, SamplerState]:
        """Remove canceled jobs from a batch, or all when the server stops; return what is left."""
        if not self._open:
            for job in {piece.job for piece in pieces}:
                self._finish(job, STOPPING)
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

    def _finish(self, job: SampleJob, error: str | None) -> None:
        job.error, job.parts = error, []
        job.done()
