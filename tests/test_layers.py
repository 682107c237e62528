"""Layer by layer: without reuse nothing differs, and differences agree with the recorded residual."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from e2crf_core.caching.events import Reason
from e2crf_core.caching.policy import PRESETS, CachePolicy
from e2crf_core.e2crf import step
from e2crf_core.errors import Cancelled, LabError
from e2crf_core.network.forward import plain_forward
from e2crf_core.runs.archive import of_handle
from e2crf_core.runs.layer_errors import Tapped, fresh_inside, held_inside, layer_table, quantities
from e2crf_core.runs.run import RunSpec
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.recorder import Recorder
from e2crf_core.sampling.sampler import Sampler
from tests import tiny
from tests.conftest import make_model

MODEL = replace(make_model(), dataset="")
LAYERS = MODEL.network.layers
ROUND = 1e-6
"""Tables are float32, made from float64."""


def recorded(policy, steps=30, change=None, **spec):
    settings = {"num": 3, "seed": 3, "watch": 1, **spec}
    spec = RunSpec("test", config=SamplerConfig(policy, steps), device="cpu", compare=False, **settings)
    return of_handle(tiny.ended(spec, MODEL, change))


def row(name):
    return quantities(LAYERS).index(name)


def test_where_everything_is_computed_nothing_differs():
    table = layer_table(recorded(PRESETS["exact"]), MODEL)
    assert table.used.shape == (30, 3 * LAYERS + 4, MODEL.n) and table.changed is None
    assert table.used.max() < ROUND
    # What the previous step left is different: reuse would have worked with it.
    assert np.isnan(table.kept[0]).all() and table.kept[1:, row("h0")].min() > ROUND


@pytest.mark.parametrize(
    "policy",
    [
        CachePolicy(trigger="log_snr", tau=0.3),
        CachePolicy(trigger="paper", tau=0.3, k_low=2, refresh_every=9, probe_share=0.1),
        CachePolicy(trigger="gain", tau=0.02, refresh_every=9, correct=True, predictor="linear"),
    ],
    ids=["schedule", "paper", "corrected"],
)
def test_just_refreshed_nothing_differs_and_what_is_reused_is_what_was_kept(policy):
    archive = recorded(policy)
    table, reasons = layer_table(archive, MODEL), archive.recorder.column("reasons")
    refreshed = (reasons == Reason.REFRESH).all(1)
    assert 2 <= refreshed.sum() < len(reasons)
    assert table.used[refreshed].max() < ROUND
    reused = (reasons == Reason.REUSED)[:, None] & np.isfinite(table.kept)
    inner = slice(0, row("C"))
    np.testing.assert_array_equal(
        table.used[:, inner][reused[:, inner]], table.kept[:, inner][reused[:, inner]]
    )
    assert table.used[:, row("C")][reasons == Reason.REUSED].max() > ROUND


def test_a_chosen_token_has_its_own_input_anew_and_only_its_context_is_old():
    archive = recorded(CachePolicy(trigger="paper", tau=0.3, k_low=2))
    table, reasons = layer_table(archive, MODEL), archive.recorder.column("reasons")
    chosen = (reasons == Reason.LOW_BAND) & (reasons == Reason.REUSED).any(1)[:, None]
    for name in ("h0", "K0", "V0"):
        assert table.used[:, row(name)][chosen].max() < ROUND
    later = table.used[:, row("C")][chosen]
    assert later.max() > ROUND and np.median(later) < np.median(table.kept[1:, row("C")][chosen[1:]])


def test_the_difference_of_c_is_the_recorded_residual():
    """r (E4) is |C_fresh - C_kept|² / |C_kept|² over a refreshed sample; the layer errors must agree."""
    sampler = Sampler(MODEL, CachePolicy(trigger="fixed", refresh_every=5), steps=16)
    problem, state = sampler.begin(2, 0)
    stream, seen = torch.zeros(LAYERS, MODEL.n, MODEL.network.width), 0
    for i in range(16):
        fresh = fresh_inside(problem, state, 1)
        held = held_inside(sampler.policy, problem, state, state.cache, stream, 1) if i else None
        kept = None if held is None else held.stream[-1].clone()
        after, info = step(problem, state, sampler.policy)
        if kept is not None and bool((info.reasons > 0).any()):
            rho = fresh.stream[-1] - kept
            said = float(rho.square().sum() / kept.square().sum())
            assert said == pytest.approx(float(after.cache.r[1]), rel=1e-9) and said > 1e-6
            seen += 1
        state = after
    assert seen == 3


def test_d_and_score_move_as_e3_says():
    sampler = Sampler(MODEL, CachePolicy(trigger="never"), steps=12)
    problem, state = sampler.begin(1, 0)
    for _ in range(5):
        state, _ = step(problem, state, sampler.policy)
    stream = torch.zeros(LAYERS, MODEL.n, MODEL.network.width)
    held, fresh = (
        held_inside(sampler.policy, problem, state, state.cache, stream, 0),
        fresh_inside(problem, state, 0),
    )
    a, s = (scale(problem.plan.rows[5].t) for scale in (MODEL.schedule.a, MODEL.schedule.s))
    torch.testing.assert_close(
        held.denoised - fresh.denoised, problem.c_out[5] * (held.output - fresh.output), atol=1e-12, rtol=1e-9
    )
    torch.testing.assert_close(held.score - fresh.score, a / s**2 * (held.denoised - fresh.denoised))


def test_the_inside_follows_a_policy_that_changed_during_the_run():
    archive = recorded(CachePolicy(trigger="never"), change=CachePolicy(trigger="always"))
    table = layer_table(archive, MODEL)
    assert table.changed is None
    assert table.used[1:11, row("C")].max() > ROUND and table.used[11:].max() < ROUND


def test_looking_changes_nothing_and_what_was_not_repeated_is_said():
    archive = recorded(PRESETS["paper"])
    assert layer_table(archive, MODEL).changed is None
    old = archive.recorder
    columns = {name: old.column(name).copy() for name in old.names}
    columns["reasons"][7, 3] ^= 1
    other = Recorder(old.steps, old.n, old.N, old.M, old.batch)
    other.extend(columns)
    other.policies.extend(old.policies)
    assert layer_table(replace(archive, recorder=other), MODEL).changed == 7


def test_it_says_how_far_it_is_stops_when_told_and_refuses_another_network():
    archive, said = recorded(PRESETS["fast"]), []
    layer_table(archive, MODEL, progress=lambda done, total: said.append((done, total)))
    assert said == [(i, 30) for i in range(1, 31)]
    with pytest.raises(Cancelled):
        layer_table(archive, MODEL, cancelled=lambda: True)
    with pytest.raises(LabError, match="has changed"):
        layer_table(archive, make_model(seed=1))


def test_a_tapped_network_is_the_network():
    u, level = (
        torch.randn(1, MODEL.n, MODEL.mu.shape[1], dtype=MODEL.dtype),
        torch.tensor(0.1, dtype=torch.float64),
    )
    tapped = Tapped(MODEL.network)
    made = [
        plain_forward(net, net.prepare(u, level), net.condition(level)) for net in (MODEL.network, tapped)
    ]
    torch.testing.assert_close(*made, rtol=0, atol=0)
    assert len(tapped.stream) == LAYERS + 1 and torch.equal(tapped.stream[-1], made[1])
