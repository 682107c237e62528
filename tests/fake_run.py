"""A run whose steps are written by a test, for code that displays runs."""

import numpy as np

from e2crf_core.caching.events import StepEvent
from e2crf_core.caching.policy import CachePolicy
from e2crf_core.runs.run import RunSpec
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.recorder import Recorder
from pages.ui.common.reference import reference_for

REFERENCE = reference_for("wind")
N, M = REFERENCE.dataset.x.shape[1:]


class FakeRun:
    """A run without a sampler."""

    def __init__(self, steps=40, policy=None, run_id="run-1"):
        n = N // 2 + 1
        self.id = run_id
        self.spec = RunSpec("wind", 3, 0, SamplerConfig(policy or CachePolicy(), steps))
        self.policy, self.policy_version, self.pace = self.spec.policy, 0, 0.0
        self.status, self.error, self.progress, self.eta_s = "running", None, 0.0, float("nan")
        self.twin, self.model = None, None
        self.recorder = Recorder(steps, n, N, M, 3)
        self.ticket = None
        self.idle_s = float("inf")
        self.called: list[str] = []
        self.touched = 0

    def write(self, count):
        rng = np.random.default_rng(self.recorder.count)
        n = N // 2 + 1
        for i in range(self.recorder.count, self.recorder.count + count):
            reasons = rng.integers(0, 5, n).astype(np.uint8)
            self.recorder.append(
                StepEvent(
                    step=i,
                    t=0.5,
                    log_snr=0.0,
                    policy_version=0,
                    share=0.2,
                    tokens=i,
                    flops=10,
                    flops_full=100,
                    seconds=0.001,
                    tau=0.2,
                    r=0.1,
                    r_mean=0.1,
                    reasons=reasons,
                    batch_reasons=np.repeat(reasons[None], 3, 0),
                    e=rng.random(n, dtype=np.float32),
                    drift=rng.random(n, dtype=np.float32),
                    age=np.zeros(n, np.int32),
                    spectrum=rng.random((n, M), dtype=np.float32),
                    x0=rng.random((N, M), dtype=np.float32),
                    series=rng.random((N, M), dtype=np.float32),
                )
            )

    def touch(self):
        self.touched += 1

    def set_policy(self, policy):
        self.policy, self.policy_version = policy, self.policy_version + 1

    def set_pace(self, pace):
        self.pace = pace

    def start(self):
        self.called.append("start")

    def __getattr__(self, name):
        if name in ("pause", "resume", "step_once", "stop", "skip_compare"):
            return lambda: self.called.append(name)
        raise AttributeError(name)


# ---- packets and pictures
