"""Select the tokens that a forward runs: rows of a flattened (B * n) layout, with fast special cases."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from e2crf_core.network.shapes import Bool, Float, Int, Shaped


@dataclass(frozen=True)
class Selection:
    """The chosen tokens, by sample, then token; `index` (T,) is None when every token is chosen.

    `present` (b,) lists the samples with any chosen token (None: all samples); `whole` is true if all tokens
    of these samples are chosen. `prefix` is m if exactly the lowest m tokens of every sample are chosen; rows
    are then read and written as slices. `sample`, `token` (T,), `index`, and `present` live on `device` and
    are made when they are first needed, `counts` (B,) lives on the host.
    """

    batch: int
    tokens: int
    device: torch.device
    mask: Bool[Tensor, "B n"]
    counts: Int[Tensor, " B"]
    rows: int
    whole: bool
    prefix: int | None = None

    @staticmethod
    def of(
        mask: Bool[Tensor, "b n"], batch: int, device: torch.device, *, prefixes: bool = False
    ) -> Selection:
        """Select from a host mask (b, n), b = batch or 1; with `prefixes`, as slices where possible."""
        tokens = mask.shape[1]
        lowest = int(mask[0].sum())
        sliced = prefixes and 0 < lowest < tokens and (len(mask) == 1 or bool((mask == mask[:1]).all()))
        mask = mask.expand(batch, tokens)
        counts = mask.sum(1)
        full, some = counts == tokens, counts > 0
        return Selection(
            batch=batch,
            tokens=tokens,
            device=device,
            mask=mask,
            counts=counts,
            rows=int(counts.sum()),
            whole=bool((full == some).all()),
            prefix=lowest if sliced else None,
        )

    @cached_property
    def _flat(self) -> Int[Tensor, " T"]:
        """Return the chosen rows of the flattened (B * n) layout, without a copy from the host where possible."""
        if self.index is not None:
            return self.index
        return torch.arange(self.rows, device=self.device)

    @cached_property
    def index(self) -> Int[Tensor, " T"] | None:
        """Return the chosen rows of the flattened (B * n) layout; None when every token is chosen."""
        if self.rows == self.batch * self.tokens:
            return None
        if self.prefix is not None:
            first = self.tokens * torch.arange(self.batch, device=self.device)
            return (first[:, None] + torch.arange(self.prefix, device=self.device)).flatten()
        return self.mask.reshape(-1).nonzero()[:, 0].to(self.device)

    @cached_property
    def sample(self) -> Int[Tensor, " T"]:
        """Return each row's sample."""
        return self._flat // self.tokens

    @cached_property
    def token(self) -> Int[Tensor, " T"]:
        """Return each row's token."""
        return self._flat % self.tokens

    @cached_property
    def present(self) -> Int[Tensor, " b"] | None:
        """Return the samples with any chosen token; None for all samples."""
        some = self.counts > 0
        return None if bool(some.all()) else some.nonzero()[:, 0].to(self.device)

    @property
    def samples(self) -> int:
        """Return the number of samples with any chosen token."""
        return self.batch if self.present is None else len(self.present)

    def take_present(self, x: Shaped[Tensor, "b n *rest"]) -> Shaped[Tensor, "T ..."]:
        """Return rows (T, ...) from the present samples' (b, n, ...)."""
        if self.present is None:
            return self.take(x)
        place = torch.zeros(self.batch, dtype=torch.long, device=x.device)
        place[self.present] = torch.arange(len(self.present), device=x.device)
        return x[place[self.sample], self.token]

    def take(self, x: Shaped[Tensor, "B n *rest"]) -> Shaped[Tensor, "T ..."]:
        """Return rows (T, ...) from (B, n, ...)."""
        if self.prefix is not None:
            return x[:, : self.prefix].flatten(0, 1)
        flat = x.flatten(0, 1)
        return flat if self.index is None else flat[self.index]

    def put(
        self, x: Shaped[Tensor, "B n *rest"], rows: Shaped[Tensor, "T ..."]
    ) -> Shaped[Tensor, "B n *rest"]:
        """Return a new (B, n, ...) with the chosen rows replaced."""
        if self.index is None:
            return rows.view(self.batch, self.tokens, *rows.shape[1:])
        if self.prefix is not None:
            kept = rows.view(self.batch, self.prefix, *rows.shape[1:])
            return torch.cat([kept, x[:, self.prefix :]], dim=1)
        return x.flatten(0, 1).index_copy(0, self.index, rows).view_as(x)

    def per_sample(self, values: Float[Tensor, " T"]) -> Float[Tensor, " B"]:
        """Sum row values (T,) for each sample: (B,)."""
        if self.index is None:
            return values.view(self.batch, self.tokens).sum(1)
        if self.prefix is not None:
            return values.view(self.batch, self.prefix).sum(1)
        return values.new_zeros(self.batch).index_add_(0, self.sample, values)
