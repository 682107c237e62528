"""The lessons' experiments: every error is paired, against the uncached twin on the same noise.

A study takes a network and returns points: what was done, at which place of the horizontal axis, and how far the
samples were from their twins. `python -m benchmarks.lessons` records them; the page shows the record at once and can
measure again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from e2crf_core.caching.events import Reason
from e2crf_core.caching.policy import PRESETS, CachePolicy
from e2crf_core.caching.state import Problem, SamplerState
from e2crf_core.data.datasets import Dataset
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.e2crf import combine, recompute
from e2crf_core.errors import Cancelled
from e2crf_core.models.heldout import heldout_blocks
from e2crf_core.progress import Cancel, Progress, never, silent
from e2crf_core.quality.interval import Interval
from e2crf_core.quality.protocol import TwinError, judge, twin_error
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.sampler import Sampler, Samples

SEED = 0
KEEP = (2, 4, 8)
EVENT_BANDS = (4, 8, 16, 32)
LOW = 16
"""Tokens of the low band in the study of causality: the edge of a band of the shipped causal network."""


@dataclass(frozen=True)
class Sizes:
    """How large a study is: samples, steps of a smooth and of a noisy sampler, and of the converged solution."""

    num: int = 16
    steps: int = 40
    noisy: int = 100
    converged: int = 80


@dataclass(frozen=True)
class StudyPoint:
    """One measurement: `family` and `label` name what was done, `x` is its place on the horizontal axis.

    `error` has its 95% bootstrap interval over samples. `distance` is the paired change of the marginal Wasserstein
    distance to held-out series, as a share of the twin's, where whole samples were drawn.
    """

    family: str
    label: str
    x: float
    error: Interval
    distance: Interval | None = None


@dataclass
class LessonBench:
    """A network and its data, with which a study draws; counts the steps of `planned` for `progress`."""

    model: ScoreModel
    data: Dataset
    sizes: Sizes = field(default_factory=Sizes)
    progress: Progress = silent
    cancelled: Cancel = never
    planned: int = 1
    done: int = 0

    def tick(self, steps: int = 1) -> None:
        """Report steps. Raises Cancelled."""
        if self.cancelled():
            raise Cancelled
        self.done += steps
        self.progress(min(self.done, self.planned), self.planned)

    def draw(self, config: SamplerConfig) -> Samples:
        """Draw the study's samples, always from the same noise."""
        begin = self.done

        def report(now: int, total: int) -> None:
            self.tick(begin + now - self.done)

        return Sampler.of(self.model, config).sample(
            self.sizes.num, SEED, progress=report, cancelled=self.cancelled
        )

    def standard(self, series: np.ndarray) -> np.ndarray:
        """Return series (B, N, M) as the network sees them."""
        return (series - self.model.mean) / self.model.std

    def errors(self, made: np.ndarray, twin: np.ndarray, edges: Sequence[int] | None = None) -> TwinError:
        """Return the errors of series to their twins."""
        return twin_error(self.standard(made), self.standard(twin), self.heldout, edges=edges)

    @property
    def heldout(self) -> np.ndarray:
        """Standardized series that the network never saw, (m, N, M)."""
        return self.data.standardize(self.data.x[self.data.heldout])

    def point(self, family: str, label: str, x: float, made: np.ndarray, twin: np.ndarray) -> StudyPoint:
        """Compare series with their twins, and the distances of both to held-out series."""
        blocks = heldout_blocks(self.data)
        change = judge(
            self.standard(made), self.standard(twin), self.heldout, blocks=blocks, resamples=100
        ).primary.change
        return StudyPoint(family, label, x, self.errors(made, twin).median, change)


Row = tuple[str, str, SamplerConfig]


def by_cost(bench: LessonBench, twin: SamplerConfig, rows: Sequence[Row]) -> list[StudyPoint]:
    """Measure configurations against one twin; x is the cost in network calls of all tokens."""
    bench.planned = twin.steps + sum(config.steps for _, _, config in rows)
    truth = bench.draw(twin).series
    points = []
    for family, label, config in rows:
        made = bench.draw(config)
        points.append(bench.point(family, label, made.token_share * made.steps, made.series, truth))
    return points


def change_study(bench: LessonBench) -> list[StudyPoint]:
    """Keep the score, D, or F for h steps of DDIM and compare finished samples; x is h."""
    config = SamplerConfig(PRESETS["exact"], bench.sizes.steps, "ddim", "log_snr")
    bench.planned = config.steps * (1 + 3 * len(KEEP))
    truth = kept(bench, config, "F", 1)
    return [
        bench.point(name, f"{name}, {h} steps", h, kept(bench, config, quantity, h), truth)
        for quantity, name in (("score", "score kept"), ("D", "D kept"), ("F", "F kept"))
        for h in KEEP
    ]


@torch.inference_mode()
def kept(bench: LessonBench, config: SamplerConfig, quantity: str, h: int) -> np.ndarray:
    """Return series (B, N, M) of a run that calls the network every `h` steps and keeps one quantity between."""
    sampler = Sampler.of(bench.model, config)
    problem, state = sampler.begin(bench.sizes.num, SEED)
    schedule, hold = bench.model.schedule, state.z
    for i, row in enumerate(sampler.plan.rows):
        a, s, z = schedule.a(row.t), schedule.s(row.t), state.z
        if i % h == 0:
            fresh, info = sampler.step(problem, state, config.policy)
            assert fresh.cache is not None
            parts = {"score": (a * info.denoised - z) / s**2, "D": info.denoised, "F": fresh.cache.output}
            hold = parts[quantity].clone()
        if quantity == "score":
            denoised = (z + s**2 * hold) / a
        else:
            denoised = hold if quantity == "D" else problem.denoised(i, z, hold)
        state = SamplerState(i + 1, combine(row.mix, z, None, (denoised,)), (), None, None)
        bench.tick()
    return bench.model.series(state.z.numpy())


def events_study(bench: LessonBench) -> list[StudyPoint]:
    """Compare the published rule with and without energy weighting, band by band; x is a band's middle."""
    plan = ("euler_maruyama", "linear")
    rules = {
        "weighted": CachePolicy(trigger="paper", tau=20.0),
        "weighted, all refreshed every 20 steps": CachePolicy(trigger="paper", tau=28.0, refresh_every=20),
        "not weighted": CachePolicy(trigger="paper", tau=2.6, energy_weighting=False),
    }
    bench.planned = bench.sizes.noisy * (1 + len(rules))
    truth = bench.draw(SamplerConfig(None, bench.sizes.noisy, *plan)).series
    points = []
    for name, policy in rules.items():
        made = bench.draw(SamplerConfig(policy, bench.sizes.noisy, *plan))
        label = f"{name}: {made.token_share * made.steps:.1f} calls"
        for low, high, error in bench.errors(made.series, truth, EVENT_BANDS).bands:
            points.append(StudyPoint(label, f"k = {low} to {high - 1}", (low + high - 1) / 2, error))
    return points


def feedback_study(bench: LessonBench) -> list[StudyPoint]:
    """Compare rules with and without error feedback; x is the cost."""
    rows: list[Row] = []
    for tau in (0.2, 0.4):
        policy = CachePolicy(trigger="bands", bands=((16, tau), (100_000, 3 * tau)))
        for name, each in (("bands", policy), ("bands, correcting", policy.replace(correct=True))):
            rows.append((name, f"τ = {tau:g}", noisy(bench, each)))
    for tau in (0.1, 0.2, 0.4, 0.8):
        policy = CachePolicy(trigger="log_snr", tau=tau)
        rows.append(("clock", f"τ = {tau:g}", noisy(bench, policy)))
    for tau in (0.1, 0.2, 0.8):
        policy = CachePolicy(trigger="log_snr", tau=tau, adapt=True, error_budget=BUDGET)
        rows.append(("clock, adapting", f"from τ = {tau:g}", noisy(bench, policy)))
    return by_cost(bench, SamplerConfig(None, bench.sizes.noisy), rows)


BUDGET = 0.1


def noisy(bench: LessonBench, policy: CachePolicy) -> SamplerConfig:
    """Return the published kind of sampler, with fewer steps."""
    return SamplerConfig(policy, bench.sizes.noisy)


def fewer_study(bench: LessonBench) -> list[StudyPoint]:
    """Compare caches of a fine Euler grid with solvers of as many calls; errors are to the converged solution."""
    rows: list[Row] = []
    for calls in (4, 8, 16):
        for name, predictor in (("F held", "hold"), ("F continued", "linear")):
            every = max(1, bench.sizes.converged // calls)
            policy = CachePolicy(trigger="fixed", refresh_every=every, predictor=predictor)
            steps = (calls - 1) * every + 1
            rows.append(
                (f"{name}, fine grid", f"{calls} calls", SamplerConfig(policy, steps, "ddim", "log_snr"))
            )
        for name, solver in (
            ("DDIM", "ddim"),
            ("exponential AB 2", "etd_ab2"),
            ("DPM-Solver++ 2M", "dpmpp_2m"),
        ):
            rows.append((name, f"{calls} calls", SamplerConfig(None, calls, solver, "log_snr")))
    return by_cost(bench, converged(bench), rows)


def converged(bench: LessonBench) -> SamplerConfig:
    """Return the solver that stands for the exact solution."""
    return SamplerConfig(None, bench.sizes.converged, "dpmpp_2m", "profile")


def solver_study(bench: LessonBench) -> list[StudyPoint]:
    """Compare solvers alone, caches of all tokens, and caches by band; errors are to the converged solution."""
    rows: list[Row] = []
    for calls in (4, 6, 8, 12):
        for name, solver in (("DPM-Solver++ 2M alone", "dpmpp_2m"), ("exponential AB 2 alone", "etd_ab2")):
            rows.append((name, f"{calls} calls", SamplerConfig(None, calls, solver, "profile")))
    cheap = (bench.sizes.steps, "dpmpp_2m", "profile")
    for tau in (1.8, 1.2, 0.8):
        policy = CachePolicy.preset("multistep").replace(tau=tau)
        rows.append(("cache, all tokens at once", f"τ = {tau:g}", SamplerConfig(policy, *cheap)))
    for tau in BAND_TAUS:
        rows.append(("cache, by band", f"τ = {tau:g}", SamplerConfig(by_band(tau), *cheap)))
    return by_cost(bench, converged(bench), rows)


BAND_TAUS = (1.2, 0.8, 0.5)


def by_band(tau: float) -> CachePolicy:
    """Return a policy that refreshes low frequencies at intervals of tau, higher ones more rarely."""
    bands = ((8, tau), (16, 1.5 * tau), (32, 2 * tau), (100_000, 4 * tau))
    return CachePolicy(trigger="bands", bands=bands, clock="profile", predictor="linear")


@torch.inference_mode()
def causality_study(bench: LessonBench) -> list[StudyPoint]:
    """Recompute only the low band with what is kept of the others; x is the age of the others in steps.

    All states are those of one uncached run, so the error is that of stale keys and values alone: relative L2 of F
    on the low band, the median over samples of the mean over the run.
    """
    config = SamplerConfig(PRESETS["exact"], bench.sizes.steps, "dpmpp_2m", "profile")
    bench.planned = config.steps * (1 + len(KEEP))
    sampler = Sampler.of(bench.model, config)
    states, truth = [], []
    for step in sampler.steps(bench.sizes.num, SEED, cancelled=bench.cancelled):
        assert step.after.cache is not None
        states.append(step.before.z.clone())
        truth.append(step.after.cache.output[:, :LOW].clone())
        bench.tick()
    family = "causal" if getattr(bench.model.network, "edges", ()) else "full attention"
    points = []
    for h in KEEP:
        problem, _ = sampler.begin(bench.sizes.num, SEED)
        each = stale(bench, problem, states, truth, h)
        rng = np.random.default_rng(SEED)
        means = np.median(each[rng.integers(0, len(each), (400, len(each)))], axis=1)
        low, high = np.quantile(means, [0.025, 0.975])
        error = Interval(float(np.median(each)), float(low), float(high))
        points.append(StudyPoint(family, f"kept for {h} steps", h, error))
    return points


def stale(
    bench: LessonBench, problem: Problem, states: list[Tensor], truth: list[Tensor], h: int
) -> np.ndarray:
    """Return (B,) relative errors of F on the low band when the other tokens are refreshed every `h` steps."""
    policy, cache, errors = CachePolicy(trigger="fixed", refresh_every=h), None, []
    for i, z in enumerate(states):
        reasons = torch.zeros(1, bench.model.n, dtype=torch.uint8)
        reasons[:, :LOW] = int(Reason.LOW_BAND)
        if i % h == 0:
            reasons[:] = int(Reason.REFRESH)
        cache, _ = recompute(policy, problem, SamplerState(i, z, (), None, cache), reasons)
        if i % h:
            off = (cache.output[:, :LOW] - truth[i]).square().sum((1, 2)) / truth[i].square().sum((1, 2))
            errors.append(off.sqrt())
        bench.tick()
    return torch.stack(errors).mean(0).double().numpy()


STUDIES: dict[str, Callable[[LessonBench], list[StudyPoint]]] = {
    "change": change_study,
    "events": events_study,
    "feedback": feedback_study,
    "fewer": fewer_study,
    "causality": causality_study,
    "solver": solver_study,
}
