"""Treat noise as an argument: a draw is a function of (seed, sample, step) alone.

Counter-based generators make this possible: cached and uncached runs share their noise, a sample does not
depend on its batch, and a run on another device sees the same draws. There are two streams, NOISES; each run states
its own, so that it can be repeated as long as the stream is here.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from e2crf_core.diffusion.philox import MASK, Words, normals, philox, uniform
from e2crf_core.errors import LabError

BLOCK = 16
_NORMAL, _UNIFORM = 0, 1
FEW = 1 << 16
"""Groups of four numbers that are drawn at once on the CPU, so that they stay in its cache."""
NOISES = {
    "numpy": "NumPy's normal numbers, drawn on the host: the first stream, and the faster one on a CPU",
    "counter": "Philox 4x32-10 and Box-Muller, drawn where the model is: for GPUs and other languages",
}
"""The streams by name, with one line for people. A stream never changes; another one gets another name."""


class NoiseStream:
    """The draws for samples first..first+batch-1 of a run with `seed`: tokens (B, n, 2M), masked (E1).

    This is the stream `numpy`.
    """

    def __init__(self, seed: int, batch: int, mask: Tensor, *, dtype: torch.dtype, first: int = 0) -> None:
        self.seed, self.batch, self.first = seed, batch, first
        self.dtype, self.device = dtype, mask.device
        self.shape = tuple(mask.shape)
        self._mask = mask
        self._on_host = np.empty(0, np.float32)
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
        if not self._on_host.size:
            self._on_host = self._mask.cpu().numpy().astype(np.float32)
        rows *= self._on_host
        drawn = torch.from_numpy(rows)
        if self.device.type == "cuda":
            drawn = drawn.pin_memory().to(self.device, non_blocking=True)
        return drawn.to(self.dtype)

    def uniform(self, step: int) -> Tensor:
        """Return uniform (B, n) on the host for the probes of `step`."""
        rows = [self._generator(b, _UNIFORM, step).random(self.shape[0]) for b in range(self.batch)]
        return torch.from_numpy(np.stack(rows))


class CounterNoise(NoiseStream):
    """The stream `counter`: what stands at a counter depends on nothing but the seed.

    The key is the seed, its lower word first. The counter of coordinates 4g..4g+3, in row-major order over
    (n, 2M), is (g, step, sample, purpose), with purpose 0 for the initial state (step 0), 1 for transitions,
    and 2 for uniform numbers of tokens 4g..4g+3. The first two of its four words give the first two normal
    numbers (see `philox.normals`).
    """

    _INITIAL, _TRANSITION, _PROBE = range(3)

    def _words(self, steps: Tensor, groups: int, purpose: int) -> tuple[Words, ...]:
        """Return four words for each of (steps, samples, groups)."""
        place = torch.arange(groups, device=steps.device)
        sample = torch.arange(self.first, self.first + self.batch, device=steps.device)
        counter = (place, steps[:, None, None], sample[:, None], purpose)
        return philox(counter, (self.seed & MASK, self.seed >> 32))

    def _draw(self, block: int) -> Tensor:
        if not block:
            return self._normal(0, 1, self._INITIAL)
        first = BLOCK * (block - 1)
        groups = -(-self._mask.numel() // 4) * self.batch
        rows = BLOCK if self.device.type != "cpu" else max(1, min(BLOCK, FEW // groups))
        parts = [
            self._normal(start, min(start + rows, first + BLOCK), self._TRANSITION)
            for start in range(first, first + BLOCK, rows)
        ]
        return torch.cat(parts)

    def _normal(self, first: int, last: int, purpose: int) -> Tensor:
        size = self._mask.numel()
        one, two, three, four = self._words(
            torch.arange(first, last, device=self.device), -(-size // 4), purpose
        )
        drawn = torch.stack([*normals(one, two), *normals(three, four)], dim=-1).flatten(2)
        # Rounded first, so that runs in float64 share the draws of those in float32.
        return drawn[..., :size].float().unflatten(-1, self.shape).to(self.dtype) * self._mask.to(self.dtype)

    def uniform(self, step: int) -> Tensor:
        """Return uniform (B, n) on the host for the probes of `step`."""
        words = self._words(torch.tensor([step]), -(-self.shape[0] // 4), self._PROBE)
        return uniform(torch.stack(words, dim=-1)[0].flatten(1)[:, : self.shape[0]])


def check_noise(name: str) -> None:
    """Raise LabError for a stream that is not here."""
    if name not in NOISES:
        raise LabError(f"unknown noise {name!r}", field="noise", remedy=f"use {' or '.join(NOISES)}")


def noise_stream(
    name: str, seed: int, batch: int, mask: Tensor, *, dtype: torch.dtype, first: int = 0
) -> NoiseStream:
    """Return the stream of that name. Raises LabError if there is none."""
    check_noise(name)
    kind = NoiseStream if name == "numpy" else CounterNoise
    return kind(seed, batch, mask, dtype=dtype, first=first)
