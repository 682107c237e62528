"""Prepare the held-out series against which quality is measured."""

from __future__ import annotations

import numpy as np

from e2crf_core.data.datasets import Dataset
from e2crf_core.quality.intervals import overlap_blocks


def heldout_blocks(data: Dataset) -> np.ndarray:
    """Return (m,) labels of overlapping held-out windows, for a bootstrap that resamples them together."""
    span = float(data.card.get("split", {}).get("span", data.length))
    return overlap_blocks(data.group[data.heldout], data.start[data.heldout], span)
