"""Questions over HTTP: the answers of the program, bounded bodies, and errors that point at the field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from e2crf_core import load_dataset
from e2crf_core.questions.anomaly import Detector
from e2crf_core.questions.answers import ASKING, forecast, impute
from e2crf_core.questions.watching import heldout_windows
from e2crf_core.serving.requests import Limits
from e2crf_core.serving.server import make_app
from tests.conftest import make_model

MODEL = make_model(16, 2)
LOCAL = "http://localhost"
ASK: dict[str, Any] = {"num": 6, "seed": 3, "steps": 12, "level": 0.8}
CONFIG = replace(ASKING, steps=12)


def rows(values: np.ndarray) -> list[list[float | None]]:
    return [[None if np.isnan(value) else value for value in row] for row in values.tolist()]


@pytest.fixture
def client() -> Iterator[TestClient]:
    app = make_app(MODEL, limits=Limits(num=8, steps=60, batch=4))
    with TestClient(app, base_url=LOCAL) as client:
        yield client


@pytest.fixture
def window() -> np.ndarray:
    window = np.random.default_rng(0).standard_normal((16, 2)).cumsum(0)
    window[6:10] = np.nan
    return window


def test_impute_gives_the_programs_answer(client: TestClient, window: np.ndarray) -> None:
    reply = client.post("/impute", json={"series": rows(window), **ASK}).json()
    answer = impute(MODEL, window, num=6, seed=3, config=CONFIG)
    np.testing.assert_allclose(reply["median"], answer.median, atol=1e-5)
    np.testing.assert_allclose(reply["low"], answer.quantile(0.1), atol=1e-5)
    np.testing.assert_allclose(reply["high"], answer.quantile(0.9), atol=1e-5)
    np.testing.assert_allclose(np.array(reply["median"])[answer.known], window[answer.known], rtol=1e-12)
    assert reply["channels"] == list(MODEL.channels)


def test_forecast_gives_the_programs_answer(client: TestClient, window: np.ndarray) -> None:
    history = window[:6]
    reply = client.post("/forecast", json={"history": rows(history), "horizon": 4, **ASK}).json()
    answer = forecast(MODEL, history, 4, num=6, seed=3, config=CONFIG)
    np.testing.assert_allclose(reply["median"], answer.median[-4:], atol=1e-5)


def test_different_questions_do_not_share_an_answer(client: TestClient, window: np.ndarray) -> None:
    first = client.post("/impute", json={"series": rows(window), **ASK}).json()
    second = client.post("/impute", json={"series": rows(window + 1), **ASK}).json()
    assert first["median"] != second["median"]


@pytest.mark.parametrize(
    ("path", "edit", "status", "place"),
    [
        ("/impute", {"series": [[0.0, 0.0]] * 15}, 422, "/series"),
        ("/impute", {"series": [[0.0]] * 16}, 422, "/series/0"),
        ("/impute", {"series": [["1", 0.0]] * 16}, 422, "/series/0/0"),
        ("/impute", {"series": [[1e40, None]] * 16}, 422, "/series/0/0"),
        ("/impute", {"series": [[0.0, 0.0]] * 16}, 409, "/series"),
        ("/impute", {"series": [[None, None]] * 16}, 409, "/series"),
        ("/impute", {"series": [[0.0, None]] * 16, "num": 9}, 422, "/num"),
        ("/forecast", {"history": [[0.0, 0.0]], "horizon": 16}, 422, "/horizon"),
        ("/forecast", {"history": [], "horizon": 1}, 422, "/history"),
        ("/score", {"series": [[0.0, 0.0]] * (8 * 16 + 1)}, 422, "/series"),
        ("/score", {"series": [[0.0, 0.0]], "hop": 17}, 422, "/hop"),
        ("/score", {"series": [[0.0, 0.0]], "false_alarms": 0.9}, 422, "/false_alarms"),
    ],
)
def test_bad_questions_are_refused_by_field(
    client: TestClient, path: str, edit: dict[str, Any], status: int, place: str
) -> None:
    reply = client.post(path, json=edit)
    assert reply.status_code == status
    assert reply.json()["faults"][0]["pointer"].startswith(place)


def test_a_model_without_its_data_cannot_score(client: TestClient) -> None:
    reply = client.post("/score", json={"series": [[0.0, 0.0]] * 16})
    assert reply.status_code == 409 and "data set" in reply.json()["detail"]


def test_score_gives_the_programs_answer() -> None:
    data = load_dataset("wind")
    model = replace(make_model(data.length, len(data.channels)), dataset="wind", mean=data.mean, std=data.std)
    recording = data.x[data.heldout[:2]].reshape(-1, len(data.channels)).astype(np.float64)
    recording[200] += 30 * data.std
    recording[5, 1] = np.nan
    with TestClient(make_app(model), base_url=LOCAL) as client:
        body = {"series": rows(recording), "false_alarms": 0.1}
        first, again = (client.post("/score", json=body).json() for _ in range(2))
    assert first == again
    # Scores of windows without gaps do not depend on the calibration.
    windows, _ = heldout_windows(model)
    expected = Detector.fit(model, windows[:4]).score(recording[data.length :][None])
    np.testing.assert_allclose(first["scores"][1], expected.total[0], rtol=1e-6)
    assert first["starts"] == [0, data.length] and first["flags"][1]
    assert first["per_step"][5][1] is None
