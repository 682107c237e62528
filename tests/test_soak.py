"""The soak in small: sessions take turns, and nothing of them is left when they are gone."""

import threading
import time

from benchmarks.soak import visits
from e2crf_core.caching.policy import PRESETS
from e2crf_core.runs.run import RunSpec
from e2crf_core.sampling.config import SamplerConfig
from pages.ui.common.registry import RunRegistry
from tests.tiny import tiny_assets
from tests.waiting import PATIENCE_S, until


def test_eight_sessions_that_start_run_after_run_get_equally_many_turns(tmp_path, monkeypatch):
    monkeypatch.setenv("E2CRF_ASSETS", str(tiny_assets(tmp_path / "assets", ("ecg",))))
    before = set(threading.enumerate())
    done = []
    spec = RunSpec("ecg", 1, 0, SamplerConfig(PRESETS["fast"], 10), "cpu", compare=False)
    registry = RunRegistry(slots=2, ended=done.append)
    end = time.monotonic() + PATIENCE_S
    counts = visits(registry, spec, 8, lambda: len(done) < 64 and time.monotonic() < end)
    assert sum(counts.values()) >= 56 and max(counts.values()) < 1.5 * min(counts.values())
    registry.close()
    until(lambda: set(threading.enumerate()) <= before)
