"""Write data sets: two files in a folder, both or neither."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from e2crf_core.data.datasets import check_new_dataset
from e2crf_core.errors import LabError


def check_out(out: Path) -> None:
    """Reject a folder to which a data set must not be written. Raises LabError."""
    check_new_dataset(out)
    if out.exists() and not out.is_dir():
        raise LabError(f"{out} is a file", field="out", remedy="name a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / "dataset.npz").is_file():
        raise LabError(f"{out} holds other files", field="out", remedy="name a new folder")


def write_dataset(out: Path, arrays: dict[str, np.ndarray], card: dict[str, Any]) -> None:
    """Write both files under temporary names first, so that an interruption leaves none. Raises LabError."""
    check_out(out)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".import-") as scratch:
        npz, text = Path(scratch) / "dataset.npz", Path(scratch) / "card.json"
        np.savez(npz, **arrays)  # type: ignore[arg-type]
        text.write_text(
            json.dumps(card, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
        )
        os.replace(npz, out / "dataset.npz")
        os.replace(text, out / "card.json")
