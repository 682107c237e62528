"""Implement `export-run`: write a recorded run as a page that works offline, or as a timeline for Perfetto."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2crf_core.errors import LabError

if TYPE_CHECKING:
    from e2crf_core.data.reference import Reference
    from e2crf_core.runs.archive import Archive

DEMO = "demo"


def add(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser("export-run", help="write a recorded run as an offline page or a timeline")
    parser.add_argument("run", help="a run's zip file, the name of a kept run, or demo")
    parser.add_argument("--html", type=Path, help="page to write: every step, and what-if, without a network")
    parser.add_argument(
        "--trace", type=Path, help="timeline to write (JSON), for ui.perfetto.dev and browsers"
    )
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> None:
    """Open the run and write what was asked for; print the files."""
    from e2crf_core.commands.terminal import check_out_file
    from e2crf_core.io.files import replace_file, text_writer

    asked = {"html": (arguments.html, _page), "trace": (arguments.trace, _timeline)}
    files = {kind: (path, make) for kind, (path, make) in asked.items() if path is not None}
    if not files:
        raise LabError("nothing to write: name an HTML file, a trace file, or both", field="html")
    for path, _ in files.values():
        check_out_file(path)
    archive = _opened(arguments.run)
    for path, make in files.values():
        replace_file(path, text_writer(make(archive)))
    print(json.dumps({kind: {"file": str(p), "bytes": p.stat().st_size} for kind, (p, _) in files.items()}))


def _page(archive: Archive) -> str:
    from e2crf_core.models.checkpoints import load_checkpoint
    from e2crf_core.runs.page import run_page

    return run_page(archive, lambda: load_checkpoint(archive.spec.checkpoint, "cpu"), _reference(archive))


def _timeline(archive: Archive) -> str:
    from e2crf_core.runs.timeline import timeline

    return json.dumps(timeline(archive, _errors(archive)), allow_nan=False)


def _opened(name: str) -> Archive:
    from e2crf_core.io.resources import assets_dir
    from e2crf_core.runs.archive import load
    from e2crf_core.runs.store import RunStore

    if name == DEMO:
        return load(assets_dir() / "demo" / "run.zip")
    if Path(name).is_file():
        return load(Path(name))
    if Path(name).suffix == ".zip" or len(Path(name).parts) > 1:
        raise LabError(f"there is no file {name}", field="run")
    return RunStore().get(name)


def _reference(archive: Archive) -> Reference | None:
    """Return the real series behind a run, None where its data set is not at hand."""
    from e2crf_core.data.datasets import load_dataset
    from e2crf_core.data.reference import reference_of_data

    try:
        return reference_of_data(load_dataset(archive.model["dataset"]))
    except LabError:
        return None


def _errors(archive: Archive) -> Any:
    """Return the error to the uncached twin at every step, None if its network is not at hand."""
    from e2crf_core.commands.terminal import ProgressLine, interruptible, warn
    from e2crf_core.models.checkpoints import load_checkpoint
    from e2crf_core.runs.timeline import errors_to_twin
    from e2crf_core.runs.twin import TWINS

    try:
        model = load_checkpoint(archive.spec.checkpoint, "cpu")
        with interruptible() as stopped:
            spec = archive.spec
            twin = TWINS.twin(
                model, spec.config, spec.num, spec.seed, progress=ProgressLine("uncached"), cancelled=stopped
            )
        return errors_to_twin(archive, model, twin)
    except LabError as fault:
        warn(f"the timeline has no error: {fault}")
        return None
