"""The Compare page: settings as text, runs one after another, and the texts about their results."""

import numpy as np
import pandas as pd
import pytest

from e2crf_core.caching.policy import PRESETS, CachePolicy
from e2crf_core.errors import LabError
from e2crf_core.sampling.config import SamplerConfig
from pages.ui.common import registry
from pages.ui.common.compared import DEFAULT, cells_of, config_of, name_of, setting_of, settings_of, text_of
from pages.ui.compare.plots import COSTS, ERRORS, decisions_chart, plane_chart
from tests.tiny import tiny_assets
from tests.visits import opened
from tests.waiting import until

ROWS = "exact,,,euler_maruyama,linear,20;fast,,,euler_maruyama,linear,20;trigger fixed,,5,ddim,log_snr,12"


@pytest.fixture(scope="module")
def assets(tmp_path_factory):
    return tiny_assets(tmp_path_factory.mktemp("assets"), ("ecg",))


@pytest.fixture(autouse=True)
def own_world(monkeypatch, assets, tmp_path):
    monkeypatch.setenv("E2CRF_ASSETS", str(assets))
    monkeypatch.setenv("E2CRF_HOME", str(tmp_path))
    yield
    registry.RUNS.close()


def test_settings_survive_the_address():
    assert settings_of(";".join(DEFAULT)) == DEFAULT
    for setting in (*DEFAULT, "trigger gain,0.001,7,heun,karras,21", "paper,0.5,,ddim:0.3,linear,20"):
        assert setting_of(cells_of(setting).values()) == setting
    assert name_of("trigger fixed,,5,ddim,log_snr,12") == "fixed R=5, ddim log_snr, 12"


@pytest.mark.parametrize(
    "wrong",
    [
        "balanced",
        "none,,,ddim,linear,20",
        "fast,,,ddim,linear,x",
        "fast,-1,,ddim,linear,20",
        "fast,,,x,linear,20",
        "fast,,,ddim,x,20",
        "fast,,,ddim,linear,1",
        "trigger fixed,,0,ddim,linear,20",
        "trigger bands nonsense=3,,,ddim,linear,20",
        "trigger bands bands=3,,,ddim,linear,20",
        "fast tau,,,ddim,linear,20",
    ],
)
def test_a_setting_that_cannot_run_is_refused(wrong):
    with pytest.raises(LabError):
        settings_of(wrong)


def test_a_setting_changes_what_it_names_alone():
    config = config_of("balanced,,,ddim,linear,20")
    assert (config.policy, config.plan) == (PRESETS["balanced"], ("ddim", "linear", 20))
    assert config_of("balanced,0.4,,ddim,linear,20").policy == PRESETS["balanced"].replace(tau=0.4)
    assert config_of("trigger fixed,,4,ddim,linear,20").policy.refresh_every == 4


@pytest.mark.parametrize(
    "policy",
    [
        *PRESETS.values(),
        CachePolicy(trigger="paper", tau=0.3, k_low=1, probe_share=0.05, refresh_every=20),
        CachePolicy(trigger="bands", bands=((16, 0.2), (100_000, 0.6)), correct=True, predictor="linear"),
        CachePolicy(tau=1 / 3, predictor_split=8, predictor_above="linear", energy_weighting=False),
    ],
)
def test_any_policy_can_be_a_row(policy):
    config = SamplerConfig(policy, 20, "dpmpp_2m", "profile")
    setting = text_of(config)
    assert config_of(setting) == config and settings_of(f"{setting};{setting}") == (setting, setting)
    assert setting_of(cells_of(setting).values()) == setting


def test_a_second_link_in_one_session_shows_its_rows():
    at = opened("compare", v=ROWS, num="3", seed="4")
    rows = "trigger bands bands=8:0.1/100000:0.4,,,ddim,linear,20;exact,,,ddim,linear,20"
    at.query_params["v"] = rows
    at.run()
    assert not at.exception and at.query_params["v"] == rows
    assert list(at.session_state["compare.start"]["policy"])[1] == "exact"


def test_rows_run_one_after_another_and_are_measured_on_the_same_noise():
    at = opened("compare", v=ROWS, num="3", seed="4")
    assert "same noise" in at.info[0].value
    at.button[0].click().run()
    job = at.session_state["compare.job"]

    def over():
        at.run()
        assert sum(run.status != "done" for run in job.runs) <= 1
        return job.over

    until(over)
    at.run()
    assert not at.exception, at.exception
    assert [run.status for run in job.runs] == ["done"] * 3
    table = at.dataframe[-1].value
    assert table["Relative L2 to row 1"].iloc[0] == "reference" and len(table) == 3
    frame = at.session_state["compare.summary"][1]
    assert (frame["relative L2 low"] <= frame["relative L2"]).all()
    assert frame["tokens computed %"].iloc[0] == 100 and frame["relative L2"].iloc[0] == 0
    assert (frame["marginal Wasserstein high"] >= frame["marginal Wasserstein"]).all()
    assert table["Compared with row 1"].iloc[0] == "reference"
    assert frame["times faster"].iloc[0] == frame["times fewer calls"].iloc[0] == 1
    assert (frame["times fewer calls"].iloc[1:] > 1).all()
    assert set(frame["verdict"]) <= {"as good", "worse", "undecided", "too few samples"}
    assert len(at.get("plotly_chart")) == 5
    assert at.query_params["v"] and at.query_params["num"] == "3"


def test_nonsense_in_the_address_is_said_and_left_out():
    at = opened("compare", v="fast,,,nonsense,linear,20", num="0", seed="x")
    assert "Unknown solver" in at.warning[0].value
    assert at.number_input(key="compare.num").value == 1


def test_decisions_are_means_of_the_steps_that_share_a_cell():
    share = np.zeros((401, 2))
    share[:3, 1] = 1
    figure = decisions_chart([("a", share)], ("#000", "#fff"))
    z = np.array(figure.data[0].z)
    assert z.shape == (2, 134) and z[1, 0] == 100 and z[1, 1] == 0 and not z[0].any()


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("error", ERRORS)
def test_the_plane_has_a_mark_with_its_interval_for_each_row(cost, error):
    rows = {"setting": ["a", "b", "c"], "full calls": [40.0, 8.0, 5.0], "seconds": [2.0, 0.5, 0.4]}
    for name, middle in (("relative L2", [0.0, 0.1, 0.3]), ("change %", [0.0, 1.0, np.nan])):
        rows |= {
            name: middle,
            f"{name} low": [v - 0.05 for v in middle],
            f"{name} high": [v + 0.1 for v in middle],
        }
    figure = plane_chart(pd.DataFrame(rows), ["#000", "#111", "#222"], cost=cost, error=error)
    # A row that was not judged has no change in distance.
    assert [trace.name for trace in figure.data] == ["1: a", "2: b", "3: c"][: 3 if error == "twin" else 2]
    first, second, *_ = figure.data
    assert first.mode == ("lines" if error == "twin" else "markers+text") and set(first.x) <= {40.0, 2.0}
    assert second.x[0] == (8.0 if cost == "calls" else 0.5)
    assert second.error_y.array[0] == pytest.approx(0.1) and second.error_y.arrayminus[0] == pytest.approx(
        0.05
    )
