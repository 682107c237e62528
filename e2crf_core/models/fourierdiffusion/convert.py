"""Import weights of the FourierDiffusion library into our modules, and load imported models."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from e2crf_core.data.datasets import load_dataset
from e2crf_core.errors import LabError
from e2crf_core.io.arrays import read_npz, reason
from e2crf_core.io.json_files import json_writer
from e2crf_core.io.sets import read_set, write_set
from e2crf_core.models.cards import SCHEMA, NetworkSizes, check_weights, load_card
from e2crf_core.models.folders import CARD, WEIGHTS, check_new_checkpoint
from e2crf_core.models.fourierdiffusion.layout import frequency_order
from e2crf_core.models.fourierdiffusion.network import (
    FourierDiffusionConfig,
    FourierDiffusionModel,
    FourierDiffusionNetwork,
)
from e2crf_core.models.fourierdiffusion.pickles import VPScheduler, read_checkpoint

KIND = "fourierdiffusion"


def _config(name: str, checkpoint: dict[str, Any]) -> FourierDiffusionConfig:
    settings, weights = checkpoint["hyper_parameters"], checkpoint["state_dict"]
    try:
        scheduler = settings["noise_scheduler"]
        if not isinstance(scheduler, VPScheduler):
            raise LabError(f"{name}: its noise scheduler is no VPScheduler: only that one is imported")
        noise = vars(scheduler)
        return FourierDiffusionConfig(
            length=int(settings["max_len"]),
            channels=int(settings["n_channels"]),
            width=int(settings["d_model"]),
            layers=int(settings["num_layers"]),
            heads=int(settings["n_head"]),
            hidden=int(weights["backbone.layers.0.linear1.weight"].shape[0]),
            beta_min=float(noise["beta_0"]),
            beta_max=float(noise["beta_1"]),
            eps=float(noise["eps"]),
            scaled=bool(noise["noise_scaling"]),
        )
    except (KeyError, TypeError, AttributeError) as fault:
        raise LabError(f"{name} is no transformer score model of the library: it lacks {fault}") from None


def _names(layers: int) -> dict[str, str]:
    """Map our parameter names to the library's."""
    names = {
        "position": "pos_encoder.embedding.weight",
        "frequencies": "time_encoder.W",
        "time.weight": "time_encoder.dense.weight",
        "time.bias": "time_encoder.dense.bias",
        "lift.weight": "embedder.weight",
        "lift.bias": "embedder.bias",
        "unlift.weight": "unembedder.weight",
        "unlift.bias": "unembedder.bias",
    }
    parts = {
        "out": "self_attn.out_proj",
        "up": "linear1",
        "down": "linear2",
        "norm1": "norm1",
        "norm2": "norm2",
    }
    for layer in range(layers):
        theirs = f"backbone.layers.{layer}"
        for kind in ("weight", "bias"):
            names[f"blocks.{layer}.qkv.{kind}"] = f"{theirs}.self_attn.in_proj_{kind}"
            for ours, part in parts.items():
                names[f"blocks.{layer}.{ours}.{kind}"] = f"{theirs}.{part}.{kind}"
    return names


def convert(name: str, checkpoint: dict[str, Any]) -> FourierDiffusionNetwork:
    """Convert the library's weights to our module. Raises LabError if they are not of its transformer."""
    config = _config(name, checkpoint)
    weights, names = checkpoint["state_dict"], _names(config.layers)
    missing, extra = sorted(set(names.values()) - set(weights)), sorted(set(weights) - set(names.values()))
    if missing or extra:
        fault = f"lacks {missing[0]!r}" if missing else f"has {extra[0]!r} besides"
        raise LabError(f"{name} is no transformer score model of the library: it {fault}")
    ours = {key: weights[theirs].detach().float() for key, theirs in names.items()}
    if NetworkSizes(**asdict(config)).least_weights > sum(p.numel() for p in ours.values()):
        raise LabError(f"{name}: weights do not fit the sizes that the checkpoint states")
    # The library shortens longer rows to sqrt(d) at each lookup; here this is done once.
    table = ours["position"]
    norm, longest = table.norm(dim=1, keepdim=True), config.width**0.5
    table = torch.where(norm > longest, table * (longest / (norm + 1e-7)), table)
    order = torch.as_tensor(frequency_order(config.length))
    try:
        if table.shape != (config.length, config.width):
            raise ValueError(f"the position table has shape {tuple(table.shape)}")
        ours["position"] = table[order]
        network = FourierDiffusionNetwork(config)
        network.load_state_dict(ours)
    except (RuntimeError, ValueError) as fault:
        raise LabError(f"{name}: weights do not fit their sizes: {reason(fault)}") from None
    if not all(torch.isfinite(p).all() for p in ours.values()):
        raise LabError(f"{name}: a weight is not finite")
    return network.eval().requires_grad_(False)


def import_fourierdiffusion(
    file: str | Path, stats: str | Path, out: str | Path, *, dataset: str = ""
) -> FourierDiffusionModel:
    """Convert a Lightning checkpoint and its `mean` and `std` (N, M) to weights and card in OUT.

    `dataset` names the training data, if known. Raises LabError and writes nothing for anything but a
    transformer score model of the library.
    """
    file, out = Path(file), Path(out)
    check_new_checkpoint(out)
    network = convert(file.name, read_checkpoint(file))
    config = network.config
    shape = (config.length, config.channels)
    statistics = _statistics(Path(stats), shape)
    channels, data_digest = tuple(f"c{i + 1}" for i in range(config.channels)), ""
    if dataset:
        data = load_dataset(dataset)
        if data.x.shape[1:] != shape:
            raise LabError(
                f"the windows of data set {dataset!r} have shape {data.x.shape[1:]}, the model makes {shape}",
                field="dataset",
            )
        channels, dataset, data_digest = data.channels, data.reference, data.digest
    tensors = {f"network.{k}": p.contiguous() for k, p in network.state_dict().items()}
    tensors |= {k: torch.as_tensor(v, dtype=torch.float32) for k, v in statistics.items()}
    card = {
        "schema": SCHEMA,
        "kind": KIND,
        "title": f"FourierDiffusion transformer, imported from {file.name}",
        "network": asdict(config),
        "schedule": {"kind": "vp", **asdict(network.schedule)},
        "length": config.length,
        "channels": list(channels),
        "dataset": dataset,
        "data_digest": data_digest,
        "parameters": sum(p.numel() for p in network.parameters()),
    }
    write_set(out, {WEIGHTS: lambda path: save_file(tensors, str(path)), CARD: json_writer(card)})
    return load_fourierdiffusion(out)


def _statistics(path: Path, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """Read `mean` and `std` of standardization from an NPZ file, each of `shape`. Raises LabError."""
    if not path.is_file():
        raise LabError(
            f"there is no file {str(path)!r}",
            field="stats",
            remedy=f"give an NPZ with mean and std of shape {shape}",
        )
    arrays = read_npz(path)
    for key in ("mean", "std"):
        array = arrays.get(key)
        if array is None or array.shape != shape or array.dtype.kind != "f":
            what = "nothing" if array is None else f"{array.dtype} of shape {array.shape}"
            raise LabError(f"{path.name}: {key!r} must be floats of shape {shape}, not {what}", field="stats")
        if not np.isfinite(array).all() or (key == "std" and (array < 0).any()):
            raise LabError(f"{path.name}: {key!r} has negative or infinite entries", field="stats")
    return {key: arrays[key] for key in ("mean", "std")}


def load_fourierdiffusion(folder: str | Path) -> FourierDiffusionModel:
    """Load what `import_fourierdiffusion` wrote, onto the CPU. Raises LabError if it is damaged."""
    folder = Path(folder)
    return read_set(folder, (WEIGHTS, CARD), lambda: _load(folder))


def _load(folder: Path) -> FourierDiffusionModel:
    card = load_card(folder / CARD)
    if card["kind"] != KIND:
        raise LabError(f"{folder} holds no FourierDiffusion model: its kind is {card['kind']!r}")
    check_weights(card, folder / WEIGHTS)
    return load_model(folder, card)


def load_model(folder: Path, card: dict[str, Any]) -> FourierDiffusionModel:
    """Build the model of a checked card on the CPU. Raises LabError if the weights do not fit."""
    try:
        with safe_open(str(folder / WEIGHTS), framework="pt") as stored:
            tensors = {key: stored.get_tensor(key).float() for key in stored.keys()}  # noqa: SIM118
        network = FourierDiffusionNetwork(FourierDiffusionConfig(**card["network"]))
        network.load_state_dict(
            {k.removeprefix("network."): p for k, p in tensors.items() if k.startswith("network.")}
        )
        return _model(folder.name, card, network, tensors)
    except LabError:
        raise
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as fault:
        raise LabError(f"checkpoint {folder} is damaged or does not fit its card: {reason(fault)}") from None


def _model(
    name: str, card: dict[str, Any], network: FourierDiffusionNetwork, tensors: dict[str, Tensor]
) -> FourierDiffusionModel:
    config = network.config
    v = (1 / network.scale.square()).expand(-1, config.channels).contiguous()
    return FourierDiffusionModel(
        name=name,
        network=network.eval().requires_grad_(False),
        schedule=network.schedule,
        length=config.length,
        channels=tuple(card["channels"]),
        mu=torch.zeros_like(v),
        v=v,
        mask=torch.ones_like(v),
        mean=np.zeros(config.channels, dtype=np.float32),
        std=np.ones(config.channels, dtype=np.float32),
        dataset=card["dataset"],
        meta=card,
        position_mean=tensors["mean"].numpy(),
        position_std=tensors["std"].numpy(),
    )
