"""What a cache did to samples: errors to the twin by band, and the verdict on distances to real data."""

from dataclasses import replace

import numpy as np

from e2crf_core.data.datasets import load_dataset
from e2crf_core.models.checkpoints import load_checkpoint
from e2crf_core.runs.quality import FEWEST_JUDGED, twin_quality
from pages.ui.anatomy.canvas_actions import quality_table, quality_words


def test_real_series_with_a_little_noise_are_as_good_and_rough_ones_are_worse() -> None:
    model, data = load_checkpoint("stocks", "cpu"), load_dataset("stocks")
    twin = data.x[data.train][:32]
    rng = np.random.default_rng(0)
    near = twin + 0.001 * data.std * rng.standard_normal(twin.shape)
    quality = twin_quality(near, twin, model, resamples=40)
    assert quality.judgment is not None and quality.judgment.verdict == "as good"
    assert (
        quality.distance is not None and quality.distance.floor is not None and quality.uncached is not None
    )
    assert quality.error.bands[0][0] == 0 and quality.error.bands[-1][1] == model.n
    table = quality_table(quality)
    assert len(table) == 4 + len(quality.error.bands) and "as good" in quality_words(quality)
    first, *_ = quality.error.bands
    foreseen = quality_table(quality, [(first[0], first[1], 0.25)])
    assert foreseen["Predicted"].dropna().tolist() == ["0.25"] and "Predicted" not in table
    rough = twin_quality(twin + 0.3 * data.std * rng.standard_normal(twin.shape), twin, model, resamples=40)
    assert rough.judgment is not None and rough.judgment.verdict == "worse"


def test_few_samples_or_unknown_data_are_not_judged() -> None:
    model, data = load_checkpoint("stocks", "cpu"), load_dataset("stocks")
    few = data.x[data.train][: FEWEST_JUDGED - 1]
    for samples, one in ((few, model), (data.x[data.train][:16], replace(model, dataset="unknown"))):
        quality = twin_quality(samples, samples, one, resamples=10)
        assert quality.error.median.value == 0 and quality.judgment is None and quality.distance is None
        assert "Too few samples" in quality_words(quality)
