"""Process-wide table of runs: every session and every socket finds a run by its unguessable id."""

import threading
from collections.abc import Callable

from e2crf_core.errors import LabError
from e2crf_core.run import FINISHED, RunHandle, RunSpec

ORPHAN_S = 10.0


def watched_run(spec: RunSpec) -> RunHandle:
    """A run that ends by itself when no page has looked at it for `ORPHAN_S`."""
    return RunHandle(spec, orphan_s=ORPHAN_S)


class RunRegistry:
    """At most `live_limit` unfinished runs and the `keep` youngest finished ones.

    A run ends by itself when nobody watches it, so the limit is a bound on what several visitors can start at
    once, not a queue. Safe to call from any thread.
    """

    def __init__(
        self, live_limit: int = 4, keep: int = 8, make: Callable[[RunSpec], RunHandle] = watched_run
    ) -> None:
        self._live_limit = live_limit
        self._keep = keep
        self._make = make
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
        return run

    def get(self, run_id: str | None) -> RunHandle | None:
        """The run with that id, or None when it is unknown or was cleaned up."""
        with self._lock:
            return self._runs.get(run_id) if run_id else None


RUNS = RunRegistry()
