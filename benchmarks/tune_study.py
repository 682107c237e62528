"""Does a study of a quarter of an hour choose well, and does it survive being killed?

    python -m benchmarks.tune_study --minutes 15

Runs `tune`, kills it with SIGKILL partway, resumes it, and checks that no finished trial was lost. What the study chose
is drawn again beside the converged sampler, batch by batch in turns, on a seed that the search has not seen, because
the best of many noisy trials always looks better than it is. The exit code is 1 if a trial was lost, or if the
choice's kurtosis or log-spectral distance is farther from real data than the converged sampler's by more
than real sets of that size differ: a cheap Gaussian would be.
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

from benchmarks.origin import provenance_of
from e2crf_core.caching.policy import PRESETS
from e2crf_core.evaluation.anchors import converged
from e2crf_core.io.json_files import write_json
from e2crf_core.io.provenance import machine
from e2crf_core.models.checkpoints import load_checkpoint
from e2crf_core.models.heldout import heldout_blocks
from e2crf_core.models.training_data import training_data
from e2crf_core.quality.distances import LOG_SPECTRAL_DISTANCE
from e2crf_core.quality.intervals import real_floor
from e2crf_core.quality.protocol import judge
from e2crf_core.quality.tails import KURTOSIS_DIFFERENCE, kurtosis
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.sampler import Sampler, warm_up
from e2crf_core.tuning.measure import Point

RESULTS = Path(__file__).resolve().parent / "results"
TELLING = (KURTOSIS_DIFFERENCE, LOG_SPECTRAL_DISTANCE)
"""Distances by which a Gaussian with the right spectrum, or one with a wrong spectrum, is seen."""
FRESH_SEED = 90_001


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


def compare(options: argparse.Namespace, settings: dict[str, SamplerConfig]) -> dict[str, dict[str, Any]]:
    """Measure settings side by side on fresh seeds; all are judged against the converged sampler.

    Kurtosis difference and log-spectral distance are `ordinary` if they exceed those of the converged sampler by no
    more than draws of real series of the same number differ (95% of them).
    """
    model = load_checkpoint(options.checkpoint, "cpu")
    data = training_data(model)
    train = data.standardize(data.x[data.train])
    held, blocks = data.standardize(data.x[data.heldout]), heldout_blocks(data)
    everything = {"converged": converged(model), **settings}
    series, seconds = draw_in_turns(
        [Sampler.of(model, replace(setting, batch=options.batch)) for setting in everything.values()],
        options.fresh,
    )
    drawn = [data.standardize(each) for each in series]
    floors = {m.name: real_floor(held, options.fresh, m, train=train) for m in TELLING}
    rows: dict[str, dict[str, Any]] = {}
    for place, (name, setting) in enumerate(everything.items()):
        ratios = [a / b for a, b in zip(seconds[0], seconds[place], strict=True)]
        row: dict[str, Any] = {
            "setting": setting.describe(),
            "ms": 1e3 * float(np.median(seconds[place])),
            "faster_than_converged": [float(f(ratios)) for f in (np.median, np.min, np.max)],
            "kurtosis": kurtosis(drawn[place]).tolist(),
        }
        for metric in TELLING:
            floor, own, base = floors[metric.name], metric(drawn[place], held), metric(drawn[0], held)
            ordinary = bool(own <= base + floor.high - floor.value)
            row[metric.name] = {
                "value": own,
                "floor": [floor.value, floor.low, floor.high],
                "ordinary": ordinary,
            }
        if place:
            judged = judge(drawn[place], drawn[0], held, blocks=blocks)
            row["verdict"], row["reading"] = judged.verdict, judged.describe()
        rows[name] = row
    return rows


def draw_in_turns(samplers: list[Sampler], num: int) -> tuple[list[np.ndarray], list[list[float]]]:
    """Return each sampler's series (num, N, M), on common noise, and its seconds a sample for each batch."""
    series: list[list[np.ndarray]] = [[] for _ in samplers]
    seconds: list[list[float]] = [[] for _ in samplers]
    batch = samplers[0].config.batch
    for sampler in samplers:
        warm_up(sampler, batch, 0)
    for first in range(0, num, batch):
        for index in np.roll(np.arange(len(samplers)), first // batch):
            part = samplers[index].draw(batch, FRESH_SEED, first)
            series[index].append(part.series)
            seconds[index].append(part.seconds / batch)
    return [np.concatenate(parts) for parts in series], seconds


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
    parser.add_argument("--out", type=Path, default=Path("artifacts/tune-study"), help="folder of the study")
    parser.add_argument("--results", type=Path, help="file to write; default: tune_choice_NAME_cpu.json")
    options = parser.parse_args()
    options.out = options.out.resolve()
    kept = search(options)
    if not (options.out / "study.json").is_file():
        raise SystemExit("error: the search wrote no study; its own message is above")
    study = json.loads((options.out / "study.json").read_text())
    reference = Point.from_json(study["reference"])
    known = [reference, *(Point.from_json(p) for p in study["points"])]
    chosen = next(p for p in known if p.number == study["choice"]["number"])
    balanced = replace(reference.setting, policy=PRESETS["balanced"])
    report = {
        "provenance": provenance_of([options.checkpoint], (FRESH_SEED,), options.batch)[options.checkpoint],
        "machine": machine(),
        "minutes": options.minutes,
        **kept,
        "reference": reference.setting.describe(),
        "choice": study["choice"],
        "warnings": [w["text"] for w in study["warnings"]],
        "confirmed_on": options.fresh,
        "rows": compare(options, {"choice": chosen.setting, "balanced": balanced}),
    }
    print(json.dumps(report, indent=1))
    write_json(options.results or RESULTS / f"tune_choice_{options.checkpoint}_cpu.json", report)
    pick = report["rows"]["choice"]
    return 1 if kept["lost"] or not all(pick[metric.name]["ordinary"] for metric in TELLING) else 0


if __name__ == "__main__":
    sys.exit(main())
