"""Does a cache pay on questions? Tuned and judged on the question's own metric, CRPS, against whole forwards.

    python -m benchmarks.question_cache [--windows 40] [--num 12] [--datasets wind household] [--out FILE.json]

Each candidate answers the same question about the same windows as the reference, 40 uncached steps. Its cost is in
whole-forward equivalents: the operations of all it computes, over those of one forward with its step. Candidates
with at most a third of the reference's cost compete on some held-out windows (`--tuning`) with few draws; the
one with the lowest upper end of its interval wins. The best cache, the best plan without one, and the cache of
`benchmarks.questions` are then judged on other windows with other noise.
Intervals are 95% bootstrap intervals over windows of the paired ratio of mean CRPS to the reference's. Caches share the
reference's noise, plans with fewer steps cannot, so their intervals are wider.

Guidance and reuse interact: the observation fixes part of the answer, so a stale output does harm at other noise
levels than in an unconditional run. The study measures where, by the change of the *missing* values' denoised
estimate in guided runs (the question's profile), and lets policies refresh on that clock. The candidates are what was
left of a wider search on wind, whose results also led to choosing by the upper end: the linear and the quadratic
predictor, 24 steps, and DPM-Solver++(2M) were not clearly better there. `--seed` judges with fresh noise and windows.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.questions import QUESTIONS, ask, known_steps, paired_ratio
from e2crf_core import CachePolicy, Dataset, ScoreModel, load_checkpoint, load_dataset
from e2crf_core.commands.terminal import ProgressLine
from e2crf_core.diffusion.score_model import Profile
from e2crf_core.diffusion.spectral import detokenize_torch
from e2crf_core.io.files import replace_file
from e2crf_core.io.provenance import Provenance
from e2crf_core.questions.answers import ASKING
from e2crf_core.sampling.calibration import EXPONENT, LEAST, REACH, SPACING
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.sampler import Sampler

HERE = Path(__file__).resolve().parent
SEED = 31_000
"""Seed of windows and draws; those for judging follow it."""
SHARE = 1 / 3
"""The largest cost, as a share of the reference's, with which a candidate competes."""


@dataclass(frozen=True)
class Candidate:
    """A way to answer; `own_clock` says that the model's profile is replaced by the question's."""

    name: str
    config: SamplerConfig
    own_clock: bool = False

    @property
    def cached(self) -> bool:
        """Return whether the cache skips anything."""
        return self.config.policy is not None and self.config.policy.trigger != "always"


def candidates() -> Iterator[Candidate]:
    """Yield everything that competes: caches on the reference's steps, and plans with 13 steps and no cache."""
    for grid in ("log_snr", "profile"):
        config = replace(ASKING, policy=None, grid=grid, steps=13)
        yield Candidate(f"no cache, 13 steps, {grid} grid", config, grid == "profile")
    yield _cache("profile", "linear", 0.6)
    yield _cache("log_snr", "hermite", 0.75)
    for clock in ("profile", "question"):
        for tau in (0.65, 0.7):
            yield _cache(clock, "hermite", tau)


def _cache(clock: str, predictor: str, tau: float) -> Candidate:
    own = clock == "question"
    policy = CachePolicy(trigger="log_snr", tau=tau, clock="profile" if own else clock, predictor=predictor)
    name = f"cache, {clock} clock, {predictor}, tau {tau}"
    return Candidate(name, replace(ASKING, policy=policy), own)


DEFAULT = "cache, profile clock, linear, tau 0.6"
"""The cache of `benchmarks.questions`, judged in any case."""


def question_profile(model: ScoreModel, windows: np.ndarray, known: np.ndarray) -> Profile:
    """Return at which levels a held output changes the missing values of guided runs about windows (W, N, M).

    Weighted like the checkpoint's own profile. `windows` are standardized, `known` (N,) marks what is given.
    """
    observed = np.where(known[:, None], windows, np.nan)
    plan = replace(ASKING, policy=CachePolicy.preset("exact"), steps=80, solver="ancestral")
    sampler = Sampler.of(model, plan).given(observed)
    outputs = []
    for step in sampler.steps(len(windows), SEED):
        assert step.after.cache is not None
        outputs.append(step.after.cache.output)
    problem = step.problem
    assert problem.conditioning is not None
    levels = np.array(problem.levels)
    ahead = max(1, round(REACH / (levels[1] - levels[0])))
    change = []
    for i in range(plan.steps - ahead):
        delta = problem.c_out[i + ahead] * (outputs[i + ahead] - outputs[i])
        zero = torch.zeros_like(delta)
        moved = problem.conditioning.apply(i + ahead, delta) - problem.conditioning.apply(i + ahead, zero)
        series = detokenize_torch(moved * model.mask, model.length)[:, torch.as_tensor(~known)]
        change.append(float(series.square().mean().sqrt()))
    centers = np.arange(levels[0] + SPACING / 2, levels[-1], SPACING)
    middle = 0.5 * (levels[:-ahead] + levels[ahead:])
    weight = np.maximum(np.interp(centers, middle, change) / max(change), 1e-12) ** EXPONENT
    weight = np.maximum(weight / weight.mean(), LEAST)
    return Profile(tuple(np.round(centers, 4).tolist()), tuple(np.round(weight / weight.mean(), 4).tolist()))


@dataclass(frozen=True)
class Setting:
    """A question about windows (W, N, M): the model with either profile, and the draws of each answer."""

    model: ScoreModel
    asked: ScoreModel
    data: Dataset
    truth: np.ndarray
    known: np.ndarray
    num: int
    seed: int

    def answer(self, candidate: Candidate) -> dict[str, Any]:
        """Return CRPS (W,), coverage, and cost in whole-forward equivalents."""
        model = self.asked if candidate.own_clock else self.model
        got = ask(model, self.data, self.truth, self.known, self.num, candidate.config, self.seed)
        return {**got, "forwards": got["flop_share"] * candidate.config.steps}

    def row(self, candidate: Candidate, reference: dict[str, Any]) -> dict[str, Any]:
        """Return what the results say of one candidate."""
        got = self.answer(candidate)
        return {
            "name": candidate.name,
            "cached": candidate.cached,
            "crps": float(got["crps"].mean()),
            "ratio": paired_ratio(got["crps"], reference["crps"]),
            "coverage_90": got["coverage"],
            "forwards": got["forwards"],
            "times_fewer": reference["forwards"] / got["forwards"],
        }


def chosen(rows: Sequence[dict[str, Any]], *, cached: bool, most: float) -> str:
    """Return the candidate with the lowest upper end of CRPS's ratio among those within `most` forwards."""
    able = [row for row in rows if row["cached"] == cached and row["forwards"] <= most]
    return str(min(able, key=lambda row: row["ratio"]["high"])["name"])


def study(
    name: str, question: str, arguments: argparse.Namespace, report: ProgressLine
) -> tuple[dict[str, Any], Provenance]:
    """Choose on some windows of one data set, judge on others."""
    model, data = load_checkpoint(name, "cpu"), load_dataset(name)
    known = known_steps(model.length, QUESTIONS[question])
    index = np.random.default_rng(arguments.seed).permutation(data.heldout)
    first, second = index[: arguments.tuning], index[arguments.tuning :][: arguments.windows]
    tuning, judging = (data.standardize(data.x[np.sort(part)]) for part in (first, second))
    profile = question_profile(model, tuning[:16], known)
    asked = replace(model, profile=profile)
    reference = Candidate("40 uncached steps", ASKING)

    def setting(truth: np.ndarray, num: int, seed: int) -> Setting:
        return Setting(model, asked, data, truth, known, num, seed)

    choosing = setting(tuning, arguments.tuning_num, arguments.seed)
    base = choosing.answer(reference)
    field = list(candidates())
    rows = []
    for done, candidate in enumerate(field, 1):
        rows.append(choosing.row(candidate, base))
        report(done, len(field))
    most = SHARE * base["forwards"]
    named = {candidate.name: candidate for candidate in field}
    final = dict.fromkeys(
        [chosen(rows, cached=True, most=most), chosen(rows, cached=False, most=most), DEFAULT]
    )
    judge = setting(judging, arguments.num, arguments.seed + 1)
    base = judge.answer(reference)
    judged = [judge.row(named[key], base) for key in final]
    origin = Provenance.now(
        data=data.digest,
        checkpoint=model.digest(),
        seeds=[arguments.seed, arguments.seed + 1],
        batch=ASKING.batch,
    )
    profiles = {"checkpoint": [*model.profile.weights], "question": [*profile.weights]}
    return {
        "reference": {"crps": float(base["crps"].mean()), "forwards": base["forwards"]},
        "levels": [*profile.levels],
        "profiles": profiles,
        "choice": rows,
        "judged": judged,
    }, origin


def main(argv: Sequence[str] | None = None) -> None:
    """Run the study and write its results after each data set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--windows", type=int, default=40, help="held-out windows to judge on")
    parser.add_argument("--num", type=int, default=12, help="draws for each window when judging")
    parser.add_argument("--tuning", type=int, default=24, help="other held-out windows to choose on")
    parser.add_argument("--tuning-num", type=int, default=6, help="draws for each window when choosing")
    parser.add_argument("--seed", type=int, default=SEED, help="of the split of windows and of the noise")
    parser.add_argument("--datasets", nargs="+", default=["wind", "household"])
    parser.add_argument("--questions", nargs="+", choices=list(QUESTIONS), default=list(QUESTIONS)[:1])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "question_cache_cpu.json")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    results: dict[str, Any] = {"windows": arguments.windows, "num": arguments.num, "datasets": {}}
    for name in arguments.datasets:
        answers: dict[str, Any] = {}
        for question in arguments.questions:
            answers[question], origin = study(name, question, arguments, ProgressLine(f"{name}, {question}"))
        results["datasets"][name] = {"questions": answers, "provenance": origin.to_json()}
        replace_file(arguments.out, lambda path: path.write_text(json.dumps(results, indent=1) + "\n"))


if __name__ == "__main__":
    main()
