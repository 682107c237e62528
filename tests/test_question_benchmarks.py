"""What the benchmarks of questions compare: particles are exact for Gaussian data; planted anomalies are local."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import anomalies, guided_reuse, question_cache, question_methods, study
from e2crf_core.quality.interval import Interval
from e2crf_core.questions import baselines
from e2crf_core.sampling.sampler import Sampler

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def window(gaussian_model) -> np.ndarray:
    """Provide a standardized series of the model's own law with a gap."""
    window = (
        Sampler(gaussian_model, None, steps=40, solver="ancestral", grid="log_snr").sample(1, 3).series[0]
    )
    window = window.astype(np.float64)
    window[5:9] = np.nan
    return window


def test_particles_follow_the_closed_form_posterior(gaussian_model, window):
    draws = question_methods.particles(gaussian_model, window, 300, 1, steps=60)
    truth = baselines.gaussian(gaussian_model, window)
    missing = np.isnan(window)
    error = (draws.mean(0) - truth.mean)[missing] / truth.std[missing]
    # Resampling leaves fewer independent draws than there are particles.
    assert np.abs(error).mean() < 0.2
    np.testing.assert_allclose(draws.std(0)[missing] / truth.std[missing], 1.0, atol=0.35)


def test_more_visits_bring_replacement_closer_to_the_posterior(gaussian_model, window):
    truth = baselines.gaussian(gaussian_model, window)
    missing = np.isnan(window)

    def error(repeats: int) -> float:
        draws = question_methods.replacement(
            gaussian_model, window[None], 100, 2, steps=20 * repeats, repeats=repeats
        )
        return float(np.abs((draws.mean(0) - truth.mean)[missing] / truth.std[missing]).mean())

    assert error(5) < 0.8 * error(1)


@pytest.mark.parametrize("kind", list(anomalies.KINDS))
def test_an_anomaly_is_in_one_channel_and_keeps_the_padding(kind):
    rng = np.random.default_rng(0)
    clean = rng.standard_normal((40, 3)).cumsum(0)
    clean[30:] = clean[30]
    for size in anomalies.KINDS[kind]:
        planted = anomalies.plant(clean, kind, size, rng, beat=False)
        changed = (planted != clean).any(0)
        assert changed.sum() == 1
        np.testing.assert_array_equal(planted[31:], clean[31:])


def test_roc_area_of_known_scores():
    scores, alone = np.arange(10.0), np.arange(10)
    assert anomalies.roc_interval(scores, scores + 20, alone) == Interval(1.0, 1.0, 1.0)
    interval = anomalies.roc_interval(scores, scores + 3, alone)
    assert interval.value == pytest.approx(65.5 / 90)
    assert interval.low < interval.value < interval.high
    with pytest.raises(ValueError, match="no other block"):
        anomalies.roc_interval(scores, scores, np.zeros(10))


def test_what_nobody_can_see_has_an_area_of_one_half():
    rng = np.random.default_rng(0)
    normal = rng.standard_normal(48)
    area = anomalies.roc_interval(normal, normal + 1e-9, np.arange(48) // 2)
    assert (area.low, area.value, area.high) == pytest.approx((0.5, 0.5, 0.5))


def test_the_question_profile_has_mean_one(model):
    windows = np.random.default_rng(0).standard_normal((4, 24, 2))
    profile = question_cache.question_profile(model, windows, np.arange(24) < 18)
    assert np.mean(profile.weights) == pytest.approx(1.0, abs=0.2) and min(profile.weights) > 0
    names = [candidate.name for candidate in question_cache.candidates()]
    assert len(set(names)) == len(names) and question_cache.DEFAULT.name in names


def test_a_stopped_study_measures_only_what_is_left(tmp_path, capsys):
    path, calls = tmp_path / "wind.json", []

    def measure(name, value):
        return lambda progress: (calls.append(name), progress(1, 2), value)[2]

    first = study.Parts.open(path, {"num": 2}, "wind")
    first.expect(["a", "b"])
    assert first.get("a", measure("a", [0.5])) == [0.5]
    again = study.Parts.open(path, {"num": 2}, "wind")
    again.expect(["a", "b"])
    assert again.get("a", measure("a", [9])) == [0.5] and again.get("b", measure("b", {"x": 1})) == {"x": 1}
    assert calls == ["a", "b"] and "100%" in capsys.readouterr().err
    other = study.Parts.open(path, {"num": 3}, "wind")
    assert other.get("a", measure("c", 7)) == 7 and calls[-1] == "c"


def test_results_of_other_settings_are_not_dropped(tmp_path):
    out = tmp_path / "results.json"
    out.write_text(json.dumps({"windows": 24, "datasets": {"ecg": {}}}))
    arguments = study.study_arguments("", "x", windows=4, datasets=["wind"]).parse_args(["--out", str(out)])
    with pytest.raises(SystemExit, match="holds ecg with other settings"):
        study.run(arguments, lambda *_: {}, settings={"windows": 4}, seeds=[0])


def test_an_output_is_held_over_the_stretch_and_nowhere_else(model):
    span = np.linspace(-6.0, 6.0, 13)
    other, policy = guided_reuse.held(model, span, -2.0, 2.0)
    moved = np.diff(other.profile.clock(span.tolist()))
    assert ((moved > policy.tau) == ((span[1:] <= -2) | (span[1:] > 2))).all()


def stored(name: str) -> Any:
    return json.loads((ROOT / "benchmarks" / "results" / name).read_text(encoding="utf-8"))["datasets"]


def shown(interval: dict[str, float], digits: int) -> str:
    return "{value:.{n}f} ({low:.{n}f} to {high:.{n}f})".format(n=digits, **interval)


def test_the_table_of_planted_anomalies_is_that_of_the_study():
    document = (ROOT / "docs" / "questions.md").read_text(encoding="utf-8")
    for name, made in stored("anomalies_cpu.json").items():
        for row in made["anomalies"]:
            area = row["roc_area"]
            cells = [shown(area[key], 2) for key in ("score", "score, worst place", "Gaussian of E3")]
            size = f"{row['size']:.0%}" if row["kind"] == "dropout" else f"{row['size']:g}"
            assert f"| {name} | {row['kind']} {size} | {' | '.join(cells)} |" in document


def test_the_table_of_ways_is_that_of_the_study():
    document = (ROOT / "docs" / "questions.md").read_text(encoding="utf-8")
    for name, made in stored("question_methods_cpu.json").items():
        for question, ways in made["questions"].items():
            for way, row in ways.items():
                ratio = shown(row["ratio_to_guided"], 2)
                cells = f"{row['crps']:.3f} | {'reference' if way == 'guided, SDE solver' else ratio}"
                quarter = question.split(" the ")[1]
                assert f"| {name} | {quarter} | {way} | {cells} | {row['coverage_90']:.0%} |" in document
