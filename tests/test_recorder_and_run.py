"""Recorder cursors and the run handle, on which the pages rely."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from e2crf_core import LabError
from e2crf_core.caching.policy import PRESETS, CachePolicy
from e2crf_core.runs.archive import load, of_handle, save
from e2crf_core.runs.run import WAIT_S, RunHandle, RunSpec
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.finite import NotFinite
from e2crf_core.sampling.observing import Observer
from e2crf_core.sampling.recorder import Recorder
from e2crf_core.sampling.sampler import Sampler
from tests.conftest import make_model
from tests.waiting import PATIENCE_S

MODEL = make_model()


def handle(**changes: object) -> RunHandle:
    orphan = changes.pop("orphan_s", None)
    config = SamplerConfig(changes.pop("policy", PRESETS["balanced"]), changes.pop("steps", 40))  # type: ignore[arg-type]
    settings = {"checkpoint": "test", "num": 3, "seed": 7, "compare": False, "device": "cpu"}
    spec = RunSpec(**{**settings, **changes}, config=config)  # type: ignore[arg-type]
    return RunHandle(spec, orphan_s=orphan, load=lambda name, device: MODEL)  # type: ignore[arg-type]


def until(condition: object, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)


def test_cursors_see_every_row_once_and_in_order() -> None:
    recorder = Recorder(30, MODEL.n, MODEL.length, 2, 2)
    events = list(Sampler(MODEL, PRESETS["fast"], steps=30).events(num=2))
    seen: list[int] = []
    stop = threading.Event()

    def read() -> None:
        cursor = 0
        while not stop.is_set() or cursor < recorder.count:
            rows, cursor = recorder.since(cursor)
            seen.extend(rows["step"].tolist())

    reader = threading.Thread(target=read)
    reader.start()
    for event in events:
        recorder.append(event)
    stop.set()
    reader.join()
    assert seen == list(range(30))
    np.testing.assert_array_equal(recorder.column("reasons")[7], events[7].reasons)
    with pytest.raises(ValueError, match="read-only"):
        recorder.column("e")[0, 0] = 1.0


@pytest.mark.parametrize("policy", [PRESETS["balanced"], PRESETS["paper"]], ids=["clock", "paper"])
def test_a_record_is_the_same_whenever_it_is_read(policy) -> None:
    early, late = (Recorder(30, MODEL.n, MODEL.length, 2, 3) for _ in range(2))
    sampler, observer = Sampler(MODEL, policy, steps=30), Observer()
    for i, step in enumerate(sampler.steps(3, seed=2)):
        record = observer.record(step.problem, step.before, step.info, 0.0, i % 3, 0, step.after)
        early.append(record)
        late.append(record)
        if i % 4 == 0:
            assert early.event(i).step == i
    for name in early.names:
        assert early.column(name).tobytes() == late.column(name).tobytes(), name
    plain = Sampler(MODEL, policy, steps=30).steps(3, seed=2)
    for i, step in enumerate(plain):
        np.testing.assert_array_equal(
            late.column("series")[i], MODEL.series(step.before.z[i % 3].float().numpy())
        )


def test_a_run_equals_the_sampler_and_records_every_step() -> None:
    run = handle()
    run.start()
    assert run.wait(PATIENCE_S) and run.status == "done" and run.error is None
    made = Sampler(MODEL, PRESETS["balanced"], steps=40).sample(3, seed=7)
    np.testing.assert_allclose(run.result.samples, made.series, rtol=0, atol=1e-6 * made.series.std())
    assert run.recorder.count == 40
    assert run.result.token_share == pytest.approx(made.token_share)
    assert run.recorder.column("tokens").sum() == pytest.approx(made.token_share * 40 * 3 * MODEL.n)


def test_single_steps_pause_resume() -> None:
    run = handle()
    run.step_once()
    until(lambda: run.status == "paused" and run.recorder.count == 1)
    run.step_once()
    until(lambda: run.status == "paused" and run.recorder.count == 2)
    # Held for longer than the worker takes to look again.
    assert not run.wait(5 * WAIT_S) and run.recorder.count == 2
    run.resume()
    assert run.wait(PATIENCE_S) and run.status == "done"
    np.testing.assert_array_equal(
        run.result.samples, Sampler(MODEL, PRESETS["balanced"], steps=40).sample(3, seed=7).series
    )


def test_a_live_policy_change_acts_at_the_next_step_and_is_recorded() -> None:
    run = handle(policy=CachePolicy(trigger="never"))
    for _ in range(5):
        run.step_once()
    until(lambda: run.status == "paused" and run.recorder.count == 5)
    version = run.set_policy(PRESETS["exact"])
    run.resume()
    assert run.wait(PATIENCE_S)
    share = run.recorder.column("share")
    assert share[0] == 1 and (share[1:5] == 0).all() and (share[5:] == 1).all()
    assert (run.recorder.column("policy_version")[5:] == version).all()
    assert run.recorder.policies[-1] == (5, version, PRESETS["exact"])


def test_stop_keeps_what_was_recorded() -> None:
    run = handle(steps=2000, pace=200.0)
    run.start()
    until(lambda: run.recorder is not None and run.recorder.count > 3)
    run.stop()
    assert run.wait(PATIENCE_S) and run.status == "stopped" and run.result is None
    assert 3 < run.recorder.count < 2000


def test_a_run_without_viewers_ends_by_itself_also_while_paused() -> None:
    for paused in (False, True):
        run = handle(steps=2000, pace=50.0, orphan_s=0.3)
        run.step_once() if paused else run.start()
        assert run.wait(PATIENCE_S) and run.status == "stopped"
        assert "watching" in run.error
    watched = handle(steps=2000, pace=50.0, orphan_s=2.0)
    watched.start()

    def seen_for_longer_than_that() -> bool:
        watched.touch()
        return watched.recorder is not None and watched.recorder.count > 2.5 * 50

    until(seen_for_longer_than_that, seconds=60)
    assert watched.status == "running"
    watched.stop()
    assert watched.wait(PATIENCE_S)


def test_two_runs_do_not_disturb_each_other() -> None:
    runs = [handle(seed=s, policy=PRESETS[p]) for s, p in ((7, "fast"), (8, "quality"))]
    for run in runs:
        run.start()
    for run in runs:
        assert run.wait(PATIENCE_S)
        alone = Sampler(MODEL, run.spec.policy, steps=40).sample(3, seed=run.spec.seed)
        np.testing.assert_allclose(run.result.samples, alone.series, rtol=0, atol=1e-6 * alone.series.std())


def test_a_failing_load_is_reported_not_raised() -> None:
    run = RunHandle(RunSpec("no-such-checkpoint", 1, 0, SamplerConfig(steps=40)))
    run.start()
    assert run.wait(PATIENCE_S) and run.status == "failed"
    assert "no-such-checkpoint" in run.error


@pytest.mark.parametrize(
    "wrong", [{"num": 0}, {"num": 5000}, {"seed": -1}, {"watch": 3}, {"pace": -1.0}, {"pace": float("nan")}]
)
def test_specs_that_cannot_run_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(LabError, match=next(iter(wrong))):
        handle(**wrong)


@pytest.mark.parametrize("steps", [-1, 0, 9, 2001])
def test_steps_outside_the_samplers_range_fail_with_one_line(steps: int) -> None:
    run = handle(steps=steps)
    run.start()
    assert run.wait(PATIENCE_S) and run.status == "failed" and "steps" in run.error and "\n" not in run.error


class Overflowing:
    """A network whose outputs are infinite at token 3 from the given call on."""

    def __init__(self, network: object, call: int) -> None:
        self._network, self._left = network, call

    def __getattr__(self, name: str) -> object:
        return getattr(self._network, name)

    def head(self, feature: torch.Tensor) -> torch.Tensor:
        output = self._network.head(feature)  # type: ignore[attr-defined]
        self._left -= 1
        if self._left < 0:
            output = output.clone()
            output[..., 3, :] = float("inf")
        return output


def test_values_that_are_not_finite_stop_a_run_at_their_step_and_what_there_is_stays(tmp_path: Path) -> None:
    broken = replace(MODEL, network=Overflowing(MODEL.network, 12))
    with pytest.raises(NotFinite, match=r"step 12 on \(tokens 3\): the solver probably diverges") as fault:
        Sampler(broken, PRESETS["exact"], steps=40).sample(2)
    assert fault.value.step == 12 and fault.value.tokens == [3]
    config = SamplerConfig(PRESETS["exact"], 40)
    # One call more, for the step that warms up.
    broken = replace(MODEL, dataset="", network=Overflowing(MODEL.network, 13))
    spec = RunSpec("test", 2, 7, config, "cpu", compare=False)
    run = RunHandle(spec, load=lambda name, device: broken)
    run.start()
    assert run.wait(PATIENCE_S) and run.status == "failed" and "step 12" in str(run.error)
    assert run.recorder is not None and run.recorder.count == 12 and run.result is None
    save(of_handle(run), tmp_path / "failed.zip")
    kept = load(tmp_path / "failed.zip")
    assert kept.status == "failed" and kept.recorder.count == 12
    assert np.isfinite(kept.recorder.column("series")).all()
