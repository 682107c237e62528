"""The Training page and its worker: start, watch, stop with the best weights, resume to the same weights."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from e2crf_core.data.importing import import_file
from e2crf_core.errors import LabError
from e2crf_core.io.userfiles import user_folder
from e2crf_core.models.checkpoints import list_checkpoints, load_checkpoint, read_card
from e2crf_core.models.training import TRAIN_PRESETS, TrainSpec
from pages.ui.jobs.job import write_file
from pages.ui.training import training_job
from pages.ui.training.training_job import TrainingJobs, TrainingOrder, job_folder, read_previews
from pages.ui.training.training_worker import SHOWN, TrainingWorker
from tests.visits import clean, opened, text
from tests.waiting import PATIENCE_S, until

TINY = {"width": 8, "layers": 1, "heads": 2, "hidden": 16, "batch": 16, "evaluate_every": 20}
SPEC = TrainSpec("waves", steps=300, **TINY)


@pytest.fixture(autouse=True)
def own_world(monkeypatch, tmp_path):
    monkeypatch.setenv("E2CRF_ASSETS", str(tmp_path / "assets"))
    monkeypatch.setenv("E2CRF_HOME", str(tmp_path / "home"))
    rng = np.random.default_rng(0)
    rows = np.sin(np.arange(1500) / 5)[:, None] * [1, 2] + 0.1 * rng.standard_normal((1500, 2))
    np.save(tmp_path / "waves.npy", rows)
    import_file(tmp_path / "waves.npy", window=12, stride=6, out=user_folder("data", "waves"))


@pytest.fixture
def jobs(monkeypatch):
    jobs = TrainingJobs()
    monkeypatch.setattr(training_job, "JOBS", jobs)
    yield jobs
    jobs.close()


def in_this_process(name, spec, parent=None):
    """Do what the worker does, in this process."""
    job = job_folder(name)
    write_file(job / "job.json", TrainingOrder(spec=spec, threads=torch.get_num_threads()))
    worker = TrainingWorker(job, os.getppid() if parent is None else parent)
    worker.work()
    return worker


def weights(name):
    return load_file(user_folder("checkpoints", name) / "model.safetensors")


def test_train_on_the_page_stop_kill_and_resume_gives_the_uninterrupted_weights(jobs, monkeypatch):
    whole = in_this_process("whole", SPEC)
    assert whole.progress.status == "done" and whole.progress.step == 300

    monkeypatch.setitem(TRAIN_PRESETS, "compact", {**TINY, "steps": 300})
    at = opened("training", data="waves")
    assert "waves" in at.selectbox(key="data").options[0]
    name = at.text_input(key="name.waves.compact").value
    assert name == "waves-compact"
    clean(at.button(key="train").click().run())
    assert at.session_state["job"] == name and at.query_params["job"] == name
    assert jobs.running() == name and at.get("progress")

    until(lambda: jobs.state(name).history)
    clean(at.run())
    clean(at.button(key="stop").click().run())
    until(lambda: not jobs.state(name).running)
    stopped = jobs.state(name)
    assert stopped.status == "stopped" and 20 <= stopped.step < 300
    clean(at.run())
    assert f"Stopped at step {stopped.step}" in text(at) and len(at.get("plotly_chart")) == 2
    best = min(h["heldout"] for h in stopped.history)
    assert read_card(name)["heldout_loss"] == best and "measured" not in read_card(name)

    clean(at.button(key="resume").click().run())
    assert not at.error and jobs.running() == name
    until(lambda: len(jobs.state(name).history) > len(stopped.history))
    process = jobs.processes.process(user_folder("checkpoints", name) / "training")
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE_S)
    clean(at.run())
    assert jobs.state(name).status == "interrupted" and "resume it to the same result" in text(at)

    clean(at.button(key="resume").click().run())
    until(lambda: not jobs.state(name).running)
    clean(at.run())
    assert jobs.state(name).status == "done" and "**Done**" in text(at)
    assert not any(b.key == "resume" for b in at.button)
    assert list(jobs.state(name).history) == list(whole.progress.history)
    ours, theirs = weights(name), weights("whole")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert jobs.state(name).history == whole.progress.history
    clean(next(b for b in at.button if b.key == f"remove.{name}").click().run())
    assert name not in list_checkpoints() and jobs.state(name) is None


def test_what_was_trained_is_a_checkpoint_with_samples_and_measured_quality():
    worker = in_this_process("mine", SPEC)
    assert "mine" in list_checkpoints()
    card = read_card("mine")
    assert card["dataset"] == "waves" and card["measured"]["figures"]["sliced_wasserstein_time"]["ratio"] > 0
    assert card["profile"]["levels"] and card["history"] == list(worker.progress.history)
    assert "--checkpoint mine " in card["measured"]["command"]
    drawn = read_previews(job_folder("mine"))
    assert all(series.shape == (SHOWN, 12, 2) for series in drawn.values())
    assert sorted(drawn)[0] == 20 and sorted(drawn)[-1] == 300
    first, last = drawn[20], drawn[300]
    # The same noise every time: columns of the page show one series becoming clearer.
    assert all(np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.5 for a, b in zip(first, last, strict=True))
    assert load_checkpoint("mine").length == 12


def test_minutes_are_turned_into_steps_once_with_a_fair_number_of_reports():
    spec = TrainSpec("waves", minutes=0.002, **{k: v for k, v in TINY.items() if k != "evaluate_every"})
    in_this_process("short", spec)
    kept = json.loads((user_folder("checkpoints", "short") / "training" / "job.json").read_text())["spec"]
    assert kept["steps"] >= 50 and 10 <= kept["evaluate_every"] <= 200
    assert len(read_card("short")["history"]) >= 5


def test_a_worker_whose_server_is_gone_ends_by_itself():
    worker = in_this_process("orphan", SPEC, parent=1 << 30)
    assert worker.progress.status == "stopped" and "nothing was saved" in worker.progress.error
    assert "orphan" not in list_checkpoints()


def test_a_training_left_by_an_earlier_server_is_shown_as_interrupted(jobs):
    worker = in_this_process("old", SPEC, parent=1 << 30)
    worker.say(status="training", step=40, steps=300, error="", history=())
    at = opened("training", job="old")
    assert "Interrupted at step 40 of 300" in text(at) and any(b.key == "resume" for b in at.button)
    assert at.selectbox(key="job").options == ["New training", "old"]


def test_a_failure_is_told_on_the_page(jobs):
    worker = in_this_process("unlucky", SPEC, parent=1 << 30)
    worker.say(status="failed", error="the disk is full")
    assert "Failed: The disk is full" in text(opened("training", job="unlucky"))


@pytest.mark.parametrize("name", ["../up", "", "taken"])
def test_names_that_are_unsafe_or_taken_are_refused(jobs, name, tmp_path):
    user_folder("checkpoints", "taken").mkdir(parents=True)
    at = opened("training", data="waves")
    clean(at.text_input(key="name.waves.compact").set_value(name).run())
    clean(at.button(key="train").click().run())
    assert len(at.error) == 1 and jobs.running() is None
    assert not list(tmp_path.rglob("job.json"))


def test_a_second_training_has_to_wait(jobs, monkeypatch):
    monkeypatch.setattr(jobs.processes, "at_work", lambda: [user_folder("checkpoints", "first") / "training"])
    monkeypatch.setattr(jobs.processes, "alive", lambda job: job.parent.name == "first")
    with pytest.raises(LabError, match="'first' is running"):
        jobs.start("second", SPEC)
    assert "**first** is being trained" in text(opened("training", data="waves"))


def test_a_link_to_a_training_that_is_gone_says_so(jobs):
    assert "The training 'gone' is no longer" in text(opened("training", job="gone"))
