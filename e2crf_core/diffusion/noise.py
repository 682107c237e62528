"""Treat noise as an argument: a draw is a function of (seed, sample, step) alone.

Counter-based generators make this possible: cached and uncached runs share their noise, a sample does not
depend on its batch, and a run on another device sees the same draws.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

BLOCK = 16
_NORMAL, _UNIFORM = 0, 1


class NoiseStream:
    """The draws for samples first..first+batch-1 of a run with `seed`: tokens (B, n, 2M), masked (E1)."""

    def __init__(self, seed: int, batch: int, mask: Tensor, *, dtype: torch.dtype, first: int = 0) -> None:
        self.seed, self.batch, self.first = seed, batch, first
        self.dtype, self.device = dtype, mask.device
        self.shape = tuple(mask.shape)
        self._mask = mask.cpu().numpy().astype(np.float32)
        self._block, self._index = torch.empty(0), -1

    def _generator(self, sample: int, purpose: int, block: int) -> np.random.Generator:
        key = np.array([self.seed, self.first + sample], dtype=np.uint64)
        counter = np.array([0, 0, purpose, block], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(counter=counter, key=key))

    def initial(self) -> Tensor:
        """Return the state at t = 1, up to its scale: standard normal (B, n, 2M)."""
        return self._draw(0)[0]

    def at(self, step: int) -> Tensor:
        """Return standard normal (B, n, 2M) for the transition of `step`."""
        block, row = divmod(step, BLOCK)
        if block + 1 != self._index:
            self._block, self._index = self._draw(block + 1), block + 1
        return self._block[row]

    def mixed(self, first: int, weights: Tensor) -> Tensor:
        """Return (R, B, n, 2M): the draws of `first` and the steps after it, weighted by (R, k, n, 2M), summed."""
        total, done = None, 0
        while done < weights.shape[1]:
            row = (first + done) % BLOCK
            self.at(first + done)
            rows = self._block[row : row + weights.shape[1] - done]
            part = (rows * weights[:, done : done + len(rows), None]).sum(1)
            total = part if total is None else total.add_(part)
            done += len(rows)
        assert total is not None
        return total

    def _draw(self, block: int) -> Tensor:
        rows = np.empty((BLOCK, self.batch, *self.shape), dtype=np.float32)
        for sample in range(self.batch):
            generator = self._generator(sample, _NORMAL, block)
            rows[:, sample] = generator.standard_normal((BLOCK, *self.shape), dtype=np.float32)
        rows *= self._mask
        drawn = torch.from_numpy(rows)
        if self.device.type == "cuda":
            drawn = drawn.pin_memory().to(self.device, non_blocking=True)
        return drawn.to(self.dtype)

    def uniform(self, step: int) -> Tensor:
        """Return uniform (B, n) on the host for the probes of `step`."""
        rows = [self._generator(b, _UNIFORM, step).random(self.shape[0]) for b in range(self.batch)]
        return torch.from_numpy(np.stack(rows))
