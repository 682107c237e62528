"""Keep the state from which a training resumes, and tell whether it belongs to given data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from e2crf_core.io.sets import read_set, settle, write_set


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write a state, with its digest beside it."""
    write_set(path.parent, {path.name: lambda target: torch.save(state, target)})


def read_state(path: Path, device: torch.device) -> dict[str, Any] | None:
    """Return a stored state, or None if there is none. Raises LabError and whatever a damaged file causes."""
    if path.parent.is_dir():
        settle(path.parent)
    if not path.is_file():
        return None
    return read_set(
        path.parent, [path.name], lambda: torch.load(path, weights_only=True, map_location=device)
    )


def trained_on(state: dict[str, Any], digest: str, mu: Tensor, v: Tensor) -> bool:
    """Return whether a state is of the data with this digest and these statistics (n, 2M)."""
    if "data" in state:
        return state["data"] == digest
    # States of the first release have no digest, but the statistics that the network was built with.
    stored = (state["network"][name].cpu() for name in ("mu", "v"))
    pairs = zip(stored, (mu.cpu(), v.cpu()), strict=True)
    return all(a.shape == b.shape and torch.allclose(a, b) for a, b in pairs)
