"""Lessons in a visitor's session: each opens from its address, and its claims are measured."""

from dataclasses import replace

import numpy as np
import pytest

from e2crf_core.caching.policy import PRESETS
from e2crf_core.data.datasets import load_dataset
from e2crf_core.models.checkpoints import load_checkpoint
from e2crf_core.runs.archive import load
from e2crf_core.sampling.sampler import Sampler
from pages.ui.lessons import lesson_data
from pages.ui.lessons.lesson_texts import TEXTS
from tests.packets import decode
from tests.tiny import tiny_assets, tiny_demo
from tests.visits import opened, text


@pytest.fixture(scope="module")
def assets(tmp_path_factory):
    folder = tiny_assets(tmp_path_factory.mktemp("assets"), ("ecg",))
    tiny_demo(folder)
    return folder


@pytest.fixture(autouse=True)
def own_world(monkeypatch, assets, tmp_path):
    monkeypatch.setenv("E2CRF_ASSETS", str(assets))
    monkeypatch.setenv("E2CRF_HOME", str(tmp_path))


def canvas(at):
    return decode(at.get("bidi_component")[0].proto.bytes)


@pytest.mark.parametrize("place", range(1, len(TEXTS) + 1))
def test_every_lesson_opens_from_its_address_with_formula_question_and_answer(place):
    at = opened("lessons", lesson=str(place))
    said = TEXTS[place - 1]
    assert said.title in at.title[0].value and said.question in text(at) and said.answer in text(at)
    assert at.latex and not at.error


def test_stepping_leaves_the_controls_of_the_last_lesson_behind():
    at = opened("lessons", lesson="1", dataset="wind", K="3")
    assert canvas(at)[0]["view"]["K"] == "3"
    next(b for b in at.button if b.label.endswith("→")).click().run()
    assert at.query_params["lesson"] == "2" or at.query_params["lesson"] == ["2"]
    assert "K" not in at.query_params and canvas(at)[0]["lesson"] == "mirror"


def test_nonsense_in_the_address_opens_the_nearest_lesson():
    assert TEXTS[0].title in opened("lessons", lesson="x").title[0].value
    assert TEXTS[-1].title in opened("lessons", lesson="99").title[0].value
    assert "no data set" in text(opened("lessons", lesson="1", dataset="nothing"))


def test_series_lessons_send_real_windows_and_the_variance_of_their_tokens():
    head, arrays = canvas(opened("lessons", lesson="3", dataset="wind"))
    data = load_dataset("wind")
    assert (head["N"], head["M"], head["n"]) == (*data.x.shape[1:], data.length // 2 + 1)
    np.testing.assert_array_equal(arrays["fan"][0], data.x[data.train[0]])
    # White noise of variance 1 and standardized series have the same energy in all.
    assert arrays["v"].sum() == pytest.approx(data.length / 2, rel=0.25)


def test_what_a_call_changes_is_measured_on_a_real_run(monkeypatch, assets):
    monkeypatch.setattr(lesson_data, "CHANGE_STEPS", 12)
    model = load_checkpoint("ecg")
    _, arrays = lesson_data.change_recording(model, "ecg")
    sampler = Sampler(model, PRESETS["exact"], steps=12)
    events = list(sampler.events(1, 0))
    made = model.series(arrays["D"])
    np.testing.assert_allclose(made, np.stack([e.x0 for e in events]), atol=1e-5)
    problem, _ = sampler.begin(1, 0)
    # E3 again: D is c_skip z + c_out F + d0, so what is sent of F and c_out gives D's part back.
    z = (made[5] - model.mean) / model.std
    assert np.isfinite(z).all() and arrays["c_out"].shape == (12, model.n)
    np.testing.assert_allclose(arrays["c_out"][3] ** 2, problem.c_out[3].square().mean(-1), rtol=1e-5)


def test_events_lesson_needs_no_network(assets):
    demo = load(assets / "demo" / "run.zip")
    _, arrays = lesson_data.events_recording(replace(demo, model={**demo.model, "digest": "gone"}))
    energy = np.square(arrays["p"]).sum(-1)
    spectrum = np.square(demo.recorder.column("spectrum")).sum(-1)
    np.testing.assert_allclose(energy[:, 1:-1], 2 * spectrum[:, 1:-1], rtol=1e-2, atol=1e-4)


def test_feedback_and_fewer_steps_are_run_on_request(monkeypatch):
    for name, value in (
        ("FEEDBACK_STEPS", 12),
        ("FEWER_STEPS", 20),
        ("FEWER_NUM", 4),
        ("MEETING_CALLS", (4, 6)),
        ("MEETING_FINE", 3),
    ):
        monkeypatch.setattr(lesson_data, name, value)
    for lesson, charts, columns, letters in (
        ("6", 1, {"Policy", "Tokens computed"}, ("**r** =", "**α** = 0.1", "**b** =", "**τ** =")),
        ("7", 2, None, ("**λ** =", "gap of F continued")),
    ):
        at = opened("lessons", lesson=lesson)
        assert not at.get("plotly_chart") and "Run it" in text(at)
        next(b for b in at.button if b.label == "Run it").click().run()
        assert not at.exception, at.exception
        assert len(at.get("plotly_chart")) == charts
        assert all(letter in text(at) for letter in letters)
        assert columns is None or columns <= set(at.dataframe[0].value.columns)


def test_what_is_continued_over_a_fine_euler_grid_meets_the_multistep_solver(monkeypatch):
    """Lesson 7 on a trained network: the gap of continued F closes and is far below that of held F."""
    monkeypatch.delenv("E2CRF_ASSETS")
    for name, value in (("MEETING_CALLS", (8, 16, 32)), ("MEETING_FINE", 12), ("MEETING_NUM", 2)):
        monkeypatch.setattr(lesson_data, name, value)
    found = lesson_data.meeting_runs(load_checkpoint("ecg", "cpu"), lambda share, what: None)
    calls = [meeting.calls for meeting in found]
    assert calls == [8, 16, 32] and found[-1].continued < 0.6 * found[0].continued
    for meeting in found:
        assert 0 < meeting.continued < 0.6 * min(meeting.held, meeting.first_order)


def test_without_feedback_or_cache_there_is_no_error(monkeypatch, assets):
    monkeypatch.setattr(lesson_data, "FEEDBACK_STEPS", 40)
    monkeypatch.setattr(lesson_data, "FEEDBACK", {"exact": PRESETS["exact"], "fast": PRESETS["fast"]})
    exact, fast = lesson_data.feedback_runs(load_checkpoint("ecg"), lambda share, what: None)
    assert exact.error.max() < 1e-4 and exact.share.mean() == 1
    assert fast.error.max() > exact.error.max() and fast.share.mean() < 1
