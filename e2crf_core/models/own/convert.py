"""Import a user's network as a checkpoint: build it, check its laws, calibrate it, write weights and card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from e2crf_core.data.datasets import load_dataset
from e2crf_core.diffusion.schedules import SCHEDULES
from e2crf_core.diffusion.score_model import DEFAULT_SCHEDULE, ScoreModel, token_statistics
from e2crf_core.diffusion.spectral import coordinate_mask
from e2crf_core.errors import LabError
from e2crf_core.io.arrays import reason
from e2crf_core.io.json_files import json_writer, validated
from e2crf_core.io.sets import write_set
from e2crf_core.models.cards import SCHEMA, load_card, read_profile
from e2crf_core.models.folders import CARD, WEIGHTS, check_new_checkpoint
from e2crf_core.models.loss import heldout_loss
from e2crf_core.models.own.factories import Factory, build, find_factory, trust
from e2crf_core.models.own.laws import Law, check_laws
from e2crf_core.sampling.calibration import calibrate

KIND = "own-network"


@dataclass(frozen=True)
class Imported:
    """An imported model, the laws that it keeps, and its held-out loss: without a network, it is about 1."""

    model: ScoreModel
    laws: tuple[Law, ...]
    loss: dict[str, float]


def import_network(
    reference: str,
    weights: str | Path,
    data: str,
    out: str | Path,
    *,
    agreed: bool,
    folder: Path | None = None,
) -> Imported:
    """Build MODULE:FUNCTION(length, channels) with its weights for a data set, check it, and write it to OUT.

    `weights` is a safetensors file or one of torch's with nothing but tensors: the network's state dict. The
    network predicts F of E3 for standardized half-spectrum tokens. Its code runs only if the user `agreed`.
    Raises LabError and writes nothing if a law does not hold.
    """
    out = Path(out)
    check_new_checkpoint(out)
    if (out / CARD).is_file() and load_card(out / CARD)["kind"] != KIND:
        raise LabError(f"{out} holds another kind of checkpoint", field="name", remedy="choose another name")
    factory = find_factory(reference, folder)
    if not agreed:
        raise LabError(
            f"importing this network runs the code in {factory.path} on this computer, now and whenever it is loaded",
            field="trust",
            remedy="read that file, and agree if you wrote it or trust its author",
        )
    state, dataset = _read_weights(Path(weights)), load_dataset(data)
    trust(factory)
    mu, v, mask = (
        torch.as_tensor(part, dtype=torch.float32)
        for part in token_statistics(dataset.standardize(dataset.x[dataset.train]))
    )
    model = ScoreModel(
        name=out.name,
        network=_network(factory, dataset.length, len(dataset.channels), state),
        schedule=DEFAULT_SCHEDULE,
        length=dataset.length,
        channels=dataset.channels,
        mu=mu,
        v=v,
        mask=mask,
        mean=dataset.mean,
        std=dataset.std,
        dataset=dataset.reference,
        meta={"data_digest": dataset.digest},
    )
    laws = check_laws(model)
    loss = heldout_loss(model, dataset.standardize(dataset.x[dataset.heldout]))
    model = replace(model, profile=calibrate(model))
    model = replace(model, meta=_card(model, factory, loss, weights))
    _write(model, out)
    return Imported(model, laws, loss)


def _network(factory: Factory, length: int, channels: int, state: Mapping[str, Tensor]) -> torch.nn.Module:
    """Build a network and load its weights. Raises LabError if they do not fit."""
    network = build(factory, length, channels)
    if not isinstance(network, torch.nn.Module):
        raise LabError(
            f"{factory.reference} returned a {type(network).__name__}, not a torch.nn.Module", field="factory"
        )
    try:
        network.load_state_dict(dict(state))
    except RuntimeError as fault:
        raise LabError(f"the weights do not fit the network: {reason(fault)}", field="weights") from None
    return network.float().eval().requires_grad_(False)


def _read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict without running pickled code. Raises LabError."""
    if not path.is_file():
        raise LabError(f"there is no file {str(path)!r}", field="weights", remedy="check the path")
    try:
        if path.suffix == ".safetensors":
            state = load_file(str(path))
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as fault:  # torch raises whatever a damaged file makes it stumble over
        raise LabError(f"{path.name} cannot be read as weights: {reason(fault)}", field="weights") from None
    if not isinstance(state, Mapping) or not all(isinstance(part, Tensor) for part in state.values()):
        raise LabError(
            f"{path.name} holds more than tensors",
            field="weights",
            remedy="save network.state_dict() alone",
        )
    for name, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise LabError(f"{path.name}: {name!r} is not finite", field="weights")
    return dict(state)


def _card(model: ScoreModel, factory: Factory, loss: dict[str, float], weights: str | Path) -> dict[str, Any]:
    network = model.network
    return {
        **model.meta,
        "schema": SCHEMA,
        "kind": KIND,
        "title": f"Own network {factory.reference}, weights from {Path(weights).name}",
        "network": {
            "tokens": model.n,
            "length": model.length,
            "channels": len(model.channels),
            "layers": network.layers,
        },
        "factory": factory.model_dump(),
        "schedule": {"kind": model.schedule.kind, **asdict(model.schedule)},  # type: ignore[call-overload]
        "length": model.length,
        "channels": list(model.channels),
        "dataset": model.dataset,
        "profile": asdict(model.profile),
        "heldout_loss": loss["value"],
        "parameters": sum(p.numel() for p in network.parameters()),
    }


def _write(model: ScoreModel, out: Path) -> None:
    tensors = {f"network.{k}": p.clone().contiguous() for k, p in model.network.state_dict().items()}
    tensors |= {"mu": model.mu, "v": model.v}
    tensors |= {"mean": torch.as_tensor(model.mean), "std": torch.as_tensor(model.std)}
    write_set(out, {WEIGHTS: lambda path: save_file(tensors, str(path)), CARD: json_writer(model.meta)})


def load_model(folder: Path, card: dict[str, Any]) -> ScoreModel:
    """Build the model of a checked card on the CPU.

    Raises LabError if the user does not trust its code, if that code has changed, or if weights do not fit.
    """
    factory = validated(Factory, card.get("factory"), f"the factory in model card {folder / CARD}")
    length, channels = card["length"], tuple(card["channels"])
    shape = (length // 2 + 1, 2 * len(channels))
    try:
        with safe_open(str(folder / WEIGHTS), framework="pt") as stored:
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118
        if tensors["mu"].shape != shape or tensors["v"].shape != shape:
            raise ValueError(f"statistics have shape {tuple(tensors['mu'].shape)}, not {shape}")
        state = {k.removeprefix("network."): p for k, p in tensors.items() if k.startswith("network.")}
        schedule = dict(card["schedule"])
        return ScoreModel(
            name=folder.name,
            network=_network(factory, length, len(channels), state),
            schedule=SCHEDULES[schedule.pop("kind")](**schedule),
            length=length,
            channels=channels,
            mu=tensors["mu"],
            v=tensors["v"],
            mask=torch.as_tensor(coordinate_mask(length, len(channels)), dtype=torch.float32),
            mean=tensors["mean"].numpy().astype(np.float32),
            std=tensors["std"].numpy().astype(np.float32),
            dataset=card["dataset"],
            profile=read_profile(card),
            meta=card,
        )
    except LabError:
        raise
    except (SafetensorError, OSError, RuntimeError, KeyError, TypeError, ValueError) as fault:
        raise LabError(f"checkpoint {folder} is damaged or does not fit its card: {reason(fault)}") from None
