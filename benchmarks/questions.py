"""How good are imputation and forecast? CRPS and coverage on held-out windows, beside answers without a network.

    python -m benchmarks.questions [--windows 24] [--num 32] [--datasets ecg wind] [--out FILE.json]

Two questions for each window, about all channels at once: the middle quarter is missing, or the last quarter. The
baselines are the mean of the training windows, the last value, a line, and the Gaussian of E3 alone, whose answer
is exact in closed form; for point answers CRPS is the absolute error. Values are in standard deviations of the
data, over missing positions only. Intervals are 95% bootstrap intervals over windows of the paired ratio of CRPS
to the best baseline, which is chosen by its mean on the same windows: a choice in its favor.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from e2crf_core import CachePolicy, Dataset, ScoreModel, load_checkpoint, load_dataset
from e2crf_core.commands.terminal import ProgressLine
from e2crf_core.io.files import replace_file
from e2crf_core.io.provenance import Provenance
from e2crf_core.quality.interval import Interval
from e2crf_core.quality.probabilistic import covered, crps, gaussian_crps
from e2crf_core.questions import baselines
from e2crf_core.questions.answers import ASKING, complete
from e2crf_core.sampling.config import SamplerConfig

HERE = Path(__file__).resolve().parent
QUESTIONS = {"impute the middle quarter": (3 / 8, 5 / 8), "forecast the last quarter": (3 / 4, 1.0)}
SEED = 20_000
"""Seed of windows, draws and bootstrap; no other study uses it."""
CACHED = replace(ASKING, policy=CachePolicy(trigger="log_snr", tau=0.6, clock="profile", predictor="linear"))
"""The same sampler with a cache: the network runs where the profile says that its output changes."""


def known_steps(length: int, question: tuple[float, float]) -> np.ndarray:
    """Return (N,) which steps are known; the question's range of shares is missing."""
    place = np.arange(length) / length
    return (place < question[0]) | (place >= question[1])


def paired_ratio(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float] | None:
    """Return the ratio of mean CRPS (W,) and (W,) over windows with its interval, or None where `theirs` can be 0."""
    rng = np.random.default_rng(SEED)
    pick = rng.integers(0, len(ours), (2000, len(ours)))
    below = theirs[pick].mean(1)
    if not below.min():
        return None
    low, high = np.quantile(ours[pick].mean(1) / below, [0.025, 0.975]).tolist()
    return asdict(Interval(float(ours.mean() / theirs.mean()), low, high))


def baseline_scores(
    model: ScoreModel, data: Dataset, truth: np.ndarray, known: np.ndarray
) -> dict[str, np.ndarray]:
    """Return CRPS (W,) of every answer without a network for standardized windows (W, N, M)."""
    holes = np.where(known[:, None], truth, np.nan)
    mean = data.standardize(data.x[data.train].mean(0))
    missing = ~known
    points = {
        "mean of the training windows": np.broadcast_to(mean, truth.shape),
        "last value": np.stack([baselines.last_value(window) for window in holes]),
        "line": np.stack([baselines.line(window) for window in holes]),
    }
    scores = {name: np.abs(answer - truth)[:, missing].mean((1, 2)) for name, answer in points.items()}
    laws = [baselines.gaussian(model, window.astype(np.float64)) for window in holes]
    scores["Gaussian of E3"] = np.array(
        [
            gaussian_crps(law.mean, law.std, window)[missing].mean()
            for law, window in zip(laws, truth, strict=True)
        ]
    )
    return scores


def ask(
    model: ScoreModel,
    data: Dataset,
    truth: np.ndarray,
    known: np.ndarray,
    num: int,
    config: SamplerConfig,
    seed: int = SEED,
) -> dict[str, Any]:
    """Return CRPS (W,), coverage of the 90% interval, and the work of `num` draws for each window (W, N, M)."""
    windows = np.where(known[:, None], truth * data.std + data.mean, np.nan)
    made = complete(model, windows, num=num * len(truth), seed=seed, config=config)
    draws = data.standardize(made.series).reshape(num, *truth.shape)[:, :, ~known]
    goal = truth[:, ~known]
    return {
        "crps": crps(draws, goal).mean((1, 2)),
        "coverage": float(covered(draws, goal).mean()),
        "token_share": made.token_share,
        "flop_share": made.flop_share,
    }


def study(name: str, count: int, num: int) -> tuple[dict[str, Any], Provenance]:
    """Ask both questions of one data set."""
    model, data = load_checkpoint(name, "cpu"), load_dataset(name)
    rng = np.random.default_rng(SEED)
    index = rng.choice(data.heldout, min(count, len(data.heldout)), replace=False)
    truth = data.standardize(data.x[index])
    rows: dict[str, Any] = {}
    for question, missing in QUESTIONS.items():
        known = known_steps(model.length, missing)
        plain = baseline_scores(model, data, truth, known)
        best = min(plain, key=lambda key: float(plain[key].mean()))
        asked = {"network": ask(model, data, truth, known, num, ASKING)}
        asked["network, cached"] = ask(model, data, truth, known, num, CACHED)
        rows[question] = {
            "baselines": {key: float(value.mean()) for key, value in plain.items()},
            "best_baseline": best,
            "answers": {
                key: {
                    "crps": float(value["crps"].mean()),
                    "ratio_to_best_baseline": paired_ratio(value["crps"], plain[best]),
                    "ratio_to_uncached": paired_ratio(value["crps"], asked["network"]["crps"]),
                    "coverage_90": value["coverage"],
                    "token_share": value["token_share"],
                }
                for key, value in asked.items()
            },
        }
    origin = Provenance.now(data=data.digest, checkpoint=model.digest(), seeds=[SEED], batch=ASKING.batch)
    return rows, origin


def main(argv: Sequence[str] | None = None) -> None:
    """Run the study and write its results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--windows", type=int, default=24, help="held-out windows of each data set")
    parser.add_argument("--num", type=int, default=32, help="draws for each window")
    parser.add_argument("--datasets", nargs="+", default=["ecg", "household", "stocks", "wind"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "questions_cpu.json")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    results: dict[str, Any] = {"windows": arguments.windows, "num": arguments.num, "datasets": {}}
    progress = ProgressLine("questions")
    for done, name in enumerate(arguments.datasets, 1):
        rows, origin = study(name, arguments.windows, arguments.num)
        results["datasets"][name] = {"questions": rows, "provenance": origin.to_json()}
        progress(done, len(arguments.datasets))
    replace_file(arguments.out, lambda path: path.write_text(json.dumps(results, indent=1) + "\n"))


if __name__ == "__main__":
    main()
