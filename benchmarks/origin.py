"""State where the measurements of several checkpoints come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from e2crf_core.data.datasets import load_dataset
from e2crf_core.io.provenance import Provenance
from e2crf_core.models.checkpoints import load_checkpoint
from e2crf_core.models.folders import is_causal, shipped_checkpoints


def full_checkpoints() -> list[str]:
    """Return the shipped checkpoints with full attention, one a data set, which studies compare by default."""
    return [name for name in shipped_checkpoints() if not is_causal(name)]


def causal_checkpoints() -> list[str]:
    """Return the shipped checkpoints that are spectrally causal."""
    return [name for name in shipped_checkpoints() if is_causal(name)]


def provenance_of(checkpoints: Sequence[str], seeds: Sequence[int], batch: int) -> dict[str, Any]:
    """Return the provenance of each checkpoint's rows, as plain JSON values."""
    stored = {}
    for name in checkpoints:
        model = load_checkpoint(name, "cpu")
        data = load_dataset(model.dataset).digest
        made = Provenance.now(data=data, checkpoint=model.digest(), seeds=seeds, batch=batch)
        stored[name] = made.to_json()
    return stored
