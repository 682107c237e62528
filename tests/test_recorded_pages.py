"""Anatomy and Runs in a visitor's session: what the canvas receives, and what the buttons do."""

from dataclasses import replace
from urllib.parse import parse_qsl

import numpy as np
import pytest

from e2crf_core.caching.policy import PRESETS
from e2crf_core.caching.triggers import schedules
from e2crf_core.errors import LabError
from e2crf_core.runs.recording import MARKS, source_lines
from e2crf_core.runs.run import RunSpec
from e2crf_core.runs.store import RunStore
from e2crf_core.sampling.config import SamplerConfig
from pages.ui.anatomy import layer_job, recording
from pages.ui.common import kept_runs, registry
from pages.ui.common.compared import config_of
from tests.packets import decode
from tests.tiny import DEMO_POLICY, tiny_assets, tiny_demo
from tests.visits import opened, text
from tests.waiting import PATIENCE_S, until


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Provide small checkpoints, a demo run made with them, and a home with one run."""
    folder = tmp_path_factory.mktemp("world")
    assets = tiny_assets(folder / "assets", ("ecg",))
    return folder, tiny_demo(assets)


@pytest.fixture(autouse=True)
def own_home(monkeypatch, tmp_path, world):
    monkeypatch.setenv("E2CRF_ASSETS", str(world[0] / "assets"))
    monkeypatch.setenv("E2CRF_HOME", str(tmp_path / "home"))
    yield
    registry.RUNS.close()


def canvas(at):
    return decode(at.get("bidi_component")[0].proto.bytes)


def test_every_decision_has_lines_of_the_running_code():
    lines, marks = source_lines()
    for kind, found in marks.items():
        assert len(found) == len(MARKS[kind]), f"{kind}: the source says it otherwise now"
    assert lines[marks["event"][0]].strip() == "event = score > tau"


def test_a_newcomer_sees_the_demo_with_all_its_steps(world):
    head, arrays = canvas(opened("anatomy"))
    recorder = world[1].recorder
    assert (head["count"], head["n"], head["num"]) == (40, recorder.n, 3)
    for name in ("reasons", "e", "drift", "series", "x0", "spectrum"):
        np.testing.assert_array_equal(arrays[name], recorder.column(name))
    assert set(head["whatif"]["triggers"]) == {*schedules(), "paper", "paper_literal"}
    assert arrays["p"].shape == (40, recorder.n, 2 * recorder.M)


def test_a_link_opens_the_same_view_and_nonsense_in_it_is_left_out(world):
    RunStore().add(replace(world[1], name="mine", created="2030"))
    head, _ = canvas(opened("anatomy", run="mine", step="7", k="12", view="whatif", tau="0.5", k_low="x"))
    assert head["key"].startswith("mine") and head["view"]["step"] == 7 and head["view"]["k"] == 12
    assert head["view"]["mode"] == "whatif" and head["view"]["policy"] == {"tau": 0.5}
    head, _ = canvas(opened("anatomy", run="mine", step="-3", tau="-1", trigger="none"))
    assert "step" not in head["view"] and head["view"]["policy"] == {}


def test_a_run_that_is_gone_is_explained():
    for name in ("never-was", "../../etc/passwd"):
        at = opened("anatomy", run=name)
        assert at.error and "Choose another run" in text(at)


def test_a_changed_network_leaves_the_record_but_predicts_nothing(world):
    store = RunStore()
    store.add(replace(world[1], name="old", model={**world[1].model, "digest": "0" * 64}))
    head, arrays = canvas(opened("anatomy", run="old"))
    assert head["whatif"] is None and "has changed" in head["refusal"] and len(arrays["e"]) == 40


def test_the_real_run_of_a_whatif_differs_in_its_policy_alone():
    demo = kept_runs.open_run(kept_runs.DEMO)
    spec = recording.confirmed_spec(demo, {"trigger": "log_snr", "tau": 0.4})
    assert (spec.policy.trigger, spec.policy.tau, spec.policy.k_low) == ("log_snr", 0.4, DEMO_POLICY.k_low)
    assert (spec.seed, spec.num, spec.config.steps, spec.compare) == (5, 3, 40, True)


def test_a_finished_live_run_is_kept_and_can_be_annotated_repeated_and_deleted():
    run = registry.RUNS.start(RunSpec("ecg", 2, 1, SamplerConfig(PRESETS["fast"], 30), "cpu", compare=False))
    assert run.wait(PATIENCE_S)
    until(lambda: len(RunStore().list()) == 1)
    (entry,) = RunStore().list()
    assert not entry.kept
    at = opened("runs")
    assert len(at.dataframe[0].value) == 1
    at.session_state["runs.table"] = {"selection": {"rows": [0], "columns": [], "cells": []}}
    at.run()
    at.text_area[0].set_value("a good one").run()
    assert RunStore().list("good")[0].kept
    next(b for b in at.button if "bit for bit" in b.label).click().run()
    assert "to the last bit" in text(at)
    next(b for b in at.button if b.label == "Delete it").click().run()
    assert RunStore().list() == []


def test_runs_chosen_together_are_compared(world):
    spec = world[1].spec
    other = replace(spec, config=replace(spec.config, policy=PRESETS["fast"]))
    for name, each in (("a", spec), ("b", other)):
        RunStore().add(replace(world[1], name=name, spec=each))
    at = opened("runs")
    at.session_state["runs.table"] = {"selection": {"rows": [0, 1], "columns": [], "cells": []}}
    at.run()
    link = next(link.proto for link in at.get("page_link") if link.proto.label.startswith("Compare"))
    query = dict(parse_qsl(link.query_string))
    assert {config_of(setting).policy for setting in query["v"].split(";")} == {
        spec.config.policy,
        PRESETS["fast"],
    }
    assert (query["seed"], query["num"]) == (str(spec.seed), str(spec.num))


def test_search_narrows_the_list(world):
    for name, note in (("a", "alpha"), ("b", "beta")):
        RunStore().add(replace(world[1], name=name, note=note))
    at = opened("runs")
    assert len(at.dataframe[0].value) == 2
    at.text_input(key="runs.search").set_value("beta").run()
    assert list(at.dataframe[0].value["Note"]) == ["beta"]
    at.text_input(key="runs.search").set_value("gamma").run()
    assert "No run matches" in text(at)


def test_the_inside_is_handed_over_once_it_was_looked_at(world, monkeypatch):
    demo, insides = kept_runs.open_run(kept_runs.DEMO), layer_job.LayerJobs()
    model = kept_runs.model_of("ecg", demo.model["digest"])
    head, arrays = decode(recording.recording_packet(demo, "k", {}, True, insides.get("k")))
    assert head["inside"]["state"] == "idle" and "layers_kept" not in arrays
    job = insides.start("k", demo, model)
    assert insides.start("k", demo, model) is job and job.wait(PATIENCE_S) and job.status == "done"
    head, arrays = decode(recording.recording_packet(demo, "k", {}, True, insides.get("k")))
    names = head["inside"]["names"]
    assert (
        arrays["layers_used"].shape == (40, len(names), demo.recorder.n) and head["inside"]["changed"] is None
    )
    refreshed = (arrays["reasons"] == 4).all(1)
    assert refreshed.sum() >= 2 and arrays["layers_used"][refreshed].max() < 1e-3


def test_looking_inside_can_be_ended_begun_anew_and_is_refused_where_it_is_too_much(world, monkeypatch):
    demo, insides = kept_runs.open_run(kept_runs.DEMO), layer_job.LayerJobs()
    model = kept_runs.model_of("ecg", demo.model["digest"])
    job = insides.start("k", demo, model)
    job.stop()
    assert job.wait(PATIENCE_S) and job.status in ("stopped", "done")
    head, _ = decode(recording.recording_packet(demo, "k", {}, True, job))
    assert head["inside"]["state"] == {"done": "there"}.get(job.status, job.status)
    if job.status == "stopped":
        assert insides.start("k", demo, model) is not job
    monkeypatch.setattr(layer_job, "MOST_BYTES", 1000)
    with pytest.raises(LabError, match="record fewer steps"):
        insides.start("other", demo, model)


def test_a_changed_network_cannot_be_looked_into(world):
    old = replace(world[1], model={**world[1].model, "digest": "0" * 64})
    head, _ = decode(recording.recording_packet(old, "k", {}, True))
    assert head["inside"]["state"] == "refused" and "has changed" in head["inside"]["text"]
