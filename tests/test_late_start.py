"""Late start: no network call before it, F = 0 until then, which is exact for Gaussian data."""

import numpy as np
import pytest
import torch

from e2crf_core.caching.policy import CachePolicy, PolicyError
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.evaluation.anchors import no_network
from e2crf_core.sampling.sampler import Sampler

PLAN = {"steps": 40, "solver": "etd_ab2", "grid": "log_snr"}


def late(start: float, **fields: object) -> CachePolicy:
    return CachePolicy(trigger="log_snr", tau=0.4, predictor="linear", start=start).replace(**fields)


def test_without_any_call_samples_are_those_of_the_model_without_its_network(model: ScoreModel) -> None:
    """The exponential integrator solves the flow of F = 0 exactly, up to the noise level of the last step."""
    made = Sampler(model, late(20.0), **PLAN).sample(6, seed=3)
    assert made.token_share == 0
    np.testing.assert_allclose(made.series, no_network(model, 6, seed=3), atol=2e-3)


def test_no_call_is_made_before_the_start_and_the_first_one_computes_everything(model: ScoreModel) -> None:
    problem, _ = Sampler(model, late(2.0), **PLAN).begin(1, 0)
    moved = np.array(problem.levels) - problem.levels[0]
    events = list(Sampler(model, late(2.0), **PLAN).events(num=3, seed=1))
    shares = np.array([event.share for event in events])
    first = int(np.argmax(moved >= 2.0))
    assert 0 < first < 39 and (shares[:first] == 0).all() and shares[first] == 1
    assert 0 < np.count_nonzero(shares[first:]) < 39


@pytest.mark.parametrize("start", [0.0, 1e-9])
def test_a_start_at_the_first_step_changes_nothing_but_the_first_call(
    model: ScoreModel, start: float
) -> None:
    usual = Sampler(model, CachePolicy(trigger="log_snr", tau=0.4, predictor="linear"), **PLAN).sample(2)
    made = Sampler(model, late(start), **PLAN).sample(2)
    assert np.array_equal(made.tokens, usual.tokens) == (start == 0)


def test_a_sample_is_the_same_alone_and_in_a_batch(model: ScoreModel) -> None:
    policy = CachePolicy(trigger="gain", tau=0.05, probe_share=0.1, correct=True, start=1.5)
    many = Sampler(model, policy, steps=30).sample(4, seed=2)
    alone = Sampler(model, policy, steps=30, batch=1).sample(4, seed=2)
    np.testing.assert_allclose(alone.tokens, many.tokens, rtol=1e-6, atol=1e-8)


def test_rules_that_plan_or_ignore_their_start_do_not_read_it(model: ScoreModel) -> None:
    for trigger in ("always", "never"):
        plain, other = (
            Sampler(model, CachePolicy(trigger=trigger, start=start), steps=12).sample(1).tokens
            for start in (0.0, 3.0)
        )
        assert torch.equal(torch.as_tensor(plain), torch.as_tensor(other))
    with pytest.raises(PolicyError, match="start"):
        late(-1.0)
