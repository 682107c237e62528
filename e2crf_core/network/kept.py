"""Keep what is derived from a network's weights between runs: its conditions by noise level, its backends.

Whatever is kept is dropped when a weight is written in place, as an optimizer does, or with the network itself.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor

LIMIT_BYTES = 32 << 20
"""The most that the conditions of one network may take; further ones are computed at every call."""

_by_network: WeakKeyDictionary[Any, tuple[int, dict[Any, Any]]] = WeakKeyDictionary()


def kept_for(network: Any) -> dict[Any, Any]:
    """Return what is kept for a network and its present weights; nothing, if it cannot be referred to."""
    try:
        weights = [(p.data_ptr(), 0 if p.is_inference() else p._version) for p in network.parameters()]
        stored = _by_network.get(network)
        if stored is None or stored[0] != hash(tuple(weights)):
            stored = _by_network[network] = (hash(tuple(weights)), {})
        return stored[1]
    except (TypeError, AttributeError):
        return {}


class Conditions:
    """The conditions of a network, by noise level."""

    def __init__(self) -> None:
        self._by_level: dict[float, Tensor] = {}
        self._room = LIMIT_BYTES

    def at(self, network: Any, level: float, log_snr: Tensor) -> Tensor:
        """Return the condition at `level`, of which `log_snr` () is the tensor."""
        condition = self._by_level.get(level)
        if condition is None:
            condition = network.condition(log_snr)
            self._room -= condition.nbytes
            if self._room >= 0:
                self._by_level[level] = condition
        return condition

    @staticmethod
    def of(network: Any) -> Conditions:
        """Return the conditions kept for a network."""
        return kept_for(network).setdefault("conditions", Conditions())
