"""The localization study: equal error is what rows reached, never a guess, and a stopped study goes on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import localization_reading as reading
from benchmarks.localization import arguments_of
from benchmarks.localization_page import page
from benchmarks.localization_rows import PILOT_CALLS, WAYS, Way, alone, best_ways
from benchmarks.localization_work import LongRun, side_by_side
from e2crf_core import CachePolicy, Sampler, SamplerConfig, ScoreModel
from pages.ui.evidence.localization_table import comparison_frame, read_localization
from tests.visits import opened, text

SAMPLES = 40
LUCK = np.exp(0.2 * np.random.default_rng(0).standard_normal(SAMPLES))
"""Errors of all rows share their samples' luck, as rows on common noise do."""


def row(network: str, method: str, cost: float, error: float) -> dict:
    errors = (error * LUCK / np.median(LUCK)).tolist()
    return {"network": network, "method": method, "cost": cost, "data": errors, "whitened": errors}


def table(saving: float) -> dict[str, dict]:
    """Return rows whose error is 1 / cost² alone, and the same at a `saving`-th of the cost for nested bands."""
    rows = {f"full: {c} calls": row("full", "solver", c, 0.9 / c**2) for c in range(2, 9)}
    rows |= {f"causal: {c} calls": row("causal", "solver", c, 1.0 / c**2) for c in range(2, 9)}
    fine = np.geomspace(0.2, 8, 60)
    return rows | {
        f"causal: nested {c:.3f}": row("causal", "nested", c, 0.9 / (saving * c) ** 2) for c in fine
    }


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


def test_each_number_of_calls_takes_the_way_that_was_best_on_other_noise() -> None:
    errors = {way.describe(c): {"data": 1.0, "whitened": 1.0} for c in PILOT_CALLS for way in WAYS}
    here, there = Way("unipc_2", "profile", 1), Way("etd_ab2", "log_snr", 0)
    errors[here.describe(5)]["data"] = errors[there.describe(5)]["whitened"] = 0.5
    assert best_ways(errors, 4) == [here, there]
    errors[here.describe(12)] = {"data": 0.5, "whitened": 0.5}
    assert best_ways(errors, 20) == [here]


def test_a_late_start_makes_the_calls_that_it_promises(model: ScoreModel) -> None:
    for way in (Way("dpmpp_2m", "log_snr", 0), Way("etd_ab3", "log_snr", 2)):
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


def stored() -> dict:
    """Return results as the study writes them."""
    rows = reading.summary(table(3.0))
    found = reading.with_seconds(reading.comparisons(table(3.0)), {})
    change = {"primary": [0.01, -0.02, 0.04], "spectral": [0.1, 0.0, 0.2], "verdict": "as good", "needed": 48}
    errors = {"median": 0.05, "high": 0.09}
    euler = {
        "no cache": {"cost": 1000.0},
        "our reading of it (paper)": {
            "cost": 400.0,
            "data": errors,
            "whitened": errors,
            "flips": 0.0,
            "judgment": change,
        },
    }
    return {
        "quick": False,
        "data": {
            "wind": {
                "provenance": {"causal": {"threads": 2}},
                "machine": {"cores": 2},
                "seeds": [0],
                "num": SAMPLES,
                "rows": rows,
                "comparisons": found,
                "seconds": {},
                "euler": {"full": {"steps": 1000, "num": 48, "rows": euler, "speed": {"no cache": [1, 1, 1]}}},
            }
        },
    }  # fmt: skip


def test_the_page_and_evidence_show_both_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = stored()
    told = page(results)
    assert "not reached" in told and "+1.0% (-2.0 to +4.0)" in told
    monkeypatch.setenv("E2CRF_RESULTS", str(tmp_path))
    (tmp_path / "localization_cpu.json").write_text(json.dumps(results))
    study = read_localization(tmp_path / "localization_cpu.json")["wind"]
    frame = comparison_frame(study, "data")
    assert set(frame["against"]) == {"solver alone, full attention", "solver alone, causal"}
    at = opened("evidence", view="bands", error_kind="whitened")
    assert "At equal error" in {head.value for head in at.subheader}
    assert "our reading of it (paper)" in set(at.dataframe[1].value["row"])
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
