"""How long work reports its progress and learns that it is no longer wanted."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

Progress = Callable[[int, int], None]
"""Called with (done, total) units of work; total stays the same during one piece of work."""

Cancel = Callable[[], bool]
"""Returns True once the work should end; the worker then raises `errors.Cancelled`."""


def silent(done: int, total: int) -> None:
    """Report progress to nobody."""


def never() -> bool:
    """Never ask for an end."""
    return False


class ProgressLine:
    """Writes `label 40% 3.1 s left` to a stream: in place on a terminal, a few lines otherwise."""

    def __init__(self, label: str, stream: TextIO | None = None) -> None:
        self.label, self.stream = label, stream or sys.stderr
        self.begin = time.monotonic()
        self.last = -1e9
        self.interval = 0.2 if self.stream.isatty() else 5.0

    def __call__(self, done: int, total: int) -> None:
        """Report `done` of `total`."""
        now = time.monotonic()
        if now - self.last < self.interval and done < total:
            return
        self.last = now
        left = (now - self.begin) / max(done, 1) * (total - done)
        text = f"{self.label} {100 * done / total:3.0f}%  {done}/{total}  {left:.1f} s left"
        if self.stream.isatty():
            self.stream.write(f"\r{text:<72}\r" + ("\n" if done >= total else ""))
        else:
            self.stream.write(text + "\n")
        self.stream.flush()
