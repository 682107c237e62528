"""Convert series to and from the spectrum layout of the FourierDiffusion library (arXiv:2402.05933).

In this layout (Crabbé et al. 2024), a series of N steps is N positions: the real parts of frequencies
0..floor(N/2), then the imaginary parts of 1..ceil(N/2)-1. Noise has the scale G at each position: 1 at
frequency 0 and, for even N, at N/2, else 1/sqrt 2.
"""

from __future__ import annotations

import numpy as np


def noise_scale(length: int, *, scaled: bool) -> np.ndarray:
    """Return (N,) G of every position in the library's layout."""
    scale = np.full(length, np.sqrt(0.5) if scaled else 1.0)
    scale[0] = 1.0
    if length % 2 == 0:
        scale[length // 2] = 1.0
    return scale


def frequency_order(length: int) -> np.ndarray:
    """Return (N,) library positions in order of frequency: Re 0, Re 1, Im 1, Re 2, Im 2, ..."""
    half = length // 2
    frequency = np.concatenate([np.arange(half + 1), np.arange(1, (length + 1) // 2)])
    return np.argsort(frequency, kind="stable")


def to_positions(series: np.ndarray) -> np.ndarray:
    """Convert series (..., N, M) to the library's layout (..., N, M), before standardization."""
    length = series.shape[-2]
    spectrum = np.fft.rfft(series, axis=-2, norm="ortho")
    return np.concatenate([spectrum.real, spectrum.imag[..., 1 : (length + 1) // 2, :]], axis=-2)


def from_positions(positions: np.ndarray) -> np.ndarray:
    """Convert the library's unstandardized layout (..., N, M) to series (..., N, M)."""
    length = positions.shape[-2]
    half = length // 2 + 1
    imaginary = np.zeros_like(positions[..., :half, :])
    imaginary[..., 1 : (length + 1) // 2, :] = positions[..., half:, :]
    return np.fft.irfft(positions[..., :half, :] + 1j * imaginary, n=length, axis=-2, norm="ortho")
