"""Process-wide table of runs: every session and every socket finds a run by its unguessable id."""

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
"""The device of a run whose sampler sits on a node of the Ray cluster that `ADDRESS` names."""
ADDRESS = "E2CRF_RAY"


def cluster_address() -> str | None:
    """Where the cluster is that whoever started the app has named; None for none."""
    return os.environ.get(ADDRESS) or None


def watched_run(spec: RunSpec) -> RunHandle:
    """A run that ends by itself when no page has looked at it for `ORPHAN_S`, here or on a node of the cluster."""
    if spec.device != CLUSTER:
        return RunHandle(spec, orphan_s=ORPHAN_S)
    address = cluster_address()
    if address is None:
        raise LabError(
            f"this lab knows no cluster: start it with {ADDRESS}=ADDRESS, or choose another device"
        )
    return RemoteRun(replace(spec, device="auto"), address=address, orphan_s=ORPHAN_S)


def autosave(run: RunHandle) -> None:
    """Keep the record of a run that has ended. Wanting disk space must not take a run from those who watch it."""
    if run.status == "failed" or run.recorder is None or not run.recorder.count:
        return
    try:
        STORE.add(of_handle(run))
    except (OSError, LabError) as fault:
        logging.getLogger(__name__).warning("run %s was not saved: %s", run.spec.checkpoint, fault)


class RunRegistry:
    """At most `live_limit` unfinished runs and the `keep` youngest finished ones.

    A run ends by itself when nobody watches it, so the limit is a bound on what several visitors can start at
    once, not a queue. `ended` is called with each run that has ended, on a thread of its own. Safe to call from
    any thread.
    """

    def __init__(
        self,
        live_limit: int = 4,
        keep: int = 8,
        make: Callable[[RunSpec], RunHandle] = watched_run,
        ended: Callable[[RunHandle], None] | None = None,
    ) -> None:
        self._live_limit = live_limit
        self._keep = keep
        self._make = make
        self._on_end = ended
        self._runs: dict[str, RunHandle] = {}
        self._lock = threading.Lock()

    def start(self, spec: RunSpec) -> RunHandle:
        """Start a run; raises LabError when `live_limit` runs are still going."""
        with self._lock:
            live = sum(run.status not in FINISHED for run in self._runs.values())
            if live >= self._live_limit:
                raise LabError(
                    f"{live} runs are going on this server, as many as it takes: stop one of them, or wait "
                    "about ten seconds for a run that nobody watches to end."
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
        """The run with that id, or None when it is unknown or was cleaned up."""
        with self._lock:
            return self._runs.get(run_id) if run_id else None


RUNS = RunRegistry(ended=autosave)
