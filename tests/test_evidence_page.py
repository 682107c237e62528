"""The Evidence page: what results show, no claims from few seeds, and clear messages about damaged files."""

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from e2crf_core.caching.policy import CachePolicy
from e2crf_core.errors import LabError
from e2crf_core.evaluation.results import to_json
from e2crf_core.quality.protocol import PRIMARY
from pages.ui.evidence import gains, solver_table, trigger_study
from pages.ui.evidence.gains import Budget
from pages.ui.evidence.trigger_study import BANDS, TOKENS, WHOLE, read_studies
from tests.test_evaluation import made_up
from tests.visits import opened, text

SHARES = (0.02, 0.06, 0.3)
LOCALIZED = {"wind": 0.1, "household": 0.3, "ecg": 0.5}


def row(family, place, share, l2, policy, **extra):
    return {
        "name": f"{family} {place}",
        "family": family,
        "token_share": share,
        "flops": 1e9 * share,
        "relative_l2": None if l2 is None else float(np.mean(l2)),
        "relative_l2_values": l2,
        "distance": [0.2, 0.19, 0.21] if l2 is None else [0.21, 0.2, 0.22],
        "verdict": None if l2 is None else "undecided",
        "config": {"name": family, "policy": None if policy is None else asdict(policy), **extra},
    }


def study(dataset, seeds=3):
    """Return a study: bands gain with localization, token drift is twice as bad, experiments are close."""
    rng = np.random.default_rng(len(dataset))
    factors = {
        "log_snr, hold": (1.0, CachePolicy()),
        "fixed, hold": (1.6, CachePolicy(trigger="fixed", refresh_every=3)),
        "bands, linear": (0.5 + LOCALIZED[dataset], CachePolicy(trigger="bands", predictor="linear")),
        "gain, hold": (2.0, CachePolicy(trigger="gain")),
    }
    rows = [{**row("no", "cache", 1.0, None, None), "name": "no cache", "family": "no"}]
    for family, (factor, policy) in factors.items():
        for place, share in enumerate(SHARES):
            l2 = (factor * 0.01 / share * (1 + 0.01 * rng.standard_normal(seeds))).tolist()
            rows.append(row(family, place, share, l2, policy))
    rows.append(row("(drift), hold", 1, 0.1, [0.5] * seeds, CachePolicy(), rule="drift"))
    return {
        "dataset": dataset,
        "num": 8,
        "repeats": seeds,
        "steps": 100,
        "machine": {"cores": 2, "gpu": None},
        "causal": True,
        "floor": [0.15, 0.14, 0.16],
        "localization": {"tokens_for_90": LOCALIZED[dataset], "constant": 1.0},
        "rows": rows,
    }


def evaluation():
    e = made_up(
        ("EM", False, 9, 0.20, 0.02), ("DPM++", False, 1, 0.21, 0.02), ("EM cached", True, 2, 0.20, 0.02)
    )
    return json.loads(json.dumps(to_json(e)))


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Provide an empty results folder."""
    monkeypatch.setenv("E2CRF_RESULTS", str(tmp_path))
    return tmp_path


@pytest.fixture
def filled(results):
    """Provide results of all three kinds."""
    (results / "trigger_study.json").write_text(json.dumps({d: study(d) for d in LOCALIZED}))
    (results / "solver_study_cpu.json").write_text(json.dumps({"c": evaluation()}))
    (results / "paper_tables_quick.md").write_text(
        "# Title\n\n## Table 2: both domains\n\n| a | b |\n|---|---|\n|1|2|\n"
    )
    return results


class TestWhatIsRead:
    def test_kinds_follow_from_trigger_or_rule(self, filled):
        one = read_studies(filled / "trigger_study.json")["ecg"]
        kinds = {family: settings[0].kind for family, settings in one.families.items()}
        assert kinds == {
            "log_snr, hold": WHOLE,
            "fixed, hold": WHOLE,
            "bands, linear": BANDS,
            "gain, hold": TOKENS,
            "(drift), hold": TOKENS,
        }
        assert trigger_study.kind_of("(pilot bands), linear", {"rule": "pilot bands"}) == BANDS
        assert trigger_study.kind_of("(pilot), hold", {"rule": "pilot"}) == WHOLE

    def test_equal_share_lies_between_settings_on_the_law_that_made_them(self, filled):
        """Errors here are c / share, a straight line in logarithms, which interpolation must reproduce."""
        one = read_studies(filled / "trigger_study.json")["ecg"]
        settings = one.families["log_snr, hold"]
        values = gains.curve_at(one, settings, Budget(0.05))
        assert values is not None and np.allclose(values, 0.2, rtol=0.05)
        assert gains.curve_at(one, settings, Budget(0.01)) is None
        assert gains.curve_at(one, settings, Budget(0.5)) is None

    @pytest.mark.parametrize("dataset", LOCALIZED)
    def test_gains_are_those_put_in(self, filled, dataset):
        one = read_studies(filled / "trigger_study.json")[dataset]
        gain = gains.gain_at(one, Budget(0.05), BANDS)
        assert gain.ratio == pytest.approx(0.5 + LOCALIZED[dataset], rel=0.03)
        assert gain.low < gain.ratio < gain.high
        assert gain.whole.family == "log_snr, hold"
        # 0.6 and 0.8 are distinguished from 1; on ecg there is no difference to find.
        assert gain.certain == (dataset != "ecg")
        tokens = gains.gain_at(one, Budget(0.05), TOKENS)
        assert tokens.certain and "loses" in gains.gain_sentence(tokens)

    def test_who_pays_depends_on_what_is_paid_with(self, results):
        """Errors are c / share: events with twice the operations per token have twice the error at equal operations."""
        made = study("wind")
        for one in made["rows"]:
            if one["family"] == "bands, linear":
                one["flops"] *= 2
        (results / "trigger_study.json").write_text(json.dumps({"wind": made}))
        read = read_studies(results / "trigger_study.json")["wind"]
        ratios = {work: gains.gain_at(read, Budget(0.08, work), BANDS).ratio for work in gains.WORKS}
        assert ratios["tokens"] == pytest.approx(0.6, rel=0.03)
        assert ratios["flops"] == pytest.approx(1.2, rel=0.03)
        assert "8% of the operations" in gains.verdict(read, Budget(0.08, "flops"))[0]

    def test_a_setting_that_costs_more_and_errs_more_does_not_bend_its_familys_curve(self, filled):
        one = read_studies(filled / "trigger_study.json")["ecg"]
        settings = one.families["log_snr, hold"]
        worse = replace(settings[0], name="worse", token_share=0.05)
        assert gains.curve_at(one, [*settings, worse], Budget(0.05)) == gains.curve_at(
            one, settings, Budget(0.05)
        )

    def test_nested_plans_go_band_by_band_where_bands_can_be_computed_alone(self):
        nested = {"policy": {"trigger": "nested"}}
        assert trigger_study.kind_of("nested, linear", nested, causal=True) == BANDS
        assert trigger_study.kind_of("nested, linear", nested, causal=False) == WHOLE

    def test_one_seed_excludes_no_chance(self, results):
        (results / "trigger_study_quick.json").write_text(json.dumps({"wind": study("wind", 1)}))
        one = read_studies(results / "trigger_study_quick.json")["wind"]
        gain = gains.gain_at(one, Budget(0.05), BANDS)
        assert gain.certain is None and "too few seeds" in gains.gain_sentence(gain)

    def test_localization_orders_what_bands_gain(self, filled):
        found = list(read_studies(filled / "trigger_study.json").values())
        f = gains.foresight(found, Budget(0.05), "tokens_for_90", BANDS)
        assert f.rank == pytest.approx(1.0) and len(f.names) == 3
        said = gains.foresight_sentence(found, Budget(0.05), BANDS)
        assert "is smaller" in said and "do not prove" in said
        assert gains.foresight(found, Budget(0.05), "constant", BANDS).rank is None

    def test_calls_are_operations_over_those_of_one_call(self, filled):
        table = solver_table.read_tables(filled / "solver_study_cpu.json")["c"]
        reference = next(r for r in table.rows if r.config.name == table.reference)
        assert table.calls(reference) == pytest.approx(reference.config.steps)
        assert table.front(lambda r: r.seconds.value, next(iter(table.titles))) == {"EM cached", "DPM++"}
        assert len(solver_table.table_frame(table)) == 3

    @pytest.mark.parametrize(
        "change",
        [
            lambda s: s.pop("rows"),
            lambda s: s["rows"].pop(0),
            lambda s: s["rows"][1].update(token_share=0),
            lambda s: s["rows"][1].update(flops=math.nan),
            lambda s: s["rows"][1].update(distance=[1, 2]),
            lambda s: s["rows"][1].update(verdict="fine"),
            lambda s: s["rows"][1].update(relative_l2_values="abc"),
            lambda s: s.update(localization=[1]),
        ],
    )
    def test_damage_is_named(self, results, change):
        one = study("wind")
        change(one)
        path = results / "trigger_study.json"
        path.write_text(json.dumps({"wind": one}))
        with pytest.raises(LabError, match=r"trigger_study\.json is damaged.*benchmarks\.trigger_study"):
            read_studies(path)


def test_solvers_are_compared_by_the_primary_distance_at_first():
    at = opened("evidence", view="solvers")
    assert at.selectbox(key="metric").value == PRIMARY and "metric" not in at.query_params


class TestPage:
    def test_a_checkout_without_results_says_what_makes_them(self, results):
        for view, command in (
            ("triggers", "python -m benchmarks.trigger_study"),
            ("solvers", "python -m benchmarks.solver_study"),
            ("tables", "make paper-tables"),
        ):
            at = opened("evidence", view=view)
            assert at.code[0].value == command
            assert "cores" in at.info[0].value

    def test_a_visitor_reads_the_study_and_turns_its_axes(self, filled):
        at = opened("evidence", view="triggers")
        assert len(at.get("plotly_chart")) == 2
        said = text(at)
        assert "**pays**" in said and "**loses**" in said and "no certain difference" in said
        assert "Quick measurement" not in said
        at.session_state["cost"], at.session_state["error"] = "flops", "mw"
        at.run()
        assert not at.exception, at.exception
        spec = json.loads(at.get("plotly_chart")[0].proto.spec)
        traces = spec["data"]
        assert any(t.get("text") == ["real data", ""] for t in traces)
        assert any("error_y" in t and t["name"] == "bands, linear" for t in traces)
        assert at.query_params["cost"] in ("flops", ["flops"])
        at.session_state["sets"] = ["wind"]
        at.session_state["share"] = "3%"
        at.run()
        assert not at.exception, at.exception
        frame = at.dataframe[-1].value
        assert set(frame["data set"]) == {"wind"} and len(frame) == 1 + 4 * len(SHARES) + 1

    def test_a_link_opens_what_its_sender_saw_and_nonsense_is_left_out(self, filled):
        at = opened(
            "evidence",
            view="triggers",
            sets="wind,mars",
            families="gain, hold;none",
            share="7%",
            cost="money",
        )
        assert at.session_state["sets"] == ["wind"] and at.session_state["families"] == ["gain, hold"]
        assert at.session_state["share"] == "5%" and at.session_state["cost"] == "tokens"

    def test_solvers_are_drawn_with_their_floor_and_their_reading(self, filled):
        at = opened("evidence", view="solvers", work="calls")
        traces = json.loads(at.get("plotly_chart")[0].proto.spec)["data"]
        named = {t.get("name") for t in traces}
        assert {"ddim", "ddim + E²-CRF", "Pareto front"} <= named
        assert "does not pay here" in text(at)

    def test_error_to_the_converged_solution_is_offered_where_it_was_measured(self, filled):
        stored = evaluation() | {
            "to_converged": {"DPM++": [0.2, 0.22, 0.24], "EM cached": [0.1, 0.11, 0.12]},
        }
        (filled / "solver_study_cpu.json").write_text(json.dumps({"c": stored}))
        table = solver_table.read_tables(filled / "solver_study_cpu.json")["c"]
        assert [row.config.name for row in table.rated(solver_table.CONVERGED)] == ["DPM++", "EM cached"]
        at = opened("evidence", view="solvers", metric=solver_table.CONVERGED)
        drawn = json.loads(at.get("plotly_chart")[0].proto.spec)
        names = {row[0] for trace in drawn["data"] for row in trace.get("customdata", [])}
        assert names == {"DPM++", "EM cached"}
        said = text(at)
        assert "left out" in said and "band is real data" not in said

    def test_quick_forms_are_said_to_be_quick(self, filled):
        at = opened("evidence", view="tables")
        assert "Quick measurement" in at.warning[0].value
        assert "#### Table 2" in text(at) and "# Title" not in text(at)
        (filled / "paper_tables_full.md").write_text("# T\n\nfull figures\n")
        at = opened("evidence", view="tables")
        assert not at.warning and "full figures" in text(at)

    def test_damage_does_not_take_the_page_down(self, filled):
        for name in ("trigger_study.json", "solver_study_cpu.json"):
            (filled / name).write_text('{"ecg": {"rows": [')
        (filled / "paper_tables_quick.md").write_bytes(b"\xff\xfe\x00")
        for view, name in (
            ("triggers", "trigger_study"),
            ("solvers", "solver_study"),
            ("tables", "paper_tables"),
        ):
            at = opened("evidence", view=view)
            assert name in at.error[0].value and len(at.error) == 1
