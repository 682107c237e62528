"""The anchor rows: no network is the Gaussian it claims to be, and converged means converged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.diffusion.solvers import SOLVERS
from e2crf_core.diffusion.spectral import tokenize
from e2crf_core.evaluation.anchors import converged, deterministic, no_network
from e2crf_core.sampling.sampler import Sampler


def test_no_network_has_the_mean_and_variance_of_the_statistics(model: ScoreModel) -> None:
    series = (no_network(model, 4000) - model.mean) / model.std
    tokens = tokenize(series.astype(np.float64))
    mask = model.mask.numpy().astype(bool)
    v = model.v.numpy()
    np.testing.assert_allclose(tokens.var(0)[mask], v[mask], rtol=0.15)
    np.testing.assert_allclose(tokens.mean(0)[mask], model.mu.numpy()[mask], atol=0.1 * np.sqrt(v.max()))


def test_no_network_shares_the_noise_of_a_run(model: ScoreModel) -> None:
    """Sample i does not depend on how many are drawn, and another seed gives others."""
    few, many = no_network(model, 2, seed=5), no_network(model, 6, seed=5)
    np.testing.assert_allclose(few, many[:2], rtol=1e-5, atol=1e-6)
    assert not np.allclose(few, no_network(model, 2, seed=6))


def test_more_steps_than_converged_change_nothing_that_matters(model: ScoreModel) -> None:
    config = converged(model)
    more = replace(config, steps=4 * config.steps)
    a, b = (Sampler.of(model, c).sample(8).tokens for c in (config, more))
    assert np.linalg.norm(a - b) < 0.05 * np.linalg.norm(b)


@pytest.mark.parametrize(
    ("name", "expected"), [("dpmpp_2m", True), ("ddim", True), ("euler_maruyama", False)]
)
def test_deterministic_solvers_are_those_without_noise(name: str, expected: bool) -> None:
    assert deterministic(name) is expected
    assert {deterministic(solver) for solver in SOLVERS} <= {True, False}
