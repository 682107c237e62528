"""Measure how soon the Live page's instrument answers a drag, in a real browser.

    python -m benchmarks.live_drag [--seconds 3] [--rounds 3] [--checkpoints wind-causal ...] [--out FILE.json]

Moves the handle of tau of nested bands at 30 Hz for some seconds, one way or the other. Reports the time from each
move to the first picture of that very setting or a later one (median and 95th percentile), and how many distinct
pictures were drawn: those of one error and cost count once. A picture is looked at as it is drawn, before it is
painted. It is mixed if its tiles say another error or cost than its dot, or if one threshold has two answers. Exit
status 1 means that a bar does not hold.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from benchmarks.bars import RESULTS, Bar, report
from benchmarks.browser import browser_page, served_lab
from benchmarks.live_page import LAB
from e2crf_core import CachePolicy
from pages.ui.live.answer_packets import QUICK_NUM

ENDS = (195, 60)
"""Places on the slider, which goes from 0 to 200."""
MEDIAN_MS, P95_MS, PICTURES = 150, 400, 15
DRAG = (
    """async ([seconds, from, to]) => {
  """
    + LAB
    + """
  const slider = lab.querySelector('[data-el="threshold"]');
  const tiles = [...lab.querySelectorAll('.tiles dd')];
  const moves = [], pictures = [];
  // Called within the frame that was drawn, and before it is painted.
  const drawn = new MutationObserver(() => {
    const { serial, tau, error, cost, settled } = lab.dataset;
    const [said, price] = tiles.map((tile) => tile.firstChild.textContent);
    pictures.push({ at: performance.now(), serial: +serial, tau: +tau, error: +error, cost: +cost,
      settled: settled === 'true', said, price });
  });
  drawn.observe(lab, { attributeFilter: ['data-renders'] });
  const start = performance.now();
  while (performance.now() - start < seconds * 1000) {
    const share = (performance.now() - start) / (seconds * 1000);
    slider.value = String(Math.round(from + (to - from) * share));
    slider.dispatchEvent(new Event('input'));
    moves.push(performance.now());
    await new Promise((done) => setTimeout(done, 33));
  }
  const end = performance.now();
  await new Promise((done) => setTimeout(done, 3000));
  drawn.disconnect();
  return { moves, pictures, end };
}"""
)
DIGITS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")


def number(text: str) -> float:
    """Read a number as the canvas writes it: 0.012, 6.6·10⁻⁴."""
    return float(text.replace("·10", "e").translate(DIGITS))


def mixed(pictures: list[dict[str, Any]]) -> int:
    """Count pictures that show values of two settings."""
    answers: dict[tuple[float, bool], tuple[float, float]] = {}
    count = 0
    for one in pictures:
        pair = one["error"], one["cost"]
        said = number(one["said"]), number(one["price"])
        same = answers.setdefault((one["tau"], one["settled"]), pair) == pair
        count += not (same and np.allclose(said, pair, rtol=0.05))
    return count


def drag(page: Any, seconds: float, ends: tuple[int, int]) -> dict[str, Any]:
    """Drag from one place of the slider to another; return delays of moves in ms, and what was drawn meanwhile."""
    seen = page.evaluate(DRAG, [seconds, *ends])
    pictures = seen["pictures"]
    fresh = [
        one for one, before in zip(pictures[1:], pictures, strict=False) if one["serial"] > before["serial"]
    ]
    fresh = pictures[:1] + fresh
    moves, times = np.array(seen["moves"]), np.array([one["at"] for one in fresh])
    later = np.searchsorted(times, moves)
    delays = [float(times[place] - at) for at, place in zip(moves, later, strict=True) if place < len(times)]
    during = [one for one in fresh if one["at"] <= seen["end"]]
    return {
        "delays": delays,
        "moves": len(moves),
        "pictures": len(during),
        "distinct": len({(one["error"], one["cost"]) for one in during}),
        "mixed": mixed(pictures),
    }


def measured(page: Any, address: str, checkpoint: str, seconds: float, rounds: int) -> dict[str, Any]:
    """Open the instrument, wait until all around the setting is measured, and drag."""
    policy = quote(json.dumps({"trigger": "nested", **CachePolicy.of("nested").rule.base}))
    page.goto(f"{address}/live?checkpoint={checkpoint}&policy={policy}")
    ready = f"() => {{ {LAB} return lab && lab.dataset.settled === 'true' && lab.dataset.whole === 'true'; }}"
    page.wait_for_function(ready, timeout=600_000)
    drag(page, 1.0, ENDS)
    runs = [drag(page, seconds, ENDS if number % 2 else ENDS[::-1]) for number in range(rounds)]
    delays = np.concatenate([run["delays"] for run in runs])
    medians = [float(np.median(run["delays"])) for run in runs]
    return {
        "median_ms": round(float(np.median(delays)), 1),
        "median_ms_range_over_drags": [round(min(medians), 1), round(max(medians), 1)],
        "p95_ms": round(float(np.quantile(delays, 0.95)), 1),
        "moves": sum(run["moves"] for run in runs),
        "moves_without_an_answer": sum(run["moves"] for run in runs) - len(delays),
        "distinct_pictures_per_drag": [run["distinct"] for run in runs],
        "mixed_pictures": sum(run["mixed"] for run in runs),
        "pictures_per_s": round(sum(run["pictures"] for run in runs) / (rounds * seconds), 1),
    }


def bars_of(name: str, figures: dict[str, Any]) -> list[Bar]:
    """Return the bars of one checkpoint."""
    return [
        Bar(f"{name}: slider event to picture, median (ms)", figures["median_ms"], most=MEDIAN_MS),
        Bar(f"{name}: slider event to picture, 95th percentile (ms)", figures["p95_ms"], most=P95_MS),
        Bar(
            f"{name}: distinct pictures in one drag",
            min(figures["distinct_pictures_per_drag"]),
            least=PICTURES,
        ),
        Bar(f"{name}: pictures that mix two settings", figures["mixed_pictures"], most=0),
        Bar(f"{name}: moves without an answer", figures["moves_without_an_answer"], most=0),
    ]


def main() -> int:
    """Drag on each checkpoint, and report figures, bars and provenance."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--checkpoints", nargs="+", default=["wind-causal", "stocks-causal", "ecg-causal"])
    parser.add_argument("--out", type=Path, default=RESULTS / "live_drag_cpu.json")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as home, served_lab(E2CRF_HOME=home) as address:
        for name in arguments.checkpoints:
            with browser_page() as page:
                figures[name] = measured(page, address, name, arguments.seconds, arguments.rounds)
                browser = page.context.browser.version
    bars = [bar for name, found in figures.items() for bar in bars_of(name, found)]
    return report(
        figures, bars, checkpoints=arguments.checkpoints, batch=QUICK_NUM, browser=browser, out=arguments.out
    )


if __name__ == "__main__":
    sys.exit(main())
