"""Keep computations free of what the host program set in torch: default types, default device, autocast.

A notebook that sets `torch.set_default_device("cuda")` for its own network must still get our samples, to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

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
