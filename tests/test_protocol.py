"""What docs/protocol.md promises, on three networks: ours, FourierDiffusion, and a wavelet DiT."""

from pathlib import Path

import numpy as np
import pytest
import torch

from e2crf_core.caching.policy import PRESETS, CachePolicy
from e2crf_core.caching.selection import Selection
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.models.fourierdiffusion import import_fourierdiffusion
from e2crf_core.network.forward import plain_forward, selective_forward
from e2crf_core.network.kvcache import KVCache, StaleRead
from e2crf_core.network.protocol import TokenNetwork
from e2crf_core.sampling.sampler import Sampler
from tests.conftest import make_model
from tests.wavelet_dit import haar, wavelet_model

GOLDEN = Path(__file__).parent / "golden" / "fourierdiffusion_wind_144x4"


def peer_model(folder: Path) -> ScoreModel:
    return import_fourierdiffusion(GOLDEN.with_suffix(".ckpt"), GOLDEN.with_suffix(".npz"), folder)


@pytest.fixture(scope="module", params=["ours", "peer", "wavelets"])
def model(request, tmp_path_factory) -> ScoreModel:
    if request.param == "peer":
        return peer_model(tmp_path_factory.mktemp("peer") / "model").to(dtype=torch.float64)
    return make_model() if request.param == "ours" else wavelet_model()


def forward_parts(model: ScoreModel, batch: int) -> tuple[torch.Tensor, torch.Tensor, KVCache]:
    network, level = model.network, torch.tensor(0.3, dtype=model.dtype)
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(batch, *model.mu.shape, dtype=model.dtype, generator=generator)
    kv = KVCache(network.layers, batch, model.n, network.width, device=u.device, dtype=u.dtype)
    return network.prepare(u, level), network.condition(level), kv


def close(found: torch.Tensor, truth: torch.Tensor) -> None:
    torch.testing.assert_close(found, truth, rtol=1e-9, atol=1e-9)


def test_recomputing_everything_equals_sampling_without_a_cache(model):
    exact = Sampler(model, PRESETS["exact"], steps=12).sample(3, seed=2)
    plain = Sampler(model, steps=12, policy=None).sample(3, seed=2)
    np.testing.assert_allclose(exact.tokens, plain.tokens, rtol=1e-7, atol=1e-8)
    assert exact.flop_share == exact.token_share == 1


def test_choosing_every_token_equals_the_plain_forward(model):
    prepared, condition, kv = forward_parts(model, 3)
    plain = plain_forward(model.network, prepared, condition)
    assert plain.std() > 0.01
    chosen = Selection.of(torch.ones(3, model.n, dtype=torch.bool), 3, torch.device("cpu"))
    rows = selective_forward(
        model.network, prepared.flatten(0, 1), condition, kv, chosen.sample, chosen.token, chosen.counts
    )
    close(rows.view_as(plain), plain)


def test_an_unchanged_state_recomputed_in_part_gives_what_is_kept(model):
    prepared, condition, kv = forward_parts(model, 4)
    plain = plain_forward(model.network, prepared, condition, cache=kv)
    generator = torch.Generator().manual_seed(1)
    mask = torch.rand(4, model.n, generator=generator) < torch.tensor([[0.1], [0.5], [0.9], [0.0]])
    chosen = Selection.of(mask, 4, torch.device("cpu"))
    rows = selective_forward(
        model.network, chosen.take(prepared), condition, kv, chosen.sample, chosen.token, chosen.counts
    )
    close(rows, chosen.take(plain))


def test_what_no_forward_has_written_is_never_read(model):
    prepared, condition, kv = forward_parts(model, 2)
    one = torch.tensor([0])
    with pytest.raises(StaleRead):
        selective_forward(model.network, prepared[0, :1], condition, kv, one, one, torch.tensor([1, 0]))


def test_every_piece_but_prepare_treats_rows_alone(model):
    network = model.network
    prepared, condition, _ = forward_parts(model, 1)
    some = torch.tensor([model.n - 1, 0, 2])
    h = network.embed(prepared, None)
    close(network.embed(prepared[0, some], some), h[0, some])
    for layer in range(network.layers):
        whole, alone = (network.qkv(layer, x, condition) for x in (h, h[0, some]))
        for a, b in zip(alone, whole, strict=True):
            close(a, b[0, some])
        close(
            network.finish(layer, h[0, some], whole[2][0, some], condition),
            network.finish(layer, h, whole[2], condition)[0, some],
        )
        h = network.finish(layer, h, whole[2], condition)
    close(network.head(h[0, some]), network.head(h)[0, some])
    assert network.head(h).shape[1:] == model.mu.shape


def test_a_cache_saves_work_and_stays_nearer_the_more_it_computes(model):
    """The error of caching falls with tau, and work rises: for any network that satisfies the protocol."""
    plain = Sampler(model, steps=40, policy=None).sample(1, seed=1).tokens
    shares, errors = [], []
    for tau in (0.8, 0.4, 0.1):
        made = Sampler(model, CachePolicy(trigger="log_snr", tau=tau), steps=40).sample(1, seed=1)
        shares.append(made.flop_share)
        errors.append(np.linalg.norm(made.tokens - plain) / np.linalg.norm(plain))
    assert shares == sorted(shares) and shares[0] < 0.5 < shares[-1] <= 1
    assert errors == sorted(errors, reverse=True) and errors[0] > 2 * errors[-1]


def test_tokens_of_the_third_network_are_another_orthonormal_basis():
    transform = haar(32)
    np.testing.assert_allclose(transform @ transform.T, np.eye(32), atol=1e-12)
    slow = np.abs(transform @ np.sin(np.linspace(0, np.pi, 32)))
    assert np.square(slow[:4]).sum() > 0.9 * np.square(slow).sum()
    model = wavelet_model()
    series = np.random.default_rng(0).standard_normal((3, 32, 2))
    np.testing.assert_allclose(model.series(transform @ series), series, rtol=1e-5, atol=1e-6)


def test_the_protocol_names_every_piece_that_a_network_needs(model):
    assert isinstance(model.network, TokenNetwork)
    assert not isinstance(torch.nn.Linear(2, 2), TokenNetwork)
