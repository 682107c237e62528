"""E1: tokens determine a real series, preserve its energy, and rely on mirror symmetry."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2crf_core.diffusion import spectral

lengths = st.integers(2, 65)


@given(lengths, st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_tokens_invert_and_keep_energy(length: int, channels: int, seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal((3, length, channels))
    tokens = spectral.tokenize(x)
    assert tokens.shape == (3, length // 2 + 1, 2 * channels)
    np.testing.assert_allclose(spectral.detokenize(tokens, length), x, atol=1e-12)
    np.testing.assert_allclose(np.square(tokens).sum(), np.square(x).sum(), rtol=1e-12)


@given(lengths, st.integers(0, 2**32 - 1))
def test_structurally_zero_coordinates_are_zero_and_all_others_are_free(length: int, seed: int) -> None:
    mask = spectral.coordinate_mask(length, 1)
    assert mask.sum() == length
    tokens = np.random.default_rng(seed).standard_normal((1, *mask.shape)) * mask
    again = spectral.tokenize(spectral.detokenize(tokens, length))
    np.testing.assert_allclose(again, tokens, atol=1e-12)


def test_white_noise_stays_white() -> None:
    x = np.random.default_rng(0).standard_normal((20_000, 12, 1))
    variance = spectral.tokenize(x).var(axis=0)
    mask = spectral.coordinate_mask(12, 1)
    np.testing.assert_allclose(variance[mask], 1.0, atol=0.06)
    np.testing.assert_allclose(variance[~mask], 0.0, atol=1e-20)


@pytest.mark.parametrize("length", [10, 11])
def test_a_broken_mirror_leaves_an_imaginary_residue(length: int) -> None:
    x = np.random.default_rng(1).standard_normal((length, 2))
    spectrum = spectral.full_spectrum(spectral.tokenize(x), length)
    np.testing.assert_allclose(np.fft.ifft(spectrum, axis=0, norm="ortho").real, x, atol=1e-12)
    assert spectral.mirror_residue(spectrum) < 1e-12
    spectrum[3] *= 1j
    assert spectral.mirror_residue(spectrum) > 1e-2


def test_bands_cover_every_token_once_and_sum_to_the_energy() -> None:
    tokens = spectral.tokenize(np.random.default_rng(2).standard_normal((5, 94, 3)))
    edges = spectral.band_edges(tokens.shape[1])
    assert edges[0] == 0 and edges[-1] == tokens.shape[1] and (np.diff(edges) > 0).all()
    np.testing.assert_allclose(spectral.band_energy(tokens, edges).sum(-1), np.square(tokens).sum((1, 2)))


def test_localization_rises_to_one_and_ignores_an_offset() -> None:
    x = np.random.default_rng(3).standard_normal((50, 30, 2)).cumsum(1)
    share = spectral.cumulative_energy(x)
    assert (np.diff(share, axis=0) >= 0).all()
    np.testing.assert_allclose(share[-1], 1.0)
    np.testing.assert_allclose(spectral.cumulative_energy(x + np.array([5.0, -3.0])), share, atol=1e-10)


def test_magnitudes_are_those_of_the_orthonormal_transform() -> None:
    x = np.random.default_rng(4).standard_normal((9, 2))
    expected = np.abs(np.fft.rfft(x, axis=0, norm="ortho"))
    np.testing.assert_allclose(spectral.magnitudes(spectral.tokenize(x), 9), expected, atol=1e-12)
