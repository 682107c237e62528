"""What the live panels draw a run against: real series and their typical spectrum."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from e2crf_core.checkpoints import read_card
from e2crf_core.data import Dataset, load_dataset

FAN = 24


@dataclass(frozen=True)
class Reference:
    """`fan` (F, N, M) real windows in data units, `spectrum` (n, M) their median |X_k| once standardised."""

    dataset: Dataset
    fan: np.ndarray
    spectrum: np.ndarray

    @property
    def frequencies(self) -> int:
        """n, frequencies of a half spectrum."""
        return self.spectrum.shape[0]

    def amplitude(self, x: np.ndarray) -> np.ndarray:
        """|X_k| (n, M) of one window `x` (N, M) in data units, standardised as the network sees it."""
        return np.abs(np.fft.rfft(self.dataset.standardise(x), axis=0, norm="ortho")).astype(np.float32)


@lru_cache(maxsize=8)
def reference_for(dataset: str) -> Reference:
    """Reference of a data set: a spread of windows that is the same in every session."""
    data = load_dataset(dataset)
    rows = data.train[np.linspace(0, len(data.train) - 1, FAN).astype(int)]
    pool = data.train[:: max(1, len(data.train) // 512)]
    spectra = np.abs(np.fft.rfft(data.standardise(data.x[pool]), axis=1, norm="ortho"))
    return Reference(data, np.ascontiguousarray(data.x[rows]), np.median(spectra, axis=0).astype(np.float32))


def reference_of(checkpoint: str) -> Reference:
    """Reference of the data set that a checkpoint was trained on."""
    return reference_for(read_card(checkpoint)["dataset"])
