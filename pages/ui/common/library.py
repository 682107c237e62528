"""Data sets and checkpoints for the pages: read once, and again when their files change."""

import shutil
from functools import lru_cache
from pathlib import Path

from e2crf_core.data.datasets import Dataset, dataset_file, load_dataset
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.io.userfiles import Kind, user_folder
from e2crf_core.models.checkpoints import checkpoint_folder, load_checkpoint

Stamp = tuple[str, int, int]


def stamp(path: Path) -> Stamp:
    """Return a stamp that changes when the file is replaced. Raises LabError when the file cannot be read."""
    try:
        status = path.stat()
    except OSError as fault:
        raise LabError(f"{path} cannot be read: {fault.strerror}") from None
    return str(path), status.st_mtime_ns, status.st_size


def dataset(name: str) -> Dataset:
    """Load a data set by name. Raises LabError."""
    return _dataset(name, stamp(dataset_file(name)))


def model_stamp(name: str) -> Stamp:
    """Return the stamp of a checkpoint's weights. Raises LabError."""
    return stamp(checkpoint_folder(name) / "model.safetensors")


def model(name: str) -> ScoreModel:
    """Load a checkpoint by name, on the CPU. Raises LabError."""
    return _model(name, model_stamp(name))


@lru_cache(maxsize=8)
def _dataset(name: str, _: Stamp) -> Dataset:
    return load_dataset(name)


@lru_cache(maxsize=4)
def _model(name: str, _: Stamp) -> ScoreModel:
    return load_checkpoint(name, "cpu")


def remove(kind: Kind, name: str) -> None:
    """Delete a data set or checkpoint from the user's own folder. Shipped ones cannot be deleted."""
    shutil.rmtree(user_folder(kind, name), ignore_errors=True)
