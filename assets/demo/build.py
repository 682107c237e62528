"""Make `run.zip`, the recorded run that the pages show before a first Start.

    python assets/demo/build.py

It needs the shipped ECG network and takes some seconds. The policy is the published trigger with a low band, probes
and a refresh, so that every kind of decision occurs in it.
"""

import sys
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

import torch  # noqa: E402

from e2crf_core.caching.policy import CachePolicy  # noqa: E402
from e2crf_core.runs.archive import of_handle, save  # noqa: E402
from e2crf_core.runs.run import RunHandle, RunSpec  # noqa: E402
from e2crf_core.sampling.config import SamplerConfig  # noqa: E402

POLICY = CachePolicy(trigger="paper", tau=0.3, k_low=2, refresh_every=100, probe_share=0.02)
SPEC = RunSpec("ecg", num=8, seed=1, config=SamplerConfig(POLICY, steps=400), device="cpu")
NOTE = "The demo run that ships with the lab: heartbeats, the published trigger."


def main() -> None:
    """Run, and write the archive beside this file."""
    torch.set_num_threads(1)
    run = RunHandle(SPEC)
    run.start()
    run.wait()
    if run.status != "done":
        raise SystemExit(f"the demo run ended as {run.status}: {run.error}")
    path = HERE / "run.zip"
    save(replace(of_handle(run, note=NOTE, kept=True), name="demo"), path)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


main()
