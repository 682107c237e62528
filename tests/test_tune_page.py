"""The Tune page as user stories: a study is started, killed, resumed, canceled, read and deployed."""

import itertools
import json
import os
import shutil
import signal
import sqlite3
from dataclasses import replace

import numpy as np
import pytest

from e2crf_core.caching.policy import CachePolicy
from e2crf_core.cli import main
from e2crf_core.data.datasets import load_dataset
from e2crf_core.deploy import measure as card_measure
from e2crf_core.deploy.card import load_policy
from e2crf_core.errors import LabError
from e2crf_core.io.userfiles import user_folder
from e2crf_core.models.checkpoints import load_checkpoint
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.sampler import Sampler
from e2crf_core.tuning.choice import within_budgets
from e2crf_core.tuning.measure import Point, Rung, StudySpec
from e2crf_core.tuning.space import SearchSpace
from e2crf_core.tuning.study import Study
from pages.ui.common import registry
from pages.ui.jobs.job import JobState, read_file, write_file
from pages.ui.jobs.processes import Processes
from pages.ui.tune import study_form, study_job, study_values
from pages.ui.tune.pictures import MARKED
from pages.ui.tune.study_files import advice_job, advice_of, card_of, checkpoint_of, record_of
from pages.ui.tune.study_job import SpaceOrder, StudyJobs, StudyOrder
from pages.ui.tune.study_worker import StudyWorker
from tests.edited import edit
from tests.packets import canvas_packets
from tests.tiny import tiny_assets
from tests.visits import clean, links, opened, text
from tests.waiting import PATIENCE_S, until

SPEC = StudySpec(num=8, batch=4, directions=16, resamples=20, cost="flops")
TWIN = replace(SPEC, quality="relative_l2")
TRIALS = 14


class Inline(Processes):
    """Processes that run jobs at once, in this process."""

    def launch(self, module, job):
        StudyWorker(job, os.getppid()).work()


@pytest.fixture(scope="module")
def assets(tmp_path_factory):
    return tiny_assets(tmp_path_factory.mktemp("tune"), ("ecg",))


@pytest.fixture(scope="module")
def measured(assets, tmp_path_factory):
    """Provide the folder and points of a study that `tune --out` made without a page."""
    folder = tmp_path_factory.mktemp("studies") / "night"
    plan = {"solvers": ("euler_maruyama", "sde_dpmpp_2m"), "grids": ("linear",), "steps": (10, 24)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("E2CRF_ASSETS", str(assets))
        space = SearchSpace(94, triggers=("none", "log_snr", "fixed"), **plan)
        study = Study(load_checkpoint("ecg"), load_dataset("ecg"), folder, SPEC, space=space)
        assert len(list(study.run(max_trials=TRIALS))) == 1 + TRIALS
    return folder, tuple(study.points)


@pytest.fixture(autouse=True)
def own_world(monkeypatch, assets, tmp_path):
    monkeypatch.setenv("E2CRF_ASSETS", str(assets))
    monkeypatch.setenv("E2CRF_HOME", str(tmp_path / "home"))
    yield
    registry.RUNS.close()


@pytest.fixture
def jobs(monkeypatch):
    jobs = StudyJobs()
    monkeypatch.setattr(study_job, "JOBS", jobs)
    yield jobs
    jobs.close()


@pytest.fixture
def study(measured, jobs):
    """Provide a study of the command line in the user's folder; the page's jobs run at once."""
    jobs.processes = Inline()
    shutil.copytree(measured[0], user_folder("studies", "night"))
    return "night"


def charts(at):
    return {head["kind"]: head for head, _ in canvas_packets(at)}


def press(at, key):
    return clean(next(b for b in at.button if b.key == key).click().run())


def has(at, key):
    return any(b.key == key and not b.disabled for b in at.button)


# ---- a study from its beginning


def test_a_study_is_begun_killed_resumed_and_cancelled_without_losing_a_trial(jobs, monkeypatch):
    monkeypatch.setattr(study_form, "BATCH", 2)
    at = opened("tune")
    assert "A study measures many settings" in text(at) and has(at, "try")
    at.number_input(key="tune.num").set_value(4)
    at.number_input(key="tune.low").set_value(10)
    at.number_input(key="tune.high").set_value(14)
    clean(at.multiselect(key="tune.triggers").set_value(["none", "fixed"]).run())
    name = at.text_input(key="tune.name.ecg").value
    press(at, "tune.start")
    assert at.session_state["study"] == name == "ecg-study" and at.query_params["study"] == name
    assert jobs.running() == (name, "search") and not at.error

    until(lambda: (record := record_of(name)) is not None and len(record.points) >= 2)
    clean(at.run())
    assert "min left" in at.get("progress")[0].proto.text and has(at, "tune.stop")
    assert not has(at, "tune.card") and charts(at)["pareto"]["points"][0]["mark"] == "reference"
    with pytest.raises(LabError, match="only one measures"):
        jobs.resume(name, 5.0)
    with pytest.raises(LabError, match="stop it first"):
        jobs.remove(name)
    process = jobs.processes.process(user_folder("studies", name) / "jobs" / "search")
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE_S)
    clean(at.run())
    before = {p.number: p for p in record_of(name).points}
    assert jobs.state(name).status == "interrupted" and "no finished trial is lost" in text(at)

    press(at, "tune.resume")
    assert not at.error and jobs.running() == (name, "search")
    until(lambda: len(record_of(name).points) > len(before))
    clean(at.run())
    press(at, "tune.stop")
    until(lambda: not jobs.state(name).running)
    clean(at.run())
    after = {p.number: p for p in record_of(name).points}
    assert jobs.state(name).status == "stopped" and "**Stopped**" in text(at)
    assert before and all(after[number] == point for number, point in before.items())


def test_a_budget_that_ends_leaves_a_choice_with_its_warnings(jobs):
    """The study is judged by relative L2 to the uncached twin; the advice must reproduce it."""
    jobs.processes = Inline()
    one_plan = {"solvers": ("ddim",), "grids": ("linear",), "steps": (14, 14)}
    space = SearchSpace(94, triggers=("none", "fixed"), **one_plan)
    with pytest.raises(LabError, match="needs one solver"):
        jobs.start("short", "ecg", 1.0, TWIN, replace(space, steps=(10, 14)))
    jobs.start("short", "ecg", 0.02, TWIN, space)
    state = jobs.state("short")
    if state.status == "failed":  # a slow machine may not get as far as the reference
        assert "more minutes" in state.error
        jobs.resume("short", 0.5)
        state = jobs.state("short")
    assert state.status == "done", state.error
    report = json.loads((user_folder("studies", "short") / "study.json").read_text())
    number = report["choice"]["number"]
    assert advice_of("short", number) is not None
    jobs.advise("short", -1)
    assert jobs.state("short", advice_job(-1)).status == "done"
    at = opened("tune", study="short")
    assert "**Done**" in text(at) and charts(at)["pareto"]["chosen"] == number
    assert "relative L2" in charts(at)["pareto"]["y"]["title"] and not has(at, "tune.advise")


def test_a_worker_whose_server_is_gone_ends_by_itself(study, tmp_path):
    job = user_folder("studies", study) / "jobs" / "search"
    record = record_of(study)
    order = StudyOrder(checkpoint="ecg", minutes=60, spec=record.spec, space=SpaceOrder.of(record.space))
    write_file(job / "job.json", order)
    StudyWorker(job, 1 << 30).work()
    assert read_file(job / "progress.json", JobState).status == "interrupted"
    assert len(record_of(study).points) == len(record.points)


def test_what_cannot_be_searched_is_refused_in_place(jobs):
    at = opened("tune")
    clean(at.multiselect(key="tune.triggers").set_value([]).run())
    assert "at least one trigger" in text(at) and not has(at, "tune.start")
    clean(at.radio(key="tune.quality").set_value("relative_l2").run())
    clean(at.multiselect(key="tune.triggers").set_value(["log_snr"]).run())
    assert at.selectbox(key="tune.solver").value == "euler_maruyama" and has(at, "tune.start")
    clean(at.text_input(key="tune.name.ecg").set_value("../up").run())
    press(at, "tune.start")
    assert "cannot be used" in at.error[0].value and jobs.running() is None


# ---- reading one


def test_a_study_of_the_command_line_is_shown_with_all_it_measured(study, measured):
    at = opened("tune")
    assert at.session_state["study"] == study and "**Kept**" in text(at)
    pareto, parallel = (charts(at)[kind] for kind in ("pareto", "parallel"))
    record = record_of(study)
    assert record.points == measured[1] and record.spec == SPEC
    assert {p["n"] for p in pareto["points"]} == {-1, *(p.number for p in record.points)}
    assert {p["mark"] for p in pareto["points"]} == {"reference", "solver", "cached"}
    assert pareto["floor"] == record.floor > 0 and "GFLOP" in pareto["x"]["title"]
    front = [p for n in pareto["front"] for p in pareto["points"] if p["n"] == n]
    assert all(a["x"] < b["x"] and a["y"] > b["y"] for a, b in itertools.pairwise(front))
    assert pareto["selected"] == pareto["chosen"]
    picked = "Uncached reference" if pareto["chosen"] == -1 else f"Trial {pareto['chosen']}"
    assert f"Picked: {picked}" in text(at)
    assert all(v is None or 0 <= v <= 1 for line in parallel["lines"] for v in line["v"])
    assert all(len(line["v"]) == len(parallel["axes"]) for line in parallel["lines"])
    assert len(at.dataframe[0].value) == 1 + len(record.points)


def test_a_link_opens_the_same_trial_axes_and_budgets(study):
    record = record_of(study)
    worst = max((p for p in record.points if p.complete), key=lambda p: p.last.flops)
    at = opened(
        "tune", study=study, trial=str(worst.number), cost="seconds", quality="change", latency="1e-3"
    )
    pareto = charts(at)["pareto"]
    assert pareto["selected"] == worst.number and pareto["y"]["percent"] and "(ms" in pareto["x"]["title"]
    assert pareto["latency"] == 1e-3 and "No point takes" in text(at) and has(at, "tune.back")
    assert f"##### Trial {worst.number}" in text(at)
    press(at, "tune.back")
    assert charts(at)["pareto"]["selected"] == pareto["chosen"] and "trial" not in at.query_params
    clean(at.number_input(key="latency").set_value(1e5).run())
    assert "certain to be within 5% of the best quality" in text(at)
    nonsense = opened("tune", study=study, trial="99999", cost="x", quality="y")
    assert charts(nonsense)["pareto"]["selected"] == charts(nonsense)["pareto"]["chosen"]


def test_misses_are_hidden_and_marks_on_the_axes_filter_the_table(study):
    at = opened("tune", study=study, hide="true")
    record, shown = record_of(study), {p["n"] for p in charts(at)["pareto"]["points"]}
    able = within_budgets(record.known, record.reference)
    assert shown == able | {charts(at)["pareto"]["selected"]} and len(at.dataframe[0].value) == len(shown)
    clean(at.toggle(key="hide").set_value(False).run())
    assert {p["n"] for p in charts(at)["pareto"]["points"]} == {p.number for p in record.known}
    at.session_state[MARKED] = (study, frozenset({-1}))
    assert len(clean(at.run()).dataframe[0].value) == 1 and "1 of" in text(at)
    press(at, "tune.clear")
    assert len(at.dataframe[0].value) == len(record.known) and charts(at)["parallel"]["cleared"] == 1


def test_a_link_sets_up_a_search_around_a_setting(jobs):
    setting = "trigger log_snr predictor=linear,0.4,,dpmpp_2m,profile,20"
    at = opened("tune", study="~new", setting=setting)
    assert "around dpmpp_2m on the profile grid" in text(at)
    assert at.multiselect(key="tune.triggers").value == ["none", "log_snr"]
    assert at.multiselect(key="tune.solvers").value == ["dpmpp_2m"]
    assert [at.number_input(key=f"tune.{end}").value for end in ("low", "high")] == [10, 20]
    clean(at.multiselect(key="tune.solvers").set_value(["ddim"]).run())
    assert at.multiselect(key="tune.solvers").value == ["ddim"]
    assert "left out" in text(opened("tune", study="~new", setting="nonsense"))


def test_a_trial_that_ended_early_stands_at_the_change_of_its_own_samples():
    def rung(num, quality):
        replicates = tuple(quality + x for x in np.linspace(-0.01, 0.01, 20))
        return Rung(num, 1.0, 0.9, 1.2, 1e9, 1.0, 1.0, quality, quality - 0.01, quality + 0.01, replicates)

    setting = SamplerConfig(None, 10, "ddim")
    reference = Point(-1, "reference", setting, (rung(4, 0.4), rung(16, 0.2)), True)
    early = Point(3, "search", setting, (rung(4, 0.5),), False, 2)
    value, low, high = study_values.quality_of(early, reference, "distance")
    assert value == pytest.approx(0.3) and low <= value <= high
    assert study_values.quality_of(early, reference, "change")[0] == pytest.approx(50)
    assert study_values.cost_of(early.last, "seconds") == (1000.0, 900.0, 1200.0)
    assert "trial 2 is cheaper" in study_values.words(early, reference)[-1]


# ---- what to do with a point


def cached(record, solver):
    return next(p for p in record.points if p.complete and p.setting.policy and p.setting.solver == solver)


def test_warnings_are_measured_on_a_press(study):
    point = cached(record_of(study), "euler_maruyama")
    at = opened("tune", study=study, trial=str(point.number))
    assert "Not measured yet" in text(at)
    press(at, "tune.advise")
    clean(at.run())
    assert study_job.JOBS.state(study, advice_job(point.number)).status == "done"
    advice = advice_of(study, point.number)
    assert not has(at, "tune.advise")
    for caution in advice.warnings:
        assert caution.text in text(at) or caution.kind.startswith("inert")
    assert all(f"`{knob.field}`" in text(at) for knob in advice.inert)


def test_a_point_is_deployed_and_the_lines_that_are_shown_run(study, capsys, monkeypatch):
    monkeypatch.setattr(card_measure, "RESAMPLES", 20)
    point = cached(record_of(study), "euler_maruyama")
    at = opened("tune", study=study, trial=str(point.number))
    clean(at.number_input(key="tune.card.num").set_value(8).run())
    clean(at.selectbox(key="tune.card.backend").set_value("eager-bf16").run())
    press(at, "tune.card")
    clean(at.run())
    assert not at.error, at.error[0].value
    folder = card_of(study, point.number)
    card = load_policy(folder / "card.json")
    assert card.policy == point.setting.policy and card.measured.seed != record_of(study).spec.seed
    assert card.config.plan == point.setting.plan and "backend **eager-bf16**" in text(at)
    assert "measured" in (folder / "card.html").read_text().lower()
    code, command = (block.value for block in at.code)
    names = {}
    exec(code, names)
    expected = (
        Sampler.of(card.model(), replace(point.setting, batch=4, backend="eager-bf16")).sample(16, 0).series
    )
    np.testing.assert_array_equal(names["series"], expected)
    # Seconds are those of a busy machine: what is tested is the line, and quality.
    loose = replace(card, valid=replace(card.valid, speedup_wall_min=0.0))
    edit(folder / "card.json", loose.to_json())
    assert command.split()[:4] == ["python", "-m", "e2crf_core", "check"]
    assert main(command.split()[3:]) == 0 and '"passed": true' in capsys.readouterr().out


def test_a_solver_alone_needs_no_card_and_its_lines_run(study):
    point = next(p for p in record_of(study).points if p.complete and p.setting.policy is None)
    at = opened("tune", study=study, trial=str(point.number))
    assert not has(at, "tune.card") and not links(at)["Use on the Live page"]
    names = {}
    exec(at.code[0].value, names)
    assert names["series"].shape == (16, 187, 1)
    assert names["sampler"].plan.steps == point.setting.steps


def test_anatomy_gets_a_run_of_exactly_that_setting(study):
    point = cached(record_of(study), "euler_maruyama")
    at = opened("tune", study=study, trial=str(point.number))
    press(at, "tune.anatomy")
    run = registry.RUNS.get(at.session_state["tune.run"][1])
    spec = run.spec
    assert spec.config.plan == point.setting.plan
    assert spec.policy == point.setting.policy and (spec.seed, spec.num) == (0, 4)
    assert run.wait(PATIENCE_S) and run.status == "done", run.error
    until(lambda: registry.STORE.list())
    clean(at.run())
    assert any("run" in query for query in links(at).values())


def test_a_setting_of_the_live_page_is_opened_there(study):
    point = cached(record_of(study), "euler_maruyama")
    at = opened("tune", study=study, trial=str(point.number), hide="true")
    state = opened(**links(at)["Use on the Live page"]).session_state
    assert state["policy"] == point.setting.policy
    assert [state[name] for name in ("steps", "solver")] == [point.setting.steps, "euler_maruyama"]


# ---- what is broken


def test_a_damaged_study_is_named_and_removed_and_takes_no_other_with_it(study):
    for name, content in (("text", b"no database at all"), ("half", None)):
        folder = user_folder("studies", name)
        shutil.copytree(user_folder("studies", study), folder)
        path = folder / "study.db"
        path.write_bytes(content or path.read_bytes()[:20_000])
        at = opened("tune", study=name)
        assert str(folder) in at.error[0].value and not charts(at)
        press(at, f"remove.{name}")
        assert not folder.exists() and "pareto" in charts(at)


def test_numbers_of_a_stranger_do_not_break_the_page(study):
    path = user_folder("studies", study) / "study.db"
    with sqlite3.connect(path) as database:
        database.execute(
            "update trial_user_attributes set value_json = '{\"rungs\": []}' where key = 'point' and trial_id = 2"
        )
    database.close()
    assert "is damaged" in opened("tune", study=study).error[0].value


def test_a_study_whose_network_is_gone_can_still_be_read(study, monkeypatch):
    for module in ("study_job", "study_point"):
        monkeypatch.setattr(f"pages.ui.tune.{module}.checkpoint_of", lambda digest: None)
    at = opened("tune", study=study)
    assert "is missing or has changed" in text(at) and "pareto" in charts(at)
    with pytest.raises(LabError, match="missing or has changed"):
        study_job.JOBS.resume(study, 5.0)


def test_a_link_to_a_study_that_is_gone_says_so(study):
    assert "The study 'gone' is no longer" in text(opened("tune", study="gone"))


def test_checkpoints_are_found_by_their_weights():
    assert checkpoint_of("0" * 64) is None
    policy = CachePolicy(trigger="fixed", refresh_every=3)
    assert study_values.mark_of(Point(0, "search", SamplerConfig(policy, 9, "ddim"), (), True)) == "cached"
