"""A complete set of assets with a small random network: pages and runs behave, in a fraction of the time."""

import shutil
from pathlib import Path

import numpy as np
import torch

from e2crf_core.checkpoints import save_checkpoint
from e2crf_core.data import assets_dir, load_dataset
from e2crf_core.model import DEFAULT_SCHEDULE, ScoreModel, token_statistics
from e2crf_core.transformer import NetworkConfig, ScoreTransformer

TINY = {"width": 16, "layers": 2, "heads": 2, "hidden": 32}


def random_model(dataset: str, seed: int = 0, **sizes: int) -> ScoreModel:
    """An untrained model of a shipped data set whose output is not zero, so that caching it makes a difference."""
    data = load_dataset(dataset)
    series = data.standardise(data.x[data.train])
    mu, v, mask = token_statistics(series)
    torch.manual_seed(seed)
    network = ScoreTransformer(NetworkConfig(tokens=mu.shape[0], channels=series.shape[2], **(sizes or TINY)))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    as_tensor = lambda x: torch.as_tensor(np.asarray(x), dtype=torch.float32)  # noqa: E731
    return ScoreModel(
        name=dataset,
        network=network.eval().requires_grad_(False),
        schedule=DEFAULT_SCHEDULE,
        length=series.shape[1],
        channels=data.channels,
        mu=as_tensor(mu),
        v=as_tensor(v),
        mask=as_tensor(mask),
        mean=data.mean,
        std=data.std,
        dataset=dataset,
        meta={"title": "untrained network of the tests"},
    )


def tiny_assets(folder: Path, datasets: tuple[str, ...] = ("ecg", "wind"), **sizes: int) -> Path:
    """Fill `folder` with the shipped data and one random checkpoint for each of `datasets`; returns it."""
    shutil.copytree(assets_dir() / "data", folder / "data")
    for name in datasets:
        save_checkpoint(random_model(name, **sizes), folder / "checkpoints" / name)
    return folder
