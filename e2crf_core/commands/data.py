"""`data import`, `data original`, `data preview`: bring your own series."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

ORIGINALS = ("ecg", "nasdaq", "nasa-charge", "nasa-discharge", "droughts")


def add(commands: Any) -> None:
    """Register the commands."""
    parser = commands.add_parser("data", help="import data sets from your own files")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    look = actions.add_parser("preview", help="say how a file would be read: columns, gaps, time stamps")
    look.add_argument("file", type=Path)
    look.set_defaults(command=_preview)
    own = actions.add_parser("import", help="cut a CSV, Parquet, NPY or NPZ file into windows")
    own.add_argument("file", type=Path)
    own.add_argument("--window", type=int, required=True, help="steps in a window")
    own.add_argument("--stride", type=int, help="rows between windows; default: the window, no overlap")
    own.add_argument("--channels", help="columns, separated by commas; default: all that hold numbers")
    own.add_argument("--group", help="column whose values must not share a window")
    own.add_argument("--time", help="column of time stamps; found by itself where it is plain")
    own.add_argument("--gaps", default="drop", help="drop windows over a gap, or interpolate short ones")
    own.add_argument("--max-gap", type=int, default=3, help="longest run of rows to interpolate")
    own.add_argument("--resample", help="even grid for uneven stamps, such as 10min, or auto")
    own.add_argument("--title", help="what to call it")
    own.add_argument("--out", type=Path, required=True, help="folder to write")
    own.set_defaults(command=_import)
    original = actions.add_parser("original", help="load one of the paper's data sets from local files")
    original.add_argument("name", choices=ORIGINALS)
    original.add_argument("folder", type=Path)
    original.add_argument("--out", type=Path, required=True, help="folder to write")
    original.set_defaults(command=_original)


def _preview(arguments: argparse.Namespace) -> None:
    from e2crf_core.data.tables import preview

    print(json.dumps(asdict(preview(arguments.file)), default=str))


def _import(arguments: argparse.Namespace) -> None:
    from e2crf_core.data.importing import import_file

    channels = [c.strip() for c in arguments.channels.split(",")] if arguments.channels else None
    report = import_file(
        arguments.file,
        window=arguments.window,
        stride=arguments.stride,
        channels=channels,
        group=arguments.group,
        time=arguments.time,
        gaps=arguments.gaps,
        max_gap=arguments.max_gap,
        resample=arguments.resample,
        title=arguments.title,
        out=arguments.out,
    )
    print(json.dumps(asdict(report)))


def _original(arguments: argparse.Namespace) -> None:
    from e2crf_core.data.original_datasets import import_original

    data = import_original(arguments.name, arguments.folder, arguments.out)
    print(json.dumps({"out": str(arguments.out), "windows": len(data.x), "shape": list(data.x.shape)}))
