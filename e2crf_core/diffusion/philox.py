"""Generate random numbers as a function of counters, alike on every device: Philox 4x32-10, then Box-Muller.

Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") maps a key of two 32-bit words and
a counter of four to four random words. Box-Muller turns each pair of words into two normal numbers. Integers
are exact on every device. Roots, logarithms, sines, and cosines are made of single additions, multiplications,
and divisions, which IEEE 754 rounds alike everywhere as long as no compiler contracts two of them. So NumPy
and torch agree to the last bit, and a GPU with torch's own kernels should (benchmarks.gpu compares them). The
error of a normal number is below 1e-9 before it is rounded to float32.

All functions take NumPy arrays or torch tensors of int64, whose products wrap around as unsigned ones would.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

Words = Any
"""An array or tensor of int64 that holds 32-bit words."""

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
MASK = 0xFFFFFFFF
QUARTER = 30
"""The bits of a word below its quarter of the circle."""


def philox(counter: tuple[Words, Words, Words, Words], key: tuple[Words, Words]) -> tuple[Words, ...]:
    """Return four words for each counter; counters and keys broadcast."""
    one, two, three, four = counter
    low, high = key
    for _ in range(ROUNDS):
        first, second = one * MULTIPLIERS[0], three * MULTIPLIERS[1]
        one, two = ((second >> 32) & MASK) ^ two ^ low, second & MASK
        three, four = ((first >> 32) & MASK) ^ four ^ high, first & MASK
        low, high = (low + WEYL[0]) & MASK, (high + WEYL[1]) & MASK
    return one, two, three, four


def normals(radius: Words, angle: Words) -> tuple[Any, Any]:
    """Return two standard normal numbers, float64, for each pair of words (Box-Muller).

    The first word gives u = (w + 1/2) / 2³² and the radius sqrt(-2 log u). The two upper bits of the second give a
    quarter of the circle, and the others an angle of -pi/4 to pi/4 from its middle.
    """
    r = _root(-2.0 * (_log(radius) - 32 * math.log(2)))
    x = (_double(angle & ((1 << QUARTER) - 1)) - (1 << (QUARTER - 1))) * (math.pi / 2 / (1 << QUARTER))
    square = x * x
    sine = x * _polynomial(square, [(-1.0) ** k / math.factorial(2 * k + 1) for k in range(7)])
    cosine = _polynomial(square, [(-1.0) ** k / math.factorial(2 * k) for k in range(7)])
    quarter = angle >> QUARTER
    odd, left, lower = (_double(bit) for bit in (quarter & 1, ((quarter + 1) >> 1) & 1, quarter >> 1))
    # Turned by a quarter, (c, s) becomes (-s, c); one of the two terms is always 0, so the sums are exact.
    across = cosine * (1.0 - odd) + sine * odd
    along = sine * (1.0 - odd) + cosine * odd
    return r * (across * (1.0 - 2.0 * left)), r * (along * (1.0 - 2.0 * lower))


def uniform(word: Words) -> Any:
    """Return (w + 1/2) / 2³², float64, between 0 and 1."""
    return (_double(word) + 0.5) * 2.0**-32


def _log(word: Words) -> Any:
    """Return log(w + 1/2) for words w, by log m = 2 artanh((m - 1) / (m + 1)) for a mantissa m around 1."""
    bits = _bits(_double(word) + 0.5)
    # Mantissas from sqrt(1/2) to sqrt(2): subtract the bits of sqrt(1/2), and what is left above is the exponent.
    root = 0x3FE6A09E667F3BCD
    exponent = (bits - root) >> 52
    mantissa = _from_bits(bits - (exponent << 52))
    s = (mantissa - 1.0) / (mantissa + 1.0)
    series = _polynomial(s * s, [2.0 / (2 * k + 1) for k in range(9)])
    return _double(exponent) * math.log(2) + s * series


def _polynomial(x: Any, coefficients: list[float]) -> Any:
    """Return the sum of c_k x^k by Horner's rule."""
    total = x * coefficients[-1]
    for coefficient in coefficients[-2:0:-1]:
        total = (total + coefficient) * x
    return total + coefficients[0]


def _double(x: Any) -> Any:
    return x.to(torch.float64) if isinstance(x, torch.Tensor) else np.asarray(x).astype(np.float64)


def _bits(x: Any) -> Any:
    return x.view(torch.int64) if isinstance(x, torch.Tensor) else x.view(np.int64)


def _from_bits(x: Any) -> Any:
    return x.view(torch.float64) if isinstance(x, torch.Tensor) else x.view(np.float64)


def _root(x: Any) -> Any:
    """Return the square root of normal numbers by Heron's rule: math libraries round their own in different ways."""
    root = _from_bits((_bits(x) >> 1) + 0x1FF7A3BEA91D9B1B)
    for _ in range(4):
        root = 0.5 * (root + x / root)
    return root
