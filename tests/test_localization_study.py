"""The localization study: equal error is what rows reached, never a guess, and a stopped study goes on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import localization_reading as reading
from benchmarks.localization import arguments_of
from benchmarks.localization_page import page
from benchmarks.localization_rows import PILOT_CALLS, WAYS, SolverWay, alone, best_ways
from benchmarks.localization_work import LongRun, side_by_side
from e2crf_core import CachePolicy, Sampler, SamplerConfig, ScoreModel
from pages.ui.evidence.localization_table import comparison_frame, read_localization
from tests.localized import localized, row, table
from tests.visits import opened, text


def test_a_planted_gain_is_read_back() -> None:
    entry = reading.comparisons(table(3.0))[0]
    assert (entry["kind"], entry["level"], entry["baseline"]) == ("data", 0.1, "solver alone, full attention")
    # Three calls reach 0.1 exactly; a third of that work must do for nested bands.
    assert entry["before"]["cost"] == 3
    gain, low, high = entry["at_level"]["work"]
    assert gain == pytest.approx(3.0, rel=0.07) and low <= gain <= high


def test_no_gain_is_read_where_there_is_none() -> None:
    for entry in reading.comparisons(table(1.0)):
        if entry["baseline"] == "solver alone, full attention" and entry["as_close"]["work"]:
            assert entry["as_close"]["work"][0] == pytest.approx(1.0, rel=0.07)


def test_a_baseline_that_goes_below_the_level_is_met_there_too() -> None:
    rows = {
        "full: 9 calls": row("full", "solver", 9, 0.01),
        "causal: cheap": row("causal", "nested", 1, 0.09),
        "causal: good": row("causal", "nested", 4, 0.01),
    }
    entry = reading.comparisons(rows)[0]
    assert entry["at_level"]["nested"]["row"] == "causal: cheap" and entry["at_level"]["work"][0] == 9
    close = entry["as_close"]
    assert close["nested"]["row"] == "causal: good" and close["work"][0] == pytest.approx(9 / 4)


def test_what_no_row_reaches_is_not_reached() -> None:
    rows = table(3.0)
    coarse = {name: r for name, r in rows.items() if r["method"] != "nested"} | {
        "causal: nested": row("causal", "nested", 0.1, 0.5)
    }
    for entry in reading.comparisons(coarse):
        assert entry["at_level"] == entry["as_close"] == {"nested": None, "work": None}
    weak = {name: r for name, r in rows.items() if r["method"] == "nested" or r["cost"] < 3}
    first = reading.comparisons(weak)[0]
    assert first["before"] is None and first["at_level"]["work"] is None


def test_short_rows_are_judged_against_the_converged_solution_from_three_seeds_on() -> None:
    rows = {
        "full: converged": row("full", "converged", 64, 0.0),
        "full: far": row("full", "solver", 3, 0.05),
        "full: near": row("full", "solver", 9, 0.001),
    }
    made = reading.summary(rows)
    assert made["full: far"]["judgment"]["verdict"] == "worse"
    assert made["full: near"]["judgment"]["verdict"] == "as good"
    assert made["full: far"]["judgment"]["primary"][0] == pytest.approx(0.05 / 0.102)
    few = {name: {**r, "distances": r["distances"][:2]} for name, r in rows.items()}
    assert reading.summary(few)["full: far"]["judgment"] is None


def test_each_number_of_calls_takes_the_way_that_was_best_on_other_noise() -> None:
    errors = {way.describe(c): {"data": 1.0, "whitened": 1.0} for c in PILOT_CALLS for way in WAYS}
    here, there = SolverWay("unipc_2", "profile", 1), SolverWay("etd_ab2", "log_snr", 0)
    errors[here.describe(5)]["data"] = errors[there.describe(5)]["whitened"] = 0.5
    assert best_ways(errors, 4) == [here, there]
    errors[here.describe(12)] = {"data": 0.5, "whitened": 0.5}
    assert best_ways(errors, 20) == [here]


def test_a_late_start_makes_the_calls_that_it_promises(model: ScoreModel) -> None:
    for way in (SolverWay("dpmpp_2m", "log_snr", 0), SolverWay("etd_ab3", "log_snr", 2)):
        made = Sampler.of(model, alone(model, way, 5)).sample(2, 0)
        assert made.token_share * made.steps == pytest.approx(5)


def test_runs_that_take_turns_draw_what_they_draw_alone(model: ScoreModel) -> None:
    policy = CachePolicy(trigger="log_snr", tau=0.5)
    configs = [SamplerConfig(None, 60), SamplerConfig(policy, 60)]
    runs = [
        LongRun(Sampler.of(model, config), 2, 3, repeats, [])
        for config, repeats in zip(configs, (1, 2), strict=True)
    ]
    side_by_side(runs, lambda done, total: None)
    assert [len(run.times) for run in runs] == [1, 2]
    for run, config in zip(runs, configs, strict=True):
        np.testing.assert_allclose(run.tokens, Sampler.of(model, config).sample(2, 3).tokens, atol=1e-6)


def test_the_page_and_evidence_show_both_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = localized()
    told = page(results)
    assert "+1.0% (-2.0 to +4.0)" in told
    monkeypatch.setenv("E2CRF_RESULTS", str(tmp_path))
    (tmp_path / "localization_cpu.json").write_text(json.dumps(results))
    study = read_localization(tmp_path / "localization_cpu.json")["wind"]
    frame = comparison_frame(study, "data")
    assert set(frame["against"]) == {"solver alone, full attention", "solver alone, causal"}
    at = opened("evidence", view="bands", error_kind="whitened")
    assert "At equal error" in {head.value for head in at.subheader}
    shown = {name for table in at.dataframe for name in table.value.get("row", ())}
    assert {"our reading of it (paper)", "causal: 3 calls"} <= shown
    (tmp_path / "localization_cpu.json").write_text('{"data": {"wind": {"rows": 3}}}')
    at = opened("evidence", view="bands")
    assert "localization_cpu.json is damaged" in at.error[0].value


def test_a_missing_study_says_what_makes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E2CRF_RESULTS", str(tmp_path))
    at = opened("evidence", view="bands")
    assert at.code[0].value == "python -m benchmarks.localization" and "cores" in text(at) + at.info[0].value


def test_the_quick_form_is_smaller_and_never_overwrites_the_full_one() -> None:
    full, quick = arguments_of([]), arguments_of(["--quick"])
    assert set(quick.data) < set(full.data) and quick.seeds < full.seeds and quick.out != full.out
    assert arguments_of(["--quick", "--seeds", "3"]).seeds == 3
