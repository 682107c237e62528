"""The live feed: packets, updates from a given step, messages, and the registry of runs."""

from types import SimpleNamespace

import numpy as np
import pytest

from e2crf_core.caching.policy import CachePolicy
from e2crf_core.data.axes import time_axis
from e2crf_core.errors import LabError
from e2crf_core.io.packet import pack
from e2crf_core.runs.run import Comparison, RunResult, RunSpec
from e2crf_core.runs.twin import Twin, step_errors
from e2crf_core.sampling.config import SamplerConfig
from pages.ui.common.registry import FORGET_S, ORPHAN_S, RunRegistry, watched_run
from pages.ui.live import live_packets as feed
from pages.ui.live.policy_form import bands_text, read_bands
from pages.ui.live.results import notes
from tests.fake_run import REFERENCE, FakeRun, M, N
from tests.packets import decode


def test_packet_keeps_arrays_and_aligns_them():
    arrays = {"a": np.arange(5, dtype=np.uint8), "b": np.arange(6.0).reshape(2, 3), "c": np.zeros((0, 4))}
    head, out = decode(pack({"kind": "τ"}, arrays))
    assert head["kind"] == "τ"
    for name, array in arrays.items():
        np.testing.assert_array_equal(out[name], array)


def test_pictures_by_cursor_add_up_to_the_whole_run():
    run, cursor, reasons, scores = FakeRun(), 0, [], []
    for count in (1, 0, 7, 32):
        run.write(count)
        head, arrays = decode((frame := feed.picture(run, REFERENCE, cursor))[0])
        assert (head["from"], head["count"]) == (cursor, count)
        assert ("reasons" in arrays) == (count > 0)
        cursor = frame[1]
        reasons += [arrays["reasons"]] if count else []
        scores += [arrays["e"]] if count else []
    np.testing.assert_array_equal(np.concatenate(reasons), run.recorder.column("reasons"))
    np.testing.assert_array_equal(np.concatenate(scores), run.recorder.column("e"))


def test_picture_carries_the_newest_series_and_the_table_by_name():
    run = FakeRun()
    run.write(9)
    _, arrays = decode(feed.picture(run, REFERENCE, 4)[0])
    np.testing.assert_array_equal(arrays["x0"], run.recorder.column("x0")[8])
    tokens = arrays["table"][:, feed.COLUMNS.index("tokens")]
    np.testing.assert_array_equal(tokens, [4, 5, 6, 7, 8])


def test_late_viewer_catches_up_in_bounded_pictures():
    run = FakeRun()
    run.write(25)
    sizes, cursor, behind = [], 0, True
    while behind:
        frame, cursor = feed.picture(run, REFERENCE, cursor, limit=10)
        head, _ = decode(frame)
        sizes.append(head["count"])
        behind = head["behind"]
    assert sizes == [10, 10, 5]


@pytest.mark.parametrize("start", [-5, 99])
def test_cursor_outside_the_run_is_brought_inside(start):
    run = FakeRun()
    run.write(3)
    frame, cursor = feed.picture(run, REFERENCE, start)
    assert cursor == 3
    assert decode(frame)[0]["from"] == (0 if start < 0 else 3)


def test_picture_before_loading_says_so_and_has_no_nan():
    run = FakeRun()
    run.recorder, run.status = None, "loading"
    head, arrays = decode(feed.picture(run, REFERENCE, 0)[0])
    assert head["status"] == "loading" and head["eta"] is None and not arrays


def test_band_energy_is_one_for_white_noise_and_keeps_all_energy():
    spectrum = np.ones((2, N // 2 + 1, M), np.float32)
    energy = feed.band_energy(spectrum)
    np.testing.assert_allclose(energy, 1.0, rtol=1e-6)
    widths = np.diff(feed.display_bands(N // 2 + 1))
    assert widths.sum() == N // 2 + 1 and (widths > 0).all()


def test_hello_describes_the_panels():
    head, arrays = decode(feed.hello(REFERENCE, CachePolicy(), steps=7, num=2, pace=100.0, run="x"))
    assert arrays["fan"].shape[1:] == (N, M) and arrays["real"].shape == (N // 2 + 1, M)
    assert head["policy"]["tau"] == CachePolicy().tau
    assert "paper" in head["fields"]["tau"]["triggers"] and "fixed" not in head["fields"]["tau"]["triggers"]


@pytest.mark.parametrize(
    ("seconds", "length", "title", "step"),
    [
        (0.008, 187, "time (s)", 0.008),
        (60, 90, "time (min)", 1),
        (600, 144, "time (h)", 1 / 6),
        (86400, 252, "time (days)", 1),
        (None, 10, "time (steps of the window)", 1),
    ],
)
def test_time_axis_has_the_unit_people_would_choose(seconds, length, title, step):
    data = SimpleNamespace(card={"sampling": {"seconds": seconds}}, length=length)
    axis = time_axis(data)
    assert axis["title"] == title and axis["step"] == pytest.approx(step)


# ---- messages


def test_policy_message_replaces_the_policy_once():
    run = FakeRun()
    feed.obey(run, {"type": "policy", "changes": {"tau": 0.5, "k_low": 3}})
    assert (run.policy.tau, run.policy.k_low, run.policy_version) == (0.5, 3, 1)
    feed.obey(run, {"type": "policy", "changes": {"tau": 0.5}})
    assert run.policy_version == 1


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"type": "__init__"},
        {"type": "policy"},
        {"type": "policy", "changes": {"tau": "big"}},
        {"type": "policy", "changes": {"tau": -1}},
        {"type": "policy", "changes": {"nonsense": 1}},
        {"type": "policy", "changes": {"tau": None}},
        {"type": "pace", "value": "fast"},
        {"type": "pace", "value": float("nan")},
        {"type": "pace", "value": True},
        {"type": ["pause"]},
    ],
)
def test_senseless_messages_change_nothing(message):
    run = FakeRun()
    with pytest.raises(LabError) as fault:
        feed.obey(run, message)
    assert "\n" not in str(fault.value)
    assert run.policy == CachePolicy() and not run.called and run.pace == 0


def test_actions_reach_the_run():
    run = FakeRun()
    for kind in ("pause", "resume", "step", "stop", "skip_compare"):
        feed.obey(run, {"type": kind})
    assert run.called == ["pause", "resume", "step_once", "stop", "skip_compare"]


# ---- registry


def test_registry_bounds_waiting_runs_and_forgets_finished_ones_that_nobody_watches():
    ids = iter("abcdefgh")
    registry = RunRegistry(keep=1, waiting=4, make=lambda spec: FakeRun(run_id=next(ids)))
    spec = RunSpec("wind", 1, 0, SamplerConfig(steps=10))
    a, b, c = (registry.start(spec) for _ in range(3))
    for run, idle in ((a, 60), (b, 1), (c, 60)):
        run.status, run.idle_s = "done", idle
    registry.start(spec)
    assert registry.get(a.id) is None, "the oldest one"
    assert registry.get(b.id) is b, "still watched"
    assert registry.get(c.id) is c, "the newest one"
    c.idle_s = FORGET_S + 1
    assert registry.get(c.id) is None
    with pytest.raises(LabError, match="no more than 4 may wait"):
        registry.start(spec)
    assert registry.get(None) is None and registry.get("unknown") is None
    assert "start" in a.called and a.touched


def test_runs_of_pages_stop_without_viewers_and_have_unguessable_ids():
    spec = RunSpec("wind", 1, 0, SamplerConfig(steps=10))
    first, second = watched_run(spec), watched_run(spec)
    assert first.orphan_s == ORPHAN_S
    assert first.id != second.id and len(first.id) >= 20


# ---- the socket, over a real server


def test_bands_text_round_trip():
    bands = CachePolicy().bands
    assert read_bands(bands_text(bands)) == bands
    with pytest.raises(LabError, match="is not like"):
        read_bands("low: 3")


def result(num=64, twin=None, share=0.1):
    return RunResult(np.zeros((num, 4, 1), np.float32), 2.0, share, share, twin)


def twin(speedup):
    return Comparison(np.zeros((1, 4, 1), np.float32), 2.0 * speedup, speedup, 0.1, 0.3, 0.3, 0.2, (10, 10))


def test_notes_are_honest():
    assert "Not compared" in notes(result())[0]
    assert "Slower than without a cache" in notes(result(twin=twin(0.9)))[0]
    assert "mostly noise" in notes(result(num=8, twin=twin(3)))[0]
    assert "nothing to gain" in notes(result(twin=twin(1.1), share=1.0))[0]
    assert "Slower" in (slower := notes(result(twin=twin(0.7), share=1.0))[0]) and "nothing to gain" in slower
    assert notes(result(twin=twin(3))) == []


def test_a_picture_carries_the_error_to_the_twin_of_every_step_once_the_twin_is_known():
    run = FakeRun()
    run.write(5)
    assert "errors" not in decode(feed.picture(run, REFERENCE, 0)[0])[1]
    states = run.recorder.column("x0")
    run.model = SimpleNamespace(mean=np.zeros(M), std=np.ones(M))
    run.twin = Twin(states[-1:], np.repeat(states[:1], 40, axis=0), 1.0)
    _, arrays = decode(feed.picture(run, REFERENCE, 5)[0])
    np.testing.assert_allclose(arrays["errors"], step_errors(run.model, states, run.twin.path[:5]), rtol=1e-6)
    assert arrays["errors"][0] == 0 and arrays["errors"][1] > 0
    run.write(2)
    assert len(decode(feed.picture(run, REFERENCE, 5)[0])[1]["errors"]) == 7
