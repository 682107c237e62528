"""Run a sampler on a node of a Ray cluster and stream its steps to the process that watches it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from e2crf_core.caching.policy import CachePolicy
from e2crf_core.cluster.executor import LOCAL, POLL, connect, ray_module
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.evaluation.bulk import on_device
from e2crf_core.models.checkpoints import load_checkpoint
from e2crf_core.runs.run import FINISHED, RunHandle, RunSpec
from e2crf_core.sampling.recorder import Recorder

WAIT_S = 120.0
"""Seconds that a run waits for a node with room."""
ANSWER_S = 60.0
"""Seconds of silence after which a node counts as lost."""
GPU_SHARE = 0.25
"""GPU share of a live run: four runs share one GPU."""


class RunHost:
    """A host that holds a run on a node. Calls arrive one at a time; the run has its own thread."""

    CALLS = (
        "start",
        "pause",
        "step_once",
        "stop",
        "skip_compare",
        "set_policy",
        "set_pace",
        "set_watch",
    )

    def __init__(self, model: ScoreModel, spec: RunSpec, orphan_s: float | None) -> None:
        self.handle = RunHandle(spec, orphan_s=orphan_s, load=lambda _, device: on_device(model, device))

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a method of the run handle."""
        if name not in self.CALLS:
            raise LabError(f"a run has no call {name!r}")
        return getattr(self.handle, name)(*arguments)

    def pull(self, cursor: int, watched: bool) -> dict[str, Any]:
        """Return the state of the run and its steps from `cursor` on."""
        handle = self.handle
        if watched:
            handle.touch()
        told: dict[str, Any] = {
            name: getattr(handle, name) for name in ("status", "error", "progress", "eta_s")
        }
        recorder = handle.recorder
        if recorder is not None:
            rows, cursor = recorder.since(cursor)
            told["shape"] = (recorder.steps, recorder.n, recorder.N, recorder.M, recorder.batch)
            told["rows"] = {name: column.copy() for name, column in rows.items()}
            told["policies"] = list(recorder.policies)
        # The status was read first: if it says finished, no step can be missing from the rows read after it.
        return told | {"cursor": cursor, "result": handle.result}


class RemoteRun(RunHandle):
    """A run handle whose worker thread follows a RunHost at `address`, joining that cluster if needed.

    A recorder here receives the steps by cursor. If the node is lost, `status` becomes failed and the
    received steps remain. `load` reads the checkpoint here and sends the weights. `gpus` is the run's share
    of a GPU; None takes GPU_SHARE on a cluster that has GPUs.
    """

    def __init__(
        self,
        spec: RunSpec,
        *,
        address: str = LOCAL,
        orphan_s: float | None = None,
        gpus: float | None = None,
        load: Callable[[str, str], ScoreModel] = load_checkpoint,
    ) -> None:
        super().__init__(spec, orphan_s=orphan_s, load=load)
        self._address, self._gpus = address, gpus
        self._calls: SimpleQueue[tuple[str, tuple[Any, ...]]] = SimpleQueue()
        self._order = threading.Lock()
        self._progress = 0.0
        self._eta: float | None = None
        self._host: Any = None

    @property
    def progress(self) -> float:
        """Return the progress last reported by the node (see RunHandle)."""
        return self._progress

    @property
    def eta_s(self) -> float | None:
        """Return the remaining seconds last reported by the node (see RunHandle)."""
        return self._eta

    @property
    def node(self) -> Any:
        """Return the Ray actor that holds the run, or None before one was requested."""
        return self._host

    def start(self) -> None:
        """Begin, or continue when paused."""
        self._send("start")
        self._launch()

    def pause(self) -> None:
        """Pause before the next step."""
        self._send("pause")

    def step_once(self) -> None:
        """Take exactly one step, then pause."""
        self._send("step_once")
        self._launch()

    def stop(self) -> None:
        """End the run; what was recorded remains."""
        super().stop()
        self._send("stop")

    def skip_compare(self) -> None:
        """Skip the uncached twin, or end it early."""
        self._send("skip_compare")

    def set_policy(self, policy: CachePolicy) -> int:
        """Replace the policy from the next step on; return its version, which the node counts alike."""
        with self._order:
            version = super().set_policy(policy)
            self._send("set_policy", policy)
        return version

    def set_pace(self, pace: float) -> None:
        """Change the limit on steps per second; 0 is unlimited."""
        super().set_pace(pace)
        self._send("set_pace", pace)

    def set_watch(self, watch: int) -> None:
        """Record the details of another sample from the next step on."""
        super().set_watch(watch)
        self._send("set_watch", watch)

    def _send(self, name: str, *arguments: Any) -> None:
        self._calls.put((name, arguments))

    def _run(self) -> None:
        """Find a node, then follow the run there to its end."""
        self.model = self._load(self.spec.checkpoint, "cpu")
        connect(self._address)
        ray = ray_module()
        gpus = self._gpus
        if gpus is None:
            gpus = GPU_SHARE if ray.cluster_resources().get("GPU", 0) else 0
        host = ray.remote(num_cpus=1, num_gpus=gpus)(RunHost)
        self._host = host.remote(ray.put(self.model), self.spec, self.orphan_s)
        try:
            if self._placed(ray):
                self._follow(ray)
        except ray.exceptions.RayError as fault:
            reason = " ".join(str(fault).split())[:200]
            raise LabError(f"the node of this run is gone: {reason or type(fault).__name__}") from None
        finally:
            ray.kill(self._host)

    def _placed(self, ray: Any) -> bool:
        """Wait until a node has accepted the run; return False if the run ends before."""
        first, begin = self._host.pull.remote(0, True), time.monotonic()
        while not ray.wait([first], timeout=POLL)[0]:
            if self._stop or self._orphaned():
                self.status = "stopped"
                return False
            if time.monotonic() - begin > WAIT_S:
                raise LabError(f"no node of the cluster had room for this run within {WAIT_S:g} s")
        return True

    def _follow(self, ray: Any) -> None:
        cursor = 0
        while self.status not in FINISHED:
            self._pass_on()
            watched = self.orphan_s is None or time.monotonic() - self._touched <= self.orphan_s
            told = ray.get(self._host.pull.remote(cursor, watched), timeout=ANSWER_S)
            cursor = self._take(told, cursor)

    def _pass_on(self) -> None:
        """Wait briefly for a call, then forward all pending ones."""
        try:
            name, arguments = self._calls.get(timeout=POLL)
            while True:
                self._host.call.remote(name, *arguments)
                name, arguments = self._calls.get_nowait()
        except Empty:
            return

    def _take(self, told: dict[str, Any], cursor: int) -> int:
        if "shape" in told:
            recorder = self.recorder or Recorder(*told["shape"])
            recorder.policies[:] = told["policies"]
            recorder.extend(told["rows"])
            self.recorder = recorder
        self.result = told["result"]
        self.error, self._progress, self._eta = told["error"], told["progress"], told["eta_s"]
        if told["status"] != "ready":
            self.status = told["status"]
        return int(told["cursor"])
