"""Studies: fair trials, nothing lost after a kill, honest choices, correct warnings."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2crf_core import LabError
from e2crf_core.caching.policy import PRESETS, CachePolicy
from e2crf_core.data.datasets import Dataset
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.quality.interval import Interval
from e2crf_core.sampling.batch import Part
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.sampler import Sampler
from e2crf_core.tuning.choice import dominating, importance, pick
from e2crf_core.tuning.executors import Local, TrialJob
from e2crf_core.tuning.measure import Point, Rung, StudySpec, front_points, measure
from e2crf_core.tuning.space import (
    FIELDS,
    NONE,
    SEARCHABLE,
    SearchSpace,
    measure_ranges,
    starting_points,
    unfit,
)
from e2crf_core.tuning.study import Study
from e2crf_core.tuning.warnings import inert_fields, neighbors, scaled, warn
from tests.conftest import make_model

MODEL = make_model()
SPEC = StudySpec(num=8, batch=2, directions=16, resamples=20)
SPACE = SearchSpace(MODEL.n, steps=(10, 30))


def toy(windows: int = 40) -> Dataset:
    rng = np.random.default_rng(0)
    split = np.zeros(windows, np.uint8)
    split[::3] = 1
    return Dataset(
        name="toy",
        title="toy",
        domain="test",
        x=rng.standard_normal((windows, 24, 2)).cumsum(1).astype(np.float32),
        channels=("c0", "c1"),
        units=("", ""),
        group=np.array(["g"] * windows),
        start=24 * np.arange(windows),
        split=split,
        license="",
        source="",
    )


def study(out: Path, **options: Any) -> Study:
    given = {"spec": SPEC, "space": SPACE, "minutes": 10, "reference_steps": 30} | options
    return Study(MODEL, toy(), out, **given)


def rung(cost: float, quality: float, *, spread: float = 0.0, num: int = 8, share: float = 0.2) -> Rung:
    replicates = tuple(quality + spread * x for x in np.linspace(-1, 1, 20))
    return Rung(
        num, cost, cost, cost, cost, share, share, quality, quality - spread, quality + spread, replicates
    )


def point(
    number: int, cost: float, quality: float, policy: CachePolicy | None = None, **options: Any
) -> Point:
    setting = SamplerConfig(policy, 20, "dpmpp_2m", "log_snr")
    return Point(number, "search", setting, (rung(cost, quality, **options),), True)


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
from tests.test_tuning import study
for point in study(Path({out!r})).run():
    print(point.number, flush=True)
"""


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
    calls = iter([False] * 150 + [True] * 1000)
    cut = study(tmp_path)
    list(cut.run(cancelled=lambda: next(calls)))
    states = [t.state for t in cut.study.trials]
    failed = [t for t in cut.study.trials if t.state == optuna.trial.TrialState.FAIL]
    assert len(failed) == 1 and failed[0].user_attrs["why"] == "cut short", states
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
    assert broken.study.trials[1].user_attrs["why"] == "no"


REFERENCE = point(-1, 10.0, 1.0)
CACHED = CachePolicy()


def test_pick_meets_a_latency_budget_with_the_best_quality_it_can_tell() -> None:
    points = [
        REFERENCE,
        point(0, 1, 2.0, CACHED),
        point(1, 2, 1.5, CACHED, spread=0.1),
        point(2, 3, 1.2, CACHED),
        point(3, 8, 1.0, CACHED),
    ]
    choice = pick(points, REFERENCE, latency=4.0)
    assert choice.point.number == 2 and choice.within and "3 points" in choice.why and "+20.0%" in choice.why
    assert "not certain to be within 5% of the reference" in choice.why
    nothing = pick(points, REFERENCE, latency=0.5)
    assert not nothing.within and nothing.point.number == 0 and "No point" in nothing.why
    alike = [*points, point(4, 2.5, 1.201, CACHED, spread=0.05)]
    assert pick(alike, REFERENCE, latency=4.0).point.number == 4


def test_pick_meets_a_quality_budget_with_the_upper_end_of_the_interval() -> None:
    wide, narrow = point(0, 1, 1.05, CACHED, spread=0.2), point(1, 2, 1.05, CACHED, spread=0.01)
    choice = pick([REFERENCE, wide, narrow], REFERENCE, budget=0.1)
    assert choice.point.number == 1 and choice.within
    assert "measured +5.0%, certain to be below +6.0%" in choice.why
    none = pick([wide], REFERENCE, budget=0.1)
    assert not none.within and "closest" in none.why
    assert pick([REFERENCE, wide, narrow], REFERENCE, budget=0.1, latency=0.5).within is False
    with pytest.raises(LabError, match="above 0"):
        pick([wide], REFERENCE, budget=0.0)
    with pytest.raises(LabError, match="no trial"):
        pick([], REFERENCE)


def test_pick_without_budget_takes_what_is_certain_to_be_as_good() -> None:
    """Not certainly worse is not enough: point 1 measured only 2% worse, but may be 12% worse."""
    points = [
        REFERENCE,
        point(0, 1, 1.5, CACHED),
        point(1, 2, 1.02, CACHED, spread=0.1),
        point(2, 3, 0.98, CACHED, spread=0.04),
    ]
    choice = pick(points, REFERENCE)
    assert choice.point.number == 2 and choice.within and choice.needed is None


def test_too_few_samples_are_an_answer_of_their_own() -> None:
    choice = pick([REFERENCE, point(1, 2, 1.02, CACHED, spread=0.1)], REFERENCE)
    assert choice.point is REFERENCE and not choice.within
    # A half-width of 9.5% on 8 samples has to shrink to the 3% that are left below the margin.
    assert choice.needed is not None and 60 < choice.needed < 100
    assert f"Measure {choice.needed - 8} more samples" in choice.why
    hopeless = pick([REFERENCE, point(1, 2, 1.3, CACHED, spread=0.1)], REFERENCE)
    assert hopeless.needed is None and "More samples would not help" in hopeless.why


def test_the_choice_of_the_published_study_is_refused() -> None:
    """It refreshed every 6 of 5 steps: one network call, a Gaussian, said to be 1.8% worse (-33% to +26%)."""
    file = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "tune_study_ecg_cpu.json"
    why = json.loads(file.read_text())["choice"]
    numbers = re.search(
        r"(\d+) steps, trigger fixed, every (\d+) steps.*Wasserstein ([.\d]+), \+([.\d]+)%.*interval -([.\d]+)%",
        why,
    )
    assert numbers is not None
    steps, every, quality, change, below = (float(text) for text in numbers.groups())
    policy = CachePolicy(trigger="fixed", refresh_every=int(every), predictor="quadratic")
    setting = SamplerConfig(policy, int(steps), "dpmpp_2m", "profile")
    base = quality / (1 + change / 100)
    chosen = Point(7, "search", setting, (rung(0.0142, quality, spread=below / 100 * base, share=0.2),), True)
    reference = Point(-1, "reference", SamplerConfig(None, 1000), (rung(4.336, base),), True)
    assert pick([reference, chosen], reference).point is reference
    assert unfit(setting) is not None
    sane = replace(setting, policy=policy.replace(refresh_every=5))
    assert unfit(sane) is None
    again = pick([reference, replace(chosen, setting=sane)], reference)
    assert again.point is reference and again.needed is not None and again.needed > 200


@pytest.mark.parametrize("seed", range(5))
def test_a_planted_cheap_gaussian_never_wins(seed: int, tmp_path: Path) -> None:
    """Samples of the model without its network, offered as a trial that costs next to nothing."""
    data, spec = toy(90), replace(SPEC, num=32, batch=8, seed=seed, resamples=60)
    bench = study(tmp_path, spec=spec).bench
    rng = np.random.default_rng(seed)
    base = data.x[data.train][rng.integers(0, len(data.train), spec.num)]
    rough = rng.standard_normal(base.shape) * data.x.std((0, 1)) + data.x.mean((0, 1))
    near = base + 0.01 * rng.standard_normal(base.shape)
    free = SamplerConfig(PRESETS["fast"], 12, "ddim", "log_snr")

    def planted(number: int, series: np.ndarray, seconds: float) -> Point:
        x = series.astype(np.float32)
        parts = [Part(x[:0], x[i : i + 8], seconds, 1, 1) for i in range(0, 32, 8)]
        last = bench.rung(free, parts)
        return Point(number, "search", free, (last,), True)

    reference, gaussian, good = planted(-1, base, 10.0), planted(0, rough, 0.01), planted(1, near, 1.0)
    points = [reference, gaussian, good]
    assert pick(points, reference).point is good
    assert pick([reference, gaussian], reference).point is reference
    assert pick(points, reference, budget=0.1).point is good


@pytest.fixture(scope="module")
def small() -> ScoreModel:
    return MODEL


def test_inert_knobs_are_found_by_deciding_again(small: ScoreModel) -> None:
    """Refreshing at every step leaves a threshold nothing to decide; active ones are not called inert."""
    idle = CachePolicy(trigger="log_snr", tau=1e3, refresh_every=5)
    assert {i.field for i in inert_fields(small, SamplerConfig(idle, 20))} == {"tau"}
    busy = inert_fields(small, SamplerConfig(CachePolicy(trigger="log_snr", tau=0.7), 20))
    assert "tau" not in {i.field for i in busy}
    unread = inert_fields(small, SamplerConfig(CachePolicy(trigger="fixed", refresh_every=4, tau=3.0), 20))
    assert [i.field for i in unread] == ["tau"] and "does not read" in unread[0].why
    predicting = CachePolicy(trigger="fixed", refresh_every=4, predictor="linear")
    assert not inert_fields(small, SamplerConfig(predicting, 20))
    assert inert_fields(small, SamplerConfig(None, 20)) == ()


def test_scaling_a_threshold_moves_what_the_trigger_reads() -> None:
    assert scaled(CachePolicy(tau=1.0), 0.5) == CachePolicy(tau=0.5)
    bands = scaled(CachePolicy(trigger="bands"), 2.0)
    assert bands is not None and [t for _, t in bands.bands] == [2 * t for _, t in CachePolicy().bands]
    fixed = CachePolicy(trigger="fixed", refresh_every=2)
    assert [scaled(fixed, f).refresh_every for f in (0.8, 1.2)] == [1, 3]  # type: ignore[union-attr]
    assert scaled(CachePolicy(tau=1e4), 2.0) is None


def kinds(p: Point, points: tuple[Point, ...] = (), **options: Any) -> set[str]:
    told = warn(p, REFERENCE, points, cost="seconds", quality="marginal_wasserstein", **options)
    assert all(w.text and "\n" not in w.text for w in told)
    return {w.kind for w in told}


def test_warnings_are_given_where_they_are_due_and_only_there(tmp_path: Path) -> None:
    good = point(0, 1.0, 1.0, CACHED)
    assert kinds(good, uncached=5.0) == set()
    assert kinds(good, uncached=0.9) == {"slower_than_none"}
    assert kinds(point(0, 1.0, 1.0, CACHED, share=1.0)) == {"no_reuse"}
    assert kinds(point(0, 1.0, 1.0, CACHED, share=0.05)) == {"few_calls"}
    never = replace(good, setting=replace(good.setting, policy=CachePolicy(refresh_every=21)))
    assert kinds(never) == {"idle_refresh"}
    far = replace(good.last, beside={"log_spectral_distance": 5.0})
    there = replace(REFERENCE.last, beside={"log_spectral_distance": 2.0})
    told = warn(
        replace(good, rungs=(far,)),
        replace(REFERENCE, rungs=(there,)),
        (),
        cost="seconds",
        quality="marginal_wasserstein",
        spreads={"log_spectral_distance": 1.0},
    )
    assert [caution.kind for caution in told] == ["beside"]
    assert kinds(point(0, 1.0, 1.0, CACHED, spread=0.5)) == {"too_few_samples"}
    assert kinds(good, (point(1, 0.5, 0.9, None),)) == {"solver_alone"}
    assert kinds(good, (point(1, 0.5, 1.1, None), point(2, 0.5, 0.9, CACHED))) == set()
    bench = study(tmp_path).bench
    idle = SamplerConfig(CachePolicy(trigger="log_snr", tau=1e3, refresh_every=5), 20)
    assert "inert_threshold" in kinds(good, inert=inert_fields(bench.model, idle))


def test_a_cliff_next_to_the_point_is_measured(tmp_path: Path) -> None:
    """Every second call compared with every third, on few steps: over 10% of the distance apart."""
    bench = study(tmp_path).bench
    setting = SamplerConfig(CachePolicy(trigger="fixed", refresh_every=4), 10, "ddim")
    near_point = Point(0, "search", setting, measure(bench, setting)[0], True)
    beside = neighbors(bench, near_point)
    assert [b.factor for b in beside] == [0.8, 1.2]
    worst = max(beside, key=lambda b: abs(b.change.value))
    steep = replace(worst, change=Interval(0.5 * near_point.last.quality, 0.1, 1.0))
    assert "cliff" in kinds(near_point, near=[steep], uncached=1e9)
    unsure = replace(steep, change=replace(steep.change, low=-0.1))
    assert "cliff" not in kinds(near_point, near=[unsure], uncached=1e9)
