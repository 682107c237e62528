"""Keep computations free of what the host program set in torch: default types, default device, autocast, seed.

A notebook that sets `torch.set_default_device("cuda")` for its own network must still get our samples, to the bit,
and go on with its own random numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_KINDS = ("cpu", "cuda")


@contextmanager
def own_settings() -> Iterator[None]:
    """Compute with torch's own defaults, float32 on the CPU without autocast, whatever the host program chose."""
    autocast = [kind for kind in _KINDS if torch.is_autocast_enabled(kind)]
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    with ExitStack() as stack:
        for kind in autocast:
            stack.enter_context(torch.autocast(kind, enabled=False))
        if dtype != torch.float32:
            torch.set_default_dtype(torch.float32)
            stack.callback(torch.set_default_dtype, dtype)
        if device.type != "cpu":
            # Only where it is needed: it makes every call of torch slower.
            stack.enter_context(torch.device("cpu"))
        yield


class own_draws(TorchFunctionMode):
    """Draw the first weights of networks from a generator of their own.

    Modules of torch draw from the generator that the whole process shares, where another thread may draw, or set
    a seed, at the same time.
    """

    _DRAWS = frozenset(
        {torch.randn, Tensor.uniform_, Tensor.normal_}
        | {nn.init.kaiming_uniform_, nn.init.uniform_, nn.init.normal_}
    )

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self._generator = torch.Generator("cpu").manual_seed(seed)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        own = {"generator": self._generator} if func in self._DRAWS else {}
        return func(*args, **{**(kwargs or {}), **own})
