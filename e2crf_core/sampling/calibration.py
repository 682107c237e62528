"""Calibrate where along the noise scale a model's denoised output changes, measured on its own samples.

Samples take shape in a narrow range of log(a/s). A reused output is harmless before it, when F hardly
changes, and after it, when c_out is small. The profile records this for one checkpoint, and a policy with the
clock `profile` distributes its refreshes accordingly.
"""

from __future__ import annotations

import numpy as np

from e2crf_core.caching.policy import PRESETS
from e2crf_core.diffusion.score_model import Profile, ScoreModel
from e2crf_core.sampling.sampler import Sampler

SPACING = 0.25
REACH = 0.2
EXPONENT = 0.5
LEAST = 0.2


def denoised_change(
    model: ScoreModel, *, num: int = 16, steps: int = 256, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return levels (K,) of log(a/s) and (K,) the RMS change of D, in data units, when F is held for REACH.

    It runs an uncached pilot on a grid even in log(a/s), so that every level has equal weight.
    """
    sampler = Sampler(model, PRESETS["exact"], steps=steps, grid="log_snr", solver="ancestral")
    outputs = []
    for step in sampler.steps(num, seed):
        assert step.after.cache is not None
        outputs.append(step.after.cache.output)
    problem = step.problem
    levels = np.array(problem.levels)
    ahead = max(1, round(REACH / (levels[1] - levels[0])))
    scale = (model.v * model.mask).sum()
    change = [
        float(
            ((problem.c_out[i + ahead] * (outputs[i + ahead] - outputs[i])).square().sum((1, 2)) / scale)
            .mean()
            .sqrt()
        )
        for i in range(steps - ahead)
    ]
    centers = np.arange(levels[0] + SPACING / 2, levels[-1], SPACING)
    middle = 0.5 * (levels[: steps - ahead] + levels[ahead:])
    return centers, np.interp(
        centers, middle, np.convolve(np.pad(change, 3, mode="edge"), np.ones(7) / 7, mode="valid")
    )


def calibrate(model: ScoreModel, *, num: int = 16, steps: int = 256, seed: int = 0) -> Profile:
    """Return the profile of a model: weights ~ change ** EXPONENT, floored at LEAST, with mean 1."""
    levels, change = denoised_change(model, num=num, steps=steps, seed=seed)
    weight = np.maximum(change / change.max(), 1e-12) ** EXPONENT
    weight = np.maximum(weight / weight.mean(), LEAST)
    weight /= weight.mean()
    return Profile(tuple(np.round(levels, 4).tolist()), tuple(np.round(weight, 4).tolist()))
