"""Provide the two anchor rows of every comparison: no network at all, and the converged sampler."""

from __future__ import annotations

import numpy as np
import torch

from e2crf_core.diffusion.schedules import VP
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.diffusion.solvers import fewest_steps, find_solver, make_plan
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.sampler import Sampler

CONVERGED_STEPS = 40
"""Steps of DPM-Solver++ 2M beyond which distances to real data change by less than 0.5%."""


def converged(model: ScoreModel) -> SamplerConfig:
    """Return the uncached deterministic reference sampler: converged, and cheap enough to run."""
    grid = "profile" if model.profile.levels else "log_snr"
    return SamplerConfig(None, CONVERGED_STEPS, "dpmpp_2m", grid)


def deterministic(solver: str) -> bool:
    """Return whether samples depend only on their starting noise, so that common noise pairs them."""
    find_solver(solver)
    steps = max(5, fewest_steps(solver))
    return not any(row.sigma for row in make_plan(VP(), steps, solver, "log_snr").rows)


def no_network(model: ScoreModel, num: int, seed: int = 0) -> np.ndarray:
    """Return series (num, N, M) in data units of the model without its network, on the noise of `seed`.

    F = 0 in E3: the exact sampler of the Gaussian with the data's mean and token variances. Its flow keeps
    u = c_in (z - a mu) constant, so the end of a trajectory is known in closed form: mu + sqrt(v) u.
    """
    sampler = Sampler.of(model, converged(model))
    with torch.inference_mode():
        _, state = sampler.begin(num, seed)
        t = sampler.plan.rows[0].t
        u = (state.z - model.schedule.a(t) * model.mu) * model.precondition(t).c_in
        tokens = (model.mu + model.v.sqrt() * u) * model.mask
    return model.series(tokens.cpu().numpy())
