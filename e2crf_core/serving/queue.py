"""Queue requests for samples: one worker thread owns the model and shares its time between them.

Requests with equal settings run in one batch. Batches take turns, so that a small request does not wait for a
large one to end. A canceled or late job leaves its batch at the next step, which ends its part of the work.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Collection
from dataclasses import replace

from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.io.memory import give_back
from e2crf_core.sampling.backend_choice import runs_whole
from e2crf_core.sampling.finite import NotFinite
from e2crf_core.sampling.sampler import Sampler, check_request
from e2crf_core.serving.batching import Batch, Piece, SampleJob
from e2crf_core.serving.metrics import Metrics
from e2crf_core.serving.rounds import Rounds

RUNNING = 16
"""Batches that run at a time; each keeps the state of its samples in memory."""

log = logging.getLogger(__name__)


class Stopping(LabError):
    """The server accepts no more requests, permanently."""

    def __init__(self) -> None:
        super().__init__("the server is stopping")


class QueueFull(LabError):
    """The server accepts no requests at present; try again after `retry_after` seconds."""

    def __init__(self, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__(f"the queue is full: try again in {retry_after} s")


class DeadlinePassed(LabError):
    """The samples were not ready in the time that the request gave."""

    def __init__(self, deadline: float) -> None:
        super().__init__(f"the samples were not ready within {deadline:g} s", field="deadline_s")


class SamplingFailed(LabError):
    """A fault of the program ended the work."""


class SampleQueue:
    """A bounded queue and its worker. `limit` counts requests that wait, run, or are being answered.

    `batch` limits the samples that run together. `backend` runs the jobs that it can, the others run on torch's
    own kernels. Use as a context manager, or call `close`.
    """

    def __init__(
        self, model: ScoreModel, *, limit: int = 64, batch: int = 64, backend: str = "eager"
    ) -> None:
        if limit < 1 or batch < 1:
            raise LabError(f"queue limit {limit} and batch {batch} must be at least 1")
        self.model, self.limit, self.batch, self.backend = model, limit, batch, backend
        self._pending: list[SampleJob] = []
        # Replaced, never changed, by the worker, so that other threads may read it.
        self._running: tuple[Batch, ...] = ()
        self._held = 0
        self._lock = threading.Condition()
        self._open = True
        # Seconds per sample and step, as last measured; a guess before the first measurement.
        self._pace = 1e-3
        self.metrics = Metrics(self._longest_wait)
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
        self._sampler(job)
        with self._lock:
            if not self._open:
                raise Stopping
            if self._held >= self.limit:
                self.metrics.requests.labels("refused").inc()
                raise QueueFull(self._retry_after())
            self._held += 1
            self.metrics.held.set(self._held)
            self._pending.append(job)
            self._lock.notify()

    def release(self, job: SampleJob) -> None:
        """Free the place of a job that has been answered or that nobody waits for."""
        job.cancel()
        with self._lock:
            if job in self._pending:
                self._pending.remove(job)
            self._held -= 1
            self.metrics.held.set(self._held)
        late = isinstance(job.error, DeadlinePassed)
        outcome = "done" if job.answer else "late" if late else "failed" if job.error else "cancelled"
        self.metrics.requests.labels(outcome).inc()
        self.metrics.samples.inc(job.num if job.answer else 0)

    def close(self) -> None:
        """Reject new requests, end running ones, and stop the worker."""
        with self._lock:
            self._open = False
            self._lock.notify()
        self._thread.join()

    def _longest_wait(self) -> float:
        """Return the seconds for which the oldest request has waited for its first step."""
        jobs = [*self._pending, *(job for batch in self._running for job in batch.jobs)]
        waiting = [job.created for job in jobs if job.started is None]
        return time.monotonic() - min(waiting) if waiting else 0.0

    def _retry_after(self) -> int:
        work = sum((job.num - job.taken) * job.config.steps for job in self._pending)
        work += sum(len(batch) * batch.left for batch in self._running)
        return min(60, max(1, math.ceil(self._pace * work)))

    def _sampler(self, job: SampleJob) -> Sampler:
        able = job.given is None and runs_whole(self.model, job.config.policy)
        return Sampler.of(self.model, replace(job.config, backend=self.backend if able else "eager"))

    # ---- the worker

    def _work(self) -> None:
        rounds: Rounds[Batch] = Rounds()
        while True:
            with self._lock:
                while self._open and not self._pending and not rounds:
                    self._lock.wait()
                if not self._open:
                    break
                self._sweep()
            # No variable here may hold a batch: this frame lives as long as the server.
            self._admit(rounds)
            if rounds:
                self._turn(rounds)
            if not rounds:
                give_back()
        self._end({job for batch in self._running for job in batch.jobs} | {*self._pending}, Stopping())
        self._runs()

    def _admit(self, rounds: Rounds[Batch]) -> None:
        """Begin what is waiting, as far as there is room."""
        with self._lock:
            plans = self._plans(RUNNING - len(rounds))
        for batch in filter(None, map(self._begun, plans)):
            rounds.enter(batch)
            self._runs(*self._running, batch)

    def _turn(self, rounds: Rounds[Batch]) -> None:
        """Advance the batch whose turn it is."""
        batch, seconds = rounds.turn()
        if self._goes_on(batch, seconds):
            rounds.again(batch)
        else:
            self._runs(*(other for other in self._running if other is not batch))

    def _runs(self, *batches: Batch) -> None:
        self._running = batches
        self.metrics.batches.set(len(batches))

    def _sweep(self) -> None:
        """Forget waiting jobs that nobody waits for, and end late ones."""
        for job in [job for job in self._pending if job.late]:
            job.end(DeadlinePassed(job.deadline or 0))
        self._pending = [job for job in self._pending if not (job.cancelled or job.ended)]

    def _plans(self, room: int) -> list[list[Piece]]:
        """Return the pieces of up to `room` new batches, the oldest requests first.

        Small requests with equal settings share a batch. One that is larger than a batch has one batch at a
        time, all of it, so that it takes no more turns than the others.
        """
        busy = {job for batch in self._running for job in batch.jobs}
        waiting = [job for job in self._pending if job not in busy]
        plans: list[list[Piece]] = []
        while waiting and len(plans) < room:
            first = waiting[0]
            pieces = self._pieces([first] if first.num > self.batch else waiting)
            plans.append(pieces)
            used = {piece.job for piece in pieces}
            waiting = [job for job in waiting if job not in used]
        self._pending = [job for job in self._pending if job.taken < job.num]
        return plans

    def _pieces(self, jobs: Collection[SampleJob]) -> list[Piece]:
        """Take a batch of samples from the first job and those that can run with it."""
        pieces: list[Piece] = []
        room = self.batch
        for job in jobs:
            alike = not pieces or (job.key == pieces[0].job.key and job.num <= room)
            if alike and room:
                count = min(room, job.num - job.taken)
                pieces.append(Piece(job, job.taken, count))
                job.taken += count
                room -= count
        return pieces

    def _begun(self, pieces: list[Piece]) -> Batch | None:
        first = pieces[0].job
        try:
            sampler = self._sampler(first)
            batch = Batch(sampler if first.given is None else sampler.given(first.given), pieces)
        except Exception as fault:  # one bad batch must not end the service
            self._fail({piece.job for piece in pieces}, fault)
            return None
        self.metrics.batch.observe(len(batch))
        return batch

    def _goes_on(self, batch: Batch, seconds: float) -> bool:
        """Advance a batch; return whether it needs another turn."""
        try:
            return self._advance(batch, seconds)
        except Exception as fault:  # one bad batch must not end the service
            self._fail(set(batch.jobs), fault)
            return False

    def _advance(self, batch: Batch, seconds: float) -> bool:
        """Take steps for about `seconds`, at least one; return whether there are more to take."""
        now = time.monotonic()
        for job in batch.jobs:
            if job.started is None:
                job.started = now
                self.metrics.queue_seconds.observe(now - job.created)
        until = now + seconds
        while batch.left:
            self._dismiss(batch)
            if not batch.pieces:
                return False
            try:
                leap = batch.step()
            except NotFinite as fault:
                culprits = batch.owners(fault)
                self._end(culprits, fault)
                batch.drop(culprits)
                continue
            self.metrics.steps.inc(len(batch) * (leap.after.step - leap.before.step))
            self.metrics.tokens.inc(leap.rows)
            if batch.left and (time.monotonic() > until or not self._open):
                batch.synchronize()
                return True
        batch.deliver()
        self.metrics.run_seconds.observe(batch.seconds)
        self._pace = batch.seconds / (len(batch) * batch.sampler.plan.steps)
        return False

    def _dismiss(self, batch: Batch) -> None:
        """Remove the jobs from a batch that are late or that nobody waits for."""
        for job in batch.jobs:
            if job.late:
                self._end({job}, DeadlinePassed(job.deadline or 0))
        leavers = {job for job in batch.jobs if job.cancelled or job.ended}
        if leavers:
            batch.drop(leavers)

    def _fail(self, jobs: Collection[SampleJob], fault: Exception) -> None:
        log.exception("a batch failed")
        self._end(jobs, SamplingFailed(f"{type(fault).__name__}: {fault}"))

    def _end(self, jobs: Collection[SampleJob], error: LabError) -> None:
        """End jobs with an error; none of their pieces is left to be taken."""
        with self._lock:
            self._pending = [job for job in self._pending if job not in jobs]
        for job in jobs:
            job.end(error)
