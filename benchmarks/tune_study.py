"""Does a study of a quarter of an hour beat preset `balanced`, and does it survive being killed?

    python -m benchmarks.tune_study --minutes 15

Runs `tune`, kills it with SIGKILL partway, resumes it, and checks that no finished trial was lost. Every
trial that was cheaper than `balanced` (at the reference's solver and steps) with no worse quality is a
candidate. The best few are measured again beside it, batch by batch in turns, on seeds that the search has
not seen, because the best of many noisy trials always looks better than it is. The exit code is 1 if a trial
was lost; whether `balanced` is dominated is a result, not a failure.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from e2crf_core.caching.policy import PRESETS
from e2crf_core.io.provenance import machine
from e2crf_core.models.checkpoints import load_checkpoint
from e2crf_core.models.heldout import heldout_blocks
from e2crf_core.models.training_data import training_data
from e2crf_core.quality.distances import sliced_wasserstein_metric
from e2crf_core.quality.intervals import measure_change
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.sampler import Sampler, warm_up
from e2crf_core.tuning.choice import dominating
from e2crf_core.tuning.measure import Point


def finished(out: Path) -> dict[int, list[float]]:
    """Return numbers and values of the finished trials in a study's storage."""
    if not (out / "study.db").is_file():
        return {}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.load_study(study_name=f"e2crf-{out.name}", storage=f"sqlite:///{out / 'study.db'}")
    except KeyError:
        return {}
    done = optuna.trial.TrialState.COMPLETE
    return {t.number: t.values for t in study.get_trials(deepcopy=False) if t.state == done}


def search(options: argparse.Namespace) -> dict[str, Any]:
    """Run the study, killing it once; return what was finished before the kill and what remains after it."""
    command = [sys.executable, "-m", "e2crf_core", "tune", "--checkpoint", options.checkpoint]
    command += ["--minutes", str(options.minutes), "--num", str(options.num), "--out", str(options.out)]
    victim = subprocess.Popen(command)
    until = time.monotonic() + 60 * options.minutes * options.kill_at
    while time.monotonic() < until and victim.poll() is None:
        time.sleep(0.5)
    before: dict[int, list[float]] = {}
    if victim.poll() is None:
        before = finished(options.out)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        subprocess.run(command, check=True)
    after = finished(options.out)
    lost = [number for number, values in before.items() if after.get(number) != values]
    return {"finished_at_kill": len(before), "finished": len(after), "lost": lost}


def compare(
    options: argparse.Namespace, balanced: SamplerConfig, rivals: list[SamplerConfig]
) -> list[dict[str, Any]]:
    """Measure rivals beside `balanced` on fresh seeds: time per sample and change of held-out distance."""
    model = load_checkpoint(options.checkpoint)
    data = training_data(model)
    held, blocks = data.standardize(data.x[data.heldout]), heldout_blocks(data)
    metric = sliced_wasserstein_metric(directions=500)
    samplers = [Sampler.of(model, replace(setting, batch=options.batch)) for setting in (balanced, *rivals)]
    series: list[list[np.ndarray]] = [[] for _ in samplers]
    seconds: list[list[float]] = [[] for _ in samplers]
    for sampler in samplers:
        warm_up(sampler, options.batch, 0)
    for first in range(0, options.fresh, options.batch):
        for index in np.roll(np.arange(len(samplers)), first // options.batch):
            part = samplers[index].draw(options.batch, 90_001, first)
            series[index].append(data.standardize(part.series))
            seconds[index].append(part.seconds / options.batch)
    base = np.concatenate(series[0])
    rows = [
        {
            "setting": balanced.describe(),
            "ms": 1e3 * float(np.median(seconds[0])),
            "sliced_wasserstein": metric(base, held),
        }
    ]
    for setting, parts, times in zip(rivals, series[1:], seconds[1:], strict=True):
        made = np.concatenate(parts)
        change = measure_change(made, base, held, metric, resamples=200, blocks=blocks)
        faster = [a / b for a, b in zip(seconds[0], times, strict=True)]
        rows.append(
            {
                "setting": setting.describe(),
                "ms": 1e3 * float(np.median(times)),
                "sliced_wasserstein": metric(made, held),
                "faster_than_balanced": [float(x) for x in (np.median(faster), min(faster), max(faster))],
                "change_of_distance": [change.value, change.low, change.high],
                "dominates": min(faster) > 1 and change.value <= 0,
                "dominates_for_certain": min(faster) > 1 and change.high < 0,
            }
        )
    return rows


def main() -> int:
    """Search, kill, resume, confirm, and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoint", default="ecg")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--num", type=int, default=64)
    parser.add_argument(
        "--kill-at", type=float, default=0.4, help="share of the budget after which it is killed"
    )
    parser.add_argument("--fresh", type=int, default=256, help="samples of the confirmation")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rivals", type=int, default=3, help="candidates that are confirmed")
    parser.add_argument("--out", type=Path, default=Path("artifacts/tune-study"))
    options = parser.parse_args()
    options.out = options.out.resolve()
    kept = search(options)
    study = json.loads((options.out / "study.json").read_text())
    points = [Point.from_json(p) for p in study["points"]]
    reference = Point.from_json(study["reference"])
    plan = reference.setting.plan
    balanced = next(
        p for p in points if p.setting.policy == PRESETS["balanced"] and p.setting.plan == plan and p.complete
    )
    candidates = dominating([*points, reference], balanced, "seconds")
    cached = [p for p in candidates if p.setting.policy is not None][: options.rivals]
    plain = [p for p in candidates if p.setting.policy is None][:1]
    report = {
        "checkpoint": study["digest"],
        "machine": machine(),
        "minutes": options.minutes,
        **kept,
        "reference": reference.setting.describe(),
        "choice": study["choice"]["why"],
        "warnings": [w["text"] for w in study["warnings"]],
        "candidates": len(candidates),
        "confirmed_on": options.fresh,
        "rows": compare(options, balanced.setting, [p.setting for p in cached + plain]),
    }
    print(json.dumps(report, indent=1))
    (options.out / "benchmark.json").write_text(json.dumps(report, indent=1) + "\n")
    return 1 if kept["lost"] else 0


if __name__ == "__main__":
    sys.exit(main())
