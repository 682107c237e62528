"""Let work report its progress and learn that it was cancelled."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Callback with (done, total) units of work; total is constant during one piece of work."""

Cancel = Callable[[], bool]
"""Callback that returns True once the work should end; the worker then raises `errors.Cancelled`."""


def silent(done: int, total: int) -> None:
    """Ignore progress reports."""


def never() -> bool:
    """Return False: never cancel."""
    return False
