"""The reference that a run is drawn against: real series and their typical spectrum."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from e2crf_core.data.datasets import Dataset, dataset_file
from e2crf_core.errors import LabError
from e2crf_core.models.checkpoints import read_card
from e2crf_core.models.fourierdiffusion import KIND, FourierDiffusionModel
from pages.ui.common import library

FAN = 24


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


@lru_cache(maxsize=8)
def _reference(dataset: str, peer: str, *_: library.Stamp) -> Reference:
    data = library.dataset(dataset)

    def amplitude(x: np.ndarray) -> np.ndarray:
        if peer:
            model = library.model(peer)
            assert isinstance(model, FourierDiffusionModel)
            return model.series_magnitudes(x).astype(np.float32)
        return np.abs(np.fft.rfft(data.standardize(x), axis=-2, norm="ortho")).astype(np.float32)

    rows = data.train[np.linspace(0, len(data.train) - 1, FAN).astype(int)]
    pool = data.train[:: max(1, len(data.train) // 512)]
    spectrum = np.median(amplitude(data.x[pool]), axis=0).astype(np.float32)
    return Reference(data, np.ascontiguousarray(data.x[rows]), spectrum, amplitude)


def reference_for(dataset: str) -> Reference:
    """Return the reference of a data set, for models with half-spectrum tokens. Raises LabError."""
    return _reference(dataset, "", library.stamp(dataset_file(dataset)))


def reference_of(checkpoint: str) -> Reference:
    """Return the reference of the data set that a checkpoint was trained on, the same in every session.

    Raises LabError when the data are unknown or no longer here.
    """
    card = read_card(checkpoint)
    if not card["dataset"]:
        raise LabError(
            f"the checkpoint {checkpoint!r} does not name the data set it was trained on",
            remedy="import it again with its data set",
        )
    if card["kind"] != KIND:
        return reference_for(card["dataset"])
    stamps = library.stamp(dataset_file(card["dataset"])), library.model_stamp(checkpoint)
    return _reference(card["dataset"], checkpoint, *stamps)
