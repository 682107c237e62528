"""Put load on `serve`: many local clients for a while, some of which hang up.

    python -m benchmarks.serve_load --clients 64 --seconds 60

Starts the server in its own process, keeps every client sending requests, and reports answers by status,
queue times from the server's own histogram, latencies, and the server's memory over time. The exit code is 1
if there was a 5xx, if memory grew, or if the work of clients that hung up was not freed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np

from benchmarks.origin import provenance_of
from e2crf_core.io.provenance import machine

ROOT = Path(__file__).resolve().parent.parent


def memory(pid: int) -> float:
    """Return a process's resident memory in megabytes."""
    text = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+)", text)
    return int(match.group(1)) / 1024 if match else float("nan")


def quantile(buckets: list[tuple[float, float]], q: float) -> float:
    """Return the upper edge of the histogram bucket that holds quantile q."""
    total = buckets[-1][1]
    return next((edge for edge, count in buckets if count >= q * total), float("inf"))


async def client(
    index: int, url: str, body: dict, until: float, seen: Counter, latencies: list[float], hang_up: float
) -> None:
    """Send requests repeatedly, hang up now and then, and wait as instructed after a rejection."""
    rng = random.Random(index)
    limits = httpx.Limits(max_keepalive_connections=1)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as http:
        while time.monotonic() < until:
            asked = {**body, "seed": rng.randrange(2**31), "num": rng.randint(1, body["num"])}
            begin = time.monotonic()
            try:
                if rng.random() < hang_up:
                    await asyncio.wait_for(http.post("/samples", json=asked), rng.uniform(0.01, 0.3))
                answer = await http.post("/samples", json=asked)
            except (TimeoutError, httpx.ReadTimeout):
                seen["hung up"] += 1
                continue
            seen[answer.status_code] += 1
            if answer.status_code == 200:
                latencies.append(time.monotonic() - begin)
            elif answer.status_code == 429:
                await asyncio.sleep(min(2.0, float(answer.headers["Retry-After"])) * rng.uniform(0.5, 1))


async def load(options: argparse.Namespace, url: str, pid: int) -> dict:
    """Run all clients and watch the server's memory."""
    body = {"num": options.num, "steps": options.steps, "solver": options.solver, "grid": "log_snr"}
    body["policy"] = options.policy
    seen: Counter = Counter()
    latencies: list[float] = []
    rss: list[float] = []
    begin = time.monotonic()
    until = begin + options.seconds

    async def watch() -> None:
        while time.monotonic() < until:
            rss.append(memory(pid))
            await asyncio.sleep(0.5)

    await asyncio.gather(
        watch(),
        *(client(i, url, body, until, seen, latencies, options.hang_up) for i in range(options.clients)),
    )
    took = time.monotonic() - begin
    async with httpx.AsyncClient(base_url=url, timeout=30) as http:
        for _ in range(100):
            left = (await http.get("/health")).json()["queue"]
            if not left:
                break
            await asyncio.sleep(0.1)
        text = (await http.get("/metrics")).text
    values = dict(re.findall(r"^(\w+(?:\{[^}]*\})?) ([\d.e+-]+)$", text, re.M))
    buckets = [
        (float(edge.replace("+Inf", "inf")), float(count))
        for edge, count in re.findall(r'e2crf_queue_seconds_bucket\{le="([^"]+)"\} ([\d.e+]+)', text)
    ]
    half = len(rss) // 2
    return {
        "provenance": provenance_of([options.checkpoint], (), options.num),
        "machine": machine(),
        "load_before": options.load_before,
        "clients": options.clients,
        "seconds": took,
        "body": body,
        "answers": {str(k): v for k, v in seen.items()},
        "samples_per_second": float(values["e2crf_samples_total"]) / took,
        "latency_s": {f"p{q}": float(np.percentile(latencies, q)) for q in (50, 99)} if latencies else None,
        "queue_s_at_most": {f"p{q}": quantile(buckets, q / 100) for q in (50, 99)},
        "batch_mean": float(values["e2crf_batch_samples_sum"]) / float(values["e2crf_batch_samples_count"]),
        "memory_mb": {"half_time": max(rss[: half or 1]), "end": max(rss[half:])},
        "places_left": left,
        "server_errors": sum(v for k, v in seen.items() if isinstance(k, int) and k >= 500),
    }


def main() -> int:
    """Start the server, load it, and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoint", default="ecg")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--num", type=int, default=4, help="most samples of a request")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--solver", default="sde_dpmpp_2m")
    parser.add_argument("--policy", default="balanced")
    parser.add_argument("--hang-up", type=float, default=0.05, help="share of requests given up half-way")
    parser.add_argument("--queue", type=int, default=64)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    options.load_before = os.getloadavg()[0]
    command = [sys.executable, "-m", "e2crf_core", "serve", "--checkpoint", options.checkpoint]
    command += ["--port", "0", "--queue", str(options.queue)]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        url = re.search(r"http://[\d.]+:\d+", line)
        if url is None:
            print("the server did not start", file=sys.stderr)
            return 1
        report = asyncio.run(load(options, url.group(), server.pid))
    finally:
        server.terminate()
        server.wait(20)
    print(json.dumps(report, indent=1))
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    grown = report["memory_mb"]["end"] - report["memory_mb"]["half_time"]
    bad = report["server_errors"] or report["places_left"] or grown > 50
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
