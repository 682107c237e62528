"""The registry of triggers: a new rule is one small class, and all other code finds it there."""

from collections.abc import Iterator
from dataclasses import fields

import numpy as np
import pytest
import torch

from e2crf_core import CachePolicy, PolicyError, Reason, Sampler, ScoreModel
from e2crf_core.caching.triggers import COMMON, TRIGGERS, Trigger, deciding, input_drift, register, schedules


class Drift(Trigger):
    """A custom rule."""

    name, help = "own drift", "drift of a token's input"
    reads = COMMON | {"tau", "bands"}
    depends = "states"

    def score(self, policy, problem, state):
        """|c_in z - u|²."""
        return input_drift(problem, state).cpu().double()

    def faults(self, policy):
        """An arbitrary demand."""
        return ["tau: must stay below 100"] if policy.tau >= 100 else []


@pytest.fixture
def own() -> Iterator[str]:
    register(Drift)
    yield Drift.name
    del TRIGGERS[Drift.name]


def test_a_registered_rule_runs_validates_and_shows_its_fields(own: str, model: ScoreModel) -> None:
    policy = CachePolicy(trigger=own, tau=0.5)
    assert CachePolicy.from_json(policy.to_json()) == policy and policy.rule.name == own
    made = Sampler(model, policy, steps=30).sample(2, 1)
    plain = Sampler(model, CachePolicy(trigger="always"), steps=30).sample(2, 1)
    assert made.token_share < 1 and np.isfinite(made.tokens).all()
    assert np.linalg.norm(made.tokens - plain.tokens) < np.linalg.norm(plain.tokens)
    with pytest.raises(PolicyError, match="below 100"):
        policy.replace(tau=200.0)
    read = {f.name for f in fields(CachePolicy) if own in f.metadata["triggers"]}
    assert read == {"trigger", *Drift.reads}
    assert own in deciding() and own not in schedules()
    assert own in {f.name: f for f in fields(CachePolicy)}["trigger"].metadata["choices"]


def test_an_unregistered_rule_is_rejected_again(own: str) -> None:
    policy = CachePolicy(trigger=own)
    kept = TRIGGERS.pop(own)
    with pytest.raises(PolicyError, match=own):
        CachePolicy.from_json('{"schema": 1, "trigger": "own drift"}')
    TRIGGERS[own] = kept
    assert policy.replace(tau=1.0).trigger == own


def test_two_rules_cannot_share_a_name() -> None:
    class Other(Drift):
        name = "log_snr"

    with pytest.raises(ValueError, match="log_snr"):
        register(Other)


@pytest.mark.parametrize("name", TRIGGERS)
def test_every_rule_has_a_sensible_policy_and_describes_itself(name: str, model: ScoreModel) -> None:
    policy, rule = CachePolicy.of(name), TRIGGERS[name]
    assert policy.rule is rule and rule.help and rule.describe(policy)
    assert rule.reads <= {f.name for f in fields(CachePolicy)} and rule.needs <= rule.reads
    if rule.verdict is None:
        more, less = (policy.replace(**rule.scaled(policy, factor)) for factor in (0.25, 4.0))
        shares = [Sampler(model, p, steps=40).sample(2).token_share for p in (more, less)]
        assert shares[0] >= shares[1]
        known = rule.search_range(10.0)
        assert known is None or (known[0] in rule.reads and 0 < known[1] < known[2])


@pytest.mark.parametrize("name", TRIGGERS)
def test_schedules_decide_alike_for_every_sample(name: str, model: ScoreModel) -> None:
    policy = CachePolicy(trigger=name, **{key: TRIGGERS[name].base[key] for key in TRIGGERS[name].needs})
    events = list(Sampler(model, policy, steps=40).events(num=3, seed=4))
    reasons = torch.as_tensor(np.stack([event.batch_reasons for event in events]))
    if name in schedules():
        assert (reasons == reasons[:, :1]).all()
    if TRIGGERS[name].whole:
        computed = reasons != Reason.REUSED
        assert (computed.all(-1) == computed.any(-1)).all()
    if name in schedules(whole=True):
        assert ((reasons != Reason.REUSED).float().mean((1, 2)) % 1 == 0).all()
