"""Run several requests in one batch: joined noise, and a state from which samples can leave.

No sample depends on its batch, so requests with equal settings run together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from e2crf_core.caching.events import StepEvent
from e2crf_core.caching.state import Cache, Problem, SamplerState
from e2crf_core.cuda import synchronize
from e2crf_core.diffusion.noise import NoiseStream
from e2crf_core.errors import LabError
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.finite import NotFinite
from e2crf_core.sampling.observing import Observer
from e2crf_core.sampling.sampler import Leap, Sampler


@dataclass(frozen=True)
class Delivery:
    """The series (num, N, M) in data units; seconds until the first step, and of computing; share of tokens."""

    series: np.ndarray
    queue_seconds: float
    seconds: float
    token_share: float


class SampleJob:
    """A request. `done` is called once, when it ends; then `answer` or `error` is set.

    `given` (1, N, M) holds standardized values to condition on, NaN where unknown. With `on_event`, the job's
    first sample is watched and every step is reported, from the worker. The answer is worthless `deadline`
    seconds from now, if any.
    """

    def __init__(
        self,
        config: SamplerConfig,
        num: int,
        seed: int,
        *,
        deadline: float | None = None,
        given: np.ndarray | None = None,
        done: Callable[[], object] = lambda: None,
        on_event: Callable[[StepEvent], object] | None = None,
    ) -> None:
        self.config, self.num, self.seed, self.deadline = config, num, seed, deadline
        self.given, self.done, self.on_event = given, done, on_event
        self.created = time.monotonic()
        self.started: float | None = None
        self.answer: Delivery | None = None
        self.error: LabError | None = None
        self.cancelled = False
        self.taken = 0
        self.parts: list[np.ndarray] = []
        self.seconds = 0.0
        self.rows = 0.0

    @property
    def key(self) -> tuple[object, ...]:
        """Return the settings that jobs must share to run in one batch."""
        return self.config.policy, self.config.plan, None if self.given is None else self.given.tobytes()

    @property
    def ended(self) -> bool:
        """Return whether there is an answer or an error."""
        return self.answer is not None or self.error is not None

    @property
    def late(self) -> bool:
        """Return whether the deadline has passed."""
        return self.deadline is not None and time.monotonic() - self.created > self.deadline

    def cancel(self) -> None:
        """Cancel the job because nobody waits for it any more."""
        self.cancelled = True

    def end(self, error: LabError | None = None) -> None:
        """Report the end of the job, once: with its answer, or with the reason why there is none."""
        if not (self.ended and error):
            self.error, self.parts = error, []
            self.done()

    def take(self, series: np.ndarray, seconds: float, share: float) -> None:
        """Take the samples of a piece, and the compute time and share of its batch; with the last one, end."""
        self.parts.append(series)
        self.seconds += seconds
        self.rows += share * len(series)
        if sum(map(len, self.parts)) == self.num:
            assert self.started is not None
            whole = np.concatenate(self.parts)
            self.answer = Delivery(whole, self.started - self.created, self.seconds, self.rows / self.num)
            self.end()


@dataclass(frozen=True)
class Piece:
    """The samples first..first+count-1 of a job, in one batch."""

    job: SampleJob
    first: int
    count: int


class JoinedNoise(NoiseStream):
    """The noise of several requests side by side, each keyed by its own seed and sample numbers."""

    def __init__(self, parts: Sequence[NoiseStream]) -> None:
        self.parts = tuple(parts)
        self.batch = sum(part.batch for part in parts)

    def initial(self) -> Tensor:
        return torch.cat([part.initial() for part in self.parts])

    def at(self, step: int) -> Tensor:
        return torch.cat([part.at(step) for part in self.parts])

    def mixed(self, first: int, weights: Tensor) -> Tensor:
        return torch.cat([part.mixed(first, weights) for part in self.parts], dim=1)

    def uniform(self, step: int) -> Tensor:
        return torch.cat([part.uniform(step) for part in self.parts])


def keep_samples(state: SamplerState, index: Tensor) -> SamplerState:
    """Return the state of samples `index` (b,) alone; what follows for them is unchanged."""
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


def begin(sampler: Sampler, pieces: Sequence[Piece]) -> tuple[Problem, SamplerState]:
    """Start a batch made of pieces, each with its job's seed and sample numbers."""
    begun = [sampler.begin(piece.count, piece.job.seed, piece.first) for piece in pieces]
    problem = replace(begun[0][0], noise=JoinedNoise([problem.noise for problem, _ in begun]))
    z = torch.cat([state.z for _, state in begun])
    return problem, SamplerState(step=0, z=z, past=(), base=None, cache=None)


class Batch:
    """A running batch of pieces. It advances by single steps, and jobs can leave it between two of them.

    `seconds` is its compute time so far, `rows` the tokens recomputed for each of its samples.
    """

    def __init__(self, sampler: Sampler, pieces: Sequence[Piece]) -> None:
        self.sampler, self.pieces = sampler, list(pieces)
        begin_s = time.perf_counter()
        with torch.inference_mode():
            self.problem, self.state = begin(sampler, pieces)
        self.seconds, self.rows = time.perf_counter() - begin_s, 0.0
        self._leaps = sampler.leaps(self.problem, self.state, single=self._watched)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.state.z)

    @property
    def jobs(self) -> list[SampleJob]:
        """Return the jobs that the batch works for."""
        return [piece.job for piece in self.pieces]

    @property
    def left(self) -> int:
        """Return the number of steps to go."""
        return self.sampler.plan.steps - self.state.step

    @property
    def _watched(self) -> bool:
        return any(piece.job.on_event for piece in self.pieces)

    def step(self) -> Leap:
        """Take one step and report it to the jobs that watch; without any, take as many as one call allows.

        Raises NotFinite; then drop the jobs to blame.
        """
        clock = time.perf_counter()
        leap = next(self._leaps)
        watchers = [piece.job.on_event if piece.first == 0 else None for piece in self.pieces]
        if any(watchers):
            synchronize(self.sampler.model.device)
        seconds = time.perf_counter() - clock
        self.state, self.seconds = leap.after, self.seconds + seconds
        self.rows += leap.rows / len(self)
        offset = 0
        for piece, on_event in zip(self.pieces, watchers, strict=True):
            if on_event is not None and leap.info is not None:
                record = Observer().record(
                    self.problem, leap.before, leap.info, seconds, offset, 0, leap.after
                )
                on_event(record.event)
            offset += piece.count
        return leap

    def synchronize(self) -> None:
        """Wait for the device, and count the wait as compute time."""
        clock = time.perf_counter()
        synchronize(self.sampler.model.device)
        self.seconds += time.perf_counter() - clock

    def owners(self, fault: NotFinite) -> set[SampleJob]:
        """Return the jobs whose samples are not finite."""
        owner = [piece.job for piece in self.pieces for _ in range(piece.count)]
        return {owner[sample] for sample in fault.samples}

    def drop(self, jobs: Collection[SampleJob]) -> None:
        """Remove jobs; what follows for the others is unchanged."""
        assert isinstance(self.problem.noise, JoinedNoise)
        kept, offset, pieces, noises = [], 0, [], []
        for piece, noise in zip(self.pieces, self.problem.noise.parts, strict=True):
            if piece.job not in jobs:
                kept.append(torch.arange(offset, offset + piece.count))
                pieces.append(piece)
                noises.append(noise)
            offset += piece.count
        self.pieces = pieces
        if pieces:
            self.problem = replace(self.problem, noise=JoinedNoise(noises))
            self.state = keep_samples(self.state, torch.cat(kept))
            self._leaps = self.sampler.leaps(self.problem, self.state, single=self._watched)

    def deliver(self) -> None:
        """Give the jobs their samples."""
        clock = time.perf_counter()
        series = self.sampler.model.series(self.state.z.cpu().numpy())
        self.seconds += time.perf_counter() - clock
        share = self.rows / (self.sampler.model.n * self.sampler.plan.steps)
        parts = np.split(series, np.cumsum([piece.count for piece in self.pieces])[:-1])
        for piece, part in zip(self.pieces, parts, strict=True):
            piece.job.take(part, self.seconds, share)
