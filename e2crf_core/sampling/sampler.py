"""Sampler: a thin loop over `e2crf.step`, with and without a cache, alone or as a stream of events."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from e2crf_core.caching.events import Reason, StepEvent
from e2crf_core.caching.policy import CachePolicy
from e2crf_core.caching.state import Problem, SamplerState, StepInfo
from e2crf_core.caching.triggers import input_drift
from e2crf_core.diffusion.conditioning import NOISE, Conditioning
from e2crf_core.diffusion.noise import NoiseStream
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.diffusion.solvers import make_plan
from e2crf_core.diffusion.spectral import band_edges
from e2crf_core.e2crf import advance, step
from e2crf_core.errors import LabError
from e2crf_core.network.flops import network_flops, update_flops
from e2crf_core.network.forward import plain_forward

MAX_NUM = 100_000


@dataclass(frozen=True)
class Samples:
    """What a sampler made: series (num, N, M) in data units, and what it took. Shares are of a full run's work."""

    series: np.ndarray
    tokens: np.ndarray
    seconds: float
    token_share: float
    flop_share: float
    steps: int

    @property
    def hit_rate(self) -> float:
        """Share of tokens that were reused."""
        return 1.0 - self.token_share


class Sampler:
    """Draws series from a model with a policy and a solver.

    `batch` bounds how many samples run together; it does not change any sample. With `cached` False the plain
    network is called at every step and nothing is kept: the reference that every figure is measured against.
    """

    def __init__(
        self,
        model: ScoreModel,
        policy: CachePolicy | None = None,
        *,
        steps: int = 1000,
        solver: str = "euler_maruyama",
        grid: str = "linear",
        batch: int = 64,
        cached: bool = True,
    ) -> None:
        if batch < 1:
            raise LabError(f"batch {batch}: must be at least 1")
        self.model = model
        self.policy = policy or CachePolicy.preset("balanced")
        self.plan = make_plan(model.schedule, steps, solver, grid, model.profile.clock)
        self.batch = batch
        self.cached = cached
        self.conditioning: Conditioning | None = None

    def given(self, observed: np.ndarray, noise: float = NOISE) -> Sampler:
        """The same sampler, conditioned on `observed` (B or 1, N, M), standardized, NaN where nothing is known.

        With B series, sample i is drawn given series i modulo B. Raises LabError as `Conditioning.make` does.
        """
        sampler = copy.copy(self)
        sampler.conditioning = Conditioning.make(self.model, self.plan, observed, noise)
        return sampler

    def begin(self, num: int, seed: int, first: int = 0) -> tuple[Problem, SamplerState]:
        """The start of a run of `num` samples numbered from `first`."""
        model = self.model
        noise = NoiseStream(seed, num, model.mask, dtype=model.dtype, first=first)
        edges = torch.as_tensor(band_edges(model.n))
        bands = torch.bucketize(torch.arange(model.n), edges, right=True) - 1
        problem = Problem.make(model, self.plan, noise, bands.to(model.device))
        if self.conditioning is not None:
            problem = replace(problem, conditioning=self.conditioning.of(first, num))
        a, s = model.schedule.a(self.plan.rows[0].t), model.schedule.s(self.plan.rows[0].t)
        # At t = 1 the marginal of the data is taken as Gaussian, which for VP it is to within a = 0.0066.
        spread = (a * a * model.v + s * s).sqrt()
        z = (a * model.mu + spread * noise.initial()) * model.mask
        return problem, SamplerState(step=0, z=z, past=(), base=None, cache=None)

    def step(
        self, problem: Problem, state: SamplerState, policy: CachePolicy
    ) -> tuple[SamplerState, StepInfo]:
        """One step, cached or plain as this sampler is set."""
        return step(problem, state, policy) if self.cached else plain_step(problem, state)

    def sample(
        self,
        num: int = 16,
        seed: int = 0,
        *,
        progress: Callable[[int, int], None] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Samples:
        """Draw `num` series. `progress(done, total)` counts steps over all batches.

        Raises LabError for a bad `num` or `seed`, or when `cancelled` says so.
        """
        check_request(num, seed)
        parts, rows, prepared, seconds = [], 0, 0, 0.0
        total = self.plan.steps * -(-num // self.batch)
        done = 0
        with torch.inference_mode():
            for first in range(0, num, self.batch):
                begin = time.perf_counter()
                problem, state = self.begin(min(self.batch, num - first), seed, first)
                for _ in range(self.plan.steps):
                    if cancelled():
                        raise LabError("sampling was cancelled")
                    state, info = self.step(problem, state, self.policy)
                    rows += info.rows
                    prepared += info.samples
                    done += 1
                    if progress is not None:
                        progress(done, total)
                parts.append(state.z.cpu().numpy())
                seconds += time.perf_counter() - begin
        tokens = np.concatenate(parts)
        full = num * self.model.n * self.plan.steps
        return Samples(
            series=self.model.series(tokens),
            tokens=tokens,
            seconds=seconds,
            token_share=rows / full,
            flop_share=self.flops(rows, prepared, num) / self.full_flops(num),
            steps=self.plan.steps,
        )

    def flops(self, rows: int, prepared: int, num: int, steps: int | None = None) -> int:
        """Operations of a run (or of `steps` steps) of `num` samples.

        It recomputed `rows` tokens in all, and prepared a sample's inputs `prepared` times.
        """
        model = self.model
        update = update_flops(num, model.n, 2 * len(model.channels)) * (steps or self.plan.steps)
        return network_flops(model.network, rows, model.n, prepared) + update

    def full_flops(self, num: int, steps: int | None = None) -> int:
        """Operations of the same run without a cache."""
        calls = num * (steps or self.plan.steps)
        return self.flops(calls * self.model.n, calls, num, steps)

    def events(self, num: int = 1, seed: int = 0, watch: int = 0) -> Iterator[StepEvent]:
        """Run one batch of `num` samples, yielding an event after every step (see StepEvent)."""
        check_request(num, seed)
        problem, state = self.begin(num, seed)
        for _ in range(self.plan.steps):
            with torch.inference_mode():
                before = state
                begin = time.perf_counter()
                state, info = self.step(problem, state, self.policy)
                synchronize(self.model.device)
                seconds = time.perf_counter() - begin
                event = observe(self, problem, before, info, seconds, watch, version=0)
            yield event


def check_request(num: int, seed: int) -> None:
    """Raise LabError unless 1 <= num <= MAX_NUM and 0 <= seed < 2**63."""
    if not 1 <= num <= MAX_NUM:
        raise LabError(f"num {num}: must lie between 1 and {MAX_NUM}")
    if not 0 <= seed < 2**63:
        raise LabError(f"seed {seed}: must lie between 0 and 2**63 - 1")


def warm_up(sampler: Sampler, num: int, seed: int) -> None:
    """Run one step and drop it, so that first-call costs do not count as the method's."""
    with torch.inference_mode():
        problem, state = sampler.begin(num, seed)
        sampler.step(problem, state, sampler.policy)
    synchronize(sampler.model.device)


def synchronize(device: torch.device) -> None:
    """Wait for the device, so that a clock read next means something."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def plain_step(problem: Problem, state: SamplerState) -> tuple[SamplerState, StepInfo]:
    """A step of the uncached sampler: the whole network, nothing kept."""
    i, model = state.step, problem.model
    network, level = model.network, problem.level(i)
    prepared = network.prepare(problem.network_input(state), level)
    output = network.head(plain_forward(network, prepared, network.condition(level)))
    after, denoised = advance(problem, state, output, None)
    every = torch.full((1, model.n), int(Reason.REFRESH), dtype=torch.uint8)
    nothing = torch.zeros(1, model.n, dtype=torch.float64)
    batch = len(state.z)
    return after, StepInfo(every, nothing, nothing[:, :1], batch * model.n, batch, denoised)


def observe(
    sampler: Sampler,
    problem: Problem,
    before: SamplerState,
    info: StepInfo,
    seconds: float,
    watch: int,
    version: int,
    after: SamplerState | None = None,
) -> StepEvent:
    """Describe a step for people: brings the watched sample's arrays to the host."""
    model, i = sampler.model, before.step
    batch, n = len(before.z), model.n
    cache = before.cache
    reasons = info.reasons.expand(batch, n).numpy()
    z = before.z[watch].float().cpu().numpy()
    denoised = info.denoised[watch].float().cpu().numpy()
    if cache is None:
        drift, age = np.zeros(n, np.float32), np.zeros(n, np.int32)
    else:
        one = replace(
            before, z=before.z[watch : watch + 1], cache=replace(cache, u=cache.u[watch : watch + 1])
        )
        drift = input_drift(problem, one)[0].float().cpu().numpy()
        clock_at = cache.clock.at
        age = (i - clock_at[min(watch, len(clock_at) - 1)]).numpy().astype(np.int32)
    later = after.cache if after is not None else None
    r = later.r if later is not None else (cache.r if cache is not None else torch.full((batch,), torch.nan))
    score = info.score[min(watch, len(info.score) - 1)].nan_to_num(posinf=float(np.finfo(np.float32).max))
    clean = model.series(np.stack([denoised, z]))
    return StepEvent(
        step=i,
        t=problem.plan.rows[i].t,
        log_snr=problem.levels[i],
        policy_version=version,
        share=info.rows / (batch * n),
        tokens=info.rows,
        flops=sampler.flops(info.rows, info.samples, batch, 1),
        flops_full=sampler.full_flops(batch, 1),
        seconds=seconds,
        tau=float(info.tau[min(watch, len(info.tau) - 1)]),
        r=float(r[watch]),
        r_mean=float(r.nanmean()),
        reasons=reasons[watch],
        batch_reasons=reasons,
        e=score.numpy().astype(np.float32),
        drift=drift,
        age=age,
        spectrum=model.magnitudes(z).astype(np.float32),
        x0=clean[0],
        series=clean[1],
    )
