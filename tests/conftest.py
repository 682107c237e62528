"""Shared small models: the laws of the cache hold for any weights, so these are random and fast."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from tests.shape_checks import check_shapes

check_shapes()

from e2crf_core.diffusion.score_model import DEFAULT_SCHEDULE, ScoreModel, token_statistics  # noqa: E402
from e2crf_core.network.transformer import NetworkConfig, ScoreTransformer  # noqa: E402

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


def make_model(
    length: int = 24, channels: int = 2, *, dtype: torch.dtype = torch.float64, seed: int = 0
) -> ScoreModel:
    """Return a score model with random weights, large enough that F matters, and random-walk data."""
    rng = np.random.default_rng(seed)
    series = rng.standard_normal((64, length, channels)).cumsum(1)
    series = (series - series.mean((0, 1))) / series.std((0, 1))
    mu, v, mask = token_statistics(series)
    torch.manual_seed(seed)
    config = NetworkConfig(
        tokens=mu.shape[0], length=length, channels=channels, width=24, layers=3, heads=3, hidden=32, stem=6
    )
    network = ScoreTransformer(config, torch.as_tensor(mu), torch.as_tensor(v))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    model = ScoreModel(
        name="test",
        network=network.eval().requires_grad_(False),
        schedule=DEFAULT_SCHEDULE,
        length=length,
        channels=tuple(f"c{i}" for i in range(channels)),
        mu=torch.as_tensor(mu),
        v=torch.as_tensor(v),
        mask=torch.as_tensor(mask, dtype=torch.float64),
        mean=np.zeros(channels, np.float32),
        std=np.ones(channels, np.float32),
        dataset="none",
    )
    return model.to(dtype=dtype)


@pytest.fixture(scope="session", autouse=True)
def empty_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hide the data and models of the person who runs the tests, so that no test reads or changes them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("E2CRF_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="session")
def model() -> ScoreModel:
    """Provide a small float64 model."""
    return make_model()


@pytest.fixture(scope="session")
def gaussian_model() -> ScoreModel:
    """Provide F = 0: the model is the exact denoiser of N(mu, diag v)."""
    model = make_model(length=16, channels=2)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.zero_()
    return model


@pytest.fixture(autouse=True)
def own_threads() -> Iterator[None]:
    """Undo the number of threads that a benchmark or a command set: results depend on it in the last digits."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
