"""The benchmark scripts work: their tables can be read, and experimental rules obey the cache's laws."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import paper_tables, token_skipping, trigger_experiments, trigger_study
from e2crf_core.caching.policy import CachePolicy
from e2crf_core.caching.triggers import TRIGGERS
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.evaluation.config import load_configs
from e2crf_core.sampling.sampler import Sampler

CONFIGS = sorted((Path(paper_tables.__file__).parent / "configs").glob("*.json"))
PLAN = {"steps": 60, "solver": "euler_maruyama", "grid": "linear"}


@pytest.fixture(autouse=True)
def experiments() -> Iterator[None]:
    """Register the rules of the benchmarks for these tests only."""
    kept = dict(TRIGGERS)
    trigger_experiments.register_experiments()
    yield
    TRIGGERS.clear()
    TRIGGERS.update(kept)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_tables_can_be_read_and_have_a_reference(path: Path) -> None:
    configs = load_configs(path)
    assert any(config.policy is None for config in configs.values())


def test_published_rows_are_rows_of_ours() -> None:
    for name in ("ablation", "sensitivity"):
        assert set(paper_tables.PUBLISHED[name]) <= set(paper_tables.table(name))


def test_the_quick_form_scales_steps_and_refreshes_alike() -> None:
    for row in paper_tables.table("ablation", "sensitivity").values():
        quick = paper_tables.scaled(row, 0.1)
        if row.solver != "euler_maruyama":
            assert quick == row
            continue
        assert quick.steps == row.steps // 10
        if row.policy is not None and row.policy.refresh_every >= 100:
            assert quick.policy is not None
            assert quick.policy.refresh_every == row.policy.refresh_every // 10


def test_a_rule_that_chooses_everything_is_the_uncached_sampler(model: ScoreModel) -> None:
    every = token_skipping.leaving_out(np.ones((60, model.n), dtype=bool))
    cached = Sampler(model, every, **PLAN).sample(2)
    np.testing.assert_allclose(cached.tokens, Sampler(model, None, **PLAN).sample(2).tokens, atol=1e-10)


@pytest.mark.parametrize(("trigger", "predictor", "taus"), trigger_study.EXPERIMENTS)
def test_rules_save_work_and_do_not_mix_samples(
    model: ScoreModel, trigger: str, predictor: str, taus: tuple[float, ...]
) -> None:
    policy = CachePolicy(trigger=trigger, tau=taus[-1], predictor=predictor)
    assert CachePolicy.from_json(policy.to_json()) == policy
    together = Sampler(model, policy, **PLAN).sample(3)
    assert 1 / 60 <= together.token_share < 0.8
    alone = Sampler(model, policy, **PLAN, batch=1).sample(3)
    np.testing.assert_allclose(together.tokens, alone.tokens, atol=1e-9)


def test_every_experiment_is_in_the_study() -> None:
    assert {rule.name for rule in trigger_experiments.EXPERIMENTS} == {
        e[0] for e in trigger_study.EXPERIMENTS
    }


def test_the_effect_of_a_token_peaks_where_its_signal_emerges(model: ScoreModel) -> None:
    with torch.inference_mode():
        problem, _ = Sampler(model, steps=400, solver="ddim", grid="log_snr").begin(1, 0)
    peak = np.array(problem.levels)[trigger_experiments.effect(problem).argmax(0)]
    emerges = -0.5 * np.log(model.v.mean(-1).numpy())
    inside = np.abs(emerges) < 3
    np.testing.assert_allclose(peak[inside], emerges[inside], atol=0.35)


def test_skipping_nothing_is_the_uncached_run_and_a_higher_tau_skips_more(model: ScoreModel) -> None:
    plan = token_skipping.plan_of(8)
    masks = [token_skipping.needed(model, 8, tau, num=4) for tau in (0.0, 0.02, 0.2)]
    assert all(mask[0].all() for mask in masks)
    assert masks[0].sum() >= masks[1].sum() > masks[2].sum()
    every = np.ones_like(masks[0])
    plain = Sampler(model, policy=None, **plan).sample(3).tokens
    np.testing.assert_allclose(
        token_skipping.OutputsOnly(model, every, **plan).sample(3).tokens, plain, atol=1e-9
    )
    held = token_skipping.OutputsOnly(model, masks[2], **plan).sample(3).tokens
    assert np.abs(held - plain).max() > 1e-3


def test_ways_of_leaving_out_tokens_meet_where_nothing_is_left_out_and_where_all_keys_are_fresh(
    model: ScoreModel,
) -> None:
    plan = token_skipping.plan_of(8)
    mask = token_skipping.needed(model, 8, 0.2, num=4)

    def end(kind: type[Sampler], mask: np.ndarray) -> np.ndarray:
        return kind(model, token_skipping.leaving_out(mask), **plan).sample(3).tokens

    plain = Sampler(model, policy=None, **plan).sample(3).tokens
    for name, kind in token_skipping.WAYS.items():
        np.testing.assert_allclose(end(kind, np.ones_like(mask)), plain, atol=1e-9, err_msg=name)
        assert np.abs(end(kind, mask) - plain).max() > 1e-3, name

    class AllFresh(token_skipping.FreshLayers):
        depth = model.network.layers

    outputs_only = token_skipping.OutputsOnly(model, mask, **plan).sample(3).tokens
    np.testing.assert_allclose(end(AllFresh, mask), outputs_only, atol=1e-9)
