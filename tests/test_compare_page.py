"""The compare page: variants as text, runs one after another, and what is said of them."""

import time

import numpy as np
import pytest

from e2crf_core.caching.policy import PRESETS
from e2crf_core.errors import LabError
from pages.ui.common import registry
from pages.ui.common.series_charts import decisions_chart
from pages.ui.compare.variants import DEFAULT, Variant, checked, read, write
from tests.tiny import tiny_assets
from tests.visits import opened

ROWS = "exact,,,euler_maruyama,linear,20;fast,,,euler_maruyama,linear,20;trigger fixed,,5,ddim,log_snr,12"


@pytest.fixture(scope="module")
def assets(tmp_path_factory):
    return tiny_assets(tmp_path_factory.mktemp("assets"), ("ecg",))


@pytest.fixture(autouse=True)
def own_world(monkeypatch, assets, tmp_path):
    monkeypatch.setenv("E2CRF_ASSETS", str(assets))
    monkeypatch.setenv("E2CRF_HOME", str(tmp_path))
    yield
    for run in registry.RUNS._runs.values():
        run.stop()
        assert run.wait(10)
    registry.RUNS._runs.clear()


def test_variants_survive_the_address():
    assert read(write(DEFAULT)) == DEFAULT
    odd = (
        Variant("trigger gain", 1e-3, 7, "heun", "karras", 21),
        Variant("paper", 0.5),
        Variant(solver="ddim:0.3", steps=20),
    )
    assert read(write(odd)) == odd
    for text in ("balanced", "none,,,ddim,linear,20", "fast,,,ddim,linear,x", "fast,-1,,ddim,linear,20"):
        with pytest.raises(LabError):
            read(text)
    for wrong in (Variant(solver="x"), Variant(grid="x"), Variant(steps=1), Variant("trigger fixed", R=0)):
        with pytest.raises(LabError):
            checked(wrong)


def test_a_variant_changes_what_it_names_alone():
    assert Variant("balanced").cache_policy() == PRESETS["balanced"]
    assert Variant("balanced", 0.4).cache_policy() == PRESETS["balanced"].replace(tau=0.4)
    assert Variant("trigger fixed", R=4).cache_policy().refresh_every == 4


def test_rows_run_one_after_another_and_are_measured_on_the_same_noise():
    at = opened("compare", v=ROWS, num="3", seed="4")
    assert "same noise" in at.info[0].value
    at.button[0].click().run()
    job = at.session_state["compare.job"]
    end = time.monotonic() + 60
    while not job.over:
        assert time.monotonic() < end
        at.run()
        assert sum(run.status not in ("done",) for run in job.runs) <= 1
        time.sleep(0.05)
    at.run()
    assert not at.exception, at.exception
    assert [run.status for run in job.runs] == ["done"] * 3
    table = at.dataframe[-1].value
    assert table["Relative L2 to row 1"].iloc[0] == "reference" and len(table) == 3
    frame = at.session_state["compare.summary"][1]
    assert (frame["relative L2 low"] <= frame["relative L2"]).all()
    assert frame["tokens computed %"].iloc[0] == 100 and frame["relative L2"].iloc[0] == 0
    assert (frame["sliced Wasserstein high"] >= frame["sliced Wasserstein"]).all()
    assert len(at.get("plotly_chart")) == 4
    assert at.query_params["v"] and at.query_params["num"] == "3"


def test_nonsense_in_the_address_is_said_and_left_out():
    at = opened("compare", v="fast,,,nonsense,linear,20", num="0", seed="x")
    assert "unknown solver" in at.warning[0].value
    assert at.number_input(key="compare.num").value == 1


def test_decisions_are_means_of_the_steps_that_share_a_cell():
    share = np.zeros((401, 2))
    share[:3, 1] = 1
    figure = decisions_chart([("a", share)], ("#000", "#fff"))
    z = np.array(figure.data[0].z)
    assert z.shape == (2, 134) and z[1, 0] == 100 and z[1, 1] == 0 and not z[0].any()
