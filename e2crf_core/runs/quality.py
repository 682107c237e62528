"""Measure what a cache did to samples, by the protocol: error to the twin, and distances to held-out data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.models.heldout import heldout_blocks
from e2crf_core.models.training_data import training_data
from e2crf_core.quality.intervals import Measurement, measure
from e2crf_core.quality.protocol import (
    PRIMARY_METRIC,
    RESAMPLES,
    Judgment,
    TwinError,
    judge,
    twin_error,
)
from e2crf_core.runs.answer import standardized, variance_pair

FEWEST_JUDGED = 8
"""Samples below which a bootstrap says too little about distances between sets."""


@dataclass(frozen=True)
class TwinQuality:
    """What a cache did to samples: `error` is their distance from the uncached twins on the same noise.

    `distance` is the primary distance to held-out data and `uncached` the twins'; `judgment` compares both
    distances of the protocol with the twins'. All three are None without the data set, or with fewer than
    FEWEST_JUDGED samples.
    """

    error: TwinError
    distance: Measurement | None = None
    uncached: float | None = None
    judgment: Judgment | None = None


def twin_quality(
    samples: np.ndarray, twin: np.ndarray, model: ScoreModel, *, resamples: int = RESAMPLES
) -> TwinQuality:
    """Compare samples (num, N, M) in data units with their twins. Raises LabError if they do not match."""
    cached, plain = standardized(model, samples), standardized(model, twin)
    error = twin_error(cached, plain, variance_pair(model), resamples=resamples)
    try:
        data = training_data(model)
    except LabError:
        return TwinQuality(error)
    if len(samples) < FEWEST_JUDGED:
        return TwinQuality(error)
    held, train = (data.standardize(data.x[part]) for part in (data.heldout, data.train))
    blocks = heldout_blocks(data)
    return TwinQuality(
        error,
        measure(
            cached, held, PRIMARY_METRIC, train=train, resamples=resamples, floor_repeats=10, blocks=blocks
        ),
        PRIMARY_METRIC(plain, held),
        judge(cached, plain, held, blocks=blocks, resamples=resamples),
    )
