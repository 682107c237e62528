"""Keep keys and values of every token at every layer, with valid flags, fresh for every run (E6)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from e2crf_core.network.shapes import Float, Int


class StaleRead(RuntimeError):
    """A forward read a key or value that this run has never written."""


class KVCache:
    """The keys and values (B, n, d) of L layers.

    The buffers are overwritten in place: a sampler state owns its cache and passes it on to the next state.
    """

    def __init__(
        self, layers: int, batch: int, tokens: int, width: int, *, device: torch.device, dtype: torch.dtype
    ) -> None:
        shape = (layers, batch, tokens, width)
        self.keys = torch.empty(shape, device=device, dtype=dtype)
        self.values = torch.empty(shape, device=device, dtype=dtype)
        self.valid = torch.zeros((layers, batch, tokens), device=device, dtype=torch.bool)
        self._known_valid = [False] * layers

    def write_samples(
        self, layer: int, rows: Int[Tensor, " b"] | None, k: Float[Tensor, "b n d"], v: Float[Tensor, "b n d"]
    ) -> None:
        """Keep k, v (b, n, d) of all tokens of samples `rows` (b,) (None: all samples)."""
        if rows is None:
            self.keys[layer].copy_(k)
            self.values[layer].copy_(v)
            self.valid[layer].fill_(True)
            self._known_valid[layer] = True
            return
        self.keys[layer].index_copy_(0, rows, k)
        self.values[layer].index_copy_(0, rows, v)
        self.valid[layer].index_fill_(0, rows, True)

    def write_tokens(
        self,
        layer: int,
        sample: Int[Tensor, " T"],
        token: Int[Tensor, " T"],
        k: Float[Tensor, "T d"],
        v: Float[Tensor, "T d"],
    ) -> None:
        """Keep k, v (T, d) of the tokens at (sample, token), each (T,)."""
        row = sample * self.keys.shape[2] + token
        self.keys[layer].view(-1, self.keys.shape[3]).index_copy_(0, row, k)
        self.values[layer].view(-1, self.values.shape[3]).index_copy_(0, row, v)
        self.valid[layer].view(-1).index_fill_(0, row, True)

    def read(
        self, layer: int, rows: Int[Tensor, " b"] | None
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b n d"]]:
        """Return keys and values (b, n, d) of `rows` (None: all). Raises StaleRead for unwritten ones."""
        if not self._known_valid[layer]:
            # Checked only until everything has been written once, because it needs a device synchronization.
            valid = self.valid[layer] if rows is None else self.valid[layer][rows]
            if not bool(valid.all()):
                missing = int((~valid).sum())
                raise StaleRead(f"layer {layer}: {missing} tokens were read before any forward wrote them")
            self._known_valid[layer] = rows is None
        if rows is None:
            return self.keys[layer], self.values[layer]
        return self.keys[layer][rows], self.values[layer][rows]

    @contextmanager
    def keeping(self, rows: Int[Tensor, "2 P"]) -> Iterator[None]:
        """Undo, at the end of the block, all writes at `rows` (2, P): samples and their tokens."""
        sample, token = rows.to(self.keys.device, non_blocking=True)
        kept = (self.keys[:, sample, token], self.values[:, sample, token]) if len(sample) else None
        yield
        if kept is not None:
            self.keys[:, sample, token], self.values[:, sample, token] = kept

    def clone(self) -> KVCache:
        """Return an independent copy, for branching a run."""
        twin = object.__new__(KVCache)
        twin.keys, twin.values, twin.valid = self.keys.clone(), self.values.clone(), self.valid.clone()
        twin._known_valid = list(self._known_valid)
        return twin
