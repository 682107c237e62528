"""Find the data set that a model was trained on, and notice that it has changed since."""

from __future__ import annotations

from e2crf_core.data.datasets import Dataset, load_dataset
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError


def training_data(model: ScoreModel) -> Dataset:
    """Return the data set that a model was trained on. Raises LabError if it is gone or was replaced.

    Checkpoints of the first release do not state the digest of their data, and take what has its name.
    """
    try:
        dataset = load_dataset(model.dataset)
    except LabError as fault:
        problem = f"the data set of checkpoint {model.name!r} cannot be used: {fault.problem}"
        raise LabError(problem, remedy=fault.remedy) from None
    stated = model.meta.get("data_digest")
    if stated and stated != dataset.digest:
        raise LabError(
            f"data set {model.dataset!r} is not what checkpoint {model.name!r} was trained on: it was imported anew,"
            " or is another one",
            remedy="import the former data again, or train a new checkpoint",
        )
    return dataset
