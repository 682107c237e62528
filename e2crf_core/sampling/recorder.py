"""Record a run append-only: one writer, and any number of readers, each with a cursor.

The writer leaves raw blocks; the first reader who looks derives the columns from them (see `observing`).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from e2crf_core.caching.events import StepEvent
from e2crf_core.caching.policy import CachePolicy
from e2crf_core.sampling.observing import StepRecord, derive

BATCH_BYTES = 64 * 2**20
PENDING_BYTES, MOST_PENDING = 16 * 2**20, 1024
"""Blocks that may wait to be derived, in bytes and in steps; then the writer derives them: memory stays bounded."""


class Recorder:
    """A record in preallocated columns, one row per step. Rows below `count` are complete and final.

    `batch_reasons` is kept only while the whole run's decisions fit in BATCH_BYTES; `keeps_batch` says so.
    """

    SCALARS = (
        ("step", np.int32),
        ("t", np.float32),
        ("log_snr", np.float32),
        ("policy_version", np.int32),
        ("share", np.float32),
        ("tokens", np.int64),
        ("flops", np.int64),
        ("flops_full", np.int64),
        ("seconds", np.float64),
        ("tau", np.float32),
        ("r", np.float32),
        ("r_mean", np.float32),
    )

    def __init__(self, steps: int, n: int, length: int, channels: int, batch: int) -> None:
        self.steps, self.n, self.N, self.M, self.batch = steps, n, length, channels, batch
        self.keeps_batch = steps * batch * n <= BATCH_BYTES
        shapes: dict[str, tuple[tuple[int, ...], type]] = {
            "reasons": ((n,), np.uint8),
            "e": ((n,), np.float32),
            "drift": ((n,), np.float32),
            "age": ((n,), np.int32),
            "spectrum": ((n, channels), np.float32),
            "x0": ((length, channels), np.float32),
            "series": ((length, channels), np.float32),
        }
        if self.keeps_batch:
            shapes["batch_reasons"] = ((batch, n), np.uint8)
        self._columns = {name: np.zeros(steps, dtype) for name, dtype in self.SCALARS}
        self._columns |= {name: np.zeros((steps, *shape), dtype) for name, (shape, dtype) in shapes.items()}
        self.policies: list[tuple[int, int, CachePolicy]] = []
        self.count = 0
        self._derived = 0
        step_bytes = n * (batch + 4 * 3 * 2 * channels + 8)  # decisions; z, D and last input; scores
        self._most = min(MOST_PENDING, 1 + PENDING_BYTES // step_bytes)
        self._pending: list[StepRecord] = []
        self._lock = threading.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self._columns)

    def append(self, step: StepRecord | StepEvent) -> None:
        """Add one step. Called by the one writer."""
        if isinstance(step, StepRecord):
            self._pending.append(step)
            self.count += 1
            if len(self._pending) >= self._most:
                self._derive()
        else:
            self.extend({name: np.asarray(getattr(step, name))[None] for name in self.names})

    def extend(self, rows: Mapping[str, np.ndarray]) -> None:
        """Add whole rows (steps, ...) of every column at once. Called by the one writer."""
        self._derive()
        first, last = self.count, self.count + len(rows["step"])
        for name, column in self._columns.items():
            column[first:last] = rows[name]
        self.count = self._derived = last

    def _derive(self) -> None:
        """Fill the columns of all steps recorded so far. Called by any thread."""
        with self._lock:
            pending = self._pending[:]
            if pending:
                values, rows = derive(pending), slice(self._derived, self._derived + len(pending))
                for name, column in self._columns.items():
                    column[rows] = values[name]
                self._derived = rows.stop
                del self._pending[: len(pending)]

    def event(self, row: int) -> StepEvent:
        """Return the step in `row` as an event; unrecorded decisions equal the watched sample's."""
        self._derive()
        values: dict[str, Any] = {name: self._columns[name][row] for name in self._columns}
        if not self.keeps_batch:
            values["batch_reasons"] = np.broadcast_to(values["reasons"], (self.batch, self.n))
        return StepEvent(**values)

    def column(self, name: str) -> np.ndarray:
        """Return all current rows of one column, as a read-only view."""
        return self._slice(name, 0, self.count)

    def since(self, cursor: int) -> tuple[dict[str, np.ndarray], int]:
        """Return views of all columns from row `cursor` on, and the next cursor."""
        count = self.count
        return {name: self._slice(name, cursor, count) for name in self._columns}, count

    def _slice(self, name: str, start: int, stop: int) -> np.ndarray:
        self._derive()
        view = self._columns[name][start:stop]
        view.flags.writeable = False
        return view
