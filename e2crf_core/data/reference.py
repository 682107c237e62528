"""The reference that a run is drawn against: real series and their typical spectrum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from e2crf_core.data.datasets import Dataset

FAN = 24
POOL = 512
"""Windows whose median spectrum is the typical one."""


@dataclass(frozen=True)
class Reference:
    """`fan` (F, N, M) real windows in data units, `spectrum` (n, M) their median magnitude of each token.

    `amplitude` gives the magnitudes (n, M) of one window (N, M) in data units, standardized as the network
    sees it.
    """

    dataset: Dataset
    fan: np.ndarray
    spectrum: np.ndarray
    amplitude: Callable[[np.ndarray], np.ndarray]

    @property
    def frequencies(self) -> int:
        """Number of tokens n of a window: frequencies of a half spectrum, or their parts in an imported model."""
        return self.spectrum.shape[0]


def reference_of_data(
    data: Dataset, amplitude: Callable[[np.ndarray], np.ndarray] | None = None
) -> Reference:
    """Return the reference of a data set; `amplitude` is that of a half spectrum unless given."""

    def half_spectrum(x: np.ndarray) -> np.ndarray:
        return np.abs(np.fft.rfft(data.standardize(x), axis=-2, norm="ortho")).astype(np.float32)

    amplitude = amplitude or half_spectrum
    rows = data.train[np.linspace(0, len(data.train) - 1, FAN).astype(int)]
    pool = data.train[:: max(1, len(data.train) // POOL)]
    spectrum = np.median(amplitude(data.x[pool]), axis=0).astype(np.float32)
    return Reference(data, np.ascontiguousarray(data.x[rows]), spectrum, amplitude)
