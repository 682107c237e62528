"""Keep the lab and the server busy for a while: fair turns, steady memory, no thread left, quick small requests.

    python -m benchmarks.soak --minutes 30          # make soak
    python -m benchmarks.soak --minutes 3           # make soak MINUTES=3
    python -m benchmarks.soak --minutes 3 --busy    # in CI: without times, which a busy machine decides

The first half: `--sessions` visitors start run after run in one process, with the pages' own registry of runs,
and watch them as the pages do; now and then one leaves a paused run behind. The second half: a server answers
small requests while it draws 256 samples in 1000 steps. The exit code is 1 unless all of `BARS` hold.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.serve_load import ROOT, memory
from e2crf_core.caching.policy import PRESETS
from e2crf_core.data.datasets import load_dataset
from e2crf_core.io.provenance import Provenance, machine
from e2crf_core.models.checkpoints import load_checkpoint
from e2crf_core.quality.interval import Interval
from e2crf_core.runs.run import FINISHED, RunSpec
from e2crf_core.sampling.config import SamplerConfig
from pages.ui.common.reference import reference_of
from pages.ui.common.registry import ORPHAN_S, RunRegistry, autosave
from pages.ui.live.live_packets import picture

BARS = {
    "runs_ratio": 1.5,
    "lab_growth": 0.05,
    "threads_gone_s": 10.0,
    "lab_after_heavy": 0.2,
    "server_growth": 0.05,
    "server_after_heavy": 0.2,
    "small_p99_s": 2.0,
    "server_errors": 1,
}
"""What each figure must stay under: ratios, shares of memory, seconds, and numbers of answers."""
BUSY_BARS = {
    "runs_lead": 3,
    "lab_growth": 0.2,
    "lab_after_heavy": 0.2,
    "server_growth": 0.2,
    "server_after_heavy": 0.2,
    "server_errors": 1,
}
"""What a short run on a busy machine can show: no times, and turns by their difference, as each has only a few."""
WARM = 1 / 3
"""Share of the time after which memory should no longer grow."""
LOOK_S = 0.2
HEAVY = {"num": 256, "steps": 1000, "policy": "exact", "solver": "euler_maruyama", "grid": "linear"}
HEAVY_STEPS = 200
SMALL = {"num": 2, "steps": 50, "policy": "balanced", "solver": "sde_dpmpp_2m", "grid": "log_snr"}


def visit(
    registry: RunRegistry, spec: RunSpec, name: str, going_on: Callable[[], bool], turns: Counter[str]
) -> None:
    """Start run after run as one session, and watch each to its end, as the pages' polling does."""
    rng, reference = random.Random(name), reference_of(spec.checkpoint)
    while going_on():
        run, cursor = registry.start(spec, name), 0
        left_behind = rng.random() < 0.02
        while run.status not in FINISHED and going_on():
            run.touch()
            _, cursor = picture(run, reference, cursor)
            if left_behind and run.status == "running":
                run.pause()
                turns[name] += 1
                break
            time.sleep(LOOK_S)
        if run.status == "done":
            turns[name] += 1
        elif not left_behind:
            run.stop()


def visits(registry: RunRegistry, spec: RunSpec, sessions: int, going_on: Callable[[], bool]) -> Counter[str]:
    """Let sessions take turns until `going_on()` is false; return how many each had."""
    turns: Counter[str] = Counter({f"session {number}": 0 for number in range(sessions)})
    threads = [
        threading.Thread(target=visit, args=(registry, spec, name, going_on, turns), name=name)
        for name in turns
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return turns


def say(text: str) -> None:
    """Tell on stderr what is done now."""
    print(text, file=sys.stderr, flush=True)


def seconds_until(condition: Callable[[], bool], at_most: float = 60.0) -> float:
    """Return how long it takes until a condition holds."""
    begin = time.monotonic()
    while not condition() and time.monotonic() - begin < at_most:
        time.sleep(0.05)
    return time.monotonic() - begin


class MemoryLog:
    """The resident memory of a process, in megabytes, twice a second until `stop`."""

    def __init__(self, process: int) -> None:
        self.values: list[float] = []
        self._process, self._ended = process, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            self.values.append(memory(self._process))

    def stop(self) -> None:
        """Stop watching."""
        self._ended.set()
        self._thread.join()

    @property
    def growth(self) -> float:
        """Return how much larger the last tenth is than the tenth after the warm-up, as a share."""
        size = max(1, len(self.values) // 10)
        first = int(WARM * len(self.values))
        return float(np.mean(self.values[-size:]) / np.mean(self.values[first : first + size]) - 1)


def settled(process: int) -> float:
    """Return a process's memory once it has stopped falling."""
    values = [memory(process)]
    while len(values) < 20 and (len(values) < 4 or min(values[-3:]) < 0.995 * min(values[:-3])):
        time.sleep(0.5)
        values.append(memory(process))
    return values[-1]


def soak_lab(checkpoint: str, sessions: int, seconds: float) -> dict[str, Any]:
    """Measure fairness, memory and threads of the pages' runs in this process."""
    before, me = threading.active_count(), os.getpid()
    registry = RunRegistry(ended=autosave)
    spec = RunSpec(checkpoint, 4, 0, SamplerConfig(PRESETS["multistep"], 50, "dpmpp_2m", "log_snr"), "cpu")
    end = time.monotonic() + seconds
    say(f"{sessions} sessions for {seconds:.0f} s")
    log = MemoryLog(me)
    finished = visits(registry, spec, sessions, lambda: time.monotonic() < end)
    log.stop()
    registry.close(ORPHAN_S)
    gone = seconds_until(lambda: threading.active_count() <= before)
    start = settled(me)
    say(f"a heavy run, from {start:.0f} MB")
    config = SamplerConfig(PRESETS["fast"], HEAVY_STEPS)
    heavy = registry.start(RunSpec(checkpoint, 256, 0, config, "cpu", compare=False), "heavy")
    while not heavy.wait(1.0):
        heavy.touch()
    peak = memory(me)
    registry.close(ORPHAN_S)
    del heavy
    seconds_until(lambda: threading.active_count() <= before)
    gc.collect()
    counts = sorted(finished.values())
    return {
        "runs": counts,
        "runs_ratio": counts[-1] / counts[0] if counts[0] else float("inf"),
        "runs_lead": counts[-1] - counts[0],
        "lab_growth": log.growth,
        "lab_mb": [log.values[0], log.values[int(WARM * len(log.values))], log.values[-1]],
        "threads_gone_s": gone,
        "lab_heavy_mb": {"before": start, "peak": peak, "after": settled(me)},
        "lab_after_heavy": settled(me) / start - 1,
    }


async def _small_requests(url: str, until: float) -> tuple[list[float], Counter[int]]:
    latencies, seen = [], Counter[int]()
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        while time.monotonic() < until:
            begin = time.monotonic()
            answer = await http.post("/samples", json=SMALL | {"seed": len(latencies)})
            latencies.append(time.monotonic() - begin)
            seen[answer.status_code] += 1
            await asyncio.sleep(0.1)
    return latencies, seen


async def _heavy_requests(url: str, until: float) -> int:
    """Keep one heavy request running; hang up on the last one."""
    done = 0
    async with httpx.AsyncClient(base_url=url, timeout=None) as http:
        while (left := until - time.monotonic()) > 0:
            try:
                await asyncio.wait_for(http.post("/samples", json=HEAVY), left)
                done += 1
            except TimeoutError:
                pass
    return done


def soak_server(url: str, process: int, seconds: float) -> dict[str, Any]:
    """Measure small requests beside heavy ones, and the memory of the server."""
    httpx.post(f"{url}/samples", json=SMALL, timeout=60).raise_for_status()
    start, log, until = settled(process), MemoryLog(process), time.monotonic() + seconds
    say(f"small requests beside heavy ones for {seconds:.0f} s")

    async def both() -> tuple[tuple[list[float], Counter[int]], int]:
        return await asyncio.gather(_small_requests(url, until), _heavy_requests(url, until))

    (latencies, seen), heavy = asyncio.run(both())
    log.stop()
    seconds_until(lambda: httpx.get(f"{url}/health", timeout=60).json()["queue"] == 0)
    p99 = float(np.percentile(latencies, 99))
    draws = np.random.default_rng(0).choice(latencies, (1000, len(latencies)))
    low, high = np.percentile(np.percentile(draws, 99, axis=1), (2.5, 97.5))
    return {
        "small_requests": len(latencies),
        "small_p50_s": float(np.median(latencies)),
        "small_p99_s": p99,
        "small_p99_interval_s": Interval(p99, float(low), float(high)).__dict__,
        "heavy_done": heavy,
        "server_errors": sum(count for status, count in seen.items() if status >= 500),
        "server_growth": log.growth,
        "server_heavy_mb": {"before": start, "peak": max(log.values), "after": settled(process)},
        "server_after_heavy": settled(process) / start - 1,
    }


def with_server(checkpoint: str, seconds: float) -> dict[str, Any]:
    """Start a server, and soak it."""
    command = [sys.executable, "-m", "e2crf_core", "serve", "--checkpoint", checkpoint, "--port", "0"]
    server = subprocess.Popen([*command, "--device", "cpu"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = re.search(r"http://[\d.]+:\d+", server.stdout.readline())
        if url is None:
            raise SystemExit("the server did not start")
        return soak_server(url.group(), server.pid, seconds)
    finally:
        server.terminate()
        server.wait(60)


def main() -> int:
    """Soak both, print the report, and check the bars."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--checkpoint", default="ecg")
    parser.add_argument("--busy", action="store_true", help="check only what a busy machine cannot decide")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    half, load_before = 30 * options.minutes, os.getloadavg()[0]
    bars = BUSY_BARS if options.busy else BARS
    with tempfile.TemporaryDirectory() as home:
        os.environ["E2CRF_HOME"] = home
        lab = soak_lab(options.checkpoint, options.sessions, half)
        server = with_server(options.checkpoint, half)
    model = load_checkpoint(options.checkpoint, "cpu")
    provenance = Provenance.now(
        data=load_dataset(model.dataset).digest, checkpoint=model.digest(), seeds=[0], batch=64
    )
    figures = {**lab, **server}
    report = {
        "provenance": provenance.to_json(),
        "machine": machine(),
        "load_before": load_before,
        "sessions": options.sessions,
        "figures": figures,
        "failed": [name for name, most in bars.items() if not figures[name] < most],
    }
    print(json.dumps(report, indent=1))
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if report["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
