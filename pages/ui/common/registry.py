"""The runs of this process: every session and every socket finds a run by its unguessable id."""

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import replace

from e2crf_core.cluster.remote_run import RemoteRun
from e2crf_core.errors import LabError
from e2crf_core.runs.archive import of_handle
from e2crf_core.runs.run import FINISHED, RunHandle, RunSpec
from e2crf_core.runs.store import RunStore

ORPHAN_S = 10.0
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


class RunRegistry:
    """At most `live_limit` unfinished runs and the `keep` newest finished ones.

    A run ends by itself when nobody watches it, so the limit bounds what several visitors can start at once;
    it is not a queue. `ended` is called with each run that has ended, on a separate thread. Safe to call
    from any thread.
    """

    def __init__(
        self,
        live_limit: int = 4,
        keep: int = 8,
        make: Callable[[RunSpec], RunHandle] = watched_run,
        ended: Callable[[RunHandle], None] | None = None,
    ) -> None:
        self.live_limit = live_limit
        self._keep = keep
        self._make = make
        self._on_end = ended
        self._runs: dict[str, RunHandle] = {}
        self._lock = threading.Lock()

    def start(self, spec: RunSpec) -> RunHandle:
        """Start a run. Raises LabError when `live_limit` runs are unfinished."""
        with self._lock:
            live = sum(run.status not in FINISHED for run in self._runs.values())
            if live >= self.live_limit:
                raise LabError(
                    f"{live} runs are going on this server, as many as it takes",
                    remedy=f"stop one of them, or wait about {ORPHAN_S:.0f} seconds: runs that nobody "
                    "watches end",
                )
            run = self._make(spec)
            self._runs[run.id] = run
            finished = [key for key, old in self._runs.items() if old.status in FINISHED]
            for key in finished[: max(0, len(finished) - self._keep)]:
                del self._runs[key]
        run.touch()
        run.start()
        if self._on_end is not None:
            threading.Thread(target=self._wait, args=(run, self._on_end), daemon=True).start()
        return run

    @staticmethod
    def _wait(run: RunHandle, then: Callable[[RunHandle], None]) -> None:
        run.wait()
        then(run)

    def get(self, run_id: str | None) -> RunHandle | None:
        """Return the run with that id, or None when it is unknown or was cleaned up."""
        with self._lock:
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
