"""Find checkpoints: one folder each, with model.safetensors and card.json, shipped or the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from e2crf_core.errors import LabError
from e2crf_core.io.resources import assets_dir
from e2crf_core.io.sets import settle
from e2crf_core.io.userfiles import user_folder, user_names
from e2crf_core.models.cards import load_card

WEIGHTS = "model.safetensors"
CARD = "card.json"


def shipped_checkpoints() -> list[str]:
    """Return the names of the shipped checkpoints."""
    return sorted(p.parent.name for p in (assets_dir() / "checkpoints").glob(f"*/{WEIGHTS}"))


def list_checkpoints() -> list[str]:
    """Return all checkpoint names: shipped ones, then those in the user's folder. A shipped name wins."""
    shipped = shipped_checkpoints()
    return shipped + [name for name in user_names("checkpoints", WEIGHTS) if name not in shipped]


def checkpoint_folder(name_or_path: str | Path) -> Path:
    """Return the folder of a checkpoint by name, or the path itself. Raises LabError if there is none."""
    name = str(name_or_path)
    if name in shipped_checkpoints():
        return assets_dir() / "checkpoints" / name
    if name in list_checkpoints():
        return user_folder("checkpoints", name)
    folder = Path(name_or_path)
    if folder.is_dir():
        settle(folder)
    if (folder / WEIGHTS).is_file():
        return folder
    raise LabError(
        f"unknown checkpoint {name!r}",
        field="checkpoint",
        remedy=f"use one of {', '.join(list_checkpoints()) or '(there is none)'}, or the folder of a checkpoint",
    )


def check_new_checkpoint(out: str | Path) -> None:
    """Reject a folder for a new checkpoint whose name belongs to a shipped one. Raises LabError.

    Such a checkpoint could not be loaded by its name, and measuring it would write into the shipped card.
    """
    if Path(out).resolve().name in shipped_checkpoints():
        raise LabError(
            f"{Path(out).name!r} is the name of a checkpoint that ships with the lab",
            field="out",
            remedy="choose another name",
        )


def read_card(name_or_path: str | Path) -> dict[str, Any]:
    """Read the model card of a checkpoint, without loading its weights. Raises LabError."""
    return load_card(checkpoint_folder(name_or_path) / CARD)


def is_causal(name_or_path: str | Path) -> bool:
    """Return whether a checkpoint's network is spectrally causal (E6), by its card. Raises LabError."""
    return bool(read_card(name_or_path)["network"].get("bands"))
