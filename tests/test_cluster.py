"""Work on Ray gives the same results as one machine, and loses nothing finished when a worker dies."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from e2crf_core import LabError, RunHandle, RunSpec
from e2crf_core.caching.policy import PRESETS, CachePolicy
from e2crf_core.cli import main
from e2crf_core.cluster.executor import RayExecutor, RayShards, connect, disconnect
from e2crf_core.cluster.remote_run import RemoteRun, RunHost
from e2crf_core.evaluation.bulk import BulkTask, assess, collect, draw_shard, run_shards
from e2crf_core.models.checkpoints import save_checkpoint
from e2crf_core.runs.archive import of_handle
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.sampler import Sampler
from pages.ui.common.registry import RunRegistry
from tests.conftest import make_model
from tests.studies import SPEC, study, toy
from tests.tiny import tiny_assets
from tests.waiting import PATIENCE_S

MODEL = make_model()
TASK = BulkTask(SamplerConfig(PRESETS["fast"], 15, "ddim", batch=3), num=14, seed=3, shard=4)


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    module = pytest.importorskip("ray")
    connect("local", 2)
    yield module
    disconnect()


def test_shards_hold_the_samples_of_one_run(tmp_path: Path) -> None:
    """Samples drawn in shards equal those of a single run; the last shard takes the remainder."""
    shards = list(run_shards(MODEL, TASK, tmp_path))
    assert [len(s.series) for s in shards] == [4, 4, 4, 2]
    series, _ = collect(tmp_path, TASK)
    whole = Sampler.of(MODEL, replace(TASK.config, batch=14)).sample(14, 3).series
    np.testing.assert_allclose(series, whole, rtol=1e-5, atol=1e-6)


def test_an_evaluation_goes_on_where_it_stopped(tmp_path: Path) -> None:
    stopped = iter([False, True])
    assert len(list(run_shards(MODEL, TASK, tmp_path, cancelled=lambda: next(stopped)))) == 2
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "shards").iterdir()}
    assert [s.first for s in run_shards(MODEL, TASK, tmp_path)] == [8, 12]
    assert all(p.stat().st_mtime_ns == t for p, t in kept.items())
    more = replace(TASK, num=17)
    assert [s.first for s in run_shards(MODEL, more, tmp_path)] == [12, 16]
    assert len(collect(tmp_path, more)[0]) == 17
    with pytest.raises(LabError, match="differs in seed"):
        list(run_shards(MODEL, replace(TASK, seed=4), tmp_path))
    with pytest.raises(LabError, match="to its end"):
        collect(tmp_path, replace(TASK, num=40))
    next((tmp_path / "shards").glob("*0-4.npz")).write_bytes(b"PK")
    with pytest.raises(LabError, match="damaged"):
        collect(tmp_path, TASK)


def test_other_folders_and_empty_requests_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(LabError, match="not empty"):
        list(run_shards(MODEL, TASK, tmp_path))
    for wrong in ({"num": 0}, {"shard": 0}, {"seed": -1}):
        with pytest.raises(LabError, match=next(iter(wrong))):
            replace(TASK, **wrong)
    with pytest.raises(LabError, match="batch"):
        replace(TASK.config, batch=0)


def test_all_shards_together_are_assessed(tmp_path: Path) -> None:
    list(run_shards(MODEL, TASK, tmp_path))
    result = assess(MODEL, toy(), TASK, tmp_path)
    figure = result["distances"]["sliced_wasserstein_time"]
    assert figure["n"] == 14 and figure["low"] <= figure["value"] <= figure["high"] and figure["floor"] > 0
    assert 0 < result["flop_share"] < 1 and result["shards"] == 4
    json.dumps(result)


def test_ray_gives_the_samples_of_this_machine_even_when_a_worker_is_killed(ray: Any, tmp_path: Path) -> None:
    """After a SIGKILL, finished shards are kept, the others drawn again, and the result is the same."""
    task = replace(TASK, num=36, shard=6, config=replace(TASK.config, steps=100, policy=None))
    killed = 0
    for shard in run_shards(MODEL, task, tmp_path / "ray", draw=RayShards()):
        if not killed:
            killed = shard.process
            assert killed != os.getpid()
            os.kill(killed, signal.SIGKILL)
    series, shards = collect(tmp_path / "ray", task)
    assert len(series) == 36 and len({s.process for s in shards}) >= 2
    for first in (0, 12, 30):
        np.testing.assert_allclose(
            series[first : first + 6], draw_shard(MODEL, task, first).series, rtol=1e-5, atol=1e-6
        )


def test_trials_measured_on_ray_are_those_measured_here(ray: Any, tmp_path: Path) -> None:
    spec = replace(SPEC, cost="flops", width=2)
    here = study(tmp_path / "here", spec=spec)
    there = study(tmp_path / "there", spec=spec, executor=RayExecutor())
    for one in (here, there):
        list(one.run(max_trials=6))
    for a, b in zip(here.points, sorted(there.points, key=lambda p: p.number), strict=True):
        assert a.setting == b.setting and a.last.quality == pytest.approx(b.last.quality, rel=1e-5)
    cut = study(tmp_path / "cut", spec=spec, executor=RayExecutor())
    calls = iter([False] * 3 + [True] * 1000)
    list(cut.run(cancelled=lambda: next(calls)))
    assert not [t for t in cut.study.trials if t.state.name == "RUNNING"]


SPEC_RUN = RunSpec("test", 2, 5, SamplerConfig(PRESETS["fast"], 30), "cpu", compare=False)


def test_a_run_on_a_node_streams_the_steps_of_a_run_here(ray: Any) -> None:
    remote = RemoteRun(SPEC_RUN, load=lambda *_: MODEL)
    remote.start()
    assert remote.wait(PATIENCE_S) and remote.status == "done", remote.error
    local = RunHandle(SPEC_RUN, load=lambda *_: MODEL)
    local.start()
    assert local.wait(PATIENCE_S) and local.result is not None and local.recorder is not None
    assert remote.recorder is not None and remote.recorder.count == 30 and remote.result is not None
    for name in ("reasons", "e", "x0", "share", "batch_reasons"):
        np.testing.assert_allclose(
            remote.recorder.column(name), local.recorder.column(name), rtol=1e-5, atol=1e-6
        )
    np.testing.assert_allclose(remote.result.samples, local.result.samples, rtol=1e-5, atol=1e-6)
    assert remote.progress == 1.0


def test_a_run_on_a_node_obeys_and_its_loss_is_told(ray: Any) -> None:
    remote = RemoteRun(
        replace(SPEC_RUN, config=replace(SPEC_RUN.config, steps=500), pace=20.0), load=lambda *_: MODEL
    )
    remote.step_once()
    deadline = time.monotonic() + PATIENCE_S
    while remote.status != "paused" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert remote.recorder is not None and remote.recorder.count == 1
    assert remote.set_policy(CachePolicy(tau=0.9)) == 1
    remote.set_pace(0.0)
    remote.resume()
    while remote.recorder.count < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [version for _, version, _ in remote.recorder.policies] == [0, 1]
    ray.kill(remote.node)
    assert remote.wait(PATIENCE_S)
    assert remote.status in ("failed", "done") and remote.recorder.count >= 5
    if remote.status == "failed":
        assert "gone" in str(remote.error)
    with pytest.raises(LabError, match="watch"):
        remote.set_watch(9)


def test_a_run_that_no_node_has_room_for_can_be_stopped_and_ends(
    ray: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cluster has no GPU, so the run waits until it is stopped or its time limit is over."""
    waiting = RemoteRun(SPEC_RUN, gpus=1, load=lambda *_: MODEL)
    waiting.start()
    assert not waiting.wait(0.2) and waiting.status == "loading"
    assert waiting.set_policy(CachePolicy(tau=0.9)) == 1
    waiting.stop()
    assert waiting.wait(PATIENCE_S) and waiting.status == "stopped"
    monkeypatch.setattr("e2crf_core.cluster.remote_run.WAIT_S", 0.1)
    late = RemoteRun(SPEC_RUN, gpus=1, load=lambda *_: MODEL)
    late.start()
    assert late.wait(PATIENCE_S) and late.status == "failed" and "had room" in str(late.error)


def test_the_live_page_can_have_its_sampler_on_a_node(
    ray: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With E2CRF_RAY, the pages' registry starts the run on the cluster; its record is saved as usual."""
    monkeypatch.setenv("E2CRF_ASSETS", str(tiny_assets(tmp_path / "assets", ("ecg",))))
    spec = RunSpec("ecg", 2, 5, SamplerConfig(steps=20), "cluster", compare=False)
    monkeypatch.delenv("E2CRF_RAY", raising=False)
    with pytest.raises(LabError, match="E2CRF_RAY"):
        RunRegistry().start(spec)
    monkeypatch.setenv("E2CRF_RAY", "local")
    run = RunRegistry().start(spec)
    assert isinstance(run, RemoteRun)
    deadline = time.monotonic() + PATIENCE_S
    while not run.wait(0.1) and time.monotonic() < deadline:
        run.touch()
    assert run.status == "done", run.error
    assert run.recorder is not None and run.recorder.count == 20
    assert of_handle(run).spec.device == "auto"


def test_only_calls_of_a_run_reach_its_host() -> None:
    host = RunHost(MODEL, SPEC_RUN, None)
    with pytest.raises(LabError, match="no call"):
        host.call("__init__")
    told = host.pull(0, True)
    assert told["status"] == "ready" and told["cursor"] == 0 and "rows" not in told


def test_without_ray_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(LabError, match=r"e2crf-lab\[cluster\]"):
        connect()
    save_checkpoint(make_model(dtype=torch.float32), tmp_path / "model")
    command = ["cluster", "evaluate", "--checkpoint", str(tmp_path / "model"), "--out", str(tmp_path / "out")]
    assert main([*command, "--num", "4"]) == 2
