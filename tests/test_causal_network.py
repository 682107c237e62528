"""Spectrally causal networks (E6): a prefix of bands equals the plain forward's, and training works."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from e2crf_core import LabError, load_checkpoint
from e2crf_core.models.training import Trainer, TrainSpec
from e2crf_core.network.forward import plain_forward, prefix_forward
from e2crf_core.network.transformer import NetworkConfig, ScoreTransformer
from tests.test_training import toy

SIZES = NetworkConfig(tokens=33, length=64, channels=2, width=16, layers=3, heads=2, hidden=24)
CAUSAL = replace(SIZES, bands=(4, 8, 16))
SPEC = TrainSpec(data="toy", width=16, layers=1, heads=2, hidden=16, steps=20, batch=8, evaluate_every=10)


def random_network(config: NetworkConfig, dtype: torch.dtype = torch.float32) -> ScoreTransformer:
    """Return a network in which every weight matters."""
    torch.manual_seed(1)
    network = ScoreTransformer(config).to(dtype).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def inputs(network: ScoreTransformer, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the prepared inputs and the condition for random states at one noise level."""
    torch.manual_seed(2)
    dtype, config = network.position.dtype, network.config
    u, level = (
        torch.randn(batch, config.tokens, 2 * config.channels, dtype=dtype),
        torch.tensor(0.4, dtype=dtype),
    )
    return network.prepare(u, level), network.condition(level)


@pytest.mark.parametrize("batch", [1, 16])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_a_prefix_of_bands_equals_the_plain_forward_on_its_tokens(
    batch: int, dtype: torch.dtype, bound: float
) -> None:
    network = random_network(CAUSAL, dtype)
    prepared, condition = inputs(network, batch)
    whole = plain_forward(network, prepared, condition)
    for m in network.edges:
        prefix = prefix_forward(network, prepared, condition, m)
        assert prefix.shape == (batch, m, network.width)
        assert (prefix - whole[:, :m]).norm() <= bound * whole[:, :m].norm()


def test_a_band_does_not_depend_on_higher_bands_but_on_lower_ones() -> None:
    network = random_network(CAUSAL, torch.float64)
    prepared, condition = inputs(network, 2)
    whole = plain_forward(network, prepared, condition)
    above, below = prepared.clone(), prepared.clone()
    above[:, 8:] += 1.0
    below[:, :4] += 1.0
    assert torch.equal(plain_forward(network, above, condition)[:, :8], whole[:, :8])
    changed = (plain_forward(network, below, condition) - whole).abs().amax((0, 2))
    assert (changed > 1e-6).all()


def test_a_prefix_that_ends_inside_a_band_is_rejected() -> None:
    for config in (SIZES, CAUSAL):
        network = random_network(config)
        with pytest.raises(ValueError, match="inside a band"):
            prefix_forward(network, *inputs(network, 1), 5)


def test_without_bands_attention_is_full_and_weights_are_interchangeable() -> None:
    full, causal = random_network(SIZES), random_network(CAUSAL)
    causal.load_state_dict(full.state_dict())
    prepared, condition = inputs(full, 2)
    assert full.edges == () and causal.edges == (4, 8, 16, 33)
    assert torch.equal(
        prefix_forward(full, prepared, condition, 33), plain_forward(full, prepared, condition)
    )
    assert not torch.allclose(
        plain_forward(full, prepared, condition), plain_forward(causal, prepared, condition)
    )


@pytest.mark.parametrize("bands", [(8, 4), (4, 4), (0, 4), (4, 33)])
def test_edges_that_cut_no_tokens_are_rejected(bands: tuple[int, ...]) -> None:
    with pytest.raises(LabError, match="do not cut 33 tokens") as fault:
        replace(SIZES, bands=bands)
    assert fault.value.field == "bands"


def test_a_causal_network_trains_resumes_and_is_loaded_with_its_bands(tmp_path: Path) -> None:
    spec = replace(SPEC, bands=(2, 4))
    list(Trainer(spec, toy(), tmp_path / "model").run())
    trainer = Trainer(spec, toy(), tmp_path / "model")
    assert trainer.step == 20 and "--bands 2,4" in trainer.command()
    saved = trainer.save()
    loaded = load_checkpoint(tmp_path / "model", device="cpu")
    assert loaded.network.edges == (2, 4, 9) and loaded.digest() == saved.digest()


@pytest.mark.parametrize("bands", [(), (2, 4)])
def test_training_on_truncated_spectra(tmp_path: Path, bands: tuple[int, ...]) -> None:
    trainer = Trainer(replace(SPEC, truncation=1.0, bands=bands), toy(), tmp_path)
    events = list(trainer.run())
    assert events[-1].step == 20 and events[-1].heldout < float("inf")


def test_a_network_cut_into_bands_differs_by_digest(tmp_path: Path) -> None:
    model = Trainer(SPEC, toy(), tmp_path / "a").model()
    causal = Trainer(replace(SPEC, bands=(2, 4)), toy(), tmp_path / "b").model()
    assert model.digest() != causal.digest()
