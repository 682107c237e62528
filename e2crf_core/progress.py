"""How long work reports its progress and learns that it is no longer wanted."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with (done, total) units of work; total stays the same during one piece of work."""

Cancel = Callable[[], bool]
"""Returns True once the work should end; the worker then raises `errors.Cancelled`."""


def silent(done: int, total: int) -> None:
    """Report progress to nobody."""


def never() -> bool:
    """Never ask for an end."""
    return False
