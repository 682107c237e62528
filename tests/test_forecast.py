"""Cost and error of a policy without a run: decisions equal those of a run, errors are predicted."""

import numpy as np
import pytest

import e2crf_core
from e2crf_core import CachePolicy, LabError, Sampler
from tests.conftest import make_model
from tests.test_error_model import causal_model

PLAN = {"steps": 14, "solver": "dpmpp_2m", "grid": "log_snr"}
POLICIES = [
    CachePolicy.of("nested"),
    CachePolicy.of("nested").replace(tau=0.3, predictor="hold"),
    CachePolicy(trigger="log_snr", tau=0.8, predictor="linear"),
    CachePolicy(trigger="bands", bands=((4, 0.5), (99, 2.0))),
    CachePolicy(trigger="fixed", refresh_every=4),
    CachePolicy(trigger="always"),
    CachePolicy(trigger="never"),
]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.trigger)
def test_decisions_and_cost_are_those_of_a_run(policy: CachePolicy) -> None:
    model = causal_model()
    forecast = e2crf_core.predict(model, policy, **PLAN, batch=2)
    events = list(Sampler(model, policy, **PLAN).events(2, seed=4))
    assert forecast.prefixes == tuple(int((event.reasons > 0).sum()) for event in events)
    assert forecast.share == pytest.approx(np.mean([event.share for event in events]))
    assert forecast.calls == sum(event.tokens > 0 for event in events)
    assert forecast.low <= forecast.error <= forecast.high
    assert forecast.seconds is not None and forecast.seconds > 0


def test_less_work_is_predicted_to_err_more() -> None:
    model = causal_model()
    forecasts = [
        e2crf_core.predict(model, CachePolicy.of("nested").replace(tau=tau), **PLAN) for tau in (0.3, 0.03)
    ]
    assert forecasts[0].cost < forecasts[1].cost and forecasts[0].error > forecasts[1].error
    exact = e2crf_core.predict(model, CachePolicy(trigger="always"), **PLAN)
    assert exact.error < 1e-9 and exact.cost == pytest.approx(14)


def test_what_a_run_alone_can_show_is_not_predicted() -> None:
    for policy in (
        CachePolicy.of("paper"),
        CachePolicy(trigger="rate"),
        POLICIES[0].replace(probe_share=0.1),
    ):
        with pytest.raises(LabError, match="what a run shows"):
            e2crf_core.predict(causal_model(), policy, **PLAN)
    with pytest.raises(LabError, match="stale keys"):
        e2crf_core.predict(make_model(), POLICIES[3], **PLAN)
