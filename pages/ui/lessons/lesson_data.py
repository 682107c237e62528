"""Material of the lessons: real series, recorded runs, and measured experiments."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from e2crf_core.caching.policy import PRESETS, CachePolicy
from e2crf_core.data.axes import time_axis
from e2crf_core.data.datasets import Dataset
from e2crf_core.diffusion.schedules import VP
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.diffusion.spectral import token_count, tokenize
from e2crf_core.errors import LabError
from e2crf_core.io.packet import pack
from e2crf_core.quality.distances import relative_l2, sliced_wasserstein_metric
from e2crf_core.quality.intervals import Measurement, measure
from e2crf_core.runs.archive import Archive
from e2crf_core.sampling.sampler import Sampler
from pages.ui.common.reference import Reference

CHANGE_STEPS = 200
FEEDBACK_STEPS, FEEDBACK_NUM = 200, 4
FEWER_STEPS, FEWER_NUM = 300, 32
TAUS = (0.1, 0.3, 0.9)
CALLS = (10, 20, 40)
SHORT = ("dpmpp_2m", "sde_dpmpp_2m")
MEETING_CALLS, MEETING_FINE, MEETING_NUM = (10, 20, 40), 20, 4


def series_packet(lesson: str, reference: Reference, view: Mapping[str, str]) -> bytes:
    """Pack windows of a data set, the variance of their tokens, and one draw of noise."""
    data: Dataset = reference.dataset
    fan = reference.fan
    tokens = tokenize(
        data.standardize(data.x[data.train[:: max(1, len(data.train) // 2000)]]).astype(np.float64)
    )
    schedule = VP()
    header = {
        "kind": "lesson",
        "lesson": lesson,
        "key": f"{lesson} {data.name}",
        "F": len(fan),
        "n": tokens.shape[1],
        "N": data.length,
        "M": fan.shape[2],
        "time": time_axis(data),
        "channels": list(data.channels),
        "mean": data.mean.tolist(),
        "std": data.std.tolist(),
        "beta_min": schedule.beta_min,
        "beta_max": schedule.beta_max,
        "view": dict(view),
    }
    noise = np.random.default_rng(0).standard_normal(data.length)
    return pack(header, {"fan": fan, "v": tokens.var(0).mean(-1), "noise": noise})


def change_recording(model: ScoreModel, name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the header and arrays of an uncached run of one sample.

    The arrays hold, at every step, what D takes from the score (s²/a times the score), D itself, F, and the
    coefficients c_in, c_skip and c_out (steps, n) of every token.
    """
    sampler = Sampler(model, PRESETS["exact"], steps=CHANGE_STEPS)
    parts: dict[str, list[np.ndarray]] = {"score": [], "D": [], "F": []}
    for row, step in zip(sampler.plan.rows, sampler.steps(1, 0), strict=True):
        assert step.after.cache is not None
        a, denoised = model.schedule.a(row.t), step.info.denoised
        # D = (z + s² score) / a: so much of D is taken from the score.
        parts["score"].append(((a * denoised - step.before.z) / a)[0].numpy())
        parts["D"].append(denoised[0].numpy())
        parts["F"].append(step.after.cache.output[0].numpy())
    header = {
        "kind": "lesson",
        "lesson": "change",
        "key": f"change {name}",
        "count": CHANGE_STEPS,
        "n": model.n,
        "width": parts["D"][0].shape[-1],
        "t": [row.t for row in sampler.plan.rows],
        "a": [model.schedule.a(row.t) for row in sampler.plan.rows],
        "s": [model.schedule.s(row.t) for row in sampler.plan.rows],
    }
    scales = {
        name: getattr(step.problem, name).square().mean(-1).sqrt().numpy()
        for name in ("c_in", "c_skip", "c_out")
    }
    return header, {key: np.stack(values) for key, values in parts.items()} | scales


def events_recording(archive: Archive) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return header and arrays of a record for the lesson on events. Raises LabError without E1's tokens."""
    recorder = archive.recorder
    if recorder.n != token_count(recorder.N):
        raise LabError(
            "the tokens of this imported network are not a half spectrum", remedy="choose another run"
        )
    mean, std = (np.asarray(archive.model[key]) for key in ("mean", "std"))
    z = tokenize((recorder.column("series").astype(np.float64) - mean) / std)
    header = {
        "kind": "lesson",
        "count": recorder.count,
        "n": recorder.n,
        "M": recorder.M,
        "whatif": {
            "policy": asdict(CachePolicy(trigger="paper", tau=0.3)),
            "clocks": {"log_snr": recorder.column("log_snr").tolist()},
        },
    }
    return header, {"p": z}


@dataclass(frozen=True)
class Feedback:
    """One policy's run next to the uncached one, as means over the batch.

    `error` (steps,) is the error of D relative to D, `share` (steps,) the share of tokens computed; event
    intensity r and threshold tau have shape (steps,). The distance is that of the finished samples.
    """

    name: str
    log_snr: np.ndarray
    error: np.ndarray
    share: np.ndarray
    r: np.ndarray
    tau: np.ndarray
    relative_l2: float


FEEDBACK = {
    "bands, no feedback": CachePolicy(trigger="bands", bands=((16, 0.1), (100_000, 0.3))),
    "bands, correcting": CachePolicy(trigger="bands", bands=((16, 0.1), (100_000, 0.3)), correct=True),
    "log_snr, no feedback": CachePolicy(trigger="log_snr", tau=0.15),
    "log_snr, adapting to a budget": CachePolicy(trigger="log_snr", tau=0.15, adapt=True, error_budget=0.1),
}


def feedback_runs(model: ScoreModel, progress: Callable[[float, str], Any]) -> list[Feedback]:
    """Run the same noise without a cache and with each policy of FEEDBACK."""
    plain = Sampler(model, steps=FEEDBACK_STEPS, policy=None)
    truth, final, _ = _denoised(plain, lambda share: progress(share / 5, "without a cache"))
    found = []
    for place, (name, policy) in enumerate(FEEDBACK.items(), 1):
        sampler = Sampler(model, policy, steps=FEEDBACK_STEPS)

        def report(share: float, place: int = place, name: str = name) -> None:
            progress((place + share) / 5, name)

        made, end, columns = _denoised(sampler, report)
        error = np.sqrt(np.square(made - truth).sum((1, 2, 3)) / np.square(truth).sum((1, 2, 3)))
        levels = np.array([model.schedule.log_snr(row.t) for row in sampler.plan.rows])
        l2 = float(np.sqrt(np.square(end - final).sum() / np.square(final).sum()))
        share, r, tau = columns
        found.append(Feedback(name, levels, error, share, r, tau, l2))
    return found


def _denoised(
    sampler: Sampler, progress: Callable[[float], Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return D (steps, B, n, 2M), the final tokens, and (3, steps): share of tokens computed, r, and tau."""
    made, columns = [], []
    full = FEEDBACK_NUM * sampler.model.n
    for i, step in enumerate(sampler.steps(FEEDBACK_NUM, 0)):
        info, cache = step.info, step.after.cache
        made.append(info.denoised.numpy())
        r = float(cache.r.nanmean()) if cache is not None else np.nan
        columns.append((info.rows / full, r, float(info.tau.mean())))
        if i % 20 == 0:
            progress(i / sampler.plan.steps)
    return np.stack(made), step.after.z.numpy(), np.array(columns).T


@dataclass(frozen=True)
class Cost:
    """A way to sample: its family, full network calls, seconds, and distance to held-out series."""

    name: str
    family: str
    calls: float
    seconds: float
    quality: Measurement


def fewer_runs(model: ScoreModel, data: Dataset, progress: Callable[[float, str], Any]) -> list[Cost]:
    """Measure caches of a long sampler and short solvers; all draw FEWER_NUM series from one seed."""
    held = data.standardize(data.x[data.heldout])
    metric = sliced_wasserstein_metric(directions=200)
    plans: list[tuple[str, str, Sampler]] = [
        (
            f"τ = {tau:g}",
            f"cache, {FEWER_STEPS} steps",
            Sampler(model, CachePolicy(tau=tau), steps=FEWER_STEPS),
        )
        for tau in TAUS
    ]
    plans += [
        (f"{calls} steps", solver, Sampler(model, steps=calls, solver=solver, grid="log_snr", policy=None))
        for solver in SHORT
        for calls in CALLS
    ]
    found = []
    for place, (name, family, sampler) in enumerate(plans):
        progress(place / len(plans), f"{family}, {name}")
        made = sampler.sample(FEWER_NUM, 0)
        samples = (made.series - model.mean) / model.std
        quality = measure(samples, held, metric, resamples=60, floor_repeats=8)
        found.append(Cost(name, family, made.token_share * made.steps, made.seconds, quality))
    return found


@dataclass(frozen=True)
class Meeting:
    """Distance of caches over a fine Euler grid from the multistep solver, at equal calls and on the same noise.

    Relative L2 to DPM-Solver++(2M) with `calls` calls: of F held between the calls, of F continued linearly,
    and of the plain first-order solver with as many calls.
    """

    calls: int
    held: float
    continued: float
    first_order: float


def meeting_runs(model: ScoreModel, progress: Callable[[float, str], Any]) -> list[Meeting]:
    """Measure MEETING_CALLS calls, with MEETING_FINE Euler steps (DDIM, in log(a/s)) for each call."""
    found = []
    for place, calls in enumerate(MEETING_CALLS):
        progress(place / len(MEETING_CALLS), f"{calls} calls: cache and multistep solver")

        def end(predictor: str, calls: int = calls) -> np.ndarray:
            policy = CachePolicy(trigger="fixed", refresh_every=MEETING_FINE, predictor=predictor)
            steps = (calls - 1) * MEETING_FINE + 1
            return (
                Sampler(model, policy, steps=steps, solver="ddim", grid="log_snr")
                .sample(MEETING_NUM, 0)
                .tokens
            )

        def plain(solver: str, calls: int = calls) -> np.ndarray:
            sampler = Sampler(model, steps=calls, solver=solver, grid="log_snr", policy=None)
            return sampler.sample(MEETING_NUM, 0).tokens

        target = plain("dpmpp_2m")
        found.append(
            Meeting(
                calls, *(relative_l2(made, target) for made in (end("hold"), end("linear"), plain("ddim")))
            )
        )
    return found
