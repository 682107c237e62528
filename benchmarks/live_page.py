"""Measure what watching costs: steps per second of a run on the live page and of the same run without a page.

    python -m benchmarks.live_page [--rounds 4] [--shorter 1] [--out FILE.json]

After a warm-up, a run in its own process alternates with a run started by a click in Chromium, which draws without a
GPU on the same cores. Also reports how much of a core the browser took, how long after the click the decision map
moved, and how many pictures per second were drawn. `--shorter 5` takes a fifth of the steps, to see that everything
runs. Exit status 1 means that watching draws fewer pictures than it should.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from benchmarks.bars import RESULTS, Bar, report
from benchmarks.browser import ROOT, browser_page, first, served_lab
from benchmarks.timing import interval
from e2crf_core.caching.policy import PRESETS
from e2crf_core.lessons.texts import live_query
from e2crf_core.sampling.config import SamplerConfig

CASES = (("balanced", 1000, 100), ("balanced", 2000, 0), ("exact", 1000, 0))
"""Policy, steps, and pace (0: as fast as it goes) of each run."""
PICTURES = 30
CHECKPOINT, BATCH = "ecg", 8
LAB = f"const lab = ({first('lab')})();"
ALONE = """
import sys, time
from e2crf_core import CachePolicy, RunHandle, RunSpec, SamplerConfig
config = SamplerConfig(CachePolicy.preset("{policy}"), {steps})
run = RunHandle(RunSpec("{checkpoint}", {batch}, 0, config, compare=False, pace={pace}))
run.start()
while run.recorder is None or run.recorder.count < 20:
    time.sleep(0.001)
first, begin = run.recorder.count, time.perf_counter()
while run.recorder.count < {steps}:
    time.sleep(0.001)
print(({steps} - first) / (time.perf_counter() - begin))
run.wait()
"""


def alone(policy: str, steps: int, pace: int) -> float:
    """Return the steps per second of a run that nobody watches."""
    code = ALONE.format(checkpoint=CHECKPOINT, batch=BATCH, policy=policy, steps=steps, pace=pace)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout)


def browser_seconds() -> float:
    """Return the processor time that all chromium processes of this machine have taken."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            name, fields = path.read_text().split("(", 1)[1].rsplit(")", 1)
            if name.startswith("chrom"):
                ticks += sum(map(int, fields.split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def watched(address: str, policy: str, steps: int, pace: int) -> dict[str, Any]:
    """Run the same on the page: steps and pictures per second, the browser's share of a core, the first picture."""
    config = SamplerConfig(PRESETS[policy], steps, "euler_maruyama", "linear")
    query = urlencode({"view": "watch", "num": BATCH, **live_query(CHECKPOINT, config)})
    with browser_page() as page:
        page.goto(f"{address}/live?{query}")
        page.wait_for_function(f"() => {{ {LAB} return lab && +lab.dataset.renders > 0; }}", timeout=60_000)
        page.get_by_label("Pace in steps per second").select_option(str(pace))
        page.wait_for_timeout(2000)
        taken, begin = browser_seconds(), time.perf_counter()
        page.get_by_role("button", name="Start", exact=True).click()
        seen: dict[str, Any] = page.evaluate(
            f"""() => new Promise((done) => {{
          const begin = performance.now();
          let moved = 0, from, renders;
          const look = () => {{
            {LAB}
            const steps = +(lab?.dataset.steps || 0), now = performance.now();
            if (steps > 0 && !moved) moved = now - begin;
            if (steps >= 20 && !from) {{ from = [steps, now]; renders = +lab.dataset.renders; }}
            if (steps >= {steps}) {{
              const seconds = (now - from[1]) / 1000;
              done({{ steps_per_s: (steps - from[0]) / seconds, first_picture_s: moved / 1000,
                pictures_per_s: (+lab.dataset.renders - renders) / seconds }});
            }} else setTimeout(look, 5);
          }};
          look();
        }})"""
        )
        cores = (browser_seconds() - taken) / (time.perf_counter() - begin)
        return {**seen, "cores": cores, "browser": page.context.browser.version}


def compared(pairs: list[tuple[float, dict[str, Any]]]) -> dict[str, Any]:
    """Return the figures of one case: runs that nobody watched, each beside one on the page."""
    pictures = [w["pictures_per_s"] for _, w in pairs]
    return {
        "alone_steps_per_s": [round(a, 1) for a, _ in pairs],
        "watched_steps_per_s": [round(w["steps_per_s"], 1) for _, w in pairs],
        "watched_over_alone": interval([w["steps_per_s"] / a for a, w in pairs]),
        "cores_of_the_browser": round(statistics.median(w["cores"] for _, w in pairs), 2),
        "pictures_per_s": round(statistics.median(pictures), 1),
        "pictures_per_s_range": [round(min(pictures), 1), round(max(pictures), 1)],
        "first_picture_s": round(max(w["first_picture_s"] for _, w in pairs), 2),
    }


def main() -> int:
    """Alternate the two runs; report medians, bars and provenance."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--shorter", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / "live_page_cpu.json")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as home, served_lab(E2CRF_HOME=home) as address:
        browser = watched(address, "balanced", 100, 0)["browser"]
        for policy, whole, pace in CASES:
            steps = whole // arguments.shorter
            pairs = []
            for _ in range(arguments.rounds):
                pairs.append((alone(policy, steps, pace), watched(address, policy, steps, pace)))
                time.sleep(1)
            figures[f"{policy}, {steps} steps, pace {pace or 'unlimited'}"] = compared(pairs)
    bars = [
        Bar(f"{case}: pictures per second", one["pictures_per_s"], least=PICTURES)
        for case, one in figures.items()
    ]
    return report(figures, bars, checkpoints=[CHECKPOINT], batch=BATCH, browser=browser, out=arguments.out)


if __name__ == "__main__":
    sys.exit(main())
