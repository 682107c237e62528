"""Write data sets: two files in a folder, as one set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from e2crf_core.data.datasets import check_new_dataset
from e2crf_core.errors import LabError
from e2crf_core.io.json_files import json_writer
from e2crf_core.io.sets import settle, write_set


def check_out(out: Path) -> None:
    """Reject a folder to which a data set must not be written. Raises LabError."""
    check_new_dataset(out)
    if out.exists() and not out.is_dir():
        raise LabError(f"{out} is a file", field="out", remedy="name a folder")
    if out.is_dir():
        settle(out)
    if out.is_dir() and any(out.iterdir()) and not (out / "dataset.npz").is_file():
        raise LabError(f"{out} holds other files", field="out", remedy="name a new folder")


def write_dataset(out: Path, arrays: dict[str, np.ndarray], card: dict[str, Any]) -> None:
    """Write a data set's arrays and card to the folder `out`. Raises LabError."""
    check_out(out)

    def write(path: Path) -> None:
        np.savez(path, **arrays)  # type: ignore[arg-type]

    write_set(out, {"dataset.npz": write, "card.json": json_writer(card, indent=2)})
