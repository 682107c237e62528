"""Checkpoints: a folder with model.safetensors (weights and statistics) and card.json (everything else)."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from e2crf_core.diffusion.schedules import SCHEDULES
from e2crf_core.diffusion.score_model import Profile, ScoreModel
from e2crf_core.diffusion.spectral import coordinate_mask
from e2crf_core.errors import LabError
from e2crf_core.io.files import replace_file
from e2crf_core.io.resources import assets_dir
from e2crf_core.io.userfiles import user_folder, user_names
from e2crf_core.network.transformer import NetworkConfig, ScoreTransformer

SCHEMA = 1


def choose_device(name: str = "auto") -> torch.device:
    """`auto` is CUDA where there is one, else the CPU. Raises LabError for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise LabError(f"unknown device {name!r}: use auto, cpu or cuda") from None
    if device.type not in ("cpu", "cuda"):
        raise LabError(f"unknown device {name!r}: use auto, cpu or cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise LabError(f"device {name!r} was asked for, but this machine has no CUDA device: use auto or cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise LabError(
            f"device {name!r} is not there: this machine has {torch.cuda.device_count()} CUDA devices"
        )
    return device


def shipped_checkpoints() -> list[str]:
    """Names of the checkpoints that ship with the lab."""
    return sorted(p.parent.name for p in (assets_dir() / "checkpoints").glob("*/model.safetensors"))


def list_checkpoints() -> list[str]:
    """Names of all checkpoints: the shipped ones, then those of the user's own folder. A shipped name wins."""
    shipped = shipped_checkpoints()
    return shipped + [name for name in user_names("checkpoints", "model.safetensors") if name not in shipped]


def save_checkpoint(model: ScoreModel, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write a model into `folder`. Weights are stored in `dtype` and computed with in float32."""
    tensors = {f"network.{k}": p.to(dtype).contiguous() for k, p in model.network.state_dict().items()}
    tensors |= {"mu": model.mu, "v": model.v}
    tensors |= {"mean": torch.as_tensor(model.mean), "std": torch.as_tensor(model.std)}
    assert isinstance(model.network, ScoreTransformer)
    card = {
        **model.meta,
        "schema": SCHEMA,
        "kind": "e2crf-transformer",
        "network": asdict(model.network.config),
        "schedule": {"kind": model.schedule.kind, **asdict(model.schedule)},  # type: ignore[call-overload]
        "length": model.length,
        "channels": list(model.channels),
        "dataset": model.dataset,
        "profile": asdict(model.profile),
        "stored": str(dtype).removeprefix("torch."),
    }
    replace_file(folder / "model.safetensors", lambda path: save_file(tensors, str(path)))
    replace_file(folder / "card.json", lambda path: path.write_text(json.dumps(card, indent=1) + "\n"))


def checkpoint_folder(name_or_path: str | Path) -> Path:
    """The folder of a checkpoint by name, or the path itself. Raises LabError when there is no checkpoint."""
    name = str(name_or_path)
    if name in shipped_checkpoints():
        return assets_dir() / "checkpoints" / name
    if name in list_checkpoints():
        return user_folder("checkpoints", name)
    if (Path(name_or_path) / "model.safetensors").is_file():
        return Path(name_or_path)
    raise LabError(
        f"unknown checkpoint {name!r}: use one of {', '.join(list_checkpoints()) or '(there is none)'},"
        " or a folder that 'train' wrote"
    )


def read_card(name_or_path: str | Path) -> dict[str, Any]:
    """The model card of a checkpoint, without loading its weights."""
    path = checkpoint_folder(name_or_path) / "card.json"
    try:
        card = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as fault:
        raise LabError(f"model card {path} cannot be read: {fault}") from None
    if not isinstance(card, dict) or card.get("schema") != SCHEMA:
        found = card.get("schema") if isinstance(card, dict) else None
        raise LabError(f"model card {path} has schema {found!r}, this version reads {SCHEMA}")
    return card


def read_profile(card: dict[str, Any]) -> Profile:
    """The profile in a model card; the even one where it has none. Raises ValueError for a bad one."""
    stored = card.get("profile") or {"levels": (), "weights": ()}
    levels, weights = (np.asarray(stored[key], dtype=np.float64) for key in ("levels", "weights"))
    fits = levels.ndim == 1 and levels.shape == weights.shape
    if (
        not fits
        or not np.isfinite([*levels, *weights]).all()
        or (np.diff(levels) <= 0).any()
        or (weights <= 0).any()
    ):
        raise ValueError("profile: increasing levels and as many positive weights expected")
    return Profile(tuple(levels.tolist()), tuple(weights.tolist()))


def load_checkpoint(name_or_path: str | Path, device: str = "auto") -> ScoreModel:
    """Load a checkpoint by name, or from a folder. Raises LabError with one clear line."""
    folder = checkpoint_folder(name_or_path)
    card = read_card(name_or_path)
    target = choose_device(device)
    if card.get("kind") == "fourierdiffusion":
        # Imported late: the peer module builds on this one.
        from e2crf_core.models.fourierdiffusion import load_fourierdiffusion

        return load_fourierdiffusion(folder, str(target))
    path = folder / "model.safetensors"
    try:
        with safe_open(str(path), framework="pt") as stored:
            tensors = {key: stored.get_tensor(key).float() for key in stored.keys()}  # noqa: SIM118
        network = ScoreTransformer(NetworkConfig(**card["network"]))
        network.load_state_dict(
            {k.removeprefix("network."): p for k, p in tensors.items() if k.startswith("network.")}
        )
        profile = read_profile(card)
        options = dict(card["schedule"])
        schedule = SCHEDULES[options.pop("kind")](**options)
        n, channels = network.config.tokens, network.config.channels
        mask = torch.as_tensor(coordinate_mask(card["length"], channels), dtype=torch.float32)
        if tensors["mu"].shape != (n, 2 * channels) or mask.shape != (n, 2 * channels):
            raise ValueError(f"statistics have shape {tuple(tensors['mu'].shape)}, not {(n, 2 * channels)}")
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as fault:
        if isinstance(fault, LabError):
            raise
        reason = " ".join(str(fault).split())
        raise LabError(f"checkpoint {folder} is damaged or does not fit its card: {reason[:200]}") from None
    model = ScoreModel(
        name=folder.name,
        network=network.eval().requires_grad_(False),
        schedule=schedule,
        length=int(card["length"]),
        channels=tuple(card["channels"]),
        mu=tensors["mu"],
        v=tensors["v"],
        mask=mask,
        mean=tensors["mean"].numpy().astype(np.float32),
        std=tensors["std"].numpy().astype(np.float32),
        dataset=card["dataset"],
        profile=profile,
        meta=card,
    )
    return model if target.type == "cpu" else model.to(target)
