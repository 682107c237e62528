"""How good are imputation and forecast? CRPS and coverage on held-out windows, beside answers without a network.

    python -m benchmarks.questions [--windows 24] [--num 24] [--datasets ecg wind] [--out FILE.json]

Two questions for each window, about all channels at once: the middle quarter is missing, or the last quarter. The
baselines are those of the page Ask (the mean of the training windows, the last value, a line, the usual season, and
the Gaussian of E3 alone, whose answer is exact in closed form) and, for forecasts, a strong classic: AutoETS and
AutoARIMA of statsforecast, each channel alone, if it is installed (`--no-classics` leaves them out). For point answers
CRPS is the absolute error. Values are in standard deviations of the data, over missing positions only. Intervals are
95% bootstrap intervals over windows of the paired ratio of CRPS to the best answer without a network, which is chosen
by its mean on the same windows: a choice in its favor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks import classics
from benchmarks.study import QUESTIONS, Parts, asked_about, ratio, run, study_arguments
from e2crf_core import CachePolicy, Dataset, ScoreModel
from e2crf_core.questions.answers import ASKING
from e2crf_core.questions.heldout import usual_period, without_network

SEED = 20_000
"""Seed of windows, draws and bootstrap; no other study uses it."""
CACHED = replace(ASKING, policy=CachePolicy(trigger="log_snr", tau=0.6, clock="profile", predictor="linear"))
"""The same sampler with a cache: the network runs where the profile says that its output changes."""
WAYS = {"network": ASKING, "network, cached": CACHED}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the study and write its results after each data set."""
    parser = study_arguments(
        __doc__, "questions", windows=24, num=24, datasets=["ecg", "household", "stocks", "wind"]
    )
    parser.add_argument("--no-classics", action="store_true", help="leave AutoETS and AutoARIMA out")
    arguments = parser.parse_args(argv)
    count, num = arguments.windows, arguments.num
    asked_classics = () if arguments.no_classics else classics.available()

    def study(name: str, model: ScoreModel, data: Dataset, parts: Parts) -> dict[str, Any]:
        index = np.random.default_rng(SEED).choice(data.heldout, min(count, len(data.heldout)), replace=False)
        forecasts = [text for text in QUESTIONS if text.startswith("forecast")]
        parts.expect(
            [
                *(f"{text}, {way}" for text in QUESTIONS for way in WAYS),
                *(f"{text}, {kind}" for text in forecasts for kind in asked_classics),
            ]
        )
        tables = {}
        for text in QUESTIONS:
            question = asked_about(model, data, text, index)
            plain = without_network(question, data)
            for kind in asked_classics if text in forecasts else ():
                work = partial(classics.forecast, question, kind, usual_period(data) or 1)
                plain[kind] = parts.answers(f"{text}, {kind}", work)
            answers = {
                way: parts.drawn(f"{text}, {way}", question, num, seed=SEED, config=config)
                for way, config in WAYS.items()
            }
            best = min(plain, key=lambda key: float(plain[key].crps.mean()))
            tables[text] = {
                "baselines": {key: float(value.crps.mean()) for key, value in plain.items()},
                "best_baseline": best,
                "answers": {
                    way: {
                        "crps": float(answer.crps.mean()),
                        "ratio_to_best_baseline": ratio(answer.crps, plain[best].crps, SEED),
                        "ratio_to_uncached": ratio(answer.crps, answers["network"].crps, SEED),
                        "coverage_90": float(answer.inside.mean()),
                        "forwards": answer.forwards,
                    }
                    for way, answer in answers.items()
                },
            }
        return {"questions": tables}

    run(arguments, study, settings={"windows": count, "num": num}, seeds=[SEED])


if __name__ == "__main__":
    main()
