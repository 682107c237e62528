"""Which tokens of which samples a forward runs: rows of a flattened (B * n) layout, with cheap special cases."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Selection:
    """Chosen tokens in order of sample, then token. `index` (T,) is None when every token of the batch is chosen.

    `whole` (b,) lists samples that are chosen entirely while all others are not at all, else None; `sample`,
    `token` (T,) and `index` live on the device, `counts` (B,) on the host.
    """

    batch: int
    tokens: int
    index: Tensor | None
    sample: Tensor
    token: Tensor
    counts: Tensor
    whole: Tensor | None

    @staticmethod
    def of(mask: Tensor, batch: int, device: torch.device) -> Selection:
        """From a host mask (b, n), b = batch or 1 for all samples alike."""
        tokens = mask.shape[1]
        mask = mask.expand(batch, tokens)
        counts = mask.sum(1)
        flat = mask.reshape(-1).nonzero()[:, 0]
        sample, token = flat // tokens, flat % tokens
        full = counts == tokens
        every = bool(full.all())
        whole = full.nonzero()[:, 0] if not every and bool((full | (counts == 0)).all()) else None
        return Selection(
            batch=batch,
            tokens=tokens,
            index=None if every else flat.to(device),
            sample=sample.to(device),
            token=token.to(device),
            counts=counts,
            whole=None if whole is None else whole.to(device),
        )

    @property
    def rows(self) -> int:
        """Number T of chosen tokens."""
        return len(self.sample)

    def take(self, x: Tensor) -> Tensor:
        """(B, n, ...) -> rows (T, ...)."""
        flat = x.flatten(0, 1)
        return flat if self.index is None else flat[self.index]

    def put(self, x: Tensor, rows: Tensor) -> Tensor:
        """A new (B, n, ...) with the chosen rows replaced."""
        if self.index is None:
            return rows.view(self.batch, self.tokens, *rows.shape[1:])
        return x.flatten(0, 1).index_copy(0, self.index, rows).view_as(x)

    def per_sample(self, values: Tensor) -> Tensor:
        """Sums of row values (T,) for each sample: (B,)."""
        if self.index is None:
            return values.view(self.batch, self.tokens).sum(1)
        return values.new_zeros(self.batch).index_add_(0, self.sample, values)
