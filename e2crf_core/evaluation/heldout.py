"""The held-out series that quality is measured against."""

from __future__ import annotations

import numpy as np

from e2crf_core.data.datasets import Dataset
from e2crf_core.quality.intervals import overlap_blocks


def heldout_blocks(data: Dataset) -> np.ndarray:
    """(m,) labels of held-out windows that overlap, for a bootstrap that resamples them together."""
    span = float(data.card.get("split", {}).get("span", data.length))
    return overlap_blocks(data.group[data.heldout], data.start[data.heldout], span)
