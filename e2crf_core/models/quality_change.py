"""Measure what a network change costs in quality: two models of one data set, paired on common noise."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from e2crf_core.data.datasets import Dataset
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.models.loss import heldout_loss
from e2crf_core.models.quality_card import DRAWS, SOLVER
from e2crf_core.progress import Cancel, Progress, never, silent
from e2crf_core.quality.distances import standard_metrics
from e2crf_core.sampling.sampler import Sampler

RESAMPLES = 10
"""Resamplings of the noise numbers for each draw of held-out series."""


@dataclass(frozen=True)
class Change:
    """A distance to held-out series before and after, and its change in percent with a 95% interval.

    `floor` is the same distance between two halves of the real series. The interval is paired: both models
    use the same noise, and the noise numbers are resampled for both alike.
    """

    before: float
    after: float
    floor: float
    percent: float
    low: float
    high: float


def quality_change(
    before: ScoreModel,
    after: ScoreModel,
    dataset: Dataset,
    *,
    half: int = 256,
    seed: int = 0,
    progress: Progress = silent,
    cancelled: Cancel = never,
) -> dict[str, Any]:
    """Compare two models by the held-out protocol: {size, loss, distances: {metric: Change as a dict}}.

    At most `half` series are on each side of a distance. Samples are uncached, so that the result describes
    only the networks. Raises Cancelled when `cancelled` returns True.
    """
    held = dataset.standardize(dataset.x[dataset.heldout])
    half = min(half, len(held) // 2)
    steps = int(SOLVER["steps"])  # type: ignore[call-overload]
    made = []
    for part, model in enumerate((before, after)):
        sampler = Sampler(model, policy=None, **SOLVER)  # type: ignore[arg-type]
        batches = -(-2 * half // sampler.config.batch) * steps

        def report(done: int, total: int, part: int = part, batches: int = batches) -> None:
            progress(part * batches + done, 2 * batches)

        made.append(
            dataset.standardize(sampler.sample(2 * half, seed, progress=report, cancelled=cancelled).series)
        )
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(held)) for _ in range(DRAWS)]
    halves = [(rng.permutation(2 * half)[:half], order[:half]) for order in orders]
    resampled = [(rng.integers(2 * half, size=half), o[:half]) for o in orders for _ in range(RESAMPLES)]
    real = [(order[:half], order[half : 2 * half]) for order in orders]
    distances = {}
    for metric in standard_metrics(len(dataset.channels)):
        first, second = (float(metric.values(x, held, halves).mean()) for x in made)
        pairs = [metric.values(x, held, resampled) for x in made]
        low, high = np.quantile(100 * (pairs[1] / pairs[0] - 1), (0.025, 0.975))
        floor = float(metric.values(held, held, real).mean())
        change = Change(first, second, floor, 100 * (second / first - 1), float(low), float(high))
        distances[metric.name] = asdict(change)
    losses = {name: heldout_loss(m, held, seed=seed) for name, m in (("before", before), ("after", after))}
    return {"size": half, "seed": seed, **SOLVER, "loss": losses, "distances": distances}
