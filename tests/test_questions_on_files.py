"""Questions about users' files and held-out windows: what is read, what is refused, and how answers are judged."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from e2crf_core import LabError, ScoreModel, load_dataset
from e2crf_core.data.datasets import Dataset
from e2crf_core.questions.answers import impute
from e2crf_core.questions.files import mismatches, read_recording
from e2crf_core.questions.heldout import GAUSSIAN, NETWORK, judge, usual_period
from e2crf_core.questions.recordings import interval_levels
from tests.conftest import make_model
from tests.import_files import rows, written
from tests.wavelet_dit import wavelet_model


@pytest.fixture(scope="module")
def one() -> ScoreModel:
    """Provide a model of one channel named `v` with mean 3 and standard deviation 2."""
    model = make_model(length=16, channels=1)
    return replace(model, channels=("v",), mean=np.array([3.0], np.float32), std=np.array([2.0], np.float32))


HOURS = pd.date_range("2023-03-01", periods=60, freq="h")


class TestFiles:
    def test_omitted_rows_and_empty_cells_are_gaps(self, one, tmp_path):
        cells = ["" if i == 5 else f"{i % 7}.5" for i in range(60)]
        lines = rows(HOURS, cells).splitlines()
        path = written(tmp_path, "\n".join(line for i, line in enumerate(lines) if i not in (21, 22)))
        recording = read_recording(path, one)
        missing = np.flatnonzero(np.isnan(recording.values[:, 0]))
        assert missing.tolist() == [5, 20, 21] and len(recording.values) == 60 and recording.step == 3600
        name, stamps = recording.rows()
        assert name == "time" and stamps[20] == "2023-03-01T20:00:00"

    def test_other_columns_are_ignored_and_other_names_may_be_given(self, one, tmp_path):
        lines = "\n".join(f"{i},{i % 5},{i % 7}.5" for i in range(40))
        path = written(tmp_path, f"w,x,v\n{lines}")
        np.testing.assert_array_equal(read_recording(path, one).values[:3, 0], [0.5, 1.5, 2.5])
        np.testing.assert_array_equal(read_recording(path, one, channels=["x"]).values[:3, 0], [0, 1, 2])
        assert read_recording(path, one).rows() == ("step", list(range(40)))

    def test_another_number_of_channels_is_refused_with_the_names(self, one, tmp_path):
        path = written(tmp_path, "a,b\n" + "\n".join(f"{i % 3},{i % 5}" for i in range(40)))
        with pytest.raises(LabError, match="'a', 'b'") as refusal:
            read_recording(path, one)
        assert refusal.value.field == "channels"

    def test_another_scale_and_another_step_are_pointed_out(self, one, tmp_path):
        values = 3 + 2 * np.sin(np.arange(60.0))
        for factor, count in ((1, 0), (1000, 1)):
            recording = read_recording(written(tmp_path, rows(HOURS, values * factor)), one)
            assert len(mismatches(one, recording, 3600)) == count
        assert "60 s" in mismatches(one, replace(recording, values=recording.values / 1000), 60)[0]

    def test_models_with_other_tokens_cannot_be_asked(self):
        model = wavelet_model()
        window = np.zeros((32, 2))
        window[10:20] = np.nan
        with pytest.raises(LabError, match="half spectrum"):
            impute(model, window, num=2)

    def test_levels_of_an_interval(self):
        np.testing.assert_allclose(interval_levels(0.9), (0.05, 0.5, 0.95))
        for share in (0, 1, 1.5):
            with pytest.raises(LabError, match="level"):
                interval_levels(share)


def gaussian_data(model: ScoreModel, count: int = 60) -> Dataset:
    """Draw windows from N(mu, diag v): every fourth is held out."""
    rng = np.random.default_rng(0)
    mu, v, mask = (x.numpy() for x in (model.mu, model.v, model.mask))
    tokens = mu + np.sqrt(v) * mask * rng.standard_normal((count, *mu.shape))
    split = (np.arange(count) % 4 == 0).astype(np.uint8)
    return replace(
        load_dataset("ecg"), x=model.series(tokens), channels=model.channels, split=split, units=("",)
    )


class TestHeldout:
    @pytest.fixture
    def gaussian(self):
        model = make_model(length=16, channels=1)
        with torch.no_grad():
            for parameter in model.network.parameters():
                parameter.zero_()
        return model

    def test_without_a_network_the_model_is_the_gaussian_process(self, gaussian):
        known = np.ones((16, 1), bool)
        known[6:10] = False
        judgment = judge(gaussian, gaussian_data(gaussian), known, windows=15, draws=30)
        scores = {score.name: score for score in judgment.scores}
        assert judgment.windows == 15 and judgment.best.name == GAUSSIAN
        assert judgment.ratio.low < 1.05 and judgment.ratio.high > 0.95
        assert scores[NETWORK].coverage.low < 0.93 and scores[NETWORK].coverage.high > 0.87
        assert scores["last value"].crps.value > scores[GAUSSIAN].crps.value
        assert scores["last value"].coverage is None

    def test_other_windows_and_empty_questions_are_refused(self, gaussian):
        data = gaussian_data(gaussian)
        known = np.ones((16, 1), bool)
        for mask, match in ((known, "missing"), (~known, "known")):
            with pytest.raises(LabError, match=match):
                judge(gaussian, data, mask)
        with pytest.raises(LabError, match="shape"):
            judge(gaussian, load_dataset("wind"), known)

    def test_the_season_of_a_sine_is_its_period(self, gaussian):
        data = gaussian_data(gaussian)
        wave = np.sin(2 * np.pi * (np.arange(48) + np.arange(60)[:, None]) / 12)[..., None]
        assert usual_period(replace(data, x=wave.astype(np.float32))) == 12
        ramp = np.broadcast_to(np.arange(48.0)[:, None], (60, 48, 1))
        assert usual_period(replace(data, x=ramp.astype(np.float32))) is None
