"""The landing page and the tour, without a browser: what newcomers read, and where it leads them."""

import numpy as np
import pytest

from e2crf_core.caching.policy import PRESETS
from pages.ui.common import registry
from pages.ui.live.tour import STOPS
from tests.packets import decode
from tests.tiny import tiny_assets, tiny_demo
from tests.visits import landed, opened, text


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Provide a small network and a recorded run of it."""
    assets = tiny_assets(tmp_path_factory.mktemp("landing") / "assets", ("ecg",))
    return assets, tiny_demo(assets)


@pytest.fixture(autouse=True)
def own_home(monkeypatch, tmp_path, world):
    monkeypatch.setenv("E2CRF_ASSETS", str(world[0]))
    monkeypatch.setenv("E2CRF_HOME", str(tmp_path / "home"))
    yield
    registry.RUNS.close()


def test_a_newcomer_reads_a_name_and_three_doors_beside_a_run_in_motion(world):
    at = landed()
    assert [title.value for title in at.title] == ["E²-CRF Lab"]
    assert [door.value for door in at.header] == ["Learn", "Explore", "Tune and deploy"]
    head, arrays = decode(at.get("bidi_component")[0].proto.bytes)
    recorder = world[1].recorder
    assert head["steps"][0] == 0 and head["steps"][-1] == recorder.count - 1 and head["frames"] <= 100
    np.testing.assert_array_equal(arrays["x0"][-1], recorder.column("x0")[-1])
    np.testing.assert_array_equal(arrays["reasons"][0], recorder.column("reasons")[0])


def test_the_landing_page_does_without_a_recorded_run(monkeypatch, tmp_path):
    monkeypatch.setenv("E2CRF_ASSETS", str(tmp_path))
    at = landed()
    assert not at.get("bidi_component") and len(at.header) == 3


def test_a_link_of_the_first_release_still_opens_the_live_page():
    at = landed(seed="3")
    assert at.title[0].value == "Live" and at.session_state["seed"] == 3


def test_the_tour_sets_the_page_as_its_words_say_and_ends_where_it_is_left():
    at = opened(tour="1")
    for number, stop in enumerate(STOPS, 1):
        assert f"{number} of 5" in text(at) and stop.title in text(at)
        assert str(number) in at.query_params["tour"]
        assert at.session_state["policy"] == stop.policy(PRESETS["multistep"])
        assert at.session_state["view"] == stop.view
        if number < len(STOPS):
            at.button(key="tour.next").click().run()
    at.button(key="tour.back").click().run()
    assert STOPS[-2].title in text(at) and at.session_state["policy"] == PRESETS["paper"]
    at.button(key="tour.end").click().run()
    assert "tour" not in at.query_params and at.session_state["policy"] == PRESETS["paper"]
    assert not [button for button in at.button if (button.key or "").startswith("tour")]


def test_what_a_visitor_changes_at_a_stop_stays_until_the_next_one():
    at = opened(tour="2")
    at.number_input(key="steps").set_value(60).run()
    assert at.session_state["steps"] == 60 and STOPS[1].title in text(at)
    at.button(key="tour.next").click().run()
    assert at.session_state["steps"] == 40


def test_a_stop_that_does_not_exist_is_the_last_and_no_number_is_no_tour():
    assert STOPS[-1].title in text(opened(tour="99"))
    assert "of 5" not in text(opened(tour="x"))
