"""Imputation and forecast: exact for Gaussian data, indifferent to batches and caches, refused in one line."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from e2crf_core import CachePolicy, LabError
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.quality.probabilistic import covered, crps, gaussian_crps
from e2crf_core.questions import baselines
from e2crf_core.questions.answers import ASKING, complete, forecast, impute
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.sampler import Sampler
from tests.conftest import make_model

DRAWS = 800


@pytest.fixture(scope="module")
def gaussian_model() -> ScoreModel:
    """F = 0: the model is the exact denoiser of N(mu, diag v)."""
    model = make_model(length=16, channels=2)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.zero_()
    return model


@pytest.fixture(scope="module")
def window(gaussian_model) -> np.ndarray:
    """A series of the model's own law with a hole, a wider one in the second channel."""
    series = SamplerConfig(policy=None, steps=40, solver="ancestral", grid="log_snr")
    window = Sampler.of(gaussian_model, series).sample(1, 3).series[0].astype(np.float64)
    window[5:9, 0] = np.nan
    window[5:12, 1] = np.nan
    return window


class TestGaussianData:
    @pytest.mark.parametrize("solver", ["sde_dpmpp_2m", "dpmpp_2m", "ancestral"])
    def test_draws_follow_the_closed_form_posterior(self, gaussian_model, window, solver):
        config = replace(ASKING, policy=None, solver=solver, steps=50, batch=DRAWS)
        answer = impute(gaussian_model, window, num=DRAWS, config=config)
        truth = baselines.gaussian(gaussian_model, window)
        missing = ~answer.known
        error = (answer.draws.mean(0) - truth.mean)[missing] / truth.std[missing]
        assert np.abs(error).max() < 5 / np.sqrt(DRAWS) + 0.03
        ratio = answer.draws.std(0)[missing] / truth.std[missing]
        np.testing.assert_allclose(ratio, 1.0, atol=5 / np.sqrt(2 * DRAWS) + 0.04)

    def test_a_forecast_is_the_imputation_of_the_end(self, gaussian_model, window):
        history = np.nan_to_num(window)
        ahead = forecast(gaussian_model, history, 4, num=8)
        end = np.vstack([history[4:], np.full((4, 2), np.nan)])
        np.testing.assert_array_equal(ahead.draws, impute(gaussian_model, end, num=8).draws)


class TestAnyModel:
    def test_known_values_come_back_as_they_were(self, model):
        window = np.random.default_rng(0).standard_normal((24, 2))
        window[10:15] = np.nan
        answer = impute(model, window, num=3)
        np.testing.assert_allclose(
            answer.draws[:, answer.known], np.tile(window[answer.known], (3, 1)), rtol=1e-6
        )
        assert np.isfinite(answer.draws).all()

    def test_a_draw_is_the_same_in_any_batch(self, model):
        windows = np.random.default_rng(1).standard_normal((3, 24, 2))
        windows[:, 10:15] = np.nan
        whole = complete(model, windows, num=7).series
        parts = complete(model, windows, num=7, config=replace(ASKING, batch=2)).series
        np.testing.assert_allclose(whole, parts, atol=1e-5)

    def test_always_recomputing_equals_no_cache(self, model):
        window = np.random.default_rng(0).standard_normal((24, 2))
        window[10:15] = np.nan
        cached = impute(model, window, num=2, config=replace(ASKING, policy=CachePolicy.preset("exact")))
        plain = impute(model, window, num=2, config=replace(ASKING, policy=None))
        np.testing.assert_allclose(cached.draws, plain.draws, atol=1e-6)

    @pytest.mark.parametrize(
        ("edit", "match"),
        [
            (lambda w: w, "no value is missing"),
            (lambda w: w * np.nan, "every value is missing"),
            (lambda w: w[:-1], "shape"),
            (lambda w: np.where(np.arange(24)[:, None] < 2, np.inf, w * np.nan), "infinite"),
        ],
    )
    def test_refuses_what_is_no_question(self, model, edit, match):
        with pytest.raises(LabError, match=match):
            impute(model, edit(np.zeros((24, 2))))

    def test_refuses_solvers_without_denoised_values(self, model):
        window = np.full((24, 2), np.nan)
        window[0] = 0
        with pytest.raises(LabError, match="cannot be conditioned"):
            impute(model, window, config=replace(ASKING, solver="etd_ab2"))


class TestScores:
    def test_crps_of_many_draws_is_that_of_their_law(self):
        rng = np.random.default_rng(0)
        truth = np.array([0.0, 1.3, -2.0])
        draws = 0.5 + 2 * rng.standard_normal((20000, 3))
        np.testing.assert_allclose(
            crps(draws, truth), gaussian_crps(np.full(3, 0.5), np.full(3, 2.0), truth), rtol=0.02
        )

    def test_crps_does_not_reward_few_draws(self):
        """Unbiased in their number: the mean over many small sets is that of a large one."""
        rng = np.random.default_rng(1)
        small = crps(rng.standard_normal((3, 20000)), np.zeros(20000)).mean()
        assert small == pytest.approx(gaussian_crps(np.zeros(1), np.ones(1), np.zeros(1))[0], rel=0.03)

    @pytest.mark.parametrize("count", [19, 40, 99])
    def test_coverage_of_the_right_law_is_the_level(self, count):
        rng = np.random.default_rng(2)
        inside = covered(rng.standard_normal((count, 20000)), rng.standard_normal(20000))
        assert inside.mean() == pytest.approx(0.9, abs=1.5 / (count + 1) + 0.01)


class TestBaselines:
    def test_fill_as_they_say(self):
        window = np.array([[1.0], [2.0], [np.nan], [np.nan], [5.0], [np.nan]])
        np.testing.assert_array_equal(baselines.last_value(window).ravel(), [1, 2, 2, 2, 5, 5])
        np.testing.assert_array_equal(baselines.line(window).ravel(), [1, 2, 3, 4, 5, 5])
        np.testing.assert_array_equal(baselines.season(window, 2).ravel(), [1, 2, 1, 2, 5, 2])
