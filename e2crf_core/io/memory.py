"""Return freed memory to the system."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache


@cache
def _trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None


def give_back() -> None:
    """Return memory that the program has freed and the C library has kept, where it is glibc; else do nothing.

    Each thread that has computed otherwise leaves some of its memory behind in the process.
    """
    trim = _trim()
    if trim is not None:
        trim(0)
