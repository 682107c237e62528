"""Imputation and forecast: exact for Gaussian data, independent of batches and caches, errors in one line."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from e2crf_core import CachePolicy, LabError, load_dataset
from e2crf_core.cli import main
from e2crf_core.quality.probabilistic import covered, crps, gaussian_crps
from e2crf_core.questions import baselines
from e2crf_core.questions.answers import ASKING, complete, forecast, impute
from e2crf_core.questions.recordings import fill, on_grid, window_starts
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.sampler import Sampler

DRAWS = 800


@pytest.fixture(scope="module")
def window(gaussian_model) -> np.ndarray:
    """Provide a series from the model's own distribution with a gap, wider in the second channel."""
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


class TestRecordings:
    def test_every_gap_is_filled_and_known_values_stay(self, model):
        recording = np.random.default_rng(4).standard_normal((100, 2))
        recording[[0, 1, 40, 41, 42, 77, 99]] = np.nan
        recording[50, 1] = np.nan
        filled = fill(model, recording, num=4, levels=(0.05, 0.5, 0.95))
        low, median, high = filled.quantiles
        assert np.isfinite(median).all() and (filled.at(0.5) == median).all()
        assert (low <= median).all() and (median <= high).all()
        np.testing.assert_array_equal(median[filled.known], recording[filled.known])
        assert (low < high)[~filled.known].all()

    @pytest.mark.parametrize(("total", "length"), [(100, 24), (24, 24), (10, 24), (25, 24)])
    def test_a_missing_step_is_seen_from_both_sides_where_there_are_two(self, total, length):
        for step in range(total):
            missing = np.arange(total) == step
            (start,) = window_starts(missing, length)
            assert 0 <= start <= max(0, total - length)
            assert start <= step < start + length
            reach = length // 4
            assert step - start >= min(step, reach) and start + length - 1 - step >= min(
                total - 1 - step, reach
            )

    def test_rows_left_out_of_a_file_are_missing_values(self):
        stamps = np.array([0, 1, 4, 5]) * 600_000_000
        values, times = on_grid(np.arange(4.0)[:, None], stamps, 600.0)
        np.testing.assert_array_equal(values.ravel(), [0, 1, np.nan, np.nan, 2, 3])
        np.testing.assert_array_equal(times, np.arange(6) * 600_000_000)

    def test_months_are_steps_and_odd_distances_are_refused(self):
        days = np.cumsum([0, 31, 28, 31, 30]) * 86_400_000_000
        values, _ = on_grid(np.arange(5.0)[:, None], days, 30.0 * 86_400)
        assert len(values) == 5
        with pytest.raises(LabError, match=r"2\.50 usual steps"):
            on_grid(np.zeros((3, 1)), np.array([0, 1_000_000, 3_500_000]), 1.0)


class TestCommands:
    @pytest.fixture
    def holes(self, tmp_path):
        """Provide two days of the wind data with a gap in one channel and missing rows."""
        series = load_dataset("wind").x[:2].reshape(-1, 4)
        lines = ["time," + ",".join(load_dataset("wind").channels)]
        for i, row in enumerate(series):
            if 100 <= i < 110:
                continue
            stamp = np.datetime64("2020-03-01T00:00") + np.timedelta64(10 * i, "m")
            cells = ["" if 60 <= i < 70 and c == 0 else f"{x:.4f}" for c, x in enumerate(row)]
            lines.append(f"{stamp}," + ",".join(cells))
        path = tmp_path / "holes.csv"
        path.write_text("\n".join(lines))
        return path

    def test_impute_fills_cells_and_rows(self, holes, tmp_path, capsys):
        out = tmp_path / "filled.csv"
        ask = ["impute", str(holes), "--checkpoint", "wind", "--num", "3", "--steps", "4", "--out", str(out)]
        assert main(ask) == 0
        assert json.loads(capsys.readouterr().out)["filled"] == 10 + 10 * 4
        table = pd.read_csv(out, parse_dates=["time"])
        assert len(table) == 288 and not table.isna().any().any()
        assert (table.time.diff().dropna() == pd.Timedelta("10min")).all()
        assert (table.P_avg_low <= table.P_avg).all()

    def test_a_cache_answers_with_less_work_and_another_answer(self, holes, tmp_path):
        def values(policy):
            out = tmp_path / f"{policy}.csv"
            ask = [
                "forecast",
                str(holes),
                "--checkpoint",
                "wind",
                "--num",
                "2",
                "--steps",
                "8",
                "--horizon",
                "5",
            ]
            assert main([*ask, "--policy", policy, "--out", str(out)]) == 0
            return pd.read_csv(out).to_numpy()

        assert not np.array_equal(values("fast"), values("exact"))

    def test_forecast_continues(self, holes, tmp_path, capsys):
        out = tmp_path / "ahead.csv"
        ask = ["forecast", str(holes), "--checkpoint", "wind", "--num", "3", "--steps", "4", "--horizon", "5"]
        assert main([*ask, "--out", str(out)]) == 0
        assert pd.read_csv(out).shape == (5, 13)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--checkpoint", "ecg"], "--channels"),
            (["--level", "2"], "--level"),
            (["--num", "1"], "--num"),
            (["--policy", "nothing"], "--policy"),
            (["--out", "no/such/folder.csv"], "folder"),
        ],
    )
    def test_bad_input_is_one_line(self, holes, tmp_path, capsys, options, words):
        base = ["impute", str(holes), "--checkpoint", "wind", "--out", str(tmp_path / "out.csv")]
        assert main([*base, *options]) == 2
        message = capsys.readouterr().err
        assert message.count("\n") == 1 and words in message
        assert not (tmp_path / "out.csv").exists()


class TestScores:
    def test_crps_of_many_draws_is_that_of_their_law(self):
        rng = np.random.default_rng(0)
        truth = np.array([0.0, 1.3, -2.0])
        draws = 0.5 + 2 * rng.standard_normal((20000, 3))
        np.testing.assert_allclose(
            crps(draws, truth), gaussian_crps(np.full(3, 0.5), np.full(3, 2.0), truth), rtol=0.02
        )

    def test_crps_does_not_reward_few_draws(self):
        """The CRPS is unbiased for any number of draws: many small sets have the mean of a large one."""
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
