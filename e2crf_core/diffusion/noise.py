"""Treat noise as an argument: a draw is a function of (seed, sample, step) alone.

Counter-based generators make this possible: cached and uncached runs share their noise, a sample does not
depend on its batch, and a run on another device sees the same draws. There are two streams, NOISES; each run states
its own, so that it can be repeated as long as the stream is here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from e2crf_core.cuda import Captured
from e2crf_core.diffusion.philox import MASK, Words, normals, philox, uniform
from e2crf_core.errors import LabError

BLOCK = 16
_NORMAL, _UNIFORM = 0, 1
FEW = 1 << 16
"""Groups of four numbers that are drawn at once on the CPU, so that they stay in its cache."""
BLOCK_ON_GPU, FEW_ON_GPU = 64, 1 << 20
"""Steps, and groups of four numbers, that are drawn at once on a GPU: enough to fill it, in some 200 MB."""
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
        self.block = BLOCK
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
        block, row = divmod(step, self.block)
        if block + 1 != self._index:
            self._block, self._index = self._draw(block + 1), block + 1
        return self._block[row]

    def mixed(self, first: int, weights: Tensor) -> Tensor:
        """Return (R, B, n, 2M): the draws of `first` and the steps after it, weighted by (R, k, n, 2M), summed."""
        total, done = None, 0
        while done < weights.shape[1]:
            row = (first + done) % self.block
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

    def __init__(self, seed: int, batch: int, mask: Tensor, *, dtype: torch.dtype, first: int = 0) -> None:
        super().__init__(seed, batch, mask, dtype=dtype, first=first)
        groups = batch * -(-mask.numel() // 4)
        self._key: tuple[Words, Words] = (seed & MASK, seed >> 32)
        self._samples = torch.arange(first, first + batch, device=self.device)
        self._normals: Callable[..., Tensor] = transitions
        self._at_once = max(1, min(BLOCK, FEW // groups))
        if self.device.type == "cuda":
            self.block = self._at_once = max(1, min(BLOCK_ON_GPU, FEW_ON_GPU // groups))
            self._normals = _captured_transitions
            low, high = torch.tensor(self._key, device=self.device)
            self._key = (low, high)

    def _draw(self, block: int) -> Tensor:
        mask = self._mask.to(self.dtype)
        if not block:
            step = torch.zeros(1, dtype=torch.int64, device=self.device)
            return _masked(_words(step, self._samples, *self._key, mask, _INITIAL), mask)
        first = self.block * (block - 1)
        steps = torch.arange(first, first + self.block, device=self.device)
        parts = [self._normals(part, self._samples, *self._key, mask) for part in steps.split(self._at_once)]
        return torch.cat(parts)

    def uniform(self, step: int) -> Tensor:
        """Return uniform (B, n) on the host for the probes of `step`."""
        samples, key = torch.arange(self.first, self.first + self.batch), (self.seed & MASK, self.seed >> 32)
        words = _words(torch.tensor([step]), samples, *key, self._mask[:, :1], _PROBE)
        return uniform(torch.stack(words, dim=-1)[0].flatten(1)[:, : self.shape[0]])


_INITIAL, _TRANSITION, _PROBE = range(3)


def _words(
    steps: Tensor, samples: Tensor, low: Words, high: Words, like: Tensor, purpose: int
) -> tuple[Words, ...]:
    """Return four words for each of (steps, samples, groups of four coordinates of `like`)."""
    place = torch.arange(-(-like.numel() // 4), device=steps.device)
    return philox((place, steps[:, None, None], samples[:, None], purpose), (low, high))


def _masked(words: tuple[Words, ...], mask: Tensor) -> Tensor:
    """Return normal numbers (steps, samples, n, 2M) of words, in the type of the mask (n, 2M)."""
    one, two, three, four = words
    both = normals(torch.stack([one, three], dim=-1), torch.stack([two, four], dim=-1))
    drawn = torch.stack(both, dim=-1).flatten(2)[..., : mask.numel()]
    # Rounded first, so that runs in float64 share the draws of those in float32.
    return drawn.float().unflatten(-1, mask.shape).to(mask.dtype) * mask


def transitions(steps: Tensor, samples: Tensor, low: Words, high: Words, mask: Tensor) -> Tensor:
    """Return the numbers (steps, samples, n, 2M) of the stream `counter` for the transitions of steps (int64)."""
    return _masked(_words(steps, samples, low, high, mask, _TRANSITION), mask)


_captured_transitions = Captured(transitions)
"""As `transitions`, on a GPU: some 300 small operations are one launch."""


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
