"""The suite checks shapes: a wrong shape is an error where it arises, not several steps later."""

from dataclasses import replace

import pytest
import torch
from jaxtyping import TypeCheckError

from e2crf_core import CachePolicy, Sampler, ScoreModel
from e2crf_core.caching.feedback import adapt
from e2crf_core.network.forward import attend


def test_keys_and_values_must_fit_together() -> None:
    q, k = torch.zeros(2, 3, 4), torch.zeros(2, 5, 4)
    assert attend(q, k, k, heads=2).shape == q.shape
    with pytest.raises(TypeCheckError):
        attend(q, k, torch.zeros(2, 6, 4), heads=2)


def test_values_of_each_sample_must_fit_together() -> None:
    with pytest.raises(TypeCheckError):
        adapt(torch.ones(3), torch.ones(4), 0.1)


def test_a_cache_of_mixed_batch_sizes_cannot_be_made(model: ScoreModel) -> None:
    *_, last = Sampler(model, CachePolicy(), steps=12).steps(2, 0)
    cache = last.after.cache
    assert cache is not None
    with pytest.raises(TypeCheckError):
        replace(cache, u=cache.u[:1])
