"""Every page in a visitor's session, without a browser: here the canvas is fed by polling."""

import pytest
from streamlit.testing.v1 import AppTest

from e2crf_core.caching.policy import PRESETS
from e2crf_core.runs.line import WaitingLine
from e2crf_core.runs.run import FINISHED
from pages.ui.common import registry
from pages.ui.live.canvas import OVERLAP
from tests.packets import canvas_packets
from tests.tiny import tiny_assets
from tests.visits import clean, opened, text
from tests.waiting import until


@pytest.fixture(scope="module")
def assets(tmp_path_factory):
    return tiny_assets(tmp_path_factory.mktemp("assets"))


@pytest.fixture(autouse=True)
def own_world(monkeypatch, assets):
    """Provide small checkpoints, and clean up the runs of each test."""
    monkeypatch.setenv("E2CRF_ASSETS", str(assets))
    yield
    registry.RUNS.close()


def watching(**query):
    """Open the view of the Live page that watches one run."""
    return opened(view="watch", **query)


def started(at: AppTest, steps=30, num=2, pace=0.0, compare=False):
    at.session_state["pace"] = pace
    at.number_input(key="steps").set_value(steps)
    at.number_input(key="num").set_value(num)
    at.toggle(key="compare").set_value(compare)
    clean(at.button(key="start").click().run())
    run = registry.RUNS.get(at.session_state["run"])
    assert run is not None
    return run


def packets(at):
    """Return the packets given to the page's components, by kind."""
    return {head["kind"]: (head, arrays) for head, arrays in canvas_packets(at)}


def test_a_newcomer_is_told_to_press_start_and_sees_real_series():
    at = watching()
    assert "Press **Start**" in text(at)
    head, arrays = packets(at)["hello"]
    assert head["run"] is None and arrays["fan"].any()


def test_the_instrument_opens_with_the_setting_of_the_address_and_its_controls():
    at = opened(checkpoint="wind", steps="20", solver="unipc_2")
    head, arrays = packets(at)["instrument"]
    assert (head["checkpoint"], head["steps"], head["solver"]) == ("wind", 20, "unipc_2")
    assert head["policy"]["tau"] == PRESETS["multistep"].tau and arrays["fan"].any()
    low, high = head["triggers"]["log_snr"]["range"]
    assert low < head["policy"]["tau"] < high and head["triggers"]["always"]["range"] is None
    assert head["socket"] == "/lab/ask" and not [b for b in at.button if b.key == "start"]
    clean(at.selectbox(key="preset").set_value("fast").run())
    assert packets(at)["instrument"][0]["policy"]["tau"] == PRESETS["fast"].tau


def test_a_plan_that_cannot_run_is_explained():
    assert "odd number" in text(opened(solver="heun", steps="40"))


def test_start_with_all_defaults_runs_on_the_recommended_policy():
    at = watching()
    clean(at.button(key="start").click().run())
    run = registry.RUNS.get(at.session_state["run"])
    assert run.spec.policy == PRESETS["multistep"] and run.spec.pace > 0 and run.spec.compare
    assert at.query_params["run"] == run.id
    head, _ = packets(at)["hello"]
    assert head["run"] == run.id and run.id in head["socket"]


def test_each_trigger_and_preset_draws_its_widgets():
    at = watching()
    for preset in PRESETS:
        clean(at.selectbox(key="preset").set_value(preset).run())
        assert at.session_state["policy"] == PRESETS[preset]
    for trigger in at.selectbox(key="policy.trigger").options:
        clean(at.selectbox(key="policy.trigger").set_value(trigger).run())
        assert at.session_state["policy"].trigger == trigger
    assert at.selectbox(key="preset").value == "custom"


def test_widgets_act_on_the_running_sampler_and_mirror_its_policy():
    at = watching()
    run = started(at, steps=2000, pace=20.0)
    clean(at.number_input(key="policy.tau").set_value(0.33).run())
    assert run.policy.tau == 0.33 and run.policy_version == 1
    clean(at.selectbox(key="preset").set_value("fast").run())
    assert run.policy == PRESETS["fast"]
    run.set_policy(run.policy.replace(k_low=5))
    clean(at.run())
    assert at.number_input(key="policy.k_low").value == 5
    assert at.selectbox(key="preset").value == "custom"


def test_contradicting_fields_are_refused_with_a_reason():
    at = watching()
    clean(at.number_input(key="policy.tau_warn").set_value(0.2).run())
    clean(at.number_input(key="policy.tau_safe").set_value(0.3).run())
    assert "must exceed tau_safe" in text(at)
    assert at.session_state["policy"].tau_safe == 0 and at.number_input(key="policy.tau_safe").value == 0


def test_polled_pictures_overlap_until_the_end_and_then_come_whole():
    at = watching()
    at.session_state["feed"] = "poll"
    steps = OVERLAP + 300
    run = started(at, steps=steps, compare=True, pace=50.0)
    assert packets(at)["hello"][0]["socket"] is None
    until(lambda: run.recorder is not None and run.recorder.count > OVERLAP)
    run.pause()
    until(lambda: run.status == "paused")
    run.set_pace(0)
    clean(at.run())
    first, _ = packets(at)["picture"]
    clean(at.run())
    again, _ = packets(at)["picture"]
    held = run.recorder.count
    assert first["from"] + first["count"] == held
    assert (again["from"], again["count"]) == (held - OVERLAP, OVERLAP)
    run.resume()
    until(lambda: run.status == "done")
    clean(at.run())
    head, _ = packets(at)["picture"]
    assert (head["from"], head["count"], head["behind"]) == (0, steps, 0)


def test_a_finished_run_shows_what_was_measured():
    at = watching()
    run = started(at, steps=30, num=2, compare=True)
    until(lambda: run.status == "done")
    clean(at.run())
    labels = [m.label for m in at.metric]
    assert labels[:4] == ["Tokens", "FLOPs", "Wall clock", "Relative L2"]
    values = {m.label: m.value for m in at.metric}
    assert values["Relative L2"] == f"{run.result.comparison.relative_l2:.3f}"
    assert "mostly noise" in text(at)
    labels = [button.label for button in at.get("download_button")]
    assert labels[:2] == ["Samples (npz)", "Samples (csv)"]


def test_a_skipped_comparison_is_not_made_up():
    at = watching()
    run = started(at)
    until(lambda: run.status == "done")
    clean(at.run())
    assert {m.label: m.value for m in at.metric}["Wall clock"] == "–"
    assert "Not compared" in text(at)


def test_a_reload_adopts_the_run_with_its_settings():
    at = watching()
    clean(at.selectbox(key="checkpoint").set_value("wind").run())
    run = started(at, steps=1500, pace=20.0)
    run.set_policy(PRESETS["paper"])
    again = watching(run=run.id)
    assert again.session_state["run"] == run.id and again.session_state["policy"] == PRESETS["paper"]
    assert again.number_input(key="steps").value == 1500
    assert again.selectbox(key="checkpoint").value == "wind"
    assert run.status not in FINISHED


def test_two_sessions_have_runs_of_their_own():
    first, second = watching(), watching()
    a, b = started(first, steps=2000, pace=20.0), started(second, steps=2000, pace=20.0)
    clean(first.selectbox(key="preset").set_value("fast").run())
    assert a.policy == PRESETS["fast"] and b.policy == PRESETS["multistep"]
    clean(second.button(key="start").click().run())
    until(lambda: b.status in FINISHED)
    assert a.status not in FINISHED


def test_an_unknown_run_in_the_address_is_explained():
    at = watching(run="nobody-knows")
    assert "no longer on the server" in text(at)
    assert "run" not in at.query_params


def test_a_run_waits_in_line_while_all_samplers_are_at_work(monkeypatch):
    monkeypatch.setattr(registry.RUNS, "line", WaitingLine(1, most=2))
    sessions = [watching() for _ in range(3)]
    first, second = (started(at, steps=2000, pace=20.0) for at in sessions[:2])
    until(lambda: first.status == "running")
    assert second.status == "waiting"
    sessions[1].session_state["feed"] = "poll"
    clean(sessions[1].run())
    assert "number 1 in line" in packets(sessions[1])["picture"][0]["line"]
    third = started(sessions[2])
    fourth = watching()
    clean(fourth.button(key="start").click().run())
    assert "no more than 2 may wait" in text(fourth)
    second.stop()
    until(lambda: second.status == "stopped" and third.ticket.place[0] == 1)
    first.pause()
    until(lambda: third.status == "done"), "a paused run lends its sampler"
    first.resume()
    until(lambda: first.status == "running")


def test_a_run_that_fails_says_why(monkeypatch, assets):
    at = watching()
    at.session_state["device"] = "cpu"
    weights = assets / "checkpoints" / "ecg" / "model.safetensors"
    kept = weights.read_bytes()
    try:
        weights.write_bytes(b"damaged")
        run = started(at)
        until(lambda: run.status == "failed")
    finally:
        weights.write_bytes(kept)
    at.session_state["feed"] = "poll"
    clean(at.run())
    assert "is damaged" in packets(at)["picture"][0]["error"]


def test_without_a_checkpoint_the_page_says_how_to_get_one(monkeypatch, tmp_path):
    monkeypatch.setenv("E2CRF_ASSETS", str(tmp_path))
    at = watching()
    assert "Train one on the **Training** page" in text(at) and not at.button


def test_method_page_shows_the_running_source_and_what_ships():
    at = watching()
    clean(at.switch_page("method.py").run())
    assert "def decide(" in at.code[0].value
    titles = " ".join(e.label for e in at.expander)
    for name in ("ecg", "wind", "stocks", "household"):
        assert f"**{name}**" in titles
    assert "Contains information from the MIT-BIH Arrhythmia Database" in text(at)
    clean(at.switch_page("live.py").run())


def test_a_link_begins_with_the_settings_of_its_sender():
    sender = watching()
    policy = PRESETS["paper"].replace(tau=0.05)
    sender.session_state["policy"] = policy
    sender.number_input(key="steps").set_value(120)
    sender.number_input(key="seed").set_value(7)
    clean(sender.selectbox(key="checkpoint").set_value("wind").run())
    clean(sender.run())
    sent = {key: value if isinstance(value, str) else value[0] for key, value in sender.query_params.items()}
    assert set(sent) == {"checkpoint", "steps", "seed", "policy", "view"}
    receiver = opened(**sent)
    assert receiver.session_state["policy"] == policy
    assert [receiver.session_state[key] for key in ("checkpoint", "steps", "seed")] == ["wind", 120, 7]


def test_nonsense_in_the_settings_of_a_link_is_left_out():
    at = opened(net="none", steps="x", num="x", policy='{"tau": -1}')
    assert "tau" in text(at) and at.session_state["policy"] == PRESETS["multistep"]
    assert at.session_state["steps"] == 40
    for wrong in ("[]", "[" * 3000, '{"none": 1}', "3"):
        assert "left out" in text(opened(policy=wrong))


def test_the_record_of_a_run_that_the_server_has_forgotten_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("E2CRF_HOME", str(tmp_path))
    run = started(watching())
    until(lambda: len(registry.STORE.list()) == 1)
    registry.RUNS.forget()
    at = watching(run=run.id)
    assert "no longer on the server" in text(at)
    assert any("record is kept" in link.proto.label for link in at.get("page_link"))
