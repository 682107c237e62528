"""Check that an imported model computes what the library computed, including its own sampler."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from e2crf_core.errors import LabError
from e2crf_core.io.arrays import read_npz
from e2crf_core.models.fourierdiffusion.convert import load_fourierdiffusion
from e2crf_core.models.fourierdiffusion.layout import noise_scale
from e2crf_core.models.fourierdiffusion.network import FourierDiffusionNetwork


def reverse_steps(network: FourierDiffusionNetwork, x: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """Run the library's own sampler: Euler-Maruyama in its layout, with noise at the last step too.

    x (B, N, M) starts at times[0]; noise (S, B, N, M) standard normal; times (S,) evenly falling.
    """
    scale = torch.as_tensor(noise_scale(network.config.length, scaled=network.config.scaled)).to(x)[:, None]
    dt = times[0] - times[1]
    for t, draw in zip(times, noise, strict=True):
        beta = network.schedule.beta_min + (network.schedule.beta_max - network.schedule.beta_min) * t
        score = network.score(x, t.expand(len(x)))
        x = x + dt * (0.5 * beta * x + beta * scale.square() * score) + (dt * beta).sqrt() * scale * draw
    return x


def check_golden(folder: str | Path, golden: str | Path) -> dict[str, float]:
    """Return relative L2 differences from the library's results: `score_rel`, `x_final_rel`.

    `golden` is an NPZ with times (K,), x_in and score (K, B, N, M), prior (B, N, M), noise (S, B, N, M),
    timesteps (S,), and x_final (B, N, M). Raises LabError if arrays are missing or do not fit the model.
    """
    network = load_fourierdiffusion(folder).network
    assert isinstance(network, FourierDiffusionNetwork)
    stored = read_npz(golden)
    needed = ("times", "x_in", "score", "prior", "noise", "timesteps", "x_final")
    missing = [key for key in needed if key not in stored]
    if missing:
        raise LabError(f"{Path(golden).name} lacks {', '.join(missing)}")
    arrays = {key: torch.as_tensor(stored[key]).float() for key in needed}
    tail = (network.config.length, network.config.channels)
    for key in ("x_in", "score", "prior", "noise", "x_final"):
        if arrays[key].shape[-2:] != tail:
            ends = tuple(arrays[key].shape[-2:])
            raise LabError(f"{Path(golden).name}: {key!r} ends in {ends}, the model has {tail}")
    with torch.inference_mode():
        score = torch.stack(
            [network.score(x, t.expand(len(x))) for x, t in zip(arrays["x_in"], arrays["times"], strict=True)]
        )
        scale = torch.as_tensor(noise_scale(tail[0], scaled=network.config.scaled)).float()[:, None]
        final = reverse_steps(network, arrays["prior"] * scale, arrays["noise"], arrays["timesteps"])
    return {
        "score_rel": _relative(score, arrays["score"]),
        "x_final_rel": _relative(final, arrays["x_final"]),
    }


def _relative(value: Tensor, truth: Tensor) -> float:
    return float((value.double() - truth.double()).norm() / truth.double().norm())
