"""The speed view of the Evidence page: it reads what the benchmark writes, and says what was reached."""

import json

import pytest

from benchmarks.speed_curves import Size, measure_size
from benchmarks.speed_parts import measure_floor, measure_parts
from e2crf_core.errors import LabError
from pages.ui.evidence.speed import read_speed, waterfall_sentence
from tests.conftest import make_model
from tests.visits import opened, text

PEAK = {"float32 operations per second": 1e11, "bytes per second": 1e10}
IDEAS = {"public network, N positions": 40.0, "half spectrum": 20.0, "fused segments": 0.1}


def near(value):
    return {"value": value, "low": 0.9 * value, "high": 1.1 * value}


def idea(name, seconds, before):
    return {
        "name": name,
        "seconds": near(seconds),
        "over_first": near(40.0 / seconds),
        "over_previous": near(before / seconds),
    }


@pytest.fixture(scope="module")
def measured():
    """Provide a file of the benchmark: its own small measurements, with a made-up waterfall."""
    model = make_model()
    before = [40.0, *IDEAS.values()]
    rows = [idea(name, s, b) for (name, s), b in zip(IDEAS.items(), before, strict=False)]
    batch = {
        "batch": 1,
        "floor": measure_floor(model, 1, PEAK, 2),
        "parts": measure_parts(model, 1, 2),
        "waterfall": {
            "chains": {"balanced": rows, "few": rows},
            "missing": {"compiled": "no g++"},
            "bar": 100.0,
        },
    }
    small = Size(length=16, channels=1, batch=1, layers=1)
    points = [{"value": value, **measure_size(small, 2)} for value in (8, 16)]
    return {
        "machine": {"cores": 2, "gpu": None},
        "peak": PEAK,
        "data": {"ecg": {"length": 16, "channels": 1, "tokens": 9, "batches": [batch]}},
        "curves": {"every": 10, "axes": {"length": points}},
    }


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Provide an empty results folder."""
    monkeypatch.setenv("E2CRF_RESULTS", str(tmp_path))
    return tmp_path


def test_a_checkout_without_a_measurement_says_what_makes_it(results):
    assert "make bench" in " ".join(code.value for code in opened("evidence", view="speed").code)


def test_a_visitor_reads_how_much_each_idea_saves_and_where_a_step_goes(results, measured):
    (results / "speed_cpu.json").write_text(json.dumps(measured))
    at = opened("evidence", view="speed")
    shown = text(at)
    assert "400 times as fast (360 to 440)" in shown and "the goal of 100 is reached" in shown
    assert "compiled was left out: no g++" in shown
    assert "Where a step goes" in shown and "Where caching stops paying" in shown
    assert [metric.label for metric in at.metric] == ["Batch 1"]


def test_a_step_is_described_by_its_parts(measured):
    for step in measured["data"]["ecg"]["batches"][0]["parts"].values():
        assert step["seconds"]["value"] > 0 and len(step["shares"]) >= 4


def test_a_goal_is_reached_only_if_the_interval_is_above_it(results, measured):
    (results / "speed_cpu.json").write_text(json.dumps(measured))
    rows = read_speed(results / "speed_cpu.json").data["ecg"].batches[0].waterfall.chains["balanced"]
    assert "is reached" in waterfall_sentence(rows, 350.0)
    assert "is not reached with certainty" in waterfall_sentence(rows, 380.0)


@pytest.mark.parametrize("change", [{"data": {}}, {"curves": {"every": 10}}])
def test_damage_is_named(results, measured, change):
    path = results / "speed_cpu.json"
    path.write_text(json.dumps(measured | change))
    with pytest.raises(LabError, match=r"speed_cpu\.json is damaged"):
        read_speed(path)
    assert "damaged" in " ".join(error.value for error in opened("evidence", view="speed").error)


def way(name, over):
    return {"name": name, "seconds": near(1.0 / over), "over_python": near(over)}


def test_a_visitor_compares_the_ways_outside_python(results):
    stored = {
        "machine": {"cores": 2},
        "plan": {"checkpoint": "ecg", "policy": "balanced", "steps": 1000, "threads": 2},
        "equal": {"C++, ONNX Runtime": 2e-5},
        "bar": 1e-4,
        "batches": [{"batch": 1, "rows": [way("Python", 1.0), way("C++, ONNX Runtime", 2.0)]}],
    }
    (results / "outside_cpu.json").write_text(json.dumps(stored))
    shown = text(opened("evidence", view="speed"))
    assert "C++, ONNX Runtime 2 (1.8 to 2.2) times as fast" in shown and "Samples are the same" in shown
    assert "2 threads" in shown
    (results / "outside_cpu.json").write_text(json.dumps(stored | {"equal": {"C++, ONNX Runtime": 2e-3}}))
    assert "NOT the same" in text(opened("evidence", view="speed"))


def test_a_visitor_sees_what_precision_and_the_cache_change_alone_and_together(results):
    errors = [
        {"backend": "eager", "policy": "multistep", "relative_l2": near(0.05), "speedup": near(4.0)},
        {"backend": "eager-bf16", "policy": "no cache", "relative_l2": near(0.001)},
        {"backend": "eager-bf16", "policy": "multistep", "relative_l2": near(0.051)},
    ]
    nested = [{"backend": "eager-bf16", "batch": 64, "over_eager": near(1.2)}]
    part = {"errors": errors, "nested": nested, "missing": {"compiled": "there is no g++"}}
    stored = {"machine": {}, "data": {"ecg": part}}
    (results / "backends_cpu.json").write_text(json.dumps(stored))
    shown = text(opened("evidence", view="speed"))
    assert "alone changes samples by 0.05" in shown and "both together by 0.051" in shown
    assert "as fast as eager: 1.2 (1.08 to 1.32) with 64 samples" in shown
    assert "compiled was left out: there is no g++" in shown


def test_a_visitor_reads_which_way_is_fastest_on_a_gpu(results):
    def row(seconds):
        return {"seconds": near(seconds), "over_public": near(4.0 / seconds)}

    stored = {
        "machine": {"cores": 16, "gpu": "NVIDIA H200"},
        "plan": {"steps": 1000},
        "samples": {"ecg": {"uncached": 1e-6, "balanced": 3e-6}},
        "speed": {
            "ecg": [
                {"batch": 1, "rows": {"public network": row(4.0), "uncached": row(2.0), "graphs": row(0.5)}},
                {"batch": 16, "rows": {}, "missing": {"compiled": "no time was left"}},
            ]
        },
    }
    (results / "gpu.json").write_text(json.dumps(stored))
    shown = text(opened("evidence", view="speed"))
    assert "On a GPU (NVIDIA H200)" in shown and "16 samples, compiled: no time was left" in shown
    assert "1 sample: 1000 steps in 0.500 s (graphs), 8 (7.2 to 8.8) times as fast" in shown
    assert "at most 3e-06" in shown
    (results / "gpu.json").write_text(json.dumps(stored | {"speed": {}}))
    assert "gpu.json is damaged" in " ".join(e.value for e in opened("evidence", view="speed").error)
