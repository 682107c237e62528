"""A study: fair trials, nothing lost when it is killed."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2crf_core import LabError
from e2crf_core.caching.policy import PRESETS, CachePolicy
from e2crf_core.quality.interval import Interval
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.sampler import Sampler
from e2crf_core.tuning.choice import dominating, importance
from e2crf_core.tuning.executors import Local, TrialJob
from e2crf_core.tuning.measure import Point, front_points, measure
from e2crf_core.tuning.more import measure_more
from e2crf_core.tuning.record import StudyReader
from e2crf_core.tuning.space import (
    FIELDS,
    NONE,
    SEARCHABLE,
    SearchSpace,
    measure_ranges,
    starting_points,
    unfit,
)
from e2crf_core.tuning.stored import CUT, why_failed
from tests.studies import MODEL, SPACE, SPEC, point, study


class Scripted:
    """A trial whose suggestions come from a fixed stream of choices."""

    def __init__(self, draws: Iterator[float]) -> None:
        self.draws = draws

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return min(max(low + (high - low) * next(self.draws), low), high)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return low + round((high - low) * next(self.draws))

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return choices[min(int(next(self.draws) * len(choices)), len(choices) - 1)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=5, max_size=40))
def test_every_draw_is_a_setting_that_runs_and_names_itself(draws: list[float]) -> None:
    """The space's proposals are valid for every solver and trigger, and their values reproduce them."""
    space = replace(SPACE, fields=SEARCHABLE, solvers=("heun", "ddim", "euler_maruyama"))
    setting = space.suggest(Scripted(itertools.cycle(draws)))
    Sampler(MODEL, setting.policy, steps=setting.steps, solver=setting.solver, grid=setting.grid)
    assert SamplerConfig.from_json(json.loads(json.dumps(setting.to_json()))) == setting
    assert unfit(setting) is None
    values = space.params(setting)
    if values is not None:
        assert space.suggest(optuna.trial.FixedTrial(values)) == setting


def test_presets_and_plain_solvers_come_first_and_are_inside() -> None:
    space = SearchSpace(MODEL.n, steps=(10, 200), ranges=measure_ranges(MODEL, steps=20))
    reference = SamplerConfig(None, 100)
    points = starting_points(space, reference)
    assert {origin for origin, _ in points} >= {f"preset {n}" for n in PRESETS if n != "exact"} | {
        "solver alone"
    }
    for _, setting in points:
        values = space.params(setting)
        assert values is not None and space.suggest(optuna.trial.FixedTrial(values)) == setting
    assert space.params(replace(reference, steps=999)) is None


def test_measured_ranges_hold_thresholds_that_decide() -> None:
    """At the low end of a drift trigger's range nearly all tokens are recomputed, at the high end few."""
    ranges = measure_ranges(MODEL, steps=20)
    for trigger in ("paper", "gain"):
        low, high = ranges[trigger, "tau"]
        many, few = (
            Sampler(MODEL, CachePolicy(trigger=trigger, tau=tau), steps=20).sample(2).token_share
            for tau in (low, high)
        )
        assert few < 0.5 < many, trigger


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"solvers": ("eular",)}, "solver"),
        ({"triggers": ("magic",)}, "trigger"),
        ({"fields": ("tua",)}, "field"),
        ({"grids": ()}, "grid"),
        ({"steps": (30, 20)}, "steps"),
        ({"steps": (2, 20)}, "steps"),
    ],
)
def test_a_space_that_cannot_be_is_refused(change: dict[str, Any], word: str) -> None:
    with pytest.raises(LabError, match=word):
        replace(SPACE, **change)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"num": 7}, "multiple"),
        ({"quality": "fid"}, "quality"),
        ({"cost": "euro"}, "cost"),
        ({"width": 0}, "width"),
    ],
)
def test_a_spec_that_cannot_be_measured_is_refused(change: dict[str, Any], word: str) -> None:
    with pytest.raises(LabError, match=word):
        replace(SPEC, **change)


def test_trials_share_noise_and_data(tmp_path: Path) -> None:
    """Measuring a setting twice gives equal values; 'always' equals no cache except for the work."""
    bench = study(tmp_path).bench
    setting = SamplerConfig(PRESETS["fast"], 12, "ddim", "log_snr")
    (_, first), (_, again) = (measure(bench, setting)[0] for _ in range(2))
    assert first.replicates == again.replicates and first.flops == again.flops
    assert first.change(again) == Interval(0.0, 0.0, 0.0)
    exact, plain = (measure(bench, replace(setting, policy=p))[0][-1] for p in (PRESETS["exact"], None))
    assert exact.quality == pytest.approx(plain.quality, rel=1e-6) and exact.token_share == 1.0
    change = exact.change(plain)
    assert change.low == pytest.approx(0, abs=1e-6) and change.high == pytest.approx(0, abs=1e-6)


def test_a_trial_ends_early_only_where_it_is_certainly_beaten(tmp_path: Path) -> None:
    bench = study(tmp_path, spec=replace(SPEC, cost="flops")).bench
    setting = SamplerConfig(None, 20, "ddim", "log_snr")
    rungs, beaten, series = measure(bench, setting)
    assert beaten is None and [r.num for r in rungs] == [2, 8] and len(series) == 8

    def rival(cost: float, quality: float) -> Point:
        first = rungs[0]
        moved = tuple(r - first.quality + quality for r in first.replicates)
        made = replace(first, flops=cost * first.flops, quality=quality, replicates=moved)
        return Point(5, "search", setting, (made,), True)

    cheaper_and_better = rival(0.5, rungs[0].quality - 0.1)
    ended, by, part = measure(bench, setting, [cheaper_and_better])
    assert by == 5 and len(ended) == 1 and len(part) == 2
    for other in (rival(0.5, rungs[0].quality + 0.1), rival(1.5, rungs[0].quality - 0.1)):
        assert measure(bench, setting, [other])[1] is None


def test_front_holds_exactly_what_nothing_beats() -> None:
    points = [point(0, 1, 3), point(1, 2, 2), point(2, 3, 2.5), point(3, 4, 1), point(4, 4, 0.5)]
    points.append(replace(point(5, 0.1, 0.1), complete=False))
    assert [p.number for p in front_points(points, "seconds")] == [0, 1, 4]
    assert [p.number for p in dominating(points, points[2], "seconds")] == [1]


def test_a_study_finds_measures_and_resumes(tmp_path: Path) -> None:
    """A study that is interrupted and resumed proposes the same trials as an uninterrupted one."""
    spec = replace(SPEC, cost="flops")
    whole = study(tmp_path / "whole", spec=spec)
    measured = list(whole.run(max_trials=17))
    assert measured[0].origin == "reference" and len(measured) == 18
    origins = [p.origin for p in measured]
    assert "preset balanced" in origins and "search" in origins
    front = whole.front()
    assert front == sorted(front, key=lambda p: p.last.flops) and front
    cut = study(tmp_path / "cut", spec=spec)
    list(cut.run(max_trials=9))
    resumed = study(tmp_path / "cut", spec=spec)
    assert len(resumed.points) == 9 and resumed.reference is not None
    list(resumed.run(max_trials=8))
    assert [p.setting for p in resumed.points] == [p.setting for p in whole.points]
    assert [p.last.quality for p in resumed.points] == [p.last.quality for p in whole.points]
    new, cursor = resumed.since(15)
    assert [p.number for p in new] == [15, 16] and resumed.since(cursor) == ([], cursor)
    shares = importance(whole.study)
    assert shares.keys() == {"cost", "quality"} and sum(shares["cost"].values()) == pytest.approx(1)
    stored = optuna.load_study(
        study_name="e2crf-whole", storage=f"sqlite:///{tmp_path / 'whole' / 'study.db'}"
    )
    assert len(stored.trials) == 17 and len(stored.best_trials) > 0


KILLED = """
import sys
sys.path[:0] = [{root!r}]
from pathlib import Path
from tests.studies import study
for point in study(Path({out!r})).run():
    print(point.number, flush=True)
"""


def test_more_samples_are_kept_with_the_study(tmp_path: Path) -> None:
    made = study(tmp_path)
    list(made.run(max_trials=2))
    number = next(p.number for p in made.points if p.complete)
    with pytest.raises(LabError, match="more than 8"):
        measure_more(made, number, SPEC.num)
    seen: list[tuple[int, int]] = []
    measure_more(made, number, 11, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (12, 12)
    again = study(tmp_path)
    for one in (made, again):
        reference, point = one.reference, next(p for p in one.points if p.number == number)
        assert reference is not None and reference.more is not None and point.more is not None
        assert point.more.num == reference.more.num == 12
        assert point.against(reference).primary.num == 12 and point.last.num == SPEC.num
    record = StudyReader(tmp_path).read()
    assert record is not None and record.point(number) == next(p for p in made.points if p.number == number)


def test_kill_minus_nine_loses_no_finished_trial(tmp_path: Path) -> None:
    here = Path(__file__).resolve().parent
    code = KILLED.format(root=str(here.parent), out=str(tmp_path))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    victim = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert victim.stdout is not None
    for line in victim.stdout:
        if int(line) >= 3:
            break
    with pytest.raises(LabError, match="at work"):
        study(tmp_path)
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    resumed = study(tmp_path)
    before = {p.number for p in resumed.points}
    assert {0, 1, 2, 3} <= before
    running = [t for t in resumed.study.trials if t.state == optuna.trial.TrialState.RUNNING]
    assert not running
    fresh = list(resumed.run(max_trials=2))
    assert len(fresh) == 2 and not before & {p.number for p in fresh}
    assert not [p for p in fresh if p.origin == "reference"]


def test_a_trial_that_was_cut_is_tried_again(tmp_path: Path) -> None:
    cut = study(tmp_path)
    begun = (optuna.trial.TrialState.RUNNING, optuna.trial.TrialState.FAIL)
    list(cut.run(cancelled=lambda: bool(cut.study.get_trials(deepcopy=False, states=begun))))
    states = [t.state for t in cut.study.trials]
    failed = [t for t in cut.study.trials if t.state == optuna.trial.TrialState.FAIL]
    assert len(failed) == 1 and why_failed(failed[0]) == CUT, states
    resumed = study(tmp_path)
    again = list(resumed.run(max_trials=len(states)))
    assert SamplerConfig.from_json(failed[0].user_attrs["setting"]) in [p.setting for p in again]
    third = study(tmp_path)
    waiting = [t for t in third.study.trials if t.state == optuna.trial.TrialState.WAITING]
    assert failed[0].params not in [t.params for t in waiting]


def test_a_budget_that_is_spent_measures_nothing_more(tmp_path: Path) -> None:
    list(study(tmp_path).run(max_trials=1))
    spent = study(tmp_path, minutes=1e-6)
    assert list(spent.run()) == [] and len(spent.points) == 1 and spent.spent > 0


def test_another_study_is_not_mixed_in(tmp_path: Path) -> None:
    study(tmp_path)
    with pytest.raises(LabError, match="differs in spec"):
        study(tmp_path, spec=replace(SPEC, seed=1))


def test_a_study_of_a_version_with_other_choices_is_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study(tmp_path)
    known = FIELDS["predictor"]
    more = dict(known.metadata) | {"choices": (*known.metadata["choices"], "new")}
    monkeypatch.setitem(FIELDS, "predictor", SimpleNamespace(metadata=more, type=known.type))
    with pytest.raises(LabError, match="differs in choices"):
        study(tmp_path)


def test_the_journal_file_serves_as_storage(tmp_path: Path) -> None:
    url = f"journal:{tmp_path / 'journal.log'}"
    list(study(tmp_path / "a", storage=url).run(max_trials=2))
    assert len(study(tmp_path / "a", storage=url).points) == 2
    with pytest.raises(LabError, match="cannot be opened"):
        study(tmp_path / "b", storage="nosuchdb://x")


def test_relative_l2_needs_one_plan_and_gives_zero_for_no_cache(tmp_path: Path) -> None:
    spec = replace(SPEC, quality="relative_l2")
    with pytest.raises(LabError, match="twin"):
        study(tmp_path / "a", spec=spec)
    space = replace(
        SPACE, solvers=("dpmpp_2m",), grids=("log_snr",), steps=(60, 60), triggers=(NONE, "log_snr")
    )
    one = study(tmp_path / "b", spec=spec, space=space)
    points = list(one.run(max_trials=6))
    plain = [p for p in points if p.setting.policy is None]
    cached = [p for p in points if p.setting.policy is not None and p.last.token_share < 0.9]
    assert cached and all(p.last.quality == pytest.approx(0, abs=1e-6) for p in plain)
    assert all(p.last.quality > 1e-3 and p.last.low <= p.last.quality <= p.last.high for p in cached)
    resumed = study(tmp_path / "b", spec=spec, space=space)
    assert len(list(resumed.run(max_trials=1))) == 1


def test_trials_of_a_generation_do_not_depend_on_the_order_they_end_in(tmp_path: Path) -> None:
    class Backwards(Local):
        def run(self, bench: Any, jobs: Any, cancelled: Any) -> Any:
            return super().run(bench, tuple(reversed(jobs)), cancelled)

    spec = replace(SPEC, cost="flops", width=4)
    one, other = study(tmp_path / "a", spec=spec), study(tmp_path / "b", spec=spec, executor=Backwards())
    for s in (one, other):
        list(s.run(max_trials=14))
    assert {p.number: p.setting for p in one.points} == {p.number: p.setting for p in other.points}


def test_a_trial_that_fails_does_not_end_the_study(tmp_path: Path) -> None:
    class Broken(Local):
        def run(self, bench: Any, jobs: tuple[TrialJob, ...], cancelled: Any) -> Any:
            for job in jobs:
                yield (job.number, "no") if job.number == 1 else next(super().run(bench, [job], cancelled))

    broken = study(tmp_path, executor=Broken())
    list(broken.run(max_trials=3))
    assert [p.number for p in broken.points] == [0, 2]
    assert why_failed(broken.study.trials[1]) == "no"
