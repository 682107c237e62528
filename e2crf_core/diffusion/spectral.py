"""Convert real series to half-spectrum tokens (E1), and measure where their energy is.

A real series of N steps has the mirror symmetry X[N-k] = conj X[k], so its n = floor(N/2)+1 lowest
frequencies determine it. Token k holds [Re X_k, Im X_k] of all M channels, scaled so that the map from series
to tokens is orthonormal: energies add up and white noise stays white.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def token_count(length: int) -> int:
    """Return the number n of half-spectrum tokens for a series of `length` steps."""
    return length // 2 + 1


def mirror_weights(length: int) -> np.ndarray:
    """Return (n,) how many of the N full-spectrum coefficients each token represents: 1 or 2."""
    weights = np.full(token_count(length), 2.0)
    weights[0] = 1.0
    if length % 2 == 0:
        weights[-1] = 1.0
    return weights


def coordinate_mask(length: int, channels: int) -> np.ndarray:
    """Return (n, 2M) bool, False at structural zeros (imaginary part at 0 and, for even N, N/2)."""
    mask = np.ones((token_count(length), 2 * channels), dtype=bool)
    mask[0, channels:] = False
    if length % 2 == 0:
        mask[-1, channels:] = False
    return mask


def tokenize(series: np.ndarray) -> np.ndarray:
    """Convert real series (..., N, M) to orthonormal tokens (..., n, 2M), in the dtype of `series` (E1)."""
    length = series.shape[-2]
    scale = np.sqrt(mirror_weights(length))[:, None]
    spectrum = np.fft.rfft(series, axis=-2, norm="ortho") * scale
    return np.concatenate([spectrum.real, spectrum.imag], axis=-1).astype(series.dtype, copy=False)


def detokenize(tokens: np.ndarray, length: int) -> np.ndarray:
    """Convert tokens (..., n, 2M) to real series (..., N, M), ignoring structural zeros (inverse of E1)."""
    channels = tokens.shape[-1] // 2
    scale = np.sqrt(mirror_weights(length))[:, None]
    spectrum = (tokens[..., :channels] + 1j * tokens[..., channels:]) / scale
    return np.fft.irfft(spectrum, n=length, axis=-2, norm="ortho").astype(tokens.dtype, copy=False)


def tokenize_torch(series: Tensor) -> Tensor:
    """Convert (..., N, M) to (..., n, 2M) on the device of `series` (E1)."""
    length = series.shape[-2]
    scale = torch.as_tensor(
        np.sqrt(mirror_weights(length))[:, None], dtype=series.dtype, device=series.device
    )
    spectrum = torch.fft.rfft(series, dim=-2, norm="ortho") * scale
    return torch.cat([spectrum.real, spectrum.imag], dim=-1)


def detokenize_torch(tokens: Tensor, length: int) -> Tensor:
    """Convert (..., n, 2M) to (..., N, M) on the device of `tokens` (inverse of E1)."""
    channels = tokens.shape[-1] // 2
    scale = torch.as_tensor(
        np.sqrt(mirror_weights(length))[:, None], dtype=tokens.dtype, device=tokens.device
    )
    spectrum = torch.complex(tokens[..., :channels] / scale, tokens[..., channels:] / scale)
    return torch.fft.irfft(spectrum, n=length, dim=-2, norm="ortho")


def full_spectrum(tokens: np.ndarray, length: int) -> np.ndarray:
    """Return all N complex coefficients (..., N, M) of the series that tokens (..., n, 2M) describe."""
    channels = tokens.shape[-1] // 2
    scale = np.sqrt(mirror_weights(length))[:, None]
    half = (tokens[..., :channels] + 1j * tokens[..., channels:]) / scale
    mirrored = np.conj(half[..., 1 : (length + 1) // 2, :])[..., ::-1, :]
    return np.concatenate([half, mirrored], axis=-2)


def mirror_residue(spectrum: np.ndarray) -> float:
    """Return the largest imaginary part of the inverse transform of a spectrum (N, M): 0 iff mirrored."""
    return float(np.abs(np.fft.ifft(spectrum, axis=-2, norm="ortho").imag).max())


def magnitudes(tokens: np.ndarray, length: int) -> np.ndarray:
    """Return |X_k| (..., n, M) of tokens (..., n, 2M), in the scale of the orthonormal DFT."""
    channels = tokens.shape[-1] // 2
    scale = np.sqrt(mirror_weights(length))[:, None]
    return np.hypot(tokens[..., :channels], tokens[..., channels:]) / scale


def token_energy(tokens: np.ndarray) -> np.ndarray:
    """Return (..., n) energy per token, summed over channels; sums to the series' energy (Parseval)."""
    return np.square(tokens).sum(-1)


def band_edges(count: int, bands: int = 8) -> np.ndarray:
    """Return (b+1,) increasing edges that cut `count` tokens into at most `bands` bands, narrowest first."""
    edges = np.unique(np.round(np.geomspace(1, count, bands)).astype(int))
    return np.concatenate([[0], edges])


def band_energy(tokens: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return (..., b) energy in each band of tokens (..., n, 2M)."""
    return np.add.reduceat(token_energy(tokens), edges[:-1], axis=-1)


def cumulative_energy(series: np.ndarray) -> np.ndarray:
    """Return (n, M) the share of each channel's energy in tokens 0..k, the measure of spectral localization.

    `series` (S, N, M) is centered per channel first, so that a constant offset does not count as structure.
    """
    centered = series - series.mean((0, 1))
    channels = series.shape[-1]
    tokens = tokenize(centered.astype(np.float64))
    energy = (np.square(tokens[..., :channels]) + np.square(tokens[..., channels:])).sum(0)
    return np.cumsum(energy, axis=0) / np.maximum(energy.sum(0), 1e-300)
