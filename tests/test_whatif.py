"""What-if and the real run: schedules are exact, drift is close, unpredictable cases are rejected."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from e2crf_core.caching.policy import PRESETS, CachePolicy
from e2crf_core.errors import LabError
from e2crf_core.runs.archive import of_handle
from e2crf_core.runs.run import RunSpec
from e2crf_core.runs.whatif import cost_line, margin, predict, predictable, trace
from e2crf_core.sampling.config import SamplerConfig
from tests import tiny
from tests.conftest import make_model

MODEL = replace(make_model(), dataset="")


def recorded(policy, num=4, watch=1, seed=3):
    spec = RunSpec("test", num, seed, SamplerConfig(policy, 120), "cpu", watch=watch, compare=False)
    return of_handle(tiny.ended(spec, MODEL))


@pytest.fixture(scope="module")
def base():
    archive = recorded(PRESETS["balanced"])
    return archive, trace(archive, MODEL)


@pytest.mark.parametrize(
    "policy",
    [
        CachePolicy(trigger="log_snr", tau=0.06),
        CachePolicy(trigger="log_snr", tau=0.54, k_low=3, refresh_every=20),
        CachePolicy(trigger="log_snr", tau=0.3, clock="profile"),
        CachePolicy(trigger="bands", bands=((4, 0.1), (100000, 0.5)), probe_share=0.1, k_low=0),
        CachePolicy(trigger="fixed", refresh_every=7, probe_share=0.2),
        CachePolicy(trigger="log_snr", tau=0.2, start=1.7),
        CachePolicy(trigger="always"),
        CachePolicy(trigger="never"),
    ],
)
def test_a_schedule_is_predicted_decision_by_decision(base, policy):
    archive, seen = base
    said, real = predict(archive, seen, policy), recorded(policy)
    np.testing.assert_array_equal(said.reasons, real.recorder.column("reasons"))
    assert said.exact and said.share_low == said.share == said.share_high
    assert said.share == pytest.approx(real.result.token_share)


@pytest.mark.parametrize("factor", [1 / 3, 1.0, 3.0])
@pytest.mark.parametrize(
    ("policy", "error"),
    [
        (CachePolicy(trigger="paper", tau=0.3, k_low=1, refresh_every=50, probe_share=0.02), 0.05),
        (CachePolicy(trigger="paper", tau=0.6, k_low=0, energy_weighting=False, tau_warn=0.9), 0.15),
        (CachePolicy(trigger="gain", tau=0.03), 0.4),
        (PRESETS["paper_literal"].replace(tau=0.1, refresh_every=20), 0.1),
    ],
    ids=["paper", "plain drift", "gain", "literal"],
)
def test_drift_triggers_are_predicted_within_what_is_stated(policy, error, factor):
    archive = recorded(policy)
    wanted = policy.replace(tau=policy.tau * factor)
    said, real = predict(archive, trace(archive, MODEL), wanted), recorded(wanted)
    truth = real.result.token_share
    assert 0.02 < truth < 0.95, "the case says nothing"
    assert said.share == pytest.approx(truth, rel=error)
    assert said.share_low <= truth <= said.share_high and not said.exact


def test_the_published_trigger_is_predicted_from_a_run_with_another(base):
    archive, seen = base
    policy = CachePolicy(trigger="paper", tau=0.3, energy_weighting=False)
    real = recorded(policy).result.token_share
    assert predict(archive, seen, policy).share == pytest.approx(real, rel=0.15)


def test_the_recorded_policy_is_told_as_it_was():
    archive = recorded(CachePolicy(trigger="paper", tau=0.2, k_low=2, refresh_every=40, tau_warn=0.9))
    said = predict(archive, trace(archive, MODEL), archive.spec.policy)
    np.testing.assert_array_equal(said.reasons, archive.recorder.column("reasons"))


def test_more_threshold_never_means_more_work(base):
    archive, seen = base
    for trigger in ("log_snr", "paper"):
        shares = [
            predict(archive, seen, CachePolicy(trigger=trigger, tau=t)).share for t in (0.01, 0.1, 1, 10)
        ]
        assert shares == sorted(shares, reverse=True) and shares[0] > shares[-1]


def test_what_only_the_network_knows_is_refused(base):
    archive, seen = base
    assert "rate" not in predictable(archive) and "gain" not in predictable(archive)
    for policy in (CachePolicy(trigger="gain"), CachePolicy(trigger="rate"), CachePolicy(adapt=True)):
        with pytest.raises(LabError, match=r"record a run|real run"):
            predict(archive, seen, policy)
    with pytest.raises(LabError, match="has changed"):
        trace(archive, make_model(seed=1))


def test_time_is_a_line_through_the_recorded_steps(base):
    archive, seen = base
    said = predict(archive, seen, archive.spec.policy)
    assert said.seconds_low <= said.seconds <= said.seconds_high
    share = np.array([0.0, 0.0, 1.0, 0.5])
    assert cost_line(share, 0.01 + 0.2 * share) == pytest.approx((0.01, 0.2))
    assert cost_line(np.ones(5), np.full(5, 0.3)) == pytest.approx((0.0, 0.3))
    base_cost, slope = cost_line(np.array([0.1, 1.0]), np.array([0.001, 1.0]))
    assert base_cost == 0 and slope > 0


def test_stated_margins_cover_what_was_measured_on_all_shipped_checkpoints() -> None:
    """benchmarks/results/whatif_law_cpu.json: a page must not promise more than `benchmarks.whatif_law` found."""
    path = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "whatif_law_cpu.json"
    rows = [row for row in json.loads(path.read_text())["rows"] if 0.02 <= row["real"] <= 0.95]
    assert {row["checkpoint"] for row in rows} == {"ecg", "wind", "household", "stocks"}
    warned = CachePolicy(trigger="paper", tau_warn=0.3)
    rules = {"paper": warned.replace(tau_warn=0.0), "paper, preset": warned, "paper, warned": warned}
    rules["gain"], rules["log_snr"] = CachePolicy(trigger="gain"), CachePolicy(trigger="log_snr")
    for row in rows:
        rule = rules[row["rule"].removesuffix(", from log_snr")].replace(tau=row["tau"])
        recorded = CachePolicy(trigger=row["from"], tau=row["tau_recorded"])
        # Values are stored to four digits.
        assert abs(math.log(row["predicted"] / row["real"])) <= margin(rule, recorded) + 0.01, row
