"""Compute learned scores of an evaluation's rows: discriminative, predictive, and context-FID, with floors.

They cost seconds to minutes per row, so they are measured only on demand. Networks with the same seeds judge
all rows; a floor is the same score for real training series in place of samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from e2crf_core.errors import Cancelled, LabError
from e2crf_core.progress import Cancel, Progress, never, silent
from e2crf_core.quality.intervals import Floor, Measurement, measure, real_floor
from e2crf_core.quality.learned import context_fid_metric, discriminative_score, predictive_score

NAMES = {
    "discriminative_score": ("Discriminative score", "accuracy - 1/2"),
    "predictive_score": ("Predictive score", "std"),
    "context_fid": ("Context-FID", "feature std²"),
}
FEWEST = 8
FLOOR_DRAWS = 3
_RESAMPLES = 100


@dataclass(frozen=True)
class Learned:
    """The learned scores: `scores[row][set]` maps names to measurements; `floors` are of training series."""

    scores: tuple[tuple[dict[str, Measurement], ...], ...]
    floors: dict[str, Floor]


def learned_scores(
    rows: Sequence[Sequence[np.ndarray]],
    heldout: np.ndarray,
    train: np.ndarray,
    *,
    blocks: np.ndarray | None = None,
    seed: int = 0,
    progress: Progress = silent,
    cancelled: Cancel = never,
) -> Learned:
    """Score every set (S, N, M) of every row against `heldout` (m, N, M).

    All sets are standardized and of equal S. `train` (T, N, M) trains the embedder of context-FID and gives
    the floors. `blocks` labels overlapping held-out series (see `intervals.resample_picks`). Progress counts
    per mille. Raises LabError for sets of fewer than 8 series, Cancelled soon after `cancelled()` returns
    True.
    """
    size = min((len(x) for sets in rows for x in sets), default=0)
    if min(size, len(heldout)) < FEWEST:
        raise LabError(
            f"learned scores need at least {FEWEST} samples and held-out series, got {size} and {len(heldout)}"
        )
    # In units of one training of a small network: four for a classifier's folds, one for a forecaster, two for the
    # embedder.
    parts = _Parts(2 + 5 * (sum(map(len, rows)) + FLOOR_DRAWS), progress)
    metric = context_fid_metric(train, seed=seed, progress=parts.next(2), cancelled=cancelled)

    def two(x: np.ndarray) -> dict[str, Measurement]:
        return {
            "discriminative_score": discriminative_score(
                x, heldout, seed=seed, progress=parts.next(4), cancelled=cancelled
            ),
            "predictive_score": predictive_score(
                x, heldout, seed=seed, progress=parts.next(1), cancelled=cancelled
            ),
        }

    def three(x: np.ndarray) -> dict[str, Measurement]:
        scores = two(x)
        if cancelled():
            raise Cancelled
        embedded = measure(
            x, heldout, metric, resamples=_RESAMPLES, floor_repeats=1, seed=seed, blocks=blocks
        )
        return scores | {metric.name: embedded}

    rng = np.random.default_rng([0xF100, seed])
    draws = [two(train[rng.permutation(len(train))[:size]]) for _ in range(FLOOR_DRAWS)]
    sizes = (min(size, len(train)), len(heldout))
    floors = {}
    for name in draws[0]:
        values = [draw[name].value for draw in draws]
        floors[name] = Floor(float(np.mean(values)), min(values), max(values), sizes, FLOOR_DRAWS)
    floors[metric.name] = real_floor(heldout, size, metric, train=train, seed=seed)
    return Learned(tuple(tuple(three(x) for x in sets) for sets in rows), floors)


class _Parts:
    """The parts of one progress report, handed out in turn, in per mille."""

    def __init__(self, total: int, progress: Progress) -> None:
        self.total, self.progress, self.done = total, progress, 0

    def next(self, units: int) -> Progress:
        """Return the progress callback of the next part, which takes `units` of the total."""
        begin, self.done = self.done, self.done + units

        def report(steps: int, of: int) -> None:
            self.progress(round(1000 * (begin + units * steps / of) / self.total), 1000)

        return report
