"""Which way of conditioning answers best? CRPS and coverage of five.

    python -m benchmarks.question_methods [--windows 16] [--num 24] [--datasets wind] [--out FILE.json]

All have 40 network calls for each draw. Windows, questions and intervals are those of `benchmarks.questions`.

- *Guided*, what the lab ships: the posterior mean of E3's Gaussian, without gradients, with the SDE solver of
  questions and with the ancestral one that the next two use.
- *Replacement with resampling* (RePaint, Lugmayr et al. 2022): after every step, the known part of the state is
  replaced by the observation at that noise level; each level is visited `repeats` times, noising the state again
  between visits, so that the unknown part adapts. Visits share the network calls.
- *Particles* (twisted diffusion sampler, Wu et al. 2023): the guided ancestral sampler proposes, and the draws of one
  window are resampled by weights that correct it towards the model's posterior. p(y | z) is the Gaussian around the
  denoised estimate with the covariance of E3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.questions import SEED
from benchmarks.study import QUESTIONS, Parts, asked_about, ratio, run, study_arguments
from e2crf_core import Dataset, ScoreModel
from e2crf_core.diffusion.conditioning import NOISE, Conditioning, series_basis
from e2crf_core.diffusion.noise import NoiseStream
from e2crf_core.diffusion.solvers import make_plan
from e2crf_core.diffusion.spectral import detokenize_torch, tokenize_torch
from e2crf_core.network.forward import plain_forward
from e2crf_core.progress import Progress, silent
from e2crf_core.questions.answers import ASKING
from e2crf_core.questions.heldout import Answers, Question
from e2crf_core.sampling.config import SamplerConfig

BATCH = 64
GUIDED = "guided, SDE solver"


def denoise(model: ScoreModel, z: Tensor, t: float) -> Tensor:
    """Return D (B, n, 2M) of E3 for tokens at time t."""
    part = model.precondition(t)
    centered = z - model.schedule.a(t) * model.mu
    level = torch.tensor(model.schedule.log_snr(t), dtype=torch.float64)
    network = model.network
    prepared = network.prepare(part.c_in * centered, level)
    output = network.head(plain_forward(network, prepared, network.condition(level)))
    return model.mu + part.c_skip * centered + part.c_out * output


def replacement(
    model: ScoreModel,
    observed: np.ndarray,
    num: int,
    seed: int,
    *,
    steps: int = 40,
    repeats: int = 1,
    progress: Progress = silent,
) -> np.ndarray:
    """Draw standardized series (num, N, M) by replacement; sample i is given window i modulo W of (W, N, M).

    The plan is ancestral with `steps` network calls in all: steps / repeats levels, each visited `repeats` times.
    """
    plan = make_plan(model.schedule, steps // repeats, "ancestral", "log_snr")
    parts = []
    for first in range(0, num, BATCH):
        index = np.arange(first, min(num, first + BATCH)) % len(observed)
        parts.append(_replaced(model, plan.rows, observed[index], seed, first, repeats))
        progress(first + len(index), num)
    return np.concatenate(parts)


def _replaced(
    model: ScoreModel, rows: tuple, observed: np.ndarray, seed: int, first: int, repeats: int
) -> np.ndarray:
    values = torch.as_tensor(observed).to(model.mu)
    known = ~values.isnan()
    given = values.nan_to_num()
    noise = NoiseStream(seed, len(values), model.mask, dtype=model.dtype, first=first)
    draw = iter(noise.at(i) for i in range(10**6))
    schedule = model.schedule
    a, s = schedule.a(rows[0].t), schedule.s(rows[0].t)
    with torch.inference_mode():
        z = (a * model.mu + (a * a * model.v + s * s).sqrt() * noise.initial()) * model.mask
        for row, after in pairwise(rows):
            for repeat in range(repeats):
                later = row.own * z + row.now * denoise(model, z, row.t) + row.sigma * next(draw)
                a, s = schedule.a(after.t), schedule.s(after.t)
                blurred = a * given + s * detokenize_torch(next(draw), model.length)
                series = torch.where(known, blurred, detokenize_torch(later, model.length))
                z_after = tokenize_torch(series) * model.mask
                if repeat + 1 < repeats:
                    ratio = schedule.a(row.t) / a
                    spread = np.sqrt(max(0.0, schedule.s(row.t) ** 2 - (ratio * s) ** 2))
                    z = ratio * z_after + spread * next(draw)
            z = z_after
        final = detokenize_torch(denoise(model, z, rows[-1].t), model.length)
    return final.numpy()


@dataclass(frozen=True)
class Twist:
    """The density of the observed values of one window given the denoised estimate, at the first calls.

    It ends where the guide's observation noise starts to shrink with V: samples are decided by then.
    """

    factors: tuple[tuple[Tensor, ...], ...]
    designs: tuple[Tensor, ...]
    values: tuple[Tensor, ...]

    @staticmethod
    def make(model: ScoreModel, times: list[float], observed: np.ndarray) -> Twist:
        """Factor the covariances for one window (N, M), standardized, NaN for unknown values."""
        basis = series_basis(model.length)
        factors, designs, values = [], [], []
        for channel in range(observed.shape[1]):
            index = np.flatnonzero(~np.isnan(observed[:, channel]))
            v, mask = (
                x.double().view(model.n, 2, -1)[..., channel].numpy().ravel() for x in (model.v, model.mask)
            )
            design, each = basis[:, index], []
            for t in times:
                a, s = model.schedule.a(t), model.schedule.s(t)
                variance = mask * v * s * s / (a * a * v + s * s)
                total = design.T @ (variance[:, None] * design)
                if 1e-2 * np.diag(total).mean() < NOISE**2:
                    break
                each.append(torch.as_tensor(np.linalg.cholesky(total + NOISE**2 * np.eye(len(index)))))
            factors.append(tuple(each))
            designs.append(torch.as_tensor(design))
            values.append(torch.as_tensor(observed[index, channel]))
        return Twist(tuple(factors), tuple(designs), tuple(values))

    @property
    def calls(self) -> int:
        """Return the number of calls for which there is a density."""
        return min(map(len, self.factors))

    def log_density(self, call: int, denoised: Tensor) -> Tensor:
        """Return (B,) log p(y | z), up to a constant of the call, for D (B, n, 2M)."""
        parts = denoised.double().view(*denoised.shape[:2], 2, -1)
        total = torch.zeros(len(denoised), dtype=torch.float64)
        for channel, (factor, design, value) in enumerate(
            zip(self.factors, self.designs, self.values, strict=True)
        ):
            error = value - parts[..., channel].flatten(1) @ design
            white = torch.linalg.solve_triangular(factor[call], error.T, upper=False)
            total -= 0.5 * white.square().sum(0) + factor[call].diagonal().log().sum()
        return total


def particles(model: ScoreModel, observed: np.ndarray, num: int, seed: int, *, steps: int = 40) -> np.ndarray:
    """Draw standardized series (num, N, M) for one window (N, M) with `num` particles, resampled on the way."""
    plan = make_plan(model.schedule, steps, "ancestral", "log_snr")
    rows = plan.rows
    guide = Conditioning.make(model, plan, observed[None])
    twist = Twist.make(model, [row.t for row in rows], observed)
    noise = NoiseStream(seed, num, model.mask, dtype=model.dtype)
    rng = np.random.default_rng(seed)
    a, s = model.schedule.a(rows[0].t), model.schedule.s(rows[0].t)
    with torch.inference_mode():
        z = (a * model.mu + (a * a * model.v + s * s).sqrt() * noise.initial()) * model.mask
        weight = torch.zeros(num, dtype=torch.float64)
        before = torch.zeros(num, dtype=torch.float64)
        step = torch.zeros(num, dtype=torch.float64)
        for call, row in enumerate(rows):
            plain = denoise(model, z, row.t)
            if call < twist.calls:
                now = twist.log_density(call, plain)
                weight = weight + step + now - before
                chosen = _resampled(weight, rng)
                if chosen is not None:
                    plain, now, z = plain[chosen], now[chosen], z[chosen]
                    weight = torch.zeros(num, dtype=torch.float64)
                before = now
            guided = guide.apply(call, plain)
            if call + 1 == len(rows):
                break
            fresh, shift = noise.at(call), row.now * (guided - plain) * model.mask
            z = row.own * z + row.now * guided + row.sigma * fresh
            # log of model's transition over the proposal's, for z' = guided mean + sigma xi.
            moved = fresh + shift / row.sigma
            step = (-0.5 * (moved.square() - fresh.square())).sum((1, 2)).double()
        share = torch.softmax(weight, 0).numpy()
        return detokenize_torch(guided[_systematic(share, rng)], model.length).numpy()


def _resampled(weight: Tensor, rng: np.random.Generator) -> Tensor | None:
    """Return the particles to go on with, or None while at least half of them count."""
    share = torch.softmax(weight, 0).numpy()
    if 1 / np.square(share).sum() >= len(share) / 2:
        return None
    return _systematic(share, rng)


def _systematic(share: np.ndarray, rng: np.random.Generator) -> Tensor:
    points = (rng.random() + np.arange(len(share))) / len(share)
    return torch.as_tensor(np.searchsorted(np.cumsum(share), points).clip(max=len(share) - 1))


def guided(question: Question, num: int, config: SamplerConfig, progress: Progress) -> Answers:
    """Answer as the lab does."""
    return question.drawn(num, seed=SEED, config=config, progress=progress)


def replaced(question: Question, num: int, repeats: int, progress: Progress) -> Answers:
    """Answer by replacement."""
    holes = (question.asked - question.model.mean) / question.model.std
    draws = replacement(question.model, holes, num * len(holes), SEED, repeats=repeats, progress=progress)
    return question.scored(draws.reshape(num, *holes.shape)[:, :, ~question.known])


def filtered(question: Question, num: int, progress: Progress) -> Answers:
    """Answer by particles, a window after the other."""
    holes = (question.asked - question.model.mean) / question.model.std
    draws = []
    for place, window in enumerate(holes):
        draws.append(particles(question.model, window, num, SEED + place))
        progress(place + 1, len(holes))
    return question.scored(np.stack(draws, axis=1)[:, :, ~question.known])


def ways(num: int) -> dict[str, Callable[[Question, Progress], Answers]]:
    """Return every way to answer with `num` draws."""
    ancestral = replace(ASKING, policy=None, solver="ancestral")
    return {
        GUIDED: lambda question, progress: guided(question, num, ASKING, progress),
        "guided, ancestral": lambda question, progress: guided(question, num, ancestral, progress),
        "replacement": lambda question, progress: replaced(question, num, 1, progress),
        "replacement, 4 visits": lambda question, progress: replaced(question, num, 4, progress),
        "particles": lambda question, progress: filtered(question, num, progress),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Run the comparison and write its results after each data set."""
    parser = study_arguments(__doc__, "question_methods", windows=16, num=24, datasets=["wind", "household"])
    parser.add_argument("--questions", nargs="+", choices=list(QUESTIONS), default=list(QUESTIONS))
    arguments = parser.parse_args(argv)

    def study(name: str, model: ScoreModel, data: Dataset, parts: Parts) -> dict[str, Any]:
        index = np.random.default_rng(SEED).choice(
            data.heldout, min(arguments.windows, len(data.heldout)), replace=False
        )
        parts.expect([f"{text}, {way}" for text in arguments.questions for way in ways(arguments.num)])
        tables = {}
        for text in arguments.questions:
            question = asked_about(model, data, text, index)
            answers = {
                way: parts.answers(f"{text}, {way}", partial(answer, question))
                for way, answer in ways(arguments.num).items()
            }
            tables[text] = {
                way: {
                    "crps": float(answer.crps.mean()),
                    "ratio_to_guided": ratio(answer.crps, answers[GUIDED].crps, SEED),
                    "coverage_90": float(answer.inside.mean()),
                }
                for way, answer in answers.items()
            }
        return {"questions": tables}

    run(
        arguments,
        study,
        settings={"windows": arguments.windows, "num": arguments.num},
        seeds=[SEED],
        batch=BATCH,
    )


if __name__ == "__main__":
    main()
