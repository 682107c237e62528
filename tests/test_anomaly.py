"""Anomaly scores: the likelihood for Gaussian data, calibrated false alarms, and where in a window the cause is."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from e2crf_core import LabError, load_checkpoint, load_dataset
from e2crf_core.cli import main
from e2crf_core.diffusion.conditioning import NOISE, series_basis
from e2crf_core.diffusion.score_model import ScoreModel, precondition
from e2crf_core.diffusion.spectral import detokenize
from e2crf_core.questions.anomaly import Detector
from e2crf_core.questions.watching import cut, heldout_windows, score_recording
from tests.gaussian_truth import Mixture


def series_law(model, channel: int) -> tuple[np.ndarray, np.ndarray]:
    """Return mean (N,) and covariance (N, N) of one channel's series under N(mu, v), seen through noise."""
    basis = series_basis(model.length)
    mu, v = (x.double().numpy().reshape(model.n, 2, -1)[..., channel].ravel() for x in (model.mu, model.v))
    return mu @ basis, basis.T @ (v[:, None] * basis) + NOISE**2 * np.eye(model.length)


def draw(model: ScoreModel, count: int, seed: int) -> np.ndarray:
    """Draw from N(mu, v), the law of a model with F = 0."""
    rng = np.random.default_rng(seed)
    mu, v, mask = (x.double().numpy() for x in (model.mu, model.v, model.mask))
    return detokenize(mask * (mu + np.sqrt(v) * rng.standard_normal((count, *mu.shape))), model.length)


@pytest.fixture(scope="module")
def normal(gaussian_model) -> np.ndarray:
    """Provide windows from the Gaussian model's own law."""
    return draw(gaussian_model, 60, 5)


@pytest.fixture(scope="module")
def walks() -> np.ndarray:
    """Provide random walks for a model with random weights."""
    return np.random.default_rng(0).standard_normal((12, 24, 2)).cumsum(1)


class PerfectNetwork(torch.nn.Module):
    """The network without layers whose F (E3) gives the exact denoiser of a mixture."""

    layers, heads, width, prepare_flops = 0, 1, 1, 0

    def __init__(self, law: Mixture, model: ScoreModel) -> None:
        super().__init__()
        self.law, self.mu, self.v = law, model.mu, model.v

    def condition(self, log_snr):
        return log_snr

    def prepare(self, u, log_snr):
        s = float(1 / np.sqrt(1 + np.exp(2 * float(log_snr))))
        a = float(np.exp(float(log_snr))) * s
        part = precondition(self.v, a, s)
        z = u / part.c_in + a * self.mu
        denoised = torch.as_tensor(self.law.denoise(z.numpy(), a, s))
        return (denoised - self.mu - part.c_skip * (z - a * self.mu)) / part.c_out

    def embed(self, prepared, index):
        return prepared

    def qkv(self, layer, h, condition):
        raise AssertionError("there is no layer")

    finish = qkv

    def head(self, feature):
        return feature


def test_with_a_perfect_network_the_score_is_the_divergence_from_the_true_law(gaussian_model):
    """Two separate kinds of series: E3 alone takes what lies between them for probable, the score does not."""
    rng = np.random.default_rng(3)
    n, width = gaussian_model.mu.shape
    mask = gaussian_model.mask.numpy()
    means = mask * np.stack([np.full((n, width), 0.8), np.full((n, width), -0.8)])
    law = Mixture(np.full(2, 0.5), means, np.full((2, n, width), 0.3))
    clean = law.sample(20, 4) * mask
    windows = np.concatenate([clean, 0.02 * clean])
    model = replace(
        gaussian_model, mu=torch.zeros(n, width, dtype=torch.float64), v=0.3 + torch.as_tensor(means[0] ** 2)
    )
    model = replace(model, network=PerfectNetwork(law, model))
    series = detokenize(windows, model.length)
    scores = Detector.fit(model, series, draws=30).score(series).total
    noised = windows[:, None] + NOISE * mask * rng.standard_normal((40, 50, n, width))
    blurred = law.noised(1.0, NOISE)
    truth = -blurred.log_density(noised.reshape(-1, n, width)).reshape(40, 50).mean(1)
    offset = scores - truth
    assert offset.std() < 0.1 * truth.std()
    closed = 0.5 * (mask * windows**2 / (model.v.numpy() + NOISE**2)).sum((1, 2))
    # Between the two kinds, the closed form alone misses nearly all of what the score sees.
    assert (scores - closed)[20:].mean() - (scores - closed)[:20].mean() > 10


class TestGaussianData:
    @pytest.mark.parametrize("gap", [False, True])
    def test_the_score_is_the_negative_log_likelihood_of_known_values(self, gaussian_model, normal, gap):
        windows = normal[:20].copy()
        if gap:
            windows[:, 4:9, 0] = np.nan
        scores = Detector.fit(gaussian_model, windows, draws=1).score(windows)
        truth = np.zeros(len(windows))
        for channel in range(2):
            mean, covariance = series_law(gaussian_model, channel)
            known = ~np.isnan(windows[0, :, channel])
            law = stats.multivariate_normal(mean[known], covariance[np.ix_(known, known)])
            truth -= law.logpdf(windows[:, known, channel])
        # Equal up to a constant.
        np.testing.assert_allclose(np.ptp(scores.total - truth), 0, atol=1e-3)

    def test_normal_windows_exceed_the_threshold_as_often_as_it_says(self, gaussian_model, normal):
        detector = Detector.fit(gaussian_model, normal, draws=1)
        for share in (0.1, 0.3):
            threshold = detector.threshold(share)
            rate = (detector.score(draw(gaussian_model, 200, 6)).total > threshold.value).mean()
            slack = 3 * np.sqrt(share / 200)
            assert threshold.rate.low - slack < rate < threshold.rate.high + slack
            assert threshold.rate.low < threshold.rate.value <= share < threshold.rate.high

    def test_a_gap_is_no_anomaly(self, gaussian_model, normal):
        detector = Detector.fit(gaussian_model, normal, draws=1)
        holes = normal.copy()
        holes[:, 3:10] = np.nan
        whole, part = detector.score(normal).total, detector.score(holes).total
        assert abs(part.mean() - whole.mean()) < 4 * whole.std() / np.sqrt(len(whole))

    def test_the_cause_is_where_it_was_planted(self, gaussian_model, normal):
        detector = Detector.fit(gaussian_model, normal, draws=1)
        spiked = normal[:5].copy()
        spiked[:, 11, 1] += 20
        scores = detector.score(spiked)
        assert (scores.total > detector.normal.max()).all()
        places = scores.per_step.reshape(5, -1).argmax(1)
        assert (places == 11 * 2 + 1).all()


class TestAnyModel:
    def test_a_score_does_not_depend_on_other_windows(self, model, walks):
        detector = Detector.fit(model, walks)
        together = detector.score(walks)
        np.testing.assert_allclose(together.total, together.per_step.sum((1, 2)))
        alone = np.concatenate([detector.score(window[None]).total for window in walks])
        np.testing.assert_allclose(together.total, alone, rtol=1e-9)

    def test_overlapping_windows_count_once(self, model, walks):
        apart = Detector.fit(model, walks).threshold(0.2)
        overlapping = Detector.fit(model, walks, blocks=np.arange(12) // 4).threshold(0.2)
        assert (apart.windows, overlapping.windows) == (12, 3)
        assert overlapping.rate.low < apart.rate.low and apart.rate.high < overlapping.rate.high

    def test_windows_with_little_known_are_not_scored(self, model, walks):
        hollow = walks[:2].copy()
        hollow[0, :20] = np.nan
        total = Detector.fit(model, walks).score(hollow).total
        assert np.isnan(total).tolist() == [True, False]

    def test_refuses_what_cannot_be_calibrated(self, model, walks):
        with pytest.raises(LabError, match="calibrate"):
            Detector.fit(model, walks[:1])
        with pytest.raises(LabError, match="shape"):
            Detector.fit(model, walks[:, :-1])
        detector = Detector.fit(model, walks)
        with pytest.raises(LabError, match="12 normal windows cannot show"):
            detector.threshold(0.01)
        with pytest.raises(LabError, match="infinite"):
            detector.score(np.where(walks > 3, np.inf, walks))


class TestRecordings:
    @pytest.mark.parametrize(("total", "hop"), [(100, 24), (100, 7), (24, 24), (10, 12), (49, 24)])
    def test_every_step_is_covered_and_none_invented(self, total, hop):
        recording = np.arange(2.0 * total).reshape(total, 2)
        starts, windows = cut(recording, 24, hop)
        seen = np.zeros(total, dtype=int)
        for start, window in zip(starts, windows, strict=True):
            inside = recording[start : start + 24]
            np.testing.assert_array_equal(window[: len(inside)], inside)
            assert np.isnan(window[len(inside) :]).all()
            seen[start : start + 24] += 1
        assert seen.min() >= 1 and starts[-1] < total

    def test_a_spike_in_a_long_recording_is_where_the_scores_are_high(self, gaussian_model, normal):
        detector = Detector.fit(gaussian_model, normal, draws=1)
        recording = normal[:8].reshape(-1, 2).copy()
        recording[70, 0] += 25
        recording[20:24, 1] = np.nan
        scores = score_recording(detector, recording, 4)
        assert scores.per_step.shape == recording.shape
        np.testing.assert_array_equal(np.isnan(scores.per_step), np.isnan(recording))
        assert np.nanargmax(scores.per_step) == 70 * 2
        assert scores.totals[scores.window[70]] > detector.threshold(0.05).value
        holding = (scores.starts <= 70) & (scores.starts + 16 > 70)
        assert scores.totals[holding].min() > scores.totals[~holding].max()

    def test_refuses_other_channels_and_hops(self, gaussian_model, normal):
        detector = Detector.fit(gaussian_model, normal, draws=1)
        with pytest.raises(LabError, match="channels"):
            score_recording(detector, np.zeros((40, 3)))
        with pytest.raises(LabError, match="hop 99"):
            score_recording(detector, np.zeros((40, 2)), 99)

    def test_models_are_calibrated_on_their_held_out_windows(self, model):
        wind = load_checkpoint("wind", "cpu")
        windows, blocks = heldout_windows(wind)
        assert windows.shape == (len(blocks), 144, 4)
        with pytest.raises(LabError, match="normal operation"):
            heldout_windows(model)


class TestCommand:
    @pytest.fixture
    def recording(self, tmp_path):
        """Provide four days of the wind data with a spike on the third, a gap, and half a day more."""
        data = load_dataset("wind")
        series = data.x[data.heldout[:5]].reshape(-1, 4)[: 4 * 144 + 72]
        series[2 * 144 + 50, 1] += 8 * data.std[1]
        stamps = np.datetime64("2020-03-01T00:00") + np.arange(len(series)) * np.timedelta64(10, "m")
        lines = ["time," + ",".join(data.channels)]
        for place, (stamp, row) in enumerate(zip(stamps, series, strict=True)):
            lines.append(f"{stamp}," + ",".join("" if place == 30 else f"{x:.4f}" for x in row))
        path = tmp_path / "wind.csv"
        path.write_text("\n".join(lines))
        return path

    def test_score_flags_the_window_and_names_the_step(self, recording, tmp_path, capsys):
        out = tmp_path / "scores.csv"
        ask = ["score", str(recording), "--checkpoint", "wind", "--normal", str(recording)]
        assert main([*ask, "--false-alarms", "0.2", "--out", str(out)]) == 0
        summary = json.loads(capsys.readouterr().out)
        assert summary["windows"] == 5 and summary["false_alarms"]["low"] < summary["false_alarms"]["high"]
        table = pd.read_csv(out, parse_dates=["time"])
        assert len(table) == 4 * 144 + 72
        assert list(table.columns[1:5]) == ["window", "window_score", "flag", "score"]
        assert table.window_score.idxmax() // 144 == 2
        assert table.score.idxmax() in range(2 * 144 + 48, 2 * 144 + 53)
        assert table.score.isna().sum() == 1 and table.window_score.notna().all()
        assert table.groupby("window").window_score.nunique().eq(1).all()

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--false-alarms", "2"], "--false-alarms"),
            (["--false-alarms", "0.01"], "--false-alarms"),
            (["--hop", "500"], "--hop"),
            (["--normal", "nothing.csv"], "nothing.csv"),
            (["--out", "no/such/folder.csv"], "folder"),
        ],
    )
    def test_bad_input_is_one_line(self, recording, tmp_path, capsys, options, words):
        ask = ["score", str(recording), "--checkpoint", "wind", "--normal", str(recording)]
        assert main([*ask, "--out", str(tmp_path / "out.csv"), *options]) == 2
        message = capsys.readouterr().err.splitlines()[-1]
        assert words in message
        assert not (tmp_path / "out.csv").exists()
