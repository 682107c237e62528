"""Share terminal code between commands: progress, Ctrl-C that lets work end in order, and output checks."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from e2crf_core.errors import LabError
from e2crf_core.io.extras import installed

EVERY_S = 5.0
"""Seconds between lines when progress cannot be drawn in place."""
BAR = "{desc} {percentage:3.0f}%  {n_fmt}/{total_fmt}  {remaining} left"


class ProgressLine:
    """A progress reporter: a tqdm bar on a terminal, otherwise (or without tqdm) a line every few seconds."""

    def __init__(self, label: str, stream: TextIO | None = None) -> None:
        self.label, self.stream = label, stream or sys.stderr
        self._begin = time.monotonic()
        self._last = float("-inf")
        self._draws = self.stream.isatty() and installed("tqdm")
        self._bar: Any = None

    def __call__(self, done: int, total: int) -> None:
        """Report `done` of `total`; the two are equal at the end."""
        if self._draws:
            self._draw(done, total)
        else:
            self._print(done, total)

    def _draw(self, done: int, total: int) -> None:
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(desc=self.label, total=total, file=self.stream, bar_format=BAR)
        self._bar.update(done - self._bar.n)
        if done >= total:
            self._bar.close()
            self._bar = None

    def _print(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last < EVERY_S and done < total:
            return
        self._last = now
        left = (now - self._begin) / max(done, 1) * (total - done)
        share = 100 * done / max(total, 1)
        print(f"{self.label} {share:3.0f}%  {done}/{total}  {left:.1f} s left", file=self.stream, flush=True)


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a true value of the yielded function; a second one interrupts as usual."""
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    previous = signal.signal(signal.SIGINT, stop)
    try:
        yield lambda: stopping
    finally:
        signal.signal(signal.SIGINT, previous)


def check_out_folder(path: Path) -> None:
    """Raise LabError when `path` is a file, before any work is done."""
    if path.exists() and not path.is_dir():
        raise LabError(f"{path} is a file", field="out", remedy="name a folder")


def check_out_file(path: Path) -> None:
    """Raise LabError unless a file can be written at `path`, before any work is done."""
    if path.is_dir():
        raise LabError(f"{path} is a folder", field="out", remedy="name a file")
    if not path.parent.is_dir():
        raise LabError(f"the folder {path.parent} does not exist", field="out")
    if not os.access(path.parent, os.W_OK):
        raise LabError(f"the folder {path.parent} is not writable", field="out")


def warn(text: str) -> None:
    """Print a warning on stderr."""
    print(f"warning: {text}", file=sys.stderr, flush=True)
