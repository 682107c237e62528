"""Define Sampler, the stepping loop over `e2crf.step`, cached or not; all sampling in the lab uses it."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from e2crf_core.caching.events import Reason, StepEvent
from e2crf_core.caching.policy import PRESETS, CachePolicy
from e2crf_core.caching.state import Problem, SamplerState, StepInfo
from e2crf_core.cuda import synchronize
from e2crf_core.diffusion.conditioning import NOISE, Conditioning
from e2crf_core.diffusion.noise import NoiseStream, noise_stream
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.diffusion.solvers import make_plan
from e2crf_core.diffusion.spectral import band_edges
from e2crf_core.e2crf import advance
from e2crf_core.e2crf import step as cached_step
from e2crf_core.errors import Cancelled, LabError, whole_number
from e2crf_core.network.host import own_settings
from e2crf_core.progress import Cancel, Progress, never, silent
from e2crf_core.sampling.backend_choice import choose_backend
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.finite import check_finite
from e2crf_core.sampling.observing import Observer, run_flops
from e2crf_core.sampling.segments import LIMIT_BYTES, Segment, run_segment, segments_of

MAX_NUM = 100_000
PRECISIONS = (torch.float32, torch.float64)
LOOK_EVERY = 16
"""Steps between checks for non-finite numbers on devices where each check would cause a wait."""


@dataclass(frozen=True)
class Samples:
    """The output of a sampler: series (num, N, M) in data units, and its cost as shares of a full run."""

    series: np.ndarray
    tokens: np.ndarray
    seconds: float
    token_share: float
    flop_share: float
    steps: int


@dataclass(frozen=True)
class Part:
    """A batch: its tokens (b, n, 2M), series (b, N, M) in data units, and compute time.

    `rows` counts the recomputed tokens, `prepared` how often a sample's inputs were prepared.
    """

    tokens: np.ndarray
    series: np.ndarray
    seconds: float
    rows: int
    prepared: int


@dataclass(frozen=True)
class Step:
    """A step of a run: the states before and after it, the policy in force, and the decisions.

    The step has overwritten the keys and values of `before`. `seconds` is the compute time; on asynchronous
    devices it is exact only if the loop was asked to time its steps.
    """

    problem: Problem
    before: SamplerState
    after: SamplerState
    policy: CachePolicy | None
    info: StepInfo
    seconds: float


@dataclass(frozen=True)
class Leap:
    """One or more steps of a run, of which only the first may compute: `rows` tokens of `samples` samples.

    `reasons` (b, n) are its Reason codes, b = 1 if all samples agree. `info` is what a single step decided,
    None where steps were taken as one.
    """

    before: SamplerState
    after: SamplerState
    rows: int
    samples: int
    reasons: torch.Tensor
    info: StepInfo | None = None


class Sampler:
    """A sampler that draws series from a model with a policy and a solver.

    With `policy` None, the network is called at every step and nothing is kept: the
    reference for every measurement. `batch` limits how many samples run together; it changes no sample.
    `backend` is one of network.backends.BACKENDS, or `auto`; the attribute of that name says which one runs,
    and why. `noise` is one of diffusion.noise.NOISES; samples of one stream are not those of another. Raises
    LabError for a plan, or a backend, that the model cannot run.
    """

    def __init__(
        self,
        model: ScoreModel,
        policy: CachePolicy | None = PRESETS["balanced"],
        *,
        steps: int = 1000,
        solver: str = "euler_maruyama",
        grid: str = "linear",
        batch: int = 64,
        backend: str = "eager",
        noise: str = "numpy",
    ) -> None:
        if model.dtype not in PRECISIONS:
            raise LabError(
                f"model {model.name!r} is in {model.dtype}, in which samples would be noise or not finite",
                field="checkpoint",
                remedy="convert it to float32 or float64",
            )
        self.model = model
        config = SamplerConfig(policy, steps, solver, grid, batch, backend, noise)
        self.plan = make_plan(model.schedule, steps, solver, grid, model.profile.clock)
        self.backend = choose_backend(model, policy, backend, batch)
        self.config = replace(config, backend=self.backend.name)
        self.conditioning: Conditioning | None = None
        self._problem: Problem | None = None
        self._segments: tuple[Mapping[int, Segment] | None] | None = None

    @staticmethod
    def of(model: ScoreModel, config: SamplerConfig) -> Sampler:
        """Return the sampler that a configuration describes, for one model."""
        return Sampler(
            model,
            config.policy,
            steps=config.steps,
            solver=config.solver,
            grid=config.grid,
            batch=config.batch,
            backend=config.backend,
            noise=config.noise,
        )

    def given(self, observed: np.ndarray, noise: float = NOISE) -> Sampler:
        """Condition on `observed` (B or 1, N, M), standardized, NaN for unknown values; return a new sampler.

        With B series, sample i is conditioned on series i modulo B. Raises LabError like `Conditioning.make`.
        """
        sampler = copy.copy(self)
        sampler.conditioning = Conditioning.make(self.model, self.plan, observed, noise)
        return sampler

    @property
    def policy(self) -> CachePolicy | None:
        """Return the cache's policy, or None for the uncached sampler."""
        return self.config.policy

    @own_settings()
    def begin(self, num: int, seed: int, first: int = 0) -> tuple[Problem, SamplerState]:
        """Return the start of a run of `num` samples numbered from `first`."""
        model = self.model
        noise = noise_stream(self.config.noise, seed, num, model.mask, dtype=model.dtype, first=first)
        problem = replace(self._tables(noise), backend=self.backend.backend)
        if self.conditioning is not None:
            problem = replace(problem, conditioning=self.conditioning.of(first, num))
        a, s = model.schedule.a(self.plan.rows[0].t), model.schedule.s(self.plan.rows[0].t)
        # At t = 1 the marginal of the data is taken as Gaussian, which holds for VP to within a = 0.0066.
        spread = (a * a * model.v + s * s).sqrt()
        z = (a * model.mu + spread * noise.initial()) * model.mask
        return problem, SamplerState(step=0, z=z, past=(), base=None, cache=None)

    def _tables(self, noise: NoiseStream) -> Problem:
        """Return the constants of a run; they are kept for the next one unless they are large."""
        if self._problem is not None:
            return replace(self._problem, noise=noise, memo={})
        model = self.model
        edges = torch.as_tensor(band_edges(model.n))
        bands = torch.bucketize(torch.arange(model.n), edges, right=True) - 1
        problem = Problem.make(model, self.plan, noise, bands.to(model.device))
        if problem.c_in.nbytes <= LIMIT_BYTES:
            self._problem = problem
        return problem

    @own_settings()
    def step(
        self, problem: Problem, state: SamplerState, policy: CachePolicy | None
    ) -> tuple[SamplerState, StepInfo]:
        """Take one step under a policy, or a plain one without a policy or for an uncached sampler."""
        if policy is None or self.policy is None:
            return plain_step(problem, state)
        return cached_step(problem, state, policy)

    def steps(
        self,
        num: int,
        seed: int,
        first: int = 0,
        *,
        policy: Callable[[int], CachePolicy | None] | None = None,
        cancelled: Cancel = never,
        timed: bool = False,
    ) -> Iterator[Step]:
        """Run one batch of `num` samples numbered from `first`, yielding after every step; see `resume`."""
        with torch.inference_mode():
            problem, state = self.begin(num, seed, first)
        yield from self.resume(problem, state, policy=policy, cancelled=cancelled, timed=timed)

    def resume(
        self,
        problem: Problem,
        state: SamplerState,
        *,
        policy: Callable[[int], CachePolicy | None] | None = None,
        cancelled: Cancel = never,
        timed: bool = False,
    ) -> Iterator[Step]:
        """Run a batch from a state to its end, yielding after every step.

        `policy(i)` returns the policy of step i and is called just before it; by default it is the sampler's
        own. `timed` waits for the device, so that `seconds` are each step's own. Raises Cancelled before the
        next step once `cancelled()` is true, NotFinite once samples are not finite.
        """
        # Reading numbers from another device makes the host wait for it.
        every = 1 if timed or self.model.device.type == "cpu" else LOOK_EVERY
        for i in range(state.step, self.plan.steps):
            if cancelled():
                raise Cancelled
            now = self.policy if policy is None else policy(i)
            begin = time.perf_counter()
            with torch.inference_mode():
                after, info = self.step(problem, state, now)
            if timed:
                synchronize(self.model.device)
            seconds = time.perf_counter() - begin
            if (i + 1) % every == 0 or i + 1 == self.plan.steps:
                check_finite(after.z, i, self.model, now)
            yield Step(problem, state, after, now, info, seconds)
            state = after

    def leaps(
        self, problem: Problem, state: SamplerState, *, cancelled: Cancel = never, single: bool = False
    ) -> Iterator[Leap]:
        """Run a batch from a state to its end, fast: steps between two known network calls are taken as one.

        Samples equal those of `resume` up to rounding. With `single`, or where the calls are not known before
        the run, every leap is one step. Raises like `resume`.
        """
        segments = None if single else self.segments()
        while state.step < self.plan.steps:
            segment = None if segments is None else segments.get(state.step)
            if segment is None:
                # Between two calls, if the run was joined there, until the next one.
                for step in self.resume(problem, state, cancelled=cancelled):
                    state = step.after
                    info = step.info
                    yield Leap(step.before, state, info.rows, info.samples, info.reasons, info)
                    if segments is not None and state.step in segments:
                        break
                continue
            if cancelled():
                raise Cancelled
            assert self.policy is not None
            with torch.inference_mode():
                after, rows, samples = run_segment(problem, state, self.policy, segment)
            if self.model.device.type != "cpu":
                # Each look at a number would make the host wait; what is not finite stays so until the end.
                if after.step == self.plan.steps:
                    check_finite(after.z, after.step - 1, self.model, self.policy)
            elif not bool(torch.isfinite(after.z.sum())):
                segments = {}  # single steps raise NotFinite, and name the step
                continue
            yield Leap(state, after, rows, samples, segment.reasons)
            state = after

    def segments(self) -> Mapping[int, Segment] | None:
        """Return the plan's segments by first step; None if every step is taken singly (see `segments`)."""
        if self.policy is None or not self.policy.scheduled or self.conditioning is not None:
            return None
        if self._segments is None:
            self._segments = (segments_of(self.policy, self.model, self.plan, lambda: self.begin(1, 0)),)
        return self._segments[0]

    def draw(
        self, num: int, seed: int, first: int = 0, *, progress: Progress = silent, cancelled: Cancel = never
    ) -> Part:
        """Draw one batch of `num` samples from number `first`. Raises Cancelled when cancelled."""
        self.segments()  # tables of the plan, made once, are no part of the time of a batch
        rows = prepared = 0
        begin = time.perf_counter()
        with torch.inference_mode():
            problem, state = self.begin(num, seed, first)
        for leap in self.leaps(problem, state, cancelled=cancelled):
            rows, prepared, state = rows + leap.rows, prepared + leap.samples, leap.after
            progress(state.step, self.plan.steps)
        tokens = state.z.cpu().numpy()
        seconds = time.perf_counter() - begin
        return Part(tokens, self.model.series(tokens), seconds, rows, prepared)

    def sample(
        self, num: int = 16, seed: int = 0, *, progress: Progress = silent, cancelled: Cancel = never
    ) -> Samples:
        """Draw `num` series. `progress(done, total)` counts steps over all batches.

        Raises LabError for a bad `num` or `seed`, Cancelled once `cancelled()` is true.
        """
        check_request(num, seed)
        starts, steps = range(0, num, self.config.batch), self.plan.steps

        def draw(place: int, first: int) -> Part:
            def report(done: int, total: int) -> None:
                progress(place * steps + done, len(starts) * steps)

            size = min(self.config.batch, num - first)
            return self.draw(size, seed, first, progress=report, cancelled=cancelled)

        parts = [draw(place, first) for place, first in enumerate(starts)]
        tokens = np.concatenate([part.tokens for part in parts])
        rows, prepared = sum(part.rows for part in parts), sum(part.prepared for part in parts)
        return Samples(
            series=self.model.series(tokens),
            tokens=tokens,
            seconds=sum(part.seconds for part in parts),
            token_share=rows / (num * self.model.n * steps),
            flop_share=self.flops(rows, prepared, num) / self.full_flops(num),
            steps=steps,
        )

    def events(self, num: int = 1, seed: int = 0, watch: int = 0) -> Iterator[StepEvent]:
        """Run one batch of `num` samples, yielding an event after every step (see StepEvent)."""
        check_request(num, seed)
        observer = Observer()
        for step in self.steps(num, seed, timed=True):
            yield observer.record(
                step.problem, step.before, step.info, step.seconds, watch, 0, step.after
            ).event

    def flops(self, rows: int, prepared: int, num: int, steps: int | None = None) -> int:
        """Count the operations of a run (or of `steps` steps) of `num` samples.

        The run recomputed `rows` tokens in total, and prepared a sample's inputs `prepared` times.
        """
        return run_flops(self.model, rows, prepared, num, steps or self.plan.steps)

    def full_flops(self, num: int, steps: int | None = None) -> int:
        """Count the operations of the same run without a cache."""
        calls = num * (steps or self.plan.steps)
        return self.flops(calls * self.model.n, calls, num, steps)


def check_request(num: int, seed: int) -> None:
    """Raise LabError unless both are whole, 1 <= num <= MAX_NUM, and 0 <= seed < 2**63."""
    whole_number("num", num, 1, MAX_NUM)
    whole_number("seed", seed, 0, 2**63 - 1)


def warm_up(sampler: Sampler, num: int, seed: int) -> None:
    """Run one step and discard it, and build tables, so that first-call costs do not count as the method's."""
    sampler.segments()
    next(sampler.steps(num, seed, timed=True))


def plain_step(problem: Problem, state: SamplerState) -> tuple[SamplerState, StepInfo]:
    """Take a step of the uncached sampler: run the whole network and keep nothing."""
    i, model = state.step, problem.model
    output = model.network.head(problem.features(i, problem.network_input(state), model.n))
    after, denoised = advance(problem, state, output, None)
    every = torch.full((1, model.n), int(Reason.REFRESH), dtype=torch.uint8)
    nothing = torch.zeros(1, model.n, dtype=torch.float64)
    batch = len(state.z)
    return after, StepInfo(every, nothing, nothing[:, :1], batch * model.n, batch, denoised)
