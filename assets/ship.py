"""Ship a trained checkpoint: redo whatever is derived from it and is missing or of other weights.

    python assets/ship.py wind-causal --take artifacts/pairs/wind-causal-2500-0
    python assets/ship.py wind-causal
    python assets/ship.py --stale

The first form brings a trained folder in. The second does what is left, so that it also resumes after an interruption:
profile and held-out protocol (into the card), calibrations of the default plans and the measure of localization
(causal networks), the lessons and the demo run that show it, and all digests. `--stale` lists results that were
measured on a network that no longer ships, each with the command that made it. docs/checkpoints.md explains more.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from assets import seal  # noqa: E402
from e2crf_core.commands.terminal import ProgressLine  # noqa: E402
from e2crf_core.data.datasets import load_dataset  # noqa: E402
from e2crf_core.diffusion.score_model import ScoreModel  # noqa: E402
from e2crf_core.errors import LabError  # noqa: E402
from e2crf_core.io.files import replace_file  # noqa: E402
from e2crf_core.io.json_files import json_writer  # noqa: E402
from e2crf_core.io.sets import write_set  # noqa: E402
from e2crf_core.models.checkpoints import load_checkpoint  # noqa: E402
from e2crf_core.models.folders import CARD, WEIGHTS, is_causal, read_card, shipped_checkpoints  # noqa: E402
from e2crf_core.models.quality_card import measure_card  # noqa: E402
from e2crf_core.network.forward import band_edges_of  # noqa: E402
from e2crf_core.runs.archive import load as load_archive  # noqa: E402
from e2crf_core.sampling.calibrations import (  # noqa: E402
    DEFAULT_PLANS,
    calibration_files,
    calibration_key,
    error_model_of,
    save_error_model,
)
from e2crf_core.sampling.localization import localization_of  # noqa: E402
from e2crf_core.sampling.sampler import Sampler  # noqa: E402

CHECKPOINTS = HERE / "checkpoints"
MINUTES = {"card": 2, "calibration": 3, "lesson": 1, "demo": 1}
"""Expected minutes of each part on one quiet core; a lesson or a calibration each."""


def take(name: str, trained: Path) -> None:
    """Bring a trained checkpoint in; what is derived from other weights is dropped with its old card."""
    folder = CHECKPOINTS / name
    if (folder / WEIGHTS).is_file() and (folder / WEIGHTS).read_bytes() == (trained / WEIGHTS).read_bytes():
        return
    card = read_card(trained)
    data = load_dataset(card["dataset"])
    kind = "causal" if card["network"].get("bands") else "full attention"
    card["title"] = f"{data.title.partition(':')[0]}, {kind}"
    write_set(
        folder,
        {WEIGHTS: lambda path: shutil.copy(trained / WEIGHTS, path), CARD: json_writer(card)},
    )


def card_part(name: str) -> Iterator[tuple[str, float, Any]]:
    """Yield the measurement of the card if it has none."""
    if not read_card(name).get("measured"):
        yield "card", MINUTES["card"], lambda: measure_card(name, progress=ProgressLine("held-out protocol"))


def calibration_parts(name: str) -> Iterator[tuple[str, float, Any]]:
    """Yield the calibrations that a causal network lacks, then its measure of localization."""
    if not is_causal(name):
        return
    model = load_checkpoint(name, "cpu")
    for config in DEFAULT_PLANS:
        sampler = Sampler.of(model, config)
        path = calibration_files(calibration_key(model, sampler.plan))[0]
        if not path.is_file():
            label = f"calibration for {config.describe()}"
            yield label, MINUTES["calibration"], lambda s=sampler, p=path, t=label: calibrate(model, s, p, t)
    if not read_card(name).get("localization"):
        yield "localization", 0, lambda: localization_part(name)


def calibrate(model: ScoreModel, sampler: Sampler, path: Path, label: str) -> None:
    """Measure an error model and keep it with the shipped files."""
    errors = error_model_of(model, sampler.plan, ProgressLine(label))
    path.parent.mkdir(exist_ok=True)
    replace_file(path, lambda temporary: save_error_model(errors, temporary))


def localization_part(name: str) -> None:
    """Write the measure of localization into the card."""
    model = load_checkpoint(name, "cpu")
    config = DEFAULT_PLANS[0]
    measured = localization_of(error_model_of(model, Sampler.of(model, config).plan))
    stated = {**asdict(measured), "plan": config.describe(), "command": f"python assets/ship.py {name}"}
    card = {**read_card(name), "localization": json.loads(json.dumps(stated))}
    write_set(CHECKPOINTS / name, {CARD: json_writer(card)}, beside=(WEIGHTS,))


def lesson_parts(name: str) -> Iterator[tuple[str, float, Any]]:
    """Yield the lessons whose record is of other weights."""
    from benchmarks.lessons import NETWORKS
    from e2crf_core.lessons.record import recorded

    digest = load_checkpoint(name, "cpu").digest()
    for lesson, names in NETWORKS.items():
        shown = {study.checkpoint: study.provenance["checkpoint"] for study in recorded(lesson)}
        if name in names and shown.get(name) != digest:
            command = [sys.executable, "-m", "benchmarks.lessons", "--only", lesson]
            yield f"lesson {lesson}", len(names) * MINUTES["lesson"], lambda c=command: run(c)


def demo_part(name: str) -> Iterator[tuple[str, float, Any]]:
    """Yield the demo run if it is of this network's name and other weights."""
    archive = load_archive(HERE / "demo" / "run.zip")
    if archive.spec.checkpoint == name and archive.model["digest"] != load_checkpoint(name, "cpu").digest():
        yield "demo run", MINUTES["demo"], lambda: run([sys.executable, str(HERE / "demo" / "build.py")])


def run(command: list[str]) -> None:
    """Run a command from the repository's root. Raises LabError if it fails."""
    if subprocess.run(command, cwd=ROOT).returncode:
        raise LabError(f"{' '.join(command)} failed")


PARTS = (card_part, calibration_parts, lesson_parts, demo_part)


def ship(name: str) -> None:
    """Do what is left for a checkpoint, each part with its expected time."""
    for parts in PARTS:
        for label, minutes, work in parts(name):
            print(f"{name}: {label}, about {minutes:g} min on one quiet core", file=sys.stderr, flush=True)
            work()
    remove_old_calibrations()
    seal.main()


def remove_old_calibrations() -> None:
    """Delete calibrations of networks that no longer ship."""
    models = [load_checkpoint(name, "cpu") for name in shipped_checkpoints()]
    causal = [model for model in models if band_edges_of(model.network)]
    known = {calibration_key(m, Sampler.of(m, config).plan) for m in causal for config in DEFAULT_PLANS}
    for path in (HERE / "calibrations").glob("*.npz"):
        if path.stem not in known:
            path.unlink()


def stale() -> Iterator[tuple[Path, str]]:
    """Yield result files measured on a network that does not ship, with the command that made them."""
    models = [load_checkpoint(name, "cpu") for name in shipped_checkpoints()]
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        for digest, command in sorted(set(measured_on(json.loads(path.read_text())))):
            if not any(model.has_digest(digest) for model in models):
                yield path, command


def measured_on(stored: Any, command: str = "") -> Iterator[tuple[str, str]]:
    """Yield the checkpoint digests that a results file states anywhere, with the nearest command."""
    if isinstance(stored, list):
        for value in stored:
            yield from measured_on(value, command)
    if isinstance(stored, dict):
        stated = stored.get("command", command)
        command = stated if isinstance(stated, str) else " ".join(stated)
        for key in ("checkpoint", "digest"):
            if isinstance(stored.get(key), str) and len(stored[key]) == 64:
                yield stored[key], command
        for value in stored.values():
            yield from measured_on(value, command)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="checkpoints; all shipped ones unless given")
    parser.add_argument(
        "--take", type=Path, metavar="FOLDER", help="trained checkpoint to bring in under the name"
    )
    parser.add_argument(
        "--stale", action="store_true", help="only list results of networks that no longer ship"
    )
    arguments = parser.parse_args()
    try:
        if arguments.take is not None:
            if len(arguments.names) != 1:
                parser.error("--take needs exactly one name")
            take(arguments.names[0], arguments.take)
        if not arguments.stale:
            for name in arguments.names or shipped_checkpoints():
                ship(name)
    except LabError as fault:
        raise SystemExit(f"error: {fault}") from None
    for path, command in stale():
        print(
            f"{path.relative_to(ROOT)} is of a network that no longer ships: {command or 'see benchmarks/README.md'}"
        )


if __name__ == "__main__":
    main()
