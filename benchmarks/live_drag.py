"""Measure how soon the Live page's instrument answers a drag, in a real browser.

    python -m benchmarks.live_drag [--seconds 3] [--checkpoints wind stocks ecg]

Moves the threshold's handle at 30 Hz for some seconds, back and forth. Reports the time from each move to the first
picture of that very setting or a later one (median and 95th percentile), and how many distinct answers were drawn.
Pictures are counted from what the canvas drew, so a picture shows one policy by construction.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from typing import Any

import numpy as np

from benchmarks.browser import browser_page, served_lab
from benchmarks.live_page import LAB
from e2crf_core.io.provenance import commit, machine
from pages.ui.live.answer_packets import QUICK_NUM

DRAG = (
    """async ([seconds, low, high]) => {
  """
    + LAB
    + """
  const slider = lab.querySelector('[data-el="threshold"]');
  const moves = [], pictures = [];
  let serial = +lab.dataset.serial, watching = true;
  const watch = () => {
    const now = +lab.dataset.serial;
    if (now !== serial) {
      serial = now;
      pictures.push([performance.now(), +lab.dataset.tau]);
    }
    if (watching) requestAnimationFrame(watch);
  };
  watch();
  const start = performance.now();
  for (let i = 0; performance.now() - start < seconds * 1000; i++) {
    const place = low + (high - low) * (0.5 + 0.5 * Math.cos(i / 9));
    slider.value = String(Math.round(place));
    slider.dispatchEvent(new Event('input'));
    moves.push(performance.now());
    await new Promise((done) => setTimeout(done, 33));
  }
  const end = performance.now();
  await new Promise((done) => setTimeout(done, 3000));
  watching = false;
  return { moves, pictures, end };
}"""
)


def drag(page: Any, seconds: float) -> dict[str, Any]:
    """Drag once; return delays of moves in ms, and how many answers were drawn while dragging."""
    found = page.evaluate(DRAG, [seconds, 100, 195])
    moves, times = np.array(found["moves"]), np.array([at for at, _ in found["pictures"]])
    later = np.searchsorted(times, moves)
    delays = [float(times[place] - at) for at, place in zip(moves, later, strict=True) if place < len(times)]
    drawn = [tau for at, tau in found["pictures"] if at <= found["end"]]
    return {"delays": delays, "pictures": len(drawn), "distinct": len(set(drawn))}


def measured(address: str, checkpoint: str, seconds: float, rounds: int) -> dict[str, Any]:
    """Open the instrument, wait until all around the setting is measured, and drag."""
    with browser_page() as page:
        page.goto(f"{address}/live?net={checkpoint}")
        ready = (
            f"() => {{ {LAB} return lab && lab.dataset.settled === 'true' && lab.dataset.whole === 'true'; }}"
        )
        page.wait_for_function(ready, timeout=600_000)
        drag(page, 1.0)
        runs = [drag(page, seconds) for _ in range(rounds)]
    delays = np.concatenate([run["delays"] for run in runs])
    medians = [float(np.median(run["delays"])) for run in runs]
    return {
        "median_ms": round(float(np.median(delays)), 1),
        "median_ms_range_over_drags": [round(min(medians), 1), round(max(medians), 1)],
        "p95_ms": round(float(np.quantile(delays, 0.95)), 1),
        "moves": len(delays),
        "distinct_pictures_per_drag": [run["distinct"] for run in runs],
        "pictures_per_s": round(sum(run["pictures"] for run in runs) / (rounds * seconds), 1),
    }


def main() -> None:
    """Print one JSON object with the figures of each checkpoint and the provenance."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--checkpoints", nargs="+", default=["wind", "stocks", "ecg"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, served_lab(home) as address:
        report = {
            name: measured(address, name, arguments.seconds, arguments.rounds)
            for name in arguments.checkpoints
        }
    about = {
        "command": " ".join(["python -m benchmarks.live_drag", *sys.argv[1:]]),
        "commit": commit(),
        "machine": machine(),
    }
    print(json.dumps({**about, "samples": QUICK_NUM, "drag": report}, indent=1))


if __name__ == "__main__":
    main()
