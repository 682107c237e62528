"""The reference that a run is drawn against: real series and their typical spectrum."""

from functools import lru_cache

import numpy as np

from e2crf_core.data.datasets import dataset_file
from e2crf_core.data.reference import Reference, reference_of_data
from e2crf_core.errors import LabError
from e2crf_core.models.checkpoints import read_card
from e2crf_core.models.fourierdiffusion import KIND, FourierDiffusionModel
from e2crf_core.runs.archive import Archive
from pages.ui.common import library


@lru_cache(maxsize=8)
def _reference(dataset: str, peer: str, *_: library.Stamp) -> Reference:
    data = library.dataset(dataset)
    if not peer:
        return reference_of_data(data)

    def amplitude(x: np.ndarray) -> np.ndarray:
        model = library.model(peer)
        assert isinstance(model, FourierDiffusionModel)
        return model.series_magnitudes(x).astype(np.float32)

    return reference_of_data(data, amplitude)


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


def recorded_reference(archive: Archive) -> Reference | None:
    """Return the real series that a record is drawn against, None where they are not at hand."""
    try:
        return reference_for(archive.model["dataset"])
    except LabError:
        return None
