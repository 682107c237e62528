"""Run several requests in one batch: joined noise, and a state from which samples can leave.

No sample depends on its batch, so requests with equal settings run together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from e2crf_core.caching.events import StepEvent
from e2crf_core.caching.state import Cache, Problem, SamplerState, StepInfo
from e2crf_core.diffusion.noise import NoiseStream
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.sampler import Sampler, observe


@dataclass(frozen=True)
class Answer:
    """The series (num, N, M) in data units; seconds waited and computed; its batches' share of tokens."""

    series: np.ndarray
    queue_seconds: float
    seconds: float
    token_share: float


class SampleJob:
    """A request. `done` is called once, by the worker or `cancel`; then `answer` or `error` is set.

    With `on_event`, the job's first sample is watched and every step is reported, from the worker.
    """

    def __init__(
        self,
        config: SamplerConfig,
        num: int,
        seed: int,
        *,
        done: Callable[[], object] = lambda: None,
        on_event: Callable[[StepEvent], object] | None = None,
    ) -> None:
        self.config, self.num, self.seed = config, num, seed
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

    @property
    def key(self) -> tuple[object, ...]:
        """Return the settings that jobs must share to run in one batch."""
        return self.config.policy, self.config.plan

    def cancel(self) -> None:
        """Cancel the job because nobody waits for it any more."""
        self.cancelled = True


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


def report(
    sampler: Sampler,
    pieces: Sequence[Piece],
    problem: Problem,
    before: SamplerState,
    info: StepInfo,
    seconds: float,
    after: SamplerState,
) -> None:
    """Send the step to jobs that requested events and whose first sample is in this batch."""
    offset = 0
    for piece in pieces:
        if piece.job.on_event is not None and piece.first == 0:
            piece.job.on_event(observe(sampler, problem, before, info, seconds, offset, 0, after))
        offset += piece.count
