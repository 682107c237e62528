"""Two evaluations with different seeds: what contradicts, what does not, and what cannot be compared."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import agreement as ag
from e2crf_core.errors import LabError
from e2crf_core.quality.intervals import seed_spread
from e2crf_core.quality.protocol import PRIMARY


def results(rows: dict[str, tuple[float, float]], seed: int = 0, **changes: object) -> dict:
    """Return the relevant part of results as `eval` stores them, from name -> (value, half width)."""
    stored = {
        "checkpoint": "c",
        "digest": "0" * 64,
        "dataset": "d",
        "num": 10,
        "seed": seed,
        "repeats": 3,
        "titles": {PRIMARY: "Sliced Wasserstein (time)"},
        "rows": [
            {"config": {"name": name}, "metrics": {PRIMARY: {"value": v, "low": v - h, "high": v + h}}}
            for name, (v, h) in rows.items()
        ],
    }
    return {**stored, **changes}


def written(folder: Path, stored: object) -> Path:
    folder.mkdir()
    (folder / "results.json").write_text(stored if isinstance(stored, str) else json.dumps(stored))
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["agreement", *map(str, arguments)])
    return ag.main()


def test_pairs_are_sorted_by_what_both_say() -> None:
    a = results({"a": (0.1, 0.01), "b": (0.2, 0.01), "c": (0.3, 0.2), "d": (0.9, 0.01)})
    b = results({"d": (0.9, 0.01), "a": (0.2, 0.01), "b": (0.1, 0.01), "c": (0.3, 0.05), "e": (1, 0)}, 100)
    found = ag.agreement(a, b)
    assert found.contradicted == (("a", "b"),)
    assert set(found.agreed) == {("a", "d"), ("b", "d"), ("c", "d")}
    assert found.first_only == () and set(found.second_only) == {("a", "c"), ("b", "c")}
    assert found.pairs == 6


def test_intervals_that_touch_tell_nothing_apart() -> None:
    a = results({"a": (1.0, 0.5), "b": (2.0, 0.5)})
    assert ag.agreement(a, results({"a": (2, 0.1), "b": (1, 0.1)}, 9)).contradicted == ()


def test_the_order_of_arguments_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    a, b = (results({str(i): (float(rng.random()), 0.1) for i in range(12)}, seed) for seed in (0, 50))
    there, back = ag.agreement(a, b), ag.agreement(b, a)
    assert {frozenset(p) for p in there.contradicted} == {frozenset(p) for p in back.contradicted}
    assert set(there.agreed) == set(back.agreed) and there.contradicted
    assert (there.first_only, there.second_only) == (back.second_only, back.first_only)


def test_repeats_of_the_same_laws_hardly_ever_contradict() -> None:
    """The law behind the criterion: different means, distinguished by Student intervals over five seeds."""
    rng = np.random.default_rng(1)
    means = np.linspace(1.0, 1.3, 8)
    told = contradicted = 0
    for trial in range(40):
        both = []
        for seed in (0, 100):
            rows = {}
            for i, mean in enumerate(means):
                spread = seed_spread((mean + 0.03 * rng.standard_normal(5)).tolist())
                rows[str(i)] = (spread.value, (spread.high - spread.low) / 2)
            both.append(results(rows, seed + 1000 * trial))
        found = ag.agreement(*both)
        told += len(found.agreed) + len(found.contradicted)
        contradicted += len(found.contradicted)
    assert told > 300 and contradicted == 0


def test_command_says_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a = written(tmp_path / "a", results({"a": (0.1, 0.01), "b": (0.2, 0.01)}))
    b = written(tmp_path / "b", results({"a": (0.11, 0.01), "b": (0.2, 0.01)}, 100))
    c = written(tmp_path / "c", results({"a": (0.3, 0.01), "b": (0.2, 0.01)}, 200))
    assert run(monkeypatch, a, b) == 0
    assert "1 distinguished by both" in (out := capsys.readouterr().out) and "a  better than  b" in out
    assert run(monkeypatch, a, c) == 1
    assert "CONTRADICTION: the first has a better than b" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (results({"a": (1, 0), "b": (2, 0)}, 2), "both evaluations used seed 2"),
        (results({"a": (1, 0), "b": (2, 0)}, 9, digest="1"), "differ in digest"),
        (results({"a": (1, 0), "x": (2, 0)}, 9), "fewer than two rows"),
        ({"rows": [{}]}, "holds no results"),
        ("[" * 100_000, "holds no results"),
        ("not json", "holds no results"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_line(
    other: object,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    a = written(tmp_path / "a", results({"a": (1, 0), "b": (2, 0)}))
    assert run(monkeypatch, a, written(tmp_path / "b", other)) == 2
    err = capsys.readouterr().err
    assert said in err and len(err.splitlines()) == 1
    assert run(monkeypatch, a, tmp_path / "nowhere") == 2
    assert "name the --out folder" in capsys.readouterr().err


def test_an_unknown_figure_is_refused() -> None:
    a = results({"a": (1, 0), "b": (2, 0)})
    with pytest.raises(LabError, match="no figure 'beauty'"):
        ag.agreement(a, a, "beauty")
