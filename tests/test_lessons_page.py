"""Lessons in a visitor's session: guess first, then the measurement; and what the answers claim is on record."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.lessons import NETWORKS
from e2crf_core.caching.policy import PRESETS
from e2crf_core.data.datasets import load_dataset
from e2crf_core.diffusion.spectral import tokenize
from e2crf_core.io.resources import assets_dir
from e2crf_core.lessons import material
from e2crf_core.lessons.record import AXES, recorded
from e2crf_core.lessons.studies import SEED, STUDIES, LessonBench, Sizes, kept
from e2crf_core.lessons.texts import CAUSAL, TEXTS
from e2crf_core.models.checkpoints import load_checkpoint
from e2crf_core.models.folders import read_card
from e2crf_core.runs.archive import load
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.sampler import Sampler
from pages.ui.lessons import measured
from tests.packets import decode
from tests.tiny import tiny_assets, tiny_demo
from tests.visits import clean, links, opened, text
from tests.waiting import until

PLACES = {said.key: place for place, said in enumerate(TEXTS, 1)}
TINY = Sizes(num=6, steps=6, noisy=10, converged=8)


@pytest.fixture(scope="module")
def assets(tmp_path_factory):
    folder = tiny_assets(tmp_path_factory.mktemp("assets"), ("ecg",))
    shutil.copytree(assets_dir() / "lessons", folder / "lessons")
    tiny_demo(folder)
    return folder


@pytest.fixture(autouse=True)
def own_world(monkeypatch, assets, tmp_path):
    monkeypatch.setenv("E2CRF_ASSETS", str(assets))
    monkeypatch.setenv("E2CRF_HOME", str(tmp_path))


@pytest.fixture
def shipped(monkeypatch, own_world):
    monkeypatch.delenv("E2CRF_ASSETS")


def canvas(at):
    return decode(at.get("bidi_component")[0].proto.bytes)


def press(at, label):
    next(b for b in at.button if b.label.startswith(label)).click()
    return clean(at.run())


@pytest.mark.parametrize("place", range(1, len(TEXTS) + 1))
def test_the_answer_comes_with_the_guess(place):
    said = TEXTS[place - 1]
    at = opened("lessons", lesson=str(place))
    assert said.title in at.title[0].value and said.question in text(at) and at.latex
    assert said.answer not in text(at) and not at.get("plotly_chart")
    press(at, said.choices[said.right])
    assert said.answer in text(at) and f"Right: {said.choices[said.right]}" in at.success[0].value
    assert len(at.get("plotly_chart")) == (said.key in AXES) and not at.error
    if said.key in AXES:
        assert "benchmarks.lessons" in text(at)


def test_a_wrong_guess_is_told_and_can_be_taken_back_and_one_answer_opens_no_other():
    at = press(opened("lessons", lesson="3"), TEXTS[2].choices[1])
    assert "Not “High frequencies”" in at.warning[0].value and TEXTS[2].answer in text(at)
    press(at, TEXTS[3].title)
    assert TEXTS[3].title in at.title[0].value and TEXTS[3].answer not in text(at)
    press(at, "← " + TEXTS[2].title)
    assert TEXTS[2].answer in text(at)
    press(at, "Guess again")
    assert TEXTS[2].answer not in text(at)


def test_stepping_leaves_the_controls_of_the_last_lesson_behind():
    at = opened("lessons", lesson="1", dataset="ecg", K="3", present="1")
    assert canvas(at)[0]["view"]["K"] == "3"
    next(b for b in at.button if b.label.endswith("→")).click().run()
    assert dict(at.query_params) == {"lesson": "2", "dataset": "ecg", "present": "1"}
    assert canvas(at)[0]["lesson"] == "mirror"
    assert any(b.label == "Leave presenter mode" for b in at.button)


def test_nonsense_in_the_address_opens_the_nearest_lesson():
    assert TEXTS[0].title in opened("lessons", lesson="x").title[0].value
    assert TEXTS[-1].title in opened("lessons", lesson="99").title[0].value
    assert "no data set" in text(opened("lessons", lesson="1", dataset="nothing"))


def test_your_turn_opens_the_live_page_with_the_settings_and_so_does_the_next_link():
    first, second = (TEXTS[PLACES[key] - 1].turn for key in ("mirror", "change"))
    at = opened("lessons", lesson=str(PLACES["mirror"]))
    there = links(at)
    assert there["Try it live"] == first.query and there["Tune it"]["checkpoint"] == first.checkpoint
    at = opened(**replace(first, config=replace(first.config, steps=12)).query)
    assert at.session_state["policy"] == first.config.policy and at.session_state["steps"] == 12
    for name, value in second.query.items():
        at.query_params[name] = value
    clean(at.run())
    assert at.session_state["policy"] == second.config.policy and at.session_state["steps"] == 40


def test_series_lessons_send_real_windows_and_the_variance_of_their_tokens():
    head, arrays = canvas(opened("lessons", lesson="3", dataset="wind"))
    data = load_dataset("wind")
    assert (head["N"], head["M"], head["n"]) == (*data.x.shape[1:], data.length // 2 + 1)
    np.testing.assert_array_equal(arrays["fan"][0], data.x[data.train[0]])
    # White noise of variance 1 and standardized series have the same energy in all.
    assert arrays["v"].sum() == pytest.approx(data.length / 2, rel=0.25)


def test_what_a_call_changes_is_measured_on_a_real_run(monkeypatch, assets):
    monkeypatch.setattr(material, "CHANGE_STEPS", 12)
    model = load_checkpoint("ecg")
    _, arrays = material.change_recording(model, "ecg")
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
    _, arrays = material.events_recording(replace(demo, model={**demo.model, "digest": "gone"}))
    energy = np.square(arrays["p"]).sum(-1)
    spectrum = np.square(demo.recorder.column("spectrum")).sum(-1)
    np.testing.assert_allclose(energy[:, 1:-1], 2 * spectrum[:, 1:-1], rtol=1e-2, atol=1e-4)


def test_a_lesson_is_measured_again_on_request(monkeypatch):
    monkeypatch.setattr(measured, "SIZES", TINY)
    at = opened("lessons", lesson=str(PLACES["change"]), checkpoint="ecg")
    press(at, "Show me")
    press(at, "Measure again")

    def done():
        clean(at.run())
        return "Measured here, just now" in text(at)

    until(done)
    assert f"{TINY.num} samples of ecg" in text(at) and len(at.get("plotly_chart")) == 1


@pytest.mark.parametrize("quantity", ["score", "D", "F"])
def test_what_is_kept_for_one_step_is_kept_for_none(quantity):
    model = load_checkpoint("ecg", "cpu")
    bench = LessonBench(model, load_dataset("ecg"), TINY)
    config = SamplerConfig(PRESETS["exact"], 6, "ddim", "log_snr")
    plain = Sampler.of(model, config.twin).sample(TINY.num, SEED).series
    np.testing.assert_allclose(kept(bench, config, quantity, 1), plain, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("lesson", list(STUDIES))
def test_every_study_reports_its_progress_up_to_the_end(lesson):
    seen = []
    model = load_checkpoint("ecg", "cpu")
    points = STUDIES[lesson](
        LessonBench(model, load_dataset("ecg"), TINY, lambda done, total: seen.append(done / total))
    )
    assert seen == sorted(seen) and seen[-1] == 1.0
    assert all(p.error.low <= p.error.value <= p.error.high for p in points)


def curves(lesson, place=0):
    """Return the recorded errors of a lesson's network by family and place on the horizontal axis."""
    families: dict[str, dict[float, float]] = {}
    for point in recorded(lesson)[place].points:
        families.setdefault(point.family, {})[point.x] = point.error.value
    return families


@pytest.mark.usefixtures("shipped")
def test_the_record_is_of_the_shipped_networks_and_data():
    for lesson, names in NETWORKS.items():
        studies = recorded(lesson)
        assert tuple(study.checkpoint for study in studies) == names
        for study in studies:
            model = load_checkpoint(study.checkpoint, "cpu")
            assert study.provenance["checkpoint"] == model.digest()
            assert study.provenance["data"] == load_dataset(model.dataset).digest
    cards = (read_card("wind"), read_card(CAUSAL))
    assert len({(card["training"]["steps"], card["training"]["seed"]) for card in cards}) == 1


@pytest.mark.usefixtures("shipped")
def test_the_answers_say_what_was_measured():
    wind, ecg = (curves("change", place) for place in range(2))
    assert wind["F kept"][4] < 0.6 * wind["D kept"][4] < 0.6 * wind["score kept"][4]
    assert ecg["D kept"][4] < 1.5 * ecg["F kept"][4] < 1.5 * 0.8 * ecg["score kept"][4]
    by_band = {name.split(":")[0]: list(curve.values()) for name, curve in curves("events").items()}
    assert by_band["weighted"][-1] > 3 * by_band["weighted"][0]
    assert all(np.array(by_band["weighted"]) > by_band["not weighted"])
    feedback = curves("feedback")
    for cost, error in feedback["bands"].items():
        assert feedback["bands, correcting"][cost] == pytest.approx(error, rel=0.05)
    for place in range(len(NETWORKS["fewer"])):
        fewer = curves("fewer", place)
        assert fewer["F continued, fine grid"][16] == pytest.approx(fewer["exponential AB 2"][16], rel=0.2)
        assert all(fewer["F continued, fine grid"][calls] < 0.7 * fewer["DDIM"][calls] for calls in (8, 16))
    (full,), (causal,) = (curves("causality", place).values() for place in (0, 1))
    assert max(causal.values()) < 1e-4 < 0.01 < full[2] < full[4] < full[8]
    solver = curves("solver")
    cost, error = min(solver["cache, by band"].items(), key=lambda item: abs(item[0] - 6))
    assert 5 < cost < 6.5
    assert all(error < 0.8 * curve[6] for name, curve in solver.items() if name.endswith("alone"))


@pytest.mark.usefixtures("shipped")
def test_seven_percent_of_the_tokens_hold_nine_tenths_of_the_energy_of_wind():
    shares = {}
    for name in ("wind", "ecg", "household"):
        data = load_dataset(name)
        energy = np.square(tokenize(data.standardize(data.x[data.train]).astype(np.float64))).mean(0).sum(-1)
        order = np.sort(energy)[::-1].cumsum() / energy.sum()
        shares[name] = (np.searchsorted(order, 0.9) + 1) / len(order)
    assert shares["wind"] < 0.1 and 0.35 < shares["ecg"] < 0.45 < shares["household"] < 0.55
