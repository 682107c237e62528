"""Define TokenNetwork: what a score network must offer to run under E²-CRF (manual: `docs/protocol.md`)."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class TokenNetwork(Protocol):
    """The pieces of every forward, whether plain, prefix, or selective. Shapes: (..., d) rows of tokens.

    `prepare` may read the whole state, which is always known, and must be cheap beside the layers.
    `condition` depends only on the noise level. `head` must not depend on it, so that a kept feature gives a
    kept output. All other pieces treat rows independently: tokens interact only in attention.

    Three attributes are optional. A *spectrally causal* network (E6) has `edges`, the upper edges of its
    bands, the last one n, and `visible` (n, n), True if a query (row) may see a key. `per_step_modules` names
    the modules whose weights are not applied to each token.
    """

    @property
    def layers(self) -> int:
        """Return the number L of layers."""

    @property
    def heads(self) -> int:
        """Return the number H of attention heads."""

    @property
    def width(self) -> int:
        """Return the width d of features, keys, and values."""

    @property
    def prepare_flops(self) -> int:
        """Return the operations of `prepare` for one sample."""

    def condition(self, log_snr: Tensor) -> Tensor:
        """Map noise levels log(a/s) of shape S to conditioning (*S, ...), computed once per step."""

    def prepare(self, u: Tensor, log_snr: Tensor) -> Tensor:
        """Map network inputs u = c_in (z - a mu) (B, n, c) to the inputs of `embed`, (B, n, ...)."""

    def embed(self, prepared: Tensor, index: Tensor | None) -> Tensor:
        """Map prepared rows of tokens `index` (None: the lowest ones in order) to h_0 (..., d')."""

    def qkv(self, layer: int, h: Tensor, condition: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map layer input h to its queries, keys, and values, each (..., d)."""

    def finish(self, layer: int, h: Tensor, attended: Tensor, condition: Tensor) -> Tensor:
        """Finish a layer after attention: the next h, or after the last layer C (..., d) of E4."""

    def head(self, feature: Tensor) -> Tensor:
        """Map feature C (..., d) to network output F (..., c)."""
