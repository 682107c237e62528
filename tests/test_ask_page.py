"""The Ask page: answers about a held-out window or a visitor's file, beside the truth and naive answers."""

import json
import threading
from dataclasses import replace

import numpy as np
import pytest

from e2crf_core import LabError, load_checkpoint, load_dataset
from e2crf_core.models.heldout import heldout_blocks
from e2crf_core.progress import never, silent
from e2crf_core.questions.anomaly import Detector
from e2crf_core.questions.answers import ASKING
from e2crf_core.questions.files import Recording
from e2crf_core.questions.watching import RecordingScores
from pages.ui.ask import choosing
from pages.ui.ask.answers import answer_frame
from pages.ui.ask.form import own_data
from pages.ui.ask.normal import ScoredSeries, calibration_part
from pages.ui.ask.subject import gaps_subject, heldout_mask, next_subject, stretches, window_subject
from pages.ui.ask.work import MOST, AskJobs, Drawing, answer
from tests.tiny import tiny_assets
from tests.visits import clean, opened, text
from tests.waiting import PATIENCE_S, until

QUICK = {"num": "20", "calls": "4", "checkpoint": "wind"}


@pytest.fixture(scope="module")
def assets(tmp_path_factory):
    return tiny_assets(tmp_path_factory.mktemp("assets"), ("wind",))


@pytest.fixture(autouse=True)
def own_world(monkeypatch, assets, tmp_path):
    monkeypatch.setenv("E2CRF_ASSETS", str(assets))
    monkeypatch.setenv("E2CRF_HOME", str(tmp_path))


def done(at, key="ask.job"):
    """Wait for the page's job; return the page as it is then drawn."""
    job = at.session_state[key][1]

    def ended():
        job.touch()  # as the page's polling does, or the job ends by itself
        return job.wait(0.1)

    until(ended)
    return clean(at.run())


def press(at, label):
    return clean(next(b for b in at.button if b.label.startswith(label)).click().run())


def measures(at):
    return {m.label: m.value for m in at.metric}


def table(holes=(), count=200, factor=1.0, channels=None):
    """Write a recording of wind data as CSV without the values at the given rows."""
    names = channels or load_dataset("wind").channels
    lines = ["time," + ",".join(names)]
    for i, row in enumerate(load_dataset("wind").x[:2].reshape(-1, 4)[:count]):
        stamp = np.datetime64("2020-03-01T00:00") + np.timedelta64(10 * i, "m")
        cells = ["" if i in holes else f"{factor * x:.4f}" for x in row[: len(names)]]
        lines.append(f"{stamp}," + ",".join(cells))
    return "\n".join(lines).encode()


def asked(content, **query):
    at = opened("ask", **{**QUICK, "from": "file", **query})
    return clean(at.file_uploader(key="ask.upload").set_value(("mine.csv", content, "text/csv")).run())


# ---- a held-out window


@pytest.mark.parametrize("kind", ["gaps", "next"])
def test_a_held_out_window_is_answered_beside_its_truth(kind):
    at = opened("ask", ask=kind, **QUICK)
    assert not at.metric
    press(at, "Answer")
    done(at)
    numbers = measures(at)
    assert float(numbers["CRPS"]) > 0 and numbers["Inside the 90% band"].endswith("%")
    figure = json.loads(at.get("plotly_chart")[0].proto.spec)
    names = {trace["name"] for trace in figure["data"]}
    assert names == {"known", "median", "truth, hidden", "90% of draws", "50% of draws"}


def test_the_address_holds_the_question():
    at = opened("ask", ask="next", horizon="30", window="3", seed="7", **QUICK)
    assert at.slider[0].value == 30
    assert {w.key: w.value for w in at.number_input}["ask.window.wind"] == 3
    clean(at.slider[0].set_value(12).run())
    for name, value in (("horizon", "12"), ("window", "3"), ("seed", "7"), ("ask", "next")):
        assert at.query_params[name] in (value, [value])
    again = opened("ask", gap="20-30", **QUICK)
    assert again.slider[0].value == (20, 30) and "44 missing values" in text(again)
    assert opened("ask", gap="9-999", **QUICK).slider[0].value == (55, 90)


def test_hiding_nothing_or_everything_is_explained():
    at = opened("ask", gap="1-144", **QUICK)
    assert "Everything is hidden" in at.error[0].value
    clean(at.multiselect[0].set_value([]).run())
    assert "No channel is hidden" in at.error[0].value
    assert not any(b.label == "Answer" for b in at.button)


def test_another_question_does_not_show_the_old_answer():
    at = opened("ask", **QUICK)
    press(at, "Answer")
    done(at)
    assert at.metric
    clean(at.slider[0].set_value((20, 30)).run())
    assert not at.metric


def test_an_answer_can_be_stopped():
    at = opened("ask", **{**QUICK, "num": "256", "calls": "200"})
    press(at, "Answer")
    press(at, "Stop")
    done(at)
    assert "Nothing was kept" in text(at) and not at.metric


def test_a_judgment_names_every_naive_answer():
    at = opened("ask", gap="60-80", **QUICK)
    press(at, "Measure on")
    done(at, "ask.judgment")
    answers = at.dataframe[0].value
    for name in ("this model", "Gaussian process", "last value", "straight line"):
        assert answers["Answer"].str.contains(name).sum() == 1
    assert "of the hidden values are inside its 90% bands" in text(at)


def test_ways_to_answer_are_compared_and_one_is_taken_over(monkeypatch):
    monkeypatch.setattr(choosing, "WINDOWS", 4)
    at = opened("ask", gap="60-80", **{**QUICK, "calls": "8"})
    press(at, "Compare ways")
    done(at, "ask.choice")
    choice = at.session_state["ask.choice"][1].result
    assert len(choice.tried) > 6 and choice.tried[0].way.name == "no cache, 8 steps"
    assert "Keep no cache" in text(at) or "Proposed:" in text(at)
    assert "13 steps without a cache answered as well" in text(at)
    at.session_state["ask.picked"] = 4
    clean(at.run())
    press(at, "Answer this way: cache")
    assert at.selectbox(key="way").value == "tuned" and "steps, cached" in text(at)
    press(at, "Answer")
    done(at)
    assert at.metric


def test_a_preset_of_the_address_answers_with_fewer_calls():
    at = opened("ask", way="balanced", **QUICK)
    assert at.selectbox(key="way").value == "balanced" and "4 steps, cached" in text(at)
    clean(at.selectbox(key="way").set_value("file").run())
    assert "No policy is chosen yet" in at.error[0].value


# ---- a file


def test_gaps_of_a_file_are_filled_and_its_values_kept():
    at = asked(table(holes=range(90, 110)))
    assert "80 missing values in 1 stretch" in text(at)
    press(at, "Answer")
    done(at)
    assert "Download medians" in text(at) and not at.metric


def test_a_forecast_can_be_compared_with_rows_of_the_file():
    at = asked(table(), ask="next")
    press(at, "Answer")
    done(at)
    assert not at.metric
    clean(at.toggle[0].set_value(True).run())
    press(at, "Answer")
    done(at)
    assert "CRPS" in measures(at)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (table(), "No value is missing"),
        (table(holes=[5], channels=("a", "b")), "**Columns**"),
        (b"x\ny\n", "no numbers"),
        (b"", "empty"),
    ],
)
def test_a_file_that_cannot_be_asked_about_is_refused_in_one_line(content, words):
    at = asked(content)
    assert len(at.error) == 1 and words in at.error[0].value and "\n" not in at.error[0].value


def test_another_scale_is_pointed_out():
    assert "training" not in " ".join(w.value for w in asked(table(holes=[5])).warning)
    assert "training" in " ".join(w.value for w in asked(table(holes=[5], factor=1000)).warning)


# ---- parts


def test_a_table_of_answers_keeps_what_is_known():
    model, data = load_checkpoint("wind", "cpu"), load_dataset("wind")
    hidden = np.zeros((144, 4), bool)
    hidden[40:50, 1] = True
    subject = window_subject(data, 0, hidden)
    frame = answer_frame(
        subject, answer(model, subject, Drawing(20, config=replace(ASKING, steps=4)), silent, never)
    )
    name = subject.titles[1]
    np.testing.assert_allclose(frame[f"{subject.titles[0]} median"], data.x[0, :, 0], rtol=1e-6)
    assert frame[f"{name} filled"].sum() == 10 and len(frame) == 144
    inside = frame[frame[f"{name} filled"]]
    assert (inside[f"{name} p05"] <= inside[f"{name} median"]).all()
    assert (inside[f"{name} median"] <= inside[f"{name} p95"]).all()
    assert own_data(model) is not None


def test_a_forecast_looks_back_as_far_as_the_model_does():
    model = load_checkpoint("wind", "cpu")
    values = np.arange(800.0).reshape(200, 4)
    stamps = np.arange(200) * 600_000_000
    recording = Recording(values, model.channels, stamps, "time", 600.0)
    ahead = next_subject(model, recording, 30, held_back=False)
    assert len(ahead.values) == 144 and stretches(ahead.missing) == [(114, 144)]
    np.testing.assert_array_equal(ahead.values[113], values[-1])
    assert ahead.rows[113] == "1970-01-02T09:10:00" and ahead.rows[114] == "1970-01-02T09:20:00"
    held = next_subject(model, recording, 30, held_back=True)
    np.testing.assert_array_equal(held.truth[-30:], values[-30:])
    np.testing.assert_array_equal(held.values[113], values[-31])


@pytest.mark.parametrize(("first", "last"), [(300, 320), (10, 300), (380, 400)])
def test_a_long_file_is_judged_on_windows_with_a_gap_of_the_same_size(first, last):
    model = load_checkpoint("wind", "cpu")
    values = np.zeros((400, 4))
    values[first:last, :2] = np.nan
    known = heldout_mask(model, gaps_subject(Recording(values, model.channels)))
    assert known.shape == (144, 4) and known[:, 2:].all()
    (gap,) = stretches(~known)
    assert gap[1] - gap[0] == min(last - first, 72)
    assert (gap[1] == 144) == (last == 400)


def test_few_questions_run_at_once():
    jobs = AskJobs()
    running = [jobs.start(lambda progress, cancelled: forever(cancelled)) for _ in range(MOST)]
    with pytest.raises(LabError, match="as many as it takes"):
        jobs.start(lambda progress, cancelled: None)
    for job in running:
        job.stop()
        assert job.wait(PATIENCE_S)
    assert jobs.start(lambda progress, cancelled: 1).wait(PATIENCE_S)


def forever(cancelled):
    pause = threading.Event()
    while not cancelled():
        pause.wait(0.01)


# ---- is this normal?


def test_a_planted_spike_is_found_where_it_is_and_the_window_without_it_is_scored():
    at = opened("ask", ask="normal", checkpoint="wind", plant="spike", size="20", alarms="10")
    press(at, "Answer")
    done(at, "ask.normal")
    assert "This is unusual" in text(at)
    figure = json.loads(at.get("plotly_chart")[0].proto.spec)
    marked = [trace for trace in figure["data"] if trace["name"] == "cause"]
    assert marked and any(trace["name"] == "threshold" for trace in figure["data"])
    spiked = float(measures(at)["Score"].replace(",", ""))
    clean(at.segmented_control(key="plant").set_value("nothing").run())
    assert not at.metric
    press(at, "Answer")
    done(at, "ask.normal")
    assert float(measures(at)["Score"].replace(",", "")) < spiked
    assert "plant" not in at.query_params


def test_a_recording_is_judged_window_by_window():
    at = asked(table(holes=range(20, 30)), ask="normal")
    press(at, "Answer")
    done(at, "ask.normal")
    assert "of 2 windows" in text(at) and "Highest score" in measures(at)


def test_windows_that_calibrate_are_not_judged():
    data = load_dataset("wind")
    part = calibration_part(data)
    blocks = heldout_blocks(data)
    assert part.any() and not part.all()
    assert not set(blocks[part]) & set(blocks[~part])
    at = opened("ask", ask="normal", checkpoint="wind")
    assert f"Window (1 to {int((~part).sum())})" in [w.label for w in at.number_input]


def test_causes_are_the_fewest_values_that_explain_the_score():
    per_step = np.array([[1.0], [9.0], [5.0], [1.0]])
    scores = RecordingScores(np.array([0]), np.array([16.0]), np.zeros(4, int), per_step)
    detector = Detector(load_checkpoint("wind", "cpu"), 1, 0, np.arange(20.0) / 2, 1.0, 20)
    verdict = ScoredSeries(detector, scores)
    threshold = detector.threshold(0.5)
    assert verdict.unusual(threshold).all()
    assert verdict.causes(replace(threshold, value=9.0)).ravel().tolist() == [False, True, False, False]
    assert verdict.causes(replace(threshold, value=5.0)).ravel().tolist() == [False, True, True, False]
    assert not verdict.causes(replace(threshold, value=16.0)).any()
