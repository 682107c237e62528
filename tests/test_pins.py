"""Pins and links of the Live page: the address restores them, wins over the session, and says what it leaves out."""

import json

import pytest

from e2crf_core.caching.policy import PRESETS
from e2crf_core.errors import LabError
from e2crf_core.sampling.config import SamplerConfig
from pages.ui.common import registry
from pages.ui.common.compared import config_of, text_of
from pages.ui.live.answer_packets import read_request
from pages.ui.live.pins import LENGTH, MOST, pin_text, pins_of
from tests.packets import canvas_packets
from tests.tiny import tiny_assets
from tests.visits import clean, opened, text

PINS = [f"trigger log_snr predictor=linear,{tau},,dpmpp_2m,profile,20" for tau in (0.2, 0.4, 0.8)]


@pytest.fixture(autouse=True, scope="module")
def own_world(tmp_path_factory):
    """Provide small checkpoints."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("E2CRF_ASSETS", str(tiny_assets(tmp_path_factory.mktemp("assets"), ("ecg", "wind"))))
        yield
    registry.RUNS.close()


def sent(at):
    """Return what the page tells the instrument."""
    return next(head for head, _ in canvas_packets(at) if head["kind"] == "instrument")


def test_a_link_restores_pins_and_the_address_keeps_them():
    at = opened(checkpoint="wind", steps="20", pins=";".join(PINS))
    pins = sent(at)["pins"]
    assert [config_of(pin["text"]) for pin in pins] == [config_of(pin) for pin in PINS]
    assert [pin["policy"]["tau"] for pin in pins] == [0.2, 0.4, 0.8] and not at.warning
    assert pins_of(at.query_params["pins"])[0] == tuple(pin["text"] for pin in pins)
    clean(at.number_input(key="seed").set_value(5).run())
    assert sent(at)["pins"] == [] and "pins" not in at.query_params
    clean(at.number_input(key="seed").set_value(0).run())
    assert sent(at)["pins"] == pins


@pytest.mark.parametrize(
    ("damaged", "words"),
    [
        (f"{PINS[0]};nonsense", "pin 2"),
        (f"{PINS[0]};fast,,,nonsense,linear,20", "Unknown solver"),
        (f"{PINS[0]};" + ";".join(PINS[1].replace("20", str(n)) for n in range(10, 30)), f"first {MOST}"),
        ("x" * (LENGTH + 1), f"more than {LENGTH}"),
    ],
)
def test_damaged_pins_are_said_and_the_others_kept(damaged, words):
    at = opened(pins=damaged)
    assert words in at.warning[0].value
    assert len(sent(at)["pins"]) == (0 if damaged.startswith("x") else 1 if "nonsense" in damaged else MOST)


@pytest.mark.parametrize("policy", PRESETS.values(), ids=PRESETS)
def test_every_preset_can_be_a_pin(policy):
    config = SamplerConfig(policy, 20, "dpmpp_2m", "profile")
    pin = pin_text(config)
    assert pin is not None and pins_of(pin) == ((pin,), []) and config_of(pin) == config


def test_a_question_names_the_pins_that_nothing_is_known_of():
    policy = json.loads(PRESETS["fast"].to_json())
    question = {"serial": 1, "checkpoint": "ecg", "seed": 0, "solver": "ddim", "grid": "linear", "steps": 9}
    asked = read_request({**question, "policy": policy, "settle": True, "pins": ";".join(PINS)})
    assert asked.pins == tuple(text_of(config_of(pin)) for pin in PINS)
    with pytest.raises(LabError, match="pin 1"):
        read_request({**question, "policy": policy, "pins": "nonsense"})


@pytest.mark.parametrize("page", ["compare", "tune"])
def test_the_checkpoint_of_a_link_wins_over_the_session(page):
    at = opened(checkpoint="ecg")
    at.query_params.clear()
    at.query_params["checkpoint"] = "wind"
    clean(at.switch_page(f"{page}.py").run())
    assert at.selectbox(key="checkpoint").value == "wind"
    clean(at.selectbox(key="checkpoint").set_value("ecg").run())
    assert at.selectbox(key="checkpoint").value == "ecg"
    at.query_params["checkpoint"] = "none"
    clean(at.run())
    assert "'none'" in text(at) and at.selectbox(key="checkpoint").value == "ecg"


def test_what_live_cannot_take_from_an_address_is_said():
    at = opened(checkpoint="none", steps="3000", solver="x", grid="x", seed="-1")
    said = at.warning[0].value
    assert all(word in said for word in ("Checkpoint", "Steps", "Solver", "Time grid", "Seed"))
    assert opened(net="wind").selectbox(key="checkpoint").value == "wind"
