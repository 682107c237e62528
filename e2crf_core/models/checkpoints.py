"""Save and load checkpoints: a folder with model.safetensors (weights, statistics) and card.json (all else).

Both are one set (see `io.sets`), so weights and card always belong together.

`load_checkpoint` opens every kind that a card may name. Each kind has a loader in `LOADERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from e2crf_core.diffusion.schedules import SCHEDULES
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.diffusion.spectral import coordinate_mask
from e2crf_core.errors import LabError
from e2crf_core.io.arrays import reason
from e2crf_core.io.json_files import json_writer
from e2crf_core.io.sets import read_set, write_set
from e2crf_core.models import fourierdiffusion, own
from e2crf_core.models.cards import SCHEMA, check_weights, load_card, read_profile
from e2crf_core.models.devices import choose_device
from e2crf_core.models.folders import (
    CARD,
    WEIGHTS,
    check_new_checkpoint,
    checkpoint_folder,
    list_checkpoints,
    read_card,
    shipped_checkpoints,
)
from e2crf_core.network.host import own_draws, own_settings
from e2crf_core.network.transformer import NetworkConfig, ScoreTransformer

__all__ = [
    "LOADERS",
    "check_new_checkpoint",
    "checkpoint_folder",
    "choose_device",
    "list_checkpoints",
    "load_checkpoint",
    "read_card",
    "save_checkpoint",
    "shipped_checkpoints",
]

KIND = "e2crf-transformer"

Loader = Callable[[Path, dict[str, Any]], ScoreModel]
"""Function that builds a model on the CPU from a checkpoint's folder and card. Raises LabError."""


def save_checkpoint(model: ScoreModel, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write a model to `folder`. Weights are stored in `dtype`; computation is in float32."""
    tensors = {f"network.{k}": p.to(dtype).contiguous() for k, p in model.network.state_dict().items()}
    tensors |= {"mu": model.mu, "v": model.v}
    tensors |= {"mean": torch.as_tensor(model.mean), "std": torch.as_tensor(model.std)}
    assert isinstance(model.network, ScoreTransformer)
    card = {
        **model.meta,
        "schema": SCHEMA,
        "kind": KIND,
        "network": asdict(model.network.config),
        "schedule": {"kind": model.schedule.kind, **asdict(model.schedule)},  # type: ignore[call-overload]
        "length": model.length,
        "channels": list(model.channels),
        "dataset": model.dataset,
        "profile": asdict(model.profile),
        "stored": str(dtype).removeprefix("torch."),
    }
    write_set(folder, {WEIGHTS: lambda path: save_file(tensors, str(path)), CARD: json_writer(card)})


@own_settings()
def load_checkpoint(name_or_path: str | Path, device: str = "auto") -> ScoreModel:
    """Load a checkpoint by name, or from a folder. Raises LabError with one clear line."""
    folder = checkpoint_folder(name_or_path)
    target = choose_device(device)
    model = read_set(folder, (WEIGHTS, CARD), lambda: _load(folder))
    return model if target.type == "cpu" else model.to(target)


def _load(folder: Path) -> ScoreModel:
    card = load_card(folder / CARD)
    loader = LOADERS.get(card["kind"])
    if loader is None:
        raise LabError(
            f"checkpoint {folder} is of kind {card['kind']!r}: this version reads {', '.join(LOADERS)}"
        )
    check_weights(card, folder / WEIGHTS)
    return loader(folder, card)


def load_transformer(folder: Path, card: dict[str, Any]) -> ScoreModel:
    """Load what `save_checkpoint` wrote. Raises LabError if it is damaged or does not fit its card."""
    try:
        with safe_open(str(folder / WEIGHTS), framework="pt") as stored:
            tensors = {key: stored.get_tensor(key).float() for key in stored.keys()}  # noqa: SIM118
        return _transformer_model(folder.name, card, tensors)
    except LabError:
        raise
    except (SafetensorError, OSError, RuntimeError, KeyError, TypeError, ValueError) as fault:
        raise LabError(f"checkpoint {folder} is damaged or does not fit its card: {reason(fault)}") from None


def _transformer_model(name: str, card: dict[str, Any], tensors: dict[str, Tensor]) -> ScoreModel:
    config = NetworkConfig(**card["network"])
    n, channels = config.tokens, config.channels
    mask = torch.as_tensor(coordinate_mask(card["length"], channels), dtype=torch.float32)
    if tensors["mu"].shape != (n, 2 * channels) or mask.shape != (n, 2 * channels):
        raise ValueError(f"statistics have shape {tuple(tensors['mu'].shape)}, not {(n, 2 * channels)}")
    with own_draws():
        network = ScoreTransformer(config)
    network.load_state_dict(
        {k.removeprefix("network."): p for k, p in tensors.items() if k.startswith("network.")}
    )
    schedule = dict(card["schedule"])
    return ScoreModel(
        name=name,
        network=network.eval().requires_grad_(False),
        schedule=SCHEDULES[schedule.pop("kind")](**schedule),
        length=card["length"],
        channels=tuple(card["channels"]),
        mu=tensors["mu"],
        v=tensors["v"],
        mask=mask,
        mean=tensors["mean"].numpy().astype(np.float32),
        std=tensors["std"].numpy().astype(np.float32),
        dataset=card["dataset"],
        profile=read_profile(card),
        meta=card,
    )


LOADERS: dict[str, Loader] = {
    KIND: load_transformer,
    fourierdiffusion.KIND: fourierdiffusion.load_model,
    own.KIND: own.load_model,
}
"""Loaders by the `kind` in a card. Another kind of network needs one more entry."""
