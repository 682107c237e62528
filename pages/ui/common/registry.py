"""The runs of this process: every session and every socket finds a run by its unguessable id."""

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import replace

from e2crf_core.cluster.remote_run import RemoteRun
from e2crf_core.errors import LabError
from e2crf_core.runs.archive import of_handle
from e2crf_core.runs.line import WaitingLine
from e2crf_core.runs.run import FINISHED, RunHandle, RunSpec
from e2crf_core.runs.store import RunStore
from pages.ui.common.messages import minutes_text

ORPHAN_S = 10.0
FORGET_S = 600.0
"""Seconds after which a finished run that nobody watches leaves the memory; its record is kept."""
STORE = RunStore()
"""The archives of this user's runs."""


CLUSTER = "cluster"
"""The device of a run whose sampler is on a node of the Ray cluster at `ADDRESS`."""
ADDRESS = "E2CRF_RAY"


def cluster_address() -> str | None:
    """Return the address of the cluster that the app was started with, or None."""
    return os.environ.get(ADDRESS) or None


def watched_run(spec: RunSpec) -> RunHandle:
    """Make a local or cluster run that ends by itself when no page has watched it for `ORPHAN_S`."""
    if spec.device != CLUSTER:
        return RunHandle(spec, orphan_s=ORPHAN_S)
    address = cluster_address()
    if address is None:
        raise LabError(
            "this lab is not connected to a cluster",
            field="device",
            remedy=f"start the lab with {ADDRESS}=ADDRESS, or choose another device",
        )
    return RemoteRun(replace(spec, device="auto"), address=address, orphan_s=ORPHAN_S)


def autosave(run: RunHandle) -> None:
    """Keep the record of a run that has ended. A full disk must not take the run from its viewers."""
    if run.recorder is None or not run.recorder.count:
        return
    try:
        STORE.add(of_handle(run))
    except (OSError, LabError) as fault:
        logging.getLogger(__name__).warning("run %s was not saved: %s", run.spec.checkpoint, fault)


def line_text(run: RunHandle) -> str:
    """Return a sentence on a run's place in line; "" if it is not waiting."""
    ticket = run.ticket
    place = ticket.place if ticket is not None else None
    if ticket is None or place is None:
        return ""
    number, seconds = place
    left = "" if seconds is None else f", about {minutes_text(seconds)} to go"
    return f"All {ticket.line.slots} samplers are at work: number {number} in line{left}."


class RunRegistry:
    """Runs in line for `slots` samplers, those at work, and the `keep` newest finished ones.

    Runs wait first come, first served, and fairly between owners (see `WaitingLine`); at most `waiting` do. A run
    that nobody watches ends by itself. A finished one is kept longer while it is watched, and is forgotten
    `FORGET_S` after that. `ended` is called with each run that has ended, on a separate thread. Safe to call
    from any thread.
    """

    def __init__(
        self,
        slots: int = 4,
        keep: int = 8,
        make: Callable[[RunSpec], RunHandle] = watched_run,
        ended: Callable[[RunHandle], None] | None = None,
        waiting: int = 64,
    ) -> None:
        self.line = WaitingLine(slots, waiting)
        self._keep = keep
        self._make = make
        self._on_end = ended
        self._runs: dict[str, RunHandle] = {}
        self._lock = threading.Lock()

    def start(self, spec: RunSpec, owner: str = "") -> RunHandle:
        """Start a run of a session, or put it in line. Raises LabError when too many wait."""
        run = self._make(spec)
        run.ticket = self.line.join(owner or run.id, lambda: run.eta_s)
        with self._lock:
            self._forget_old()
            self._runs[run.id] = run
        run.touch()
        run.start()
        if self._on_end is not None:
            threading.Thread(target=self._wait, args=(run, self._on_end), daemon=True).start()
        return run

    def _forget_old(self) -> None:
        finished = [run for run in self._runs.values() if run.status in FINISHED]
        surplus = len(finished) - self._keep
        for number, run in enumerate(finished):
            if run.idle_s > (ORPHAN_S if number < surplus else FORGET_S):
                del self._runs[run.id]

    @staticmethod
    def _wait(run: RunHandle, then: Callable[[RunHandle], None]) -> None:
        run.wait()
        then(run)

    def get(self, run_id: str | None) -> RunHandle | None:
        """Return the run with that id, or None when it is unknown or was cleaned up."""
        with self._lock:
            self._forget_old()
            return self._runs.get(run_id) if run_id else None

    def close(self, seconds: float = 10) -> None:
        """Stop and forget all runs. Raises TimeoutError when one does not end within `seconds`."""
        with self._lock:
            runs = list(self._runs.values())
            self._runs.clear()
        for run in runs:
            run.stop()
        if not all(run.wait(seconds) for run in runs):
            raise TimeoutError("a run did not end")

    def forget(self) -> None:
        """Forget all runs without stopping them, as a restart of the server does."""
        with self._lock:
            self._runs.clear()


RUNS = RunRegistry(ended=autosave)
