"""How do guidance and reuse interact? The harm of a held output by noise level, with and without an observation.

    python -m benchmarks.guided_reuse [--windows 24] [--num 4] [--datasets wind household] [--out FILE.json]

In each run, the network's output is held over one stretch of log(a/s) and computed at every other step. The *harm* is
the mean squared distance of the final series to the run that holds nothing, on the same noise, at the steps that the
question hides, in variances of the data. It is measured twice: in guided runs, which know the rest of the window, and
in free runs, which know nothing. Their ratio says what guidance does to the harm of reuse at that level: below 1 it
mends it, above 1 it makes it worse. What guided draws lose in CRPS is given beside. Intervals are 95% bootstrap
intervals over windows. The middle quarter is hidden, the sampler is that of questions, and outputs are held as they
are, without a predictor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks.study import Parts, asked_about, ratio, run, study_arguments
from e2crf_core import CachePolicy, Dataset, ScoreModel
from e2crf_core.diffusion.score_model import Profile
from e2crf_core.progress import Progress
from e2crf_core.questions.answers import ASKING
from e2crf_core.questions.heldout import Question, mean_interval, resamples
from e2crf_core.sampling.sampler import Sampler

QUESTION = "impute the middle quarter"
SEED = 36_000
STRETCHES = 8
"""Equal parts of the sampler's range of log(a/s)."""
FINE = 2001
"""Points of a clock."""


def held(model: ScoreModel, span: np.ndarray, first: float, last: float) -> tuple[ScoreModel, CachePolicy]:
    """Return a model whose clock stands still between two levels, and a policy that follows it.

    Outside, the clock runs as log(a/s), so that each step, one part of `span` (steps,) apart, is recomputed.
    """
    levels = np.linspace(span[0] - 0.1, span[-1] + 0.1, FINE)
    weights = np.where((levels > first) & (levels <= last), 1e-9, 1.0)
    profile = Profile(tuple(levels.tolist()), tuple(weights.tolist()))
    policy = CachePolicy(trigger="log_snr", tau=0.5 * (span[1] - span[0]), clock="profile", predictor="hold")
    return replace(model, profile=profile), policy


def draw(
    question: Question,
    policy: CachePolicy | None,
    model: ScoreModel,
    num: int,
    progress: Progress,
    *,
    free: bool,
) -> np.ndarray:
    """Return the hidden steps (num, W, missing) of runs about every window, standardized; `free` runs know nothing."""
    sampler = Sampler.of(model, replace(ASKING, policy=policy))
    if not free:
        sampler = sampler.given((question.asked - model.mean) / model.std)
    made = sampler.sample(num * len(question.truth), SEED, progress=progress)
    series = ((made.series - model.mean) / model.std).reshape(num, *question.truth.shape)
    return series[:, :, ~question.known]


def harm(ours: np.ndarray, twin: np.ndarray) -> np.ndarray:
    """Return (W,) mean squared distances of draws (num, W, missing) to their twins."""
    return np.square(ours - twin).mean((0, 2))


def study(
    name: str, model: ScoreModel, data: Dataset, parts: Parts, *, windows: int, num: int
) -> dict[str, Any]:
    """Hold the output over each stretch, with and without an observation."""
    index = np.random.default_rng(SEED).choice(data.heldout, min(windows, len(data.heldout)), replace=False)
    question = asked_about(model, data, QUESTION, index)
    schedule = model.schedule
    # The levels of ASKING's steps, which are even in log(a/s).
    span = np.linspace(schedule.log_snr(1.0), schedule.log_snr(schedule.t_min), ASKING.steps)
    edges = np.linspace(span[0], span[-1], STRETCHES + 1)
    parts.expect([f"{kind}, {place}" for kind in ("guided", "free") for place in range(STRETCHES)])
    twins: dict[bool, np.ndarray] = {}

    def twin(free: bool) -> np.ndarray:
        if free not in twins:
            twins[free] = draw(question, None, model, num, lambda *_: None, free=free)
        return twins[free]

    def measure(place: int, free: bool, progress: Progress) -> dict[str, Any]:
        other, policy = held(model, span, edges[place], edges[place + 1])
        drawn = draw(question, policy, other, num, progress, free=free)
        made: dict[str, Any] = {"harm": harm(drawn, twin(free)).tolist()}
        if not free:
            made |= {"crps": question.scored(drawn).crps.tolist()}
            made |= {"uncached": question.scored(twin(False)).crps.tolist()}
        return made

    pick = resamples(np.random.default_rng(SEED), len(index))
    rows = []
    for place in range(STRETCHES):
        guided = parts.get(f"guided, {place}", partial(measure, place, False))
        free = parts.get(f"free, {place}", partial(measure, place, True))
        rows.append(
            {
                "from": edges[place],
                "to": edges[place + 1],
                "guided": asdict(mean_interval(np.array(guided["harm"]), pick)),
                "free": asdict(mean_interval(np.array(free["harm"]), pick)),
                "guided_over_free": ratio(np.array(guided["harm"]), np.array(free["harm"]), SEED),
                "crps_ratio": ratio(np.array(guided["crps"]), np.array(guided["uncached"]), SEED),
            }
        )
    return {"question": QUESTION, "stretches": rows}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the study and write its results after each data set."""
    parser = study_arguments(__doc__, "guided_reuse", windows=24, num=4, datasets=["wind", "household"])
    arguments = parser.parse_args(argv)
    settings = {"windows": arguments.windows, "num": arguments.num}
    run(arguments, partial(study, **settings), settings=settings, seeds=[SEED])


if __name__ == "__main__":
    main()
