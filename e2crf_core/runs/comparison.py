"""Compare a cached run with its uncached twin on the same noise: speed, and quality against held-out data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.models.training_data import training_data
from e2crf_core.quality.distances import relative_l2, sliced_wasserstein_metric
from e2crf_core.quality.intervals import real_floor

DIRECTIONS = 1000
"""The number of random projections in the sliced Wasserstein distance."""


@dataclass(frozen=True)
class Comparison:
    """The speed and quality of a cached run and its uncached twin. Distances are in std of the data.

    `seconds_uncached` is a sum of step times, measured after a warm-up call; pauses, pacing, and recording
    count on neither side. The floor is the distance between real held-out sets of `floor_sizes` series.
    Distances are None for a model without a data set.
    """

    samples_uncached: np.ndarray
    seconds_uncached: float
    speedup_wall: float
    relative_l2: float
    sliced_wasserstein: float | None
    sliced_wasserstein_uncached: float | None
    sliced_wasserstein_floor: float | None
    floor_sizes: tuple[int, int] | None


@dataclass(frozen=True)
class HeldoutDistance:
    """The standardized sliced Wasserstein distance (p = 2, time domain) to held-out data, with its floor."""

    value: float
    floor: float
    floor_sizes: tuple[int, int]


def distance_to_heldout(samples: np.ndarray, model: ScoreModel) -> HeldoutDistance | None:
    """Measure how far samples (num, N, M) in data units are from held-out series of the model's data set.

    Returns None for a model that does not name the data it was trained on.
    """
    if not model.dataset:
        return None
    dataset = training_data(model)
    metric = sliced_wasserstein_metric(directions=DIRECTIONS)
    heldout = dataset.standardize(dataset.x[dataset.heldout])
    floor = real_floor(heldout, len(samples), metric)
    return HeldoutDistance(metric(dataset.standardize(samples), heldout), floor.value, floor.sizes)


def compare(
    samples: np.ndarray,
    samples_uncached: np.ndarray,
    model: ScoreModel,
    *,
    seconds: float,
    seconds_uncached: float,
) -> Comparison:
    """Compare cached with uncached samples, both (num, N, M) in data units."""
    cached, plain = distance_to_heldout(samples, model), distance_to_heldout(samples_uncached, model)
    scaled = [(x - model.mean) / model.std for x in (samples, samples_uncached)]
    return Comparison(
        samples_uncached=samples_uncached,
        seconds_uncached=seconds_uncached,
        speedup_wall=seconds_uncached / seconds,
        relative_l2=relative_l2(*scaled),
        sliced_wasserstein=cached.value if cached else None,
        sliced_wasserstein_uncached=plain.value if plain else None,
        sliced_wasserstein_floor=cached.floor if cached else None,
        floor_sizes=cached.floor_sizes if cached else None,
    )
