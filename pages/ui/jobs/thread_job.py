"""A page's work on a separate thread, with progress and a way to stop it. Independent of Streamlit."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from e2crf_core.errors import Cancelled, LabError
from e2crf_core.progress import Cancel, Progress

Result = TypeVar("Result")


class ThreadJob(Generic[Result]):
    """One call of `work(progress, cancelled)`, which starts immediately.

    `status` is running, then done (with `result`), stopped, or failed (with `error`). With `stale_s` the job
    ends by itself when `touch` was not called for that many seconds.
    """

    def __init__(self, work: Callable[[Progress, Cancel], Result], *, stale_s: float | None = None) -> None:
        self.status = "running"
        self.error = ""
        self.result: Result | None = None
        self.share = 0.0
        self._begin = self._touched = time.monotonic()
        self._stale_s = stale_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    @property
    def seconds_left(self) -> float | None:
        """Estimate the remaining time from the mean pace so far; None at the very beginning."""
        if self.share < 0.02:
            return None
        return (time.monotonic() - self._begin) * (1 - self.share) / self.share

    def touch(self) -> None:
        """Note that a page still needs the result."""
        self._touched = time.monotonic()

    def stop(self) -> None:
        """Ask the work to end."""
        self._stop.set()

    def wait(self, seconds: float) -> bool:
        """Wait for the end; returns False on time-out."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _unwanted(self) -> bool:
        stale = self._stale_s is not None and time.monotonic() - self._touched > self._stale_s
        return stale or self._stop.is_set()

    def _progress(self, done: int, total: int) -> None:
        self.share = min(1.0, done / max(1, total))

    def _run(self, work: Callable[[Progress, Cancel], Result]) -> None:
        try:
            self.result = work(self._progress, self._unwanted)
            self.status = "done"
        except Cancelled:
            self.status = "stopped"
        except LabError as fault:
            self.error, self.status = str(fault), "stopped" if self._unwanted() else "failed"
        except Exception as fault:  # without this the page would wait forever
            self.error, self.status = f"{type(fault).__name__}: {fault}", "failed"
