"""Looking inside recorded runs: each record is run again once, on a thread, for whoever asks. No Streamlit here."""

import threading
import time
from collections import OrderedDict

from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import Cancelled, LabError
from e2crf_core.runs.archive import Archive
from e2crf_core.runs.layer_errors import LayerTable, layer_table

KEPT = 3
MOST_BYTES = 96 * 2**20
"""What a browser is asked to hold at most; a longer record is refused before it is run."""


class InsideJob:
    """One record being run again. `state` is running, there, stopped or failed; `table` is set once it is there."""

    def __init__(self, archive: Archive, model: ScoreModel) -> None:
        self.state = "running"
        self.error = ""
        self.table: LayerTable | None = None
        self.share = 0.0
        self._begin = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(archive, model), name="inside", daemon=True)
        self._thread.start()

    @property
    def seconds_left(self) -> float | None:
        """From the mean pace so far; None before it can be told."""
        if self.share < 0.02:
            return None
        return (time.monotonic() - self._begin) * (1 - self.share) / self.share

    def stop(self) -> None:
        """End it before the next step."""
        self._stop.set()

    def wait(self, seconds: float) -> bool:
        """Whether it has ended within so many seconds."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _work(self, archive: Archive, model: ScoreModel) -> None:
        def progress(done: int, total: int) -> None:
            self.share = done / total

        try:
            self.table = layer_table(archive, model, progress=progress, cancelled=self._stop.is_set)
            self.state = "there"
        except Cancelled:
            self.state = "stopped"
        except LabError as fault:
            self.error, self.state = str(fault), "failed"
        except Exception as fault:  # a page must show it rather than wait for ever
            self.error, self.state = f"{type(fault).__name__}: {fault}", "failed"


class Insides:
    """Jobs by record, the `KEPT` used last; those that are let go of end."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, InsideJob] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> InsideJob | None:
        """The job of a record, if somebody has asked for it."""
        with self._lock:
            job = self._jobs.get(key)
            if job is not None:
                self._jobs.move_to_end(key)
            return job

    def start(self, key: str, archive: Archive, model: ScoreModel) -> InsideJob:
        """Begin, or join what was begun. Raises LabError for a record too long to be shown."""
        recorder = archive.recorder
        size = 2 * 4 * recorder.count * (3 * model.network.layers + 4) * recorder.n
        if size > MOST_BYTES:
            raise LabError(
                f"the inside of this run takes {size / 2**20:.0f} MB, a browser is given {MOST_BYTES // 2**20}: "
                "record fewer steps"
            )
        with self._lock:
            job = self._jobs.get(key)
            if job is None or job.state in ("stopped", "failed"):
                job = self._jobs[key] = InsideJob(archive, model)
            self._jobs.move_to_end(key)
            while len(self._jobs) > KEPT:
                self._jobs.popitem(last=False)[1].stop()
            return job


INSIDES = Insides()
