"""A complete set of assets with a small random network: pages and runs behave, in a fraction of the time."""

import shutil
from pathlib import Path

import torch

from e2crf_core.checkpoints import save_checkpoint
from e2crf_core.data import assets_dir, load_dataset
from e2crf_core.training import Trainer, TrainSpec

TINY = {"width": 16, "layers": 2, "heads": 2, "hidden": 32}


def tiny_assets(folder: Path, datasets: tuple[str, ...] = ("ecg", "wind"), **sizes: int) -> Path:
    """Fill `folder` with the shipped data and an untrained checkpoint for each of `datasets`; returns it.

    Weights are random, so that the network's output is not zero and caching it makes a difference.
    """
    shutil.copytree(assets_dir() / "data", folder / "data")
    for name in datasets:
        spec = TrainSpec(name, steps=1, **(sizes or TINY))
        model = Trainer(spec, load_dataset(name), folder / "training" / name).model()
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in model.network.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        save_checkpoint(model, folder / "checkpoints" / name)
    return folder
