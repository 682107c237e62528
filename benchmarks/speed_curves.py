"""How time, memory, and the gain of reuse change with the size of the problem, on untrained networks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from benchmarks.timing import held_bytes, in_turns, interval, repeated
from e2crf_core import CachePolicy, Sampler
from e2crf_core.diffusion.schedules import VP
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.diffusion.spectral import coordinate_mask
from e2crf_core.network.transformer import NetworkConfig, ScoreTransformer
from e2crf_core.sampling.backend_choice import whole_call

EVERY = 10
"""Steps from one call to the next."""
RUN = CachePolicy(trigger="fixed", refresh_every=EVERY, predictor="linear")


@dataclass(frozen=True)
class Size:
    """A problem: series of `length` N with `channels` M, `batch` of them, on a network of `layers`."""

    length: int = 192
    channels: int = 4
    batch: int = 16
    layers: int = 4


AXES: dict[str, tuple[int, ...]] = {
    "length": (64, 128, 256, 512, 1024, 2048, 4096),
    "channels": (1, 2, 4, 8, 16, 32, 64),
    "batch": (1, 4, 16, 64, 256, 1024),
    "layers": (2, 4, 8, 16, 24),
}


def untrained(size: Size) -> ScoreModel:
    """Return a model with random weights, for timing only."""
    n, m = size.length // 2 + 1, size.channels
    torch.manual_seed(0)
    config = NetworkConfig(n, size.length, m, layers=size.layers)
    network = ScoreTransformer(config).eval().requires_grad_(False)
    mask = torch.as_tensor(coordinate_mask(size.length, m), dtype=torch.float32)
    return ScoreModel(
        name="untrained",
        network=network,
        schedule=VP(),
        length=size.length,
        channels=tuple(str(i) for i in range(m)),
        mu=torch.zeros(n, 2 * m),
        v=torch.ones(n, 2 * m),
        mask=mask,
        mean=np.zeros(m),
        std=np.ones(m),
        dataset="none",
    )


def measure_size(size: Size, rounds: int) -> dict[str, Any]:
    """Measure a call, ten steps of which one calls the network, and the memory that these steps hold."""
    model = untrained(size)
    sampler = Sampler(model, RUN, steps=2 * EVERY, batch=size.batch)
    call, level = whole_call(model, None), torch.tensor(0.0, dtype=torch.float64)
    u = torch.randn(size.batch, *model.mu.shape) * model.mask
    sampler.draw(size.batch, 0)
    with torch.inference_mode():
        runs = {
            "call": repeated(lambda: call(u, level), 2),
            "segment": lambda turn: sampler.draw(size.batch, turn).seconds / 2,
        }
        seconds = in_turns(runs, rounds)
        held = held_bytes(lambda: sampler.draw(size.batch, 0))
    return {
        "call_s": interval(seconds["call"]),
        "reused_step_share": float(((seconds["segment"] / seconds["call"] - 1) / (EVERY - 1)).mean()),
        "speedup": interval(EVERY * seconds["call"] / seconds["segment"]),
        "held_bytes": held,
    }


def measure_curves(*, tiny: bool = False, rounds: int = 4) -> dict[str, Any]:
    """Measure along each axis, all else as in `Size`. Caching pays where `speedup`, at most EVERY, is above 1."""
    curves: dict[str, Any] = {"every": EVERY, "base": vars(Size()), "axes": {}}
    for axis, values in AXES.items():
        points = []
        for value in values[:2] if tiny else values:
            size = replace(Size(), **{axis: value})
            points.append({"value": value, **measure_size(size, 2 if tiny else rounds)})
            print(f"{axis} {value}: {points[-1]['speedup']['value']:.1f} of {EVERY}", flush=True)
        curves["axes"][axis] = points
    return curves
