"""Draw and time one batch, under its old name; use `Sampler.draw`."""

from __future__ import annotations

from e2crf_core.progress import Cancel, never
from e2crf_core.sampling.sampler import Part, Sampler

__all__ = ["Part", "draw"]


def draw(sampler: Sampler, num: int, seed: int, first: int = 0, cancelled: Cancel = never) -> Part:
    """Draw one batch of `num` samples numbered from `first`."""
    return sampler.draw(num, seed, first, cancelled=cancelled)
