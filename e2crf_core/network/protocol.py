"""TokenNetwork: what a token-wise score network must offer to run under E²-CRF. `docs/protocol.md` is its manual."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class TokenNetwork(Protocol):
    """The pieces that every forward, plain, prefix or selective, is made of. Shapes: (..., d) rows of tokens.

    `prepare` may look at the whole state, which is always known, and must be cheap beside the layers; `condition`
    depends on the noise level alone; `head` must not depend on it, so that a kept feature gives a kept output. All
    others treat rows independently: there tokens meet in attention only.

    Three attributes are optional. A *spectrally causal* network (E6) has `edges`, the upper edges of its bands, the
    last one n, and `visible` (n, n), True where a query (row) may see a key. `per_step_modules` names the modules
    whose weights are not paid for each token.
    """

    @property
    def layers(self) -> int:
        """Number L of layers."""

    @property
    def heads(self) -> int:
        """Number H of attention heads."""

    @property
    def width(self) -> int:
        """Width d of features, keys and values."""

    @property
    def prepare_flops(self) -> int:
        """Operations of `prepare` for one sample."""

    def condition(self, log_snr: Tensor) -> Tensor:
        """Noise levels log(a/s) of shape S -> conditioning (*S, ...), computed once a step."""

    def prepare(self, u: Tensor, log_snr: Tensor) -> Tensor:
        """Network inputs u = c_in (z - a mu) (B, n, c) -> what `embed` reads of each token, (B, n, ...)."""

    def embed(self, prepared: Tensor, index: Tensor | None) -> Tensor:
        """Prepared rows of tokens `index`, or of the lowest ones in order for None -> h_0 (..., d')."""

    def qkv(self, layer: int, h: Tensor, condition: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Layer input h -> its queries, keys and values, each (..., d)."""

    def finish(self, layer: int, h: Tensor, attended: Tensor, condition: Tensor) -> Tensor:
        """The rest of a layer after attention: the next h; after the last layer the feature C (..., d) of E4."""

    def head(self, feature: Tensor) -> Tensor:
        """Feature C (..., d) -> network output F (..., c)."""
