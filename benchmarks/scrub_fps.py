"""Measure frames per second and messages sent while a recorded run is scrubbed in a real browser.

    python -m benchmarks.scrub_fps [--checkpoint ecg] [--steps 1000] [--seconds 4] [--offline] [--out FILE.json]

Records a run in a temporary home, serves the lab, opens Anatomy in Chromium, and drags over the map, the step
slider, and the what-if threshold, moving at every animation frame. A frame counts once the page has drawn it.
With `--offline` the page is the file that `export-run` writes, opened from the disk with the network off.
Exit status 1 means fewer frames per second than there should be, or messages sent while dragging.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.bars import RESULTS, Bar, report
from benchmarks.browser import browser_page, first, served_lab
from e2crf_core.caching.policy import CachePolicy
from e2crf_core.cli import main as export_run
from e2crf_core.runs.archive import of_handle, save
from e2crf_core.runs.run import RunHandle, RunSpec
from e2crf_core.sampling.config import SamplerConfig

FRAMES, BATCH = 30, 4
FIND = f"const lab = ({first('anatomy')})();"
COUNT = """(() => { window.sent = 0; const send = WebSocket.prototype.send;
WebSocket.prototype.send = function (...a) { window.sent += 1; return send.apply(this, a); }; })()"""
SAY = "slider.dispatchEvent(new Event('input', { bubbles: true }));"
DRAGS = {
    "map": """const map = lab.querySelector('[data-panel="map"] canvas'), box = map.getBoundingClientRect();
      map.setPointerCapture = () => {}; map.hasPointerCapture = () => true;
      const point = (type, i) => map.dispatchEvent(new PointerEvent(type, { pointerId: 1, bubbles: true,
        clientX: box.left + 50 + (i * 7.3) % (box.width - 70), clientY: box.top + 40 + (i * 3) % (box.height - 90) }));
      const move = (i) => point(i ? 'pointermove' : 'pointerdown', i);""",
    "slider": f"""const slider = lab.querySelector('[data-el="slider"]');
      const move = (i) => {{ slider.value = (i * 7) % +slider.max; {SAY} }};""",
    "what-if tau": f"""lab.querySelector('[data-mode="whatif"]').click();
      const slider = lab.querySelector('[data-el="tau"]');
      const move = (i) => {{ slider.value = 300 + (i * 7) % 400; {SAY} }};""",
}


def record(folder: Path, checkpoint: str, steps: int) -> None:
    """Record one run and keep it as `scrub` in a home folder."""
    policy = CachePolicy(trigger="paper", tau=0.3, k_low=2, refresh_every=150, probe_share=0.01)
    run = RunHandle(RunSpec(checkpoint, BATCH, 0, SamplerConfig(policy, steps), "cpu", compare=False))
    run.start()
    run.wait()
    if run.status != "done":
        raise SystemExit(f"the run ended as {run.status}: {run.error}")
    save(replace(of_handle(run), name="scrub"), folder / "runs" / "scrub.zip")


def measure(url: str, seconds: float, *, offline: bool) -> tuple[dict[str, dict[str, float]], str]:
    """Drag each control for `seconds`; return what was seen by control, and the browser's version."""
    seen: dict[str, dict[str, float]] = {}
    with browser_page(COUNT) as page:
        page.context.set_offline(offline)
        page.goto(url)
        page.wait_for_function(f"() => {{ {FIND} return lab && +lab.dataset.renders > 0; }}")
        page.wait_for_timeout(3000)
        for name, drag in DRAGS.items():
            seen[name] = page.evaluate(
                f"""(span) => new Promise((done) => {{ {FIND} {drag}
              let i = 0, worst = 0, last = performance.now();
              const begin = last, drawn = +lab.dataset.renders, sent = window.sent;
              const tick = (now) => {{
                worst = Math.max(worst, now - last); last = now; move(i++);
                if (now - begin < span) {{ requestAnimationFrame(tick); return; }}
                done({{ frames_per_s: +((+lab.dataset.renders - drawn) / (now - begin) * 1000).toFixed(1),
                  longest_gap_ms: +worst.toFixed(0), messages: window.sent - sent }});
              }};
              requestAnimationFrame(tick);
            }})""",
                seconds * 1000,
            )
        return seen, page.context.browser.version


def main() -> int:
    """Record, serve or export, drag, and report figures, bars and provenance."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", default="ecg")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--offline", action="store_true", help="measure the exported page")
    parser.add_argument(
        "--out", type=Path, help="default: scrub_offline_cpu.json or scrub_cpu.json in results/"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        record(Path(home), arguments.checkpoint, arguments.steps)
        if arguments.offline:
            path = Path(home) / "run.html"
            export_run(["export-run", str(Path(home) / "runs" / "scrub.zip"), "--html", str(path)])
            seen, browser = measure(path.as_uri(), arguments.seconds, offline=True)
        else:
            with served_lab(E2CRF_HOME=home) as address:
                seen, browser = measure(f"{address}/anatomy?run=scrub", arguments.seconds, offline=False)
    bars = []
    for name, one in seen.items():
        bars.append(Bar(f"{name}: frames per second", one["frames_per_s"], least=FRAMES))
        bars.append(Bar(f"{name}: messages to the server", one["messages"], most=0))
    kind = "scrub_offline" if arguments.offline else "scrub"
    figures: dict[str, Any] = {"steps": arguments.steps, "offline": arguments.offline, "dragged": seen}
    return report(
        figures,
        bars,
        checkpoints=[arguments.checkpoint],
        batch=BATCH,
        browser=browser,
        out=arguments.out or RESULTS / f"{kind}_cpu.json",
    )


if __name__ == "__main__":
    sys.exit(main())
