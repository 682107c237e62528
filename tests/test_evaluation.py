"""Evaluation: what it rejects, that it resumes after a kill, and that it claims no more than it measured."""

from __future__ import annotations

import functools
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from e2crf_core.caching.policy import CachePolicy
from e2crf_core.cli import main
from e2crf_core.data.datasets import load_dataset
from e2crf_core.errors import Cancelled, LabError
from e2crf_core.evaluation.evaluate import evaluate
from e2crf_core.evaluation.reading import reading
from e2crf_core.evaluation.report import evaluation_report
from e2crf_core.evaluation.results import to_csv, to_json
from e2crf_core.evaluation.shards import Task, claim, read_shard, run_shards
from e2crf_core.evaluation.summary import summarize
from e2crf_core.evaluation.tables import Estimate, Evaluation, TableRow
from e2crf_core.models.checkpoints import load_checkpoint
from e2crf_core.models.heldout import heldout_blocks
from e2crf_core.quality import learned as learned
from e2crf_core.quality.interval import Interval
from e2crf_core.quality.intervals import Floor
from e2crf_core.quality.learned_scores import NAMES, learned_scores
from e2crf_core.quality.protocol import PRIMARY
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.sampler import Sampler
from tests.evaluations import TABLE, configs
from tests.tiny import tiny_assets


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_assets(tmp_path_factory.mktemp("tiny") / "assets", ("ecg",))


@pytest.fixture(scope="module")
def task(assets: Path) -> Task:
    model = load_checkpoint(assets / "checkpoints" / "ecg", "cpu")
    return Task(model, load_dataset("ecg"), configs(), 8, 3, directions=50)


@pytest.fixture(scope="module")
def finished(task: Task, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Evaluation]:
    out = tmp_path_factory.mktemp("evaluation") / "out"
    return out, evaluate(task, out)


class TestRuns:
    @pytest.mark.parametrize("change", [{"num": 1}, {"num": 0}, {"repeats": 0}, {"batch": 0}, {"seed": -1}])
    def test_tasks_that_cannot_be_are_refused_at_once(self, task: Task, change: dict[str, int]) -> None:
        numbers = {"num": 8, "repeats": 1, "seed": 0, "batch": 8, **change}
        with pytest.raises(LabError):
            Task(task.model, task.dataset, task.configs, **numbers)

    def test_rows_share_their_noise(self, finished: tuple[Path, Evaluation]) -> None:
        """A cache that recomputes everything gives the same samples as its uncached twin, in every repeat."""
        exact, held = finished[1].row("EM exact"), finished[1].row("EM <b>every 4")
        assert exact.relative_l2 is not None and held.relative_l2 is not None
        assert max(exact.relative_l2.values) < 1e-5
        assert min(held.relative_l2.values) > 1e-3
        assert exact.quality.values == pytest.approx(finished[1].row("EM").quality.values, rel=1e-5)
        assert len(set(exact.quality.values)) == 3

    def test_costs_are_counted(self, finished: tuple[Path, Evaluation]) -> None:
        plain, held, solver = (finished[1].row(name) for name in ("EM", "EM <b>every 4", "DPM++"))
        assert held.token_share == pytest.approx(1 / 4)
        assert plain.token_share == solver.token_share == 1
        assert solver.flops == pytest.approx(plain.flops / 3)
        assert plain.flops / 4 < held.flops < plain.flops / 3.5
        assert solver.speedup_twin is None and held.speedup_twin is not None
        assert finished[1].reference == "EM"

    def test_it_goes_on_after_a_kill(
        self,
        task: Task,
        finished: tuple[Path, Evaluation],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        calls, sample = [], Sampler.sample

        def killed_at_the_sixth(self: Sampler, *args: object, **options: object) -> object:
            calls.append(1)
            if len(calls) == 6:
                raise KeyboardInterrupt
            return sample(self, *args, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(Sampler, "sample", killed_at_the_sixth)
        out = tmp_path / "out"
        with pytest.raises(KeyboardInterrupt):
            evaluate(task, out)
        assert len(list((out / "shards").iterdir())) == 5
        resumed = evaluate(task, out)
        assert len(calls) == 6 + 12 - 5
        for row in resumed.rows:
            same = finished[1].row(row.name)
            assert {name: figure.values for name, figure in row.metrics.items()} == {
                name: figure.values for name, figure in same.metrics.items()
            }
        assert any("more than one process" in line for line in reading(resumed)) == any(
            row.sessions > 1 for row in resumed.rows
        )

    def test_repeats_may_be_added_but_nothing_else_changed(
        self, task: Task, finished: tuple[Path, Evaluation]
    ) -> None:
        out, before = finished
        claim(out, Task(task.model, task.dataset, task.configs, 8, 5))
        for other in (
            Task(task.model, task.dataset, dict(list(task.configs.items())[1:]), 8, 3),
            Task(task.model, task.dataset, task.configs, 9, 3),
            Task(task.model, task.dataset, task.configs, 8, 3, seed=1),
            Task(replace(task.model, mu=task.model.mu + 1), task.dataset, task.configs, 8, 3),
        ):
            with pytest.raises(LabError, match="differs in"):
                claim(out, other)
        assert before.repeats == 3

    def test_a_folder_of_something_else_is_left_alone(self, task: Task, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").write_text("x")
        with pytest.raises(LabError, match="not empty"):
            claim(tmp_path, task)
        assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]

    def test_a_damaged_shard_is_named(self, task: Task, tmp_path: Path) -> None:
        run_shards(task, tmp_path / "out")
        shard = tmp_path / "out" / "shards" / "001-r000.npz"
        shard.write_bytes(shard.read_bytes()[:200])
        with pytest.raises(LabError, match=r"001-r000\.npz is damaged"):
            summarize(task, tmp_path / "out")

    def test_few_seeds_are_said_to_be_few(self, task: Task, tmp_path: Path) -> None:
        one = evaluate(
            Task(task.model, task.dataset, {"EM": task.configs["EM"]}, 8, 1, directions=20), tmp_path / "o"
        )
        assert one.interval == "bootstrap"
        assert one.rows[0].quality.low < one.rows[0].quality.value < one.rows[0].quality.high
        assert any("bootstrap" in line for line in reading(one))


class TestReport:
    def test_is_one_page_that_asks_nothing_of_a_network(self, finished: tuple[Path, Evaluation]) -> None:
        page = (finished[0] / "report.html").read_text()
        markup = re.sub(r"<script.*?</script>", "", page, flags=re.S)
        assert not re.search(r"(src|href)\s*=|@import|url\(", markup)
        assert not re.search(r"<script[^>]+src=", page)
        # The order of pairs is drawn where there is any.
        assert page.count("Plotly.newPlot(") == 3 + bool(finished[1].pairs())
        assert "plotly.js v" in page

    def test_nothing_told_apart_is_said_in_place_of_an_empty_picture(self) -> None:
        page = evaluation_report(made_up(("a", False, 9, 0.20, 0.02), ("b", True, 3, 0.21, 0.02)))
        assert "All intervals overlap" in page and page.count("Plotly.newPlot(") == 3
        page = evaluation_report(made_up(("a", False, 9, 0.20, 0.02), ("b", True, 3, 0.31, 0.02)))
        assert "All intervals overlap" not in page and page.count("Plotly.newPlot(") == 4

    def test_names_cannot_smuggle_markup(self, finished: tuple[Path, Evaluation]) -> None:
        page = evaluation_report(finished[1])
        assert "<b>every 4" not in page
        assert "EM &lt;b&gt;every 4" in page

    def test_json_and_csv_say_the_same(self, finished: tuple[Path, Evaluation]) -> None:
        stored = json.loads((finished[0] / "results.json").read_text())
        assert [row["config"]["name"] for row in stored["rows"]] == [entry["name"] for entry in TABLE]
        lines = (finished[0] / "results.csv").read_text().splitlines()
        assert len(lines) == 1 + len(TABLE)
        column = lines[0].split(",").index(PRIMARY)
        assert float(lines[1].split(",")[column]) == stored["rows"][0]["metrics"][PRIMARY]["value"]
        assert to_csv(finished[1]).splitlines() == lines
        assert json.loads(json.dumps(to_json(finished[1]))) == stored


def made_up(*rows: tuple[str, bool, float, float, float]) -> Evaluation:
    """Return an evaluation with rows (name, cached, seconds, quality, half width)."""

    def row(name: str, cached: bool, seconds: float, value: float, half: float) -> TableRow:
        config = SamplerConfig(CachePolicy() if cached else None, 10, "ddim")
        timing, base = Interval(seconds, seconds, seconds), rows[0][2]
        quality = Estimate(value, value - half, value + half, (value,) * 3)
        speedup = Interval(base / seconds, base / seconds, base / seconds)
        return TableRow(
            name, config, timing, 1.0, 1.0, seconds * 1e9, {PRIMARY: quality}, speedup, None, None, 1
        )

    return Evaluation(
        checkpoint="c",
        dataset="d",
        digest="0" * 64,
        num=10,
        repeats=3,
        seed=0,
        batch=10,
        heldout=20,
        machine={},
        reference=rows[0][0],
        interval="seeds",
        titles={PRIMARY: "Sliced Wasserstein (time)"},
        units={PRIMARY: "std"},
        floors={PRIMARY: Floor(0.1, 0.09, 0.11, (10, 20), 20)},
        rows=tuple(row(*r) for r in rows),
    )


class TestWhatIsClaimed:
    def test_only_pairs_with_separate_intervals_are_ordered(self) -> None:
        e = made_up(("a", False, 9, 0.20, 0.02), ("b", True, 3, 0.23, 0.02), ("c", True, 1, 0.30, 0.02))
        assert e.pairs() == [("a", "c"), ("b", "c")]

    def test_the_front_holds_what_nothing_beats(self) -> None:
        e = made_up(
            ("a", False, 9, 0.20, 0.01),
            ("b", True, 3, 0.25, 0.01),
            ("beaten", True, 4, 0.26, 0.01),
            ("c", True, 1, 0.30, 0.01),
            ("twin of c", True, 1, 0.30, 0.01),
        )
        assert e.front(lambda row: row.seconds.value) == {"a", "b", "c", "twin of c"}

    def test_caching_is_told_off_where_a_solver_is_faster(self) -> None:
        e = made_up(("a", False, 9, 0.20, 0.02), ("b", False, 1, 0.21, 0.02), ("c", True, 2, 0.20, 0.02))
        text = " ".join(reading(e))
        assert "Caching does not pay here" in text
        assert "2.00 times slower than the best solver alone" in text

    def test_caching_is_praised_where_it_wins_at_equal_quality_only(self) -> None:
        fast_but_bad = ("d", True, 0.1, 0.40, 0.02)
        e = made_up(
            ("a", False, 9, 0.20, 0.02), ("b", False, 3, 0.21, 0.02), ("c", True, 2, 0.2, 0.02), fast_but_bad
        )
        text = " ".join(reading(e))
        assert "1.50 times faster than the best solver alone" in text
        assert "does not pay" not in text
        assert "is c:" in text

    def test_no_row_good_enough_is_said(self) -> None:
        e = made_up(("a", False, 9, 0.20, 0.02), ("c", True, 2, 0.3, 0.02))
        assert "No row with E²-CRF is as good as the reference." in reading(e)

    def test_other_seeds_agree_on_the_order_of_pairs_told_apart(
        self, task: Task, finished: tuple[Path, Evaluation], tmp_path: Path
    ) -> None:
        again = evaluate(
            Task(task.model, task.dataset, task.configs, 8, 3, seed=100, directions=50),
            tmp_path / "out",
        )
        both = {frozenset(pair): pair for pair in finished[1].pairs()}
        for pair in again.pairs():
            assert both.get(frozenset(pair), pair) == pair


class TestCommand:
    def test_runs_and_writes(
        self,
        assets: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setenv("E2CRF_ASSETS", str(assets))
        table = tmp_path / "table.json"
        table.write_text(json.dumps(TABLE[2:]))
        options = ["eval", "--checkpoint", "ecg", "--configs", str(table), "--out", str(tmp_path / "report")]
        small = ["--num", "4", "--repeats", "1", "--directions", "10", "--device", "cpu"]
        assert main([*options, *small]) == 0
        assert {"results.json", "results.csv", "report.html"} <= {
            p.name for p in (tmp_path / "report").iterdir()
        }
        assert "The reference is DPM++" in capsys.readouterr().out
        table.write_text(json.dumps(TABLE[1:]))
        assert main([*options, *small]) == 2
        error = capsys.readouterr().err.splitlines()
        assert error[-1].startswith("error: ") and "differs in configs" in error[-1]

    @pytest.mark.parametrize("content", [b"[1]", b"\xff\xfe", None])
    def test_bad_files_give_one_line(
        self, content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        table = tmp_path / "table.json"
        if content is not None:
            table.write_bytes(content)
        assert main(["eval", "--configs", str(table), "--out", str(tmp_path / "o")]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_blocks_join_windows_that_overlap() -> None:
    data = load_dataset("ecg")
    blocks = heldout_blocks(data)
    start, group = data.start[data.heldout], data.group[data.heldout]
    assert len(blocks) == len(data.heldout)
    for label in np.unique(blocks)[:20]:
        members = np.flatnonzero(blocks == label)
        assert len(set(group[members])) == 1
        assert np.all(np.diff(np.sort(start[members])) < data.length)


class TestLearnedScores:
    def test_rows_get_them_on_demand_with_floors(
        self, task: Task, finished: tuple[Path, Evaluation], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Learned scores appear with a row's other values: in the table, the order of pairs and the CSV."""
        for function in (learned.discriminative_score, learned.predictive_score):
            quick = functools.partial(function, steps=4)
            monkeypatch.setattr(f"e2crf_core.quality.learned_scores.{function.__name__}", quick)
        quick = functools.partial(learned.context_fid_metric, steps=4, dimension=4)
        monkeypatch.setattr("e2crf_core.quality.learned_scores.context_fid_metric", quick)
        shares: list[tuple[int, int]] = []
        data = task.dataset
        few = np.full(len(data.split), 2, dtype=data.split.dtype)
        few[data.train[:48]], few[data.heldout[:40]] = 0, 1
        two = replace(task, dataset=replace(data, split=few), configs=dict(list(task.configs.items())[:2]))
        scored = summarize(two, finished[0], learned=lambda done, total: shares.append((done, total)))
        names = set(scored.titles) - set(finished[1].titles)
        assert names == {"discriminative_score", "predictive_score", "context_fid"} == set(NAMES)
        done = [one for one, _ in shares]
        assert done == sorted(done) and done[-1] > 950
        for row in scored.rows:
            assert all(len(row.metrics[name].values) == 3 for name in names)
            assert all(row.metrics[name].low <= row.metrics[name].value for name in names)
        exact, plain = scored.row("EM exact"), scored.row("EM")
        assert exact.metrics["predictive_score"].values == pytest.approx(
            plain.metrics["predictive_score"].values, rel=1e-3
        )
        assert scored.floors["context_fid"].value > 0
        assert "context_fid_low" in to_csv(scored).splitlines()[0]
        assert "Discriminative score" in evaluation_report(scored)

    def test_too_few_samples_are_refused_before_the_hours(self, task: Task, tmp_path: Path) -> None:
        with pytest.raises(LabError, match="at least 8"):
            evaluate(replace(task, num=4), tmp_path / "out", learned=True)
        assert not (tmp_path / "out").exists()

    def test_can_be_cancelled(self, task: Task) -> None:
        data = task.dataset
        held, train = (data.standardize(data.x[part][:16]) for part in (data.heldout, data.train))
        with pytest.raises(Cancelled):
            learned_scores([[held]], held, train, cancelled=lambda: True)


def test_it_says_how_many_samples_a_figure_needs(finished: tuple[Path, Evaluation]) -> None:
    e = finished[1]
    assert set(e.stable) == set(e.titles)
    assert all(curve.sizes == (8, 16, 24) for curve in e.stable.values())
    assert json.loads((finished[0] / "results.json").read_text())["stable"][PRIMARY]["sizes"] == [
        8,
        16,
        24,
    ]
    said = " ".join(reading(e))
    assert "Even all 24 samples" in said or "samples on" in said
    enough = replace(e, stable={PRIMARY: replace(e.stable[PRIMARY], size=16)})
    assert "known to within 5% from 16 samples on" in " ".join(reading(enough))
    assert "<td>16</td>" in evaluation_report(enough)


def test_a_shard_in_the_place_of_another_is_refused(task: Task, tmp_path: Path) -> None:
    """Neither another row's shard nor that of another evaluation is taken for the one with its name."""
    for folder, seed in (("one", 0), ("other", 1)):
        run_shards(replace(task, seed=seed, num=4, repeats=1), tmp_path / folder)
    shards = tmp_path / "one" / "shards"
    for source in (shards / "001-r000.npz", tmp_path / "other" / "shards" / "000-r000.npz"):
        shutil.copy(source, shards / "000-r000.npz")
        with pytest.raises(LabError, match="damaged or from elsewhere"):
            read_shard(shards / "000-r000.npz")
    assert len(read_shard(shards / "001-r000.npz").series) == 4
