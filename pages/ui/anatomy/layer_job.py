"""Layer errors of recorded runs: each record is run again once, on a thread, for all visitors."""

import threading
from collections import OrderedDict

from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.runs.archive import Archive
from e2crf_core.runs.layer_errors import LayerTable, layer_table
from pages.ui.jobs.thread_job import ThreadJob

KEPT = 3
MOST_BYTES = 96 * 2**20
"""The most data that a browser should hold; longer records are rejected before they are run."""

LayerJob = ThreadJob[LayerTable]


class LayerJobs:
    """Jobs by record, the `KEPT` used last; a job that is dropped ends."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, LayerJob] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> LayerJob | None:
        """Return the job of a record, if one was started."""
        with self._lock:
            job = self._jobs.get(key)
            if job is not None:
                self._jobs.move_to_end(key)
            return job

    def start(self, key: str, archive: Archive, model: ScoreModel) -> LayerJob:
        """Start a job, or join the running one. Raises LabError for a record too long to show."""
        recorder = archive.recorder
        size = 2 * 4 * recorder.count * (3 * model.network.layers + 4) * recorder.n
        if size > MOST_BYTES:
            raise LabError(
                f"the layers of this run take {size / 2**20:.0f} MB, more than the {MOST_BYTES // 2**20} MB "
                "that a browser is given",
                remedy="record fewer steps",
            )
        with self._lock:
            job = self._jobs.get(key)
            if job is None or job.status in ("stopped", "failed"):
                job = self._jobs[key] = ThreadJob(
                    lambda progress, cancelled: layer_table(
                        archive, model, progress=progress, cancelled=cancelled
                    )
                )
            self._jobs.move_to_end(key)
            while len(self._jobs) > KEPT:
                self._jobs.popitem(last=False)[1].stop()
            return job


LAYER_JOBS = LayerJobs()
