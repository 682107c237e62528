"""What is said of solvers alone and of the published tables is what their results files say."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.verdicts import (
    CONVERGED,
    MULTISTEP,
    ROWS,
    SLOW,
    calls_alone,
    decibels,
    judgment,
    page,
    percent,
)
from tests.claims import DOC, README, RESULTS, stored, words

BALANCED, FAST = "EM 1000 + E²-CRF, balanced", "EM 1000 + E²-CRF, fast"
LATE = "UniPC 12, start 2"


@pytest.fixture(scope="module")
def solvers() -> dict[str, Any]:
    return stored("solver_study_cpu")


def test_the_verdicts_are_those_of_the_stored_study(solvers: dict[str, Any]) -> None:
    assert (RESULTS / "verdicts.md").read_text(encoding="utf-8") == page(solvers)


def test_the_table_of_ecg_is_that_of_the_study(solvers: dict[str, Any]) -> None:
    study, text = solvers["ecg"], words(DOC)
    rows = {row["config"]["name"]: row for row in study["rows"]}
    for name, reference in (
        (BALANCED, SLOW),
        (FAST, SLOW),
        ("DPM++ 5", CONVERGED),
        ("DPM++ 8", CONVERGED),
        ("DPM++ 20", CONVERGED),
        ("ETD-AB2 5", CONVERGED),
        ("ETD-AB2 10", CONVERGED),
        ("UniPC 10", CONVERGED),
        (LATE, CONVERGED),
        (MULTISTEP, CONVERGED),
    ):
        row, judged = rows[name], judgment(study, name, reference)
        assert judged is not None and judged.spectral is not None
        calls = row["token_share"] * row["config"]["steps"]
        cells = percent(judged.primary.change), decibels(judged.spectral.change), judged.verdict
        assert f"| {' | '.join(cells)} |" in text, name
        seconds = row["seconds"]["median"]
        assert any(f"| {calls:.0f} | {seconds:{form}}" in text for form in (".2f", ".1f")), name
    for name in (BALANCED, FAST):
        speed = rows[name]["speedup"]
        said = f"{speed['median']:.1f}x faster ({speed['low']:.1f}-{speed['high']:.1f})"
        assert said in text
        assert f"{speed['median']:.1f} times as fast" in words(README)


def test_the_readme_states_quality_with_its_interval(solvers: dict[str, Any]) -> None:
    for name in (BALANCED, FAST):
        judged = judgment(solvers["ecg"], name, SLOW)
        assert judged is not None
        change = judged.primary.change
        said = f"{100 * change.value:.1f}% ({100 * change.low:.1f} to {100 * change.high:.1f})"
        assert said in words(README)


def test_what_is_said_of_all_four_data_sets_holds_on_each(solvers: dict[str, Any]) -> None:
    assert len(solvers) == 4
    for study in solvers.values():
        judged = judgment(study, "DPM++ 20", CONVERGED)
        assert judged is not None and judged.verdict == "as good"
        cached = judgment(study, MULTISTEP, CONVERGED)
        assert cached is not None and cached.verdict != "as good"
    text = words(DOC)
    calls = {data: calls_alone(study)[1] for data, study in solvers.items()}
    assert calls == {"ecg": 8, "household": 10, "stocks": 8, "wind": 8}
    assert "needs 8 calls on ecg, stocks and wind, and 10 on household" in text
    calls = {data: calls_alone(study, "etd_ab2")[1] for data, study in solvers.items()}
    assert calls == {"ecg": 8, "household": 6, "stocks": 6, "wind": 6}
    assert "ETD-AB2 alone needs 6, and 8 on ecg" in text
    for data in ("stocks", "wind"):
        judged = judgment(solvers[data], MULTISTEP, CONVERGED)
        assert judged is not None and judged.spectral is not None
        assert f"{decibels(judged.spectral.change)} on {data}" in text


def fewest_as_good(study: dict[str, Any]) -> tuple[int, set[str]]:
    """Return the fewest calls of uncached rows that are as good as the converged one, and the rows' names."""
    calls = {
        row["config"]["name"]: row["config"]["steps"] for row in study["rows"] if not row["config"]["policy"]
    }
    judged = {name: judgment(study, name, CONVERGED) for name in calls if ROWS.get(name) == CONVERGED}
    good = [name for name, found in judged.items() if found is not None and found.verdict == "as good"]
    fewest = min(calls[name] for name in good)
    return fewest, {name for name in good if calls[name] == fewest}


def test_the_fewest_calls_that_are_as_good_are_quoted_right(solvers: dict[str, Any]) -> None:
    fewest = {data: fewest_as_good(study) for data, study in solvers.items()}
    assert fewest["ecg"] == (10, {"ETD-AB2 10", "UniPC 10"}) and fewest["household"][0] == 8
    assert fewest["stocks"][0] == fewest["wind"][0] == 20
    for data in ("ecg", "household", "wind", "stocks"):
        late, plain = judgment(solvers[data], LATE, CONVERGED), judgment(solvers[data], "UniPC 10", CONVERGED)
        assert late is not None and plain is not None
        assert late.verdict == "as good" and (plain.verdict == "as good") == (data == "ecg")
        change = late.primary.change
        said = f"{100 * change.value:+.1f}%, {100 * change.low:+.1f} to {100 * change.high:+.1f}"
        assert said in words(DOC), data


def test_the_published_tables_are_quoted_right() -> None:
    tables = stored("paper_tables_full")
    rows = {data: {row["config"]["name"]: row for row in table["rows"]} for data, table in tables.items()}
    text = words(DOC)
    full, naive, balanced = (
        rows["ecg"][name] for name in ("full (K=1, R=150)", "naive cache, every 10th step", "balanced")
    )
    assert f"recomputes {100 * full['token_share']:.0f}% of the tokens on ecg" in text
    assert f"speedup of {full['speedup']['median']:.1f}x" in text
    assert f"speedup of {full['speedup']['median']:.1f}x" in words(README)
    others = [rows[data]["full (K=1, R=150)"]["speedup"]["median"] for data in rows if data != "ecg"]
    assert f"({min(others):.1f}x to {max(others):.1f}x on the other data)" in text
    for row in (full, naive, balanced):
        assert f"{row['relative_l2']['value']:.3f}" in text
        change = row["against"]["primary"]["change"]
        said = f"{100 * change['value']:+.1f}%, {100 * change['low']:+.1f} to {100 * change['high']:+.1f}"
        assert said in text
    for row in (naive, balanced):
        assert f"{row['speedup']['median']:.1f}x as fast" in text
    for data in ("household", "stocks", "wind"):
        change = rows[data]["balanced"]["against"]["primary"]["change"]
        said = f"{100 * change['value']:+.1f}% ({100 * change['low']:+.1f} to {100 * change['high']:+.1f})"
        assert f"{data} {said}" in text
