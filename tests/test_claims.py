"""Every figure that README and docs/results.md rest on is the one in its results file."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from e2crf_core.quality.intervals import seed_spread
from pages.ui.evidence.gains import SHARES, Budget, best_at, curve_at, gain_at
from pages.ui.evidence.trigger_study import BANDS, TOKENS, WHOLE, TriggerStudy, read_studies
from tests.claims import DOC, README, RESULTS, ROOT, STATISTICS, stored, words

UNTRACED = {
    "ray_scaling_cpu",
    "serve_load_cpu",
    "tune_study_ecg_cpu",
}
"""Results of the first release, measured before files stated where they come from: a name may go, none may come."""


def test_results_state_where_they_come_from() -> None:
    def stated(value: Any) -> bool:
        if isinstance(value, dict):
            origin = value.get("provenance")
            return bool(origin) or any(stated(part) for part in value.values())
        return isinstance(value, list) and any(stated(part) for part in value)

    files = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in RESULTS.glob("*.json")}
    assert {name for name, value in files.items() if not stated(value)} <= UNTRACED


def test_what_is_said_of_skipped_tokens_is_measured() -> None:
    rows = stored("token_skipping_cpu")["rows"]
    for data in ("ecg", "stocks"):
        first = rows[data][0]
        assert f"{first['outputs_only']:.3f} instead of {first['skipped']:.3f} on {data}" in words(DOC)
    for data, (first, *_) in rows.items():
        predicted = f"{first['predicted_keys']:.3f} instead of {first['skipped']:.3f}"
        moved = first["predicted_keys"] != first["skipped"]
        assert moved == (data == "stocks") and (not moved or predicted in words(DOC))


def test_the_margins_of_what_if_are_measured() -> None:
    largest: dict[str, float] = {}
    for row in stored("whatif_law_cpu")["summary"]:
        rule = row["rule"]
        kind = "elsewhere" if "from log_snr" in rule else rule.split(",")[0]
        largest[kind] = max(largest.get(kind, 0.0), row["largest"])
    assert largest["log_snr"] == 0
    for kind in ("paper", "elsewhere", "gain"):
        assert f"up to {100 * largest[kind]:.0f}%" in words(DOC), kind


def test_the_table_of_distance_and_damage_is_that_of_the_power_study() -> None:
    text = words(STATISTICS)
    studies = stored("power")
    for damage, name in (
        ("no network", "no network (a Gaussian with the data's spectrum)"),
        ("upper 3/4 deleted", "upper 3/4 of the spectrum deleted"),
        ("steps shuffled", "steps shuffled"),
        ("time reversed", "time reversed"),
        ("scaled by 1.2", "scaled by 1.2"),
        ("half copied", "half of the set copied"),
    ):
        cells = []
        for data in ("ecg", "household", "stocks", "wind"):
            table = studies[data]["table"][damage]
            parts = [table[m] for m in ("marginal_wasserstein_time", "log_spectral_distance")]
            shown = [f"**{p['ratio']:.2f}**" if p["seen"] else f"{p['ratio']:.2f}" for p in parts]
            cells.append(" / ".join(shown))
        assert f"| {name} | {' | '.join(cells)} |" in text, damage
    for study in studies.values():
        assert study["rates"]["false alarm"] <= 0.05 and study["rates"]["power"] >= 0.8
        assert study["provenance"]["command"] and study["provenance"]["data"]


def test_late_starts_are_quoted_right() -> None:
    studies = stored("late_start_cpu")["data"]
    rows = {
        data: {(row["calls"], row["start"]): row["relative_l2"] for row in studies[data]["rows"]}
        for data in ("ecg", "household", "wind")
    }
    for data in ("household", "wind"):
        for start in (0.0, 2.0):
            error = rows[data][5, start]
            assert f"{error['value']:.3f} ({error['low']:.3f} to {error['high']:.3f})" in words(DOC)
    for known in rows.values():
        assert known[5, 4.0]["value"] > known[5, 0.0]["value"]


def test_the_choice_of_a_search_is_quoted_right() -> None:
    study = stored("tune_choice_ecg_cpu")
    choice, converged = study["rows"]["choice"], study["rows"]["converged"]
    assert choice["verdict"] == "as good" and not study["lost"]
    assert choice["kurtosis_difference"]["ordinary"] and choice["log_spectral_distance"]["ordinary"]
    text = words(DOC)
    mw, lsd = choice["reading"].split("; spectrum ")
    assert mw.removeprefix("measured ") in text
    assert lsd.removeprefix("measured ") in text
    assert f"kurtosis {choice['kurtosis'][0]:.1f} against {converged['kurtosis'][0]:.1f}" in text
    faster, low, high = choice["faster_than_converged"]
    assert f"{faster:.1f}x faster ({low:.1f} to {high:.1f})" in text


def test_the_differences_of_paper_are_quoted_right() -> None:
    rows = stored("paper_differences_cpu")["data"]["ecg"]["rows"]
    text = words(ROOT / "docs" / "method.md")
    for name in ("preset paper", "tau 0.04, the published 0.01", "no rest below tau_safe", "no probes"):
        error = rows[name]["relative_l2"]
        assert f"{error['value']:.3f} ({error['low']:.3f} to {error['high']:.3f})" in text, name
        assert f"{100 * rows[name]['token_share']:.1f}%" in text, name


def test_the_forecasts_of_all_networks_are_quoted_right() -> None:
    text = words(ROOT / "docs" / "localization.md")
    for name, study in stored("forecasts_cpu")["checkpoints"].items():
        cells = []
        for detail, median in study["median_ratio"].items():
            ratios = [row["ratio"]["value"] for row in study["rows"] if f"{row['detail']:g}" == detail]
            cells.append(f"{median:.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
            assert 1 / 1.3 < median < 1.3
        assert f"| {name} | {' | '.join(cells)} |" in text


def test_the_variants_of_nested_plans_are_quoted_right() -> None:
    text = words(ROOT / "docs" / "localization.md")
    study = stored("nested_variants_cpu")["data"].values()
    for variant in set(next(iter(study))) - {"as shipped"}:
        for level in ("0.1", "0.035"):
            found = [rows[variant][level]["over_shipped"] for rows in study]
            cells = [
                f"{over['value']:.2f} ({over['low']:.2f}-{over['high']:.2f})" if over else "not reached"
                for over in found
            ]
            assert f"| {level} | {variant} | {' | '.join(cells)} |" in text


def headline(study: dict[str, Any], level: float, batch: str = "48") -> str:
    """Return how many times faster nested bands are at a level of error: the smaller ratio of both networks."""
    ratios = [
        entry["at_level"]["wall"][batch]
        for entry in study["comparisons"]
        if (entry["kind"], entry["level"]) == ("data", level) and entry["baseline"].startswith("solver alone")
    ]
    assert len(ratios) == 2
    value, low, high = min(ratios)
    return f"{value:.1f}x ({low:.1f}-{high:.1f})"


def test_the_headline_is_that_of_the_localization_study() -> None:
    studies = stored("localization_cpu")["data"]
    for level in (0.1, 0.035):
        cells = [headline(studies[data], level) for data in ("stocks", "wind", "ecg", "household")]
        assert f"| {level:g} | {' | '.join(cells)} |" in README.read_text(encoding="utf-8")


def test_the_clock_outside_python_is_quoted_right() -> None:
    text = words(DOC)
    for study in (stored("outside_cpu"), stored("outside_nested_cpu")):
        assert max(study["equal"].values()) < study["bar"]
        for batch in study["batches"]:
            row = next(row for row in batch["rows"] if row["name"].startswith("C++"))["over_python"]
            said, span = f"{row['value']:.1f} times", f"({row['low']:.1f} to {row['high']:.1f})"
            forms = (f"{said} as fast as Python {span}", f"{said} {span} as fast as Python", f"{said} {span}")
            assert any(form in text for form in forms)


def test_the_cost_of_watching_is_quoted_right() -> None:
    figures, text = stored("live_page_cpu")["figures"], words(DOC)
    for case in ("balanced, 2000 steps, pace unlimited", "exact, 1000 steps, pace unlimited"):
        value, low, high = (
            100 * figures[case]["watched_over_alone"][end] for end in ("value", "low", "high")
        )
        assert f"{value:.0f}%" in text and f"({low:.0f} to {high:.0f})" in text
        assert f"{figures[case]['cores_of_the_browser']:.2f}" in text
    assert figures["balanced, 1000 steps, pace 100"]["watched_over_alone"]["low"] > 0.99


def test_selective_forwards_are_quoted_right() -> None:
    rows, text = stored("forward_cost_cpu")["ecg, batch 16"], words(DOC)
    for name in ("25% of tokens, another set for each sample", "all tokens, keys and values kept"):
        row = rows[name]
        quartiles = f"{row['ratio_low']:.2f} to {row['ratio_high']:.2f})"
        assert f"{row['ratio']:.2f} " in text and quartiles in text, name


def test_precision_and_cache_are_quoted_right() -> None:
    data, text = stored("backends_cpu")["data"], words(DOC)
    for name, backend in (("ecg", "onnxruntime-int8"), ("wind-causal", "compiled-bf16")):
        ratio = next(r["ratio"] for r in data[name]["times"] if (r["backend"], r["batch"]) == (backend, 64))
        assert f"{ratio:.2f} " in text
    errors = {(r["backend"], r["policy"]): r for r in data["wind-causal"]["errors"]}
    for backend, policy, verdict, digits in (
        ("eager-bf16", "no cache", "as good", 4),
        ("onnxruntime-int8", "no cache", "as good", 3),
        ("onnxruntime-int8", "nested bands", "worse", 3),
        ("eager", "nested bands", "undecided", 3),
    ):
        error = errors[backend, policy]["relative_l2"]
        low, high = (f"{error[end]:.{digits}f}" for end in ("low", "high"))
        assert f"{error['value']:.{digits}f} ({low} to {high})" in text
        assert errors[backend, policy]["verdict"] == verdict


def test_half_precision_with_nested_bands_is_quoted_right() -> None:
    text = words(DOC)
    for row in stored("backends_xeon_cpu")["data"]["wind-causal"]["nested"]:
        if row["backend"] == "compiled-bf16":
            over = row["over_eager"]
            assert f"{over['value']:.2f} ({over['low']:.2f} to {over['high']:.2f})" in text


def test_the_gpu_is_quoted_right() -> None:
    study, text = stored("gpu"), words(DOC)
    batches = {part["batch"]: part["rows"] for part in study["speed"]["ecg"]}
    for batch, name in (
        (16, "balanced, cudagraphs"),
        (64, "balanced, cudagraphs"),
        (1024, "balanced, compiled"),
        (1024, "balanced, compiled-bf16"),
    ):
        row = batches[batch][name]
        over = row["over_public"]
        assert f"{row['seconds']['value']:.3f} s" in text
        assert f"{over['value']:.0f} times ({over['low']:.0f} to {over['high']:.0f})" in text
    assert study["noise"]["equal"] and f"{1e6 * study['noise']['counter']['value']:.0f} µs" in text
    for name in ("ecg", "stocks-causal"):
        assert f"{study['samples'][name]['balanced']:.1e}".replace("e-0", "e-") in text


def test_the_ten_lines_are_those_of_their_studies() -> None:
    text = words(DOC)
    lines = text[text.index("## In ten lines") : text.index("## Speed and quality on ECG")]
    nested, sets = stored("localization_cpu")["data"], ("stocks", "wind", "ecg", "household")
    for level, batch in ((0.1, "48"), (0.035, "48"), (0.1, "1")):
        said = ", ".join(f"{data} {headline(nested[data], level, batch)}" for data in sets)
        assert said in lines
    for data, row in (
        ("stocks", "nested, tau 0.05"),
        ("wind", "nested, tau 0.02"),
        ("wind", "nested, tau 0.05"),
    ):
        value, low, high = nested[data]["euler"]["causal"]["rows"][row]["judgment"]["primary"]
        assert f"{100 * value:+.1f}% ({100 * low:+.1f} to {100 * high:+.1f})" in lines
    pairs = {(p["data"], p["training_seed"]): p["quality"] for p in stored("causal_pairs")["pairs"]}
    for pair in (*((data, 0) for data in sets), ("ecg", 1)):
        change = pairs[pair]["change"]["primary"]
        assert f"{100 * change['value']:+.1f}%, certain below {100 * change['high']:+.1f}%" in lines
    for name, study in stored("forecasts_cpu")["checkpoints"].items():
        ratios = [row["ratio"]["value"] for row in study["rows"] if row["detail"] == 0]
        median = study["median_ratio"]["0"]
        assert f"{median:.2f} ({min(ratios):.2f} to {max(ratios):.2f})" in lines, name
    feedback = {name: part["rows"] for name, part in stored("error_feedback_cpu")["data"].items()}
    assert len(feedback) == 4 and all(row["ratio"]["high"] >= 1 for rows in feedback.values() for row in rows)
    over = next(row["ratio"] for row in feedback["ecg-causal"] if row["tau"] == 0.07)
    assert f"{over['value']:.2f} ({over['low']:.2f}-{over['high']:.2f})" in lines


def test_the_engine_and_its_waterfall_are_quoted_right() -> None:
    engine, watching, text = stored("engine_cpu"), stored("engine_watching_cpu"), words(DOC)
    for name in ("balanced", "fast"):
        share = engine["speed, batch 1"][name]["reached"]
        assert f"{100 * share['value']:.0f}% ({100 * share['low']:.0f} to {100 * share['high']:.0f})" in text
    assert f"{engine['speed, batch 1']['balanced']['reused_step_us']['value']:.1f} µs" in text
    for batch in (1, 16, 64):
        value, low, high = (
            100 * (watching[f"watching, batch {batch}"]["recorded_over_plain"][end] - 1)
            for end in ("value", "low", "high")
        )
        assert f"{value:.1f}% ({low:.1f} to {high:.1f})" in text
    order = engine["imports"]["torch_first_over_package_first"]
    assert f"{order['value']:.2f} times ({order['low']:.2f} to {order['high']:.2f}) as long" in text
    data = stored("speed_cpu")["data"]
    for name, row in (("ecg", "ONNX Runtime"), ("wind", "nested bands, ONNX Runtime")):
        for part in data[name]["batches"][:2]:
            rows = {one["name"]: one["over_first"] for one in part["waterfall"]["chains"]["balanced"]}
            over = rows[row]
            assert f"{over['value']:.0f} times ({over['low']:.0f} to {over['high']:.0f})" in text
    places = {part["batch"]: part for part in data["ecg"]["batches"]}
    for batch in (16, 64):
        assert f"{places[batch]['floor']['over_floor']['value']:.1f} times" in text
    half = places[64]["waterfall"]["bfloat16_with_nested_bands"]
    assert f"{half['value']:.2f} times ({half['low']:.2f} to {half['high']:.2f})" in text


def test_short_fine_tunings_are_quoted_right() -> None:
    text = words(ROOT / "docs" / "localization.md")
    for name, made in stored("localize_cpu").items():
        primary, spectral = made["change"]["primary"], made["change"]["spectral"]
        cells = (
            f"{100 * primary['value']:+.1f}%, certain below {100 * primary['high']:+.1f}%",
            f"{spectral['value']:+.2f} dB, certain below {spectral['high']:+.2f} dB",
            made["verdict"],
        )
        assert f"| {name} | {made['cpu_minutes']:.1f} |" in text and f"| {' | '.join(cells)} |" in text


def nested_over_whole(study: TriggerStudy, budget: Budget) -> str:
    """Return the error of nested plans over that of the best whole refreshes."""
    whole, own = best_at(study, budget, WHOLE), curve_at(study, study.families["nested, linear"], budget)
    if whole is None or own is None:
        return "not measured"
    spread = seed_spread(np.log(np.divide(own, whole.l2)).tolist())
    value, low, high = np.exp([spread.value, spread.low, spread.high])
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def test_what_events_gain_is_quoted_right() -> None:
    studies, text = read_studies(RESULTS / "trigger_study.json"), DOC.read_text(encoding="utf-8")
    sets = ("stocks-causal", "wind-causal", "household-causal", "ecg-causal")
    for share in SHARES[:4]:
        ratios = [nested_over_whole(studies[name], Budget(share)) for name in sets]
        assert f"| {100 * share:g}% | {' | '.join(ratios)} |" in text
    for name, share, kind in (
        *((name, 0.12, kind) for name in ("stocks-causal", "wind-causal") for kind in (TOKENS, BANDS)),
        *((name, 0.08, BANDS) for name in ("wind", "household")),
        *((name, 0.05, TOKENS) for name in ("ecg", "household", "stocks", "wind")),
    ):
        gain = gain_at(studies[name], Budget(share), kind)
        assert gain is not None
        assert f"{gain.ratio:.2f}, {gain.low:.2f} to {gain.high:.2f}" in words(DOC), name


def test_long_runs_are_quoted_right() -> None:
    text, studies = (
        (ROOT / "docs" / "localization.md").read_text(encoding="utf-8"),
        stored("localization_cpu")["data"],
    )
    table = text[text.index("**1,000 Euler-Maruyama steps on the causal networks**") :]
    lines = [
        line.strip("| ").split(" | ")
        for line in table.splitlines()
        if line.startswith(("| wind", "| stocks", "| ecg", "| house"))
    ]
    assert len({line[0] for line in lines}) == 4
    for data, policy, *cells in lines:
        name = policy.replace("tau 0.1, 0.05 or 0.02", "tau 0.05").replace("tau 0.05 or 0.02", "tau 0.05")
        row = studies[data]["euler"]["causal"]["rows"][name]
        (value, low, high), (db, db_low, db_high) = row["judgment"]["primary"], row["judgment"]["spectral"]
        speed, fast_low, fast_high = studies[data]["euler"]["causal"]["speed"][name]
        assert cells[0] == f"{row['cost']:.1f}"
        assert cells[1] == f"{speed:.0f}x ({fast_low:.0f}-{fast_high:.0f})"
        assert cells[2] == f"{row['data']['median']:.3f}"
        assert cells[3] == f"{100 * value:+.1f}% ({100 * low:+.1f} to {100 * high:+.1f})"
        assert cells[4] == f"{db:+.2f} dB ({db_low:+.2f} to {db_high:+.2f})"
