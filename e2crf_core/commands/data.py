"""Implement `data import`, `data original`, and `data preview`, which read a user's own series."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from e2crf_core.data.gaps import GapChoice
    from e2crf_core.data.plan import Decision
    from e2crf_core.data.survey import FileSurvey

ORIGINALS = ("ecg", "nasdaq", "nasa-charge", "nasa-discharge", "droughts")
READING = ("channels", "group", "time", "missing", "decimal", "date_order", "tz", "skip", "header", "axes")
CUTTING = ("stride", "gaps", "max_gap", "resample", "ignore_calendar", "title")


def add(commands: Any) -> None:
    """Register the commands."""
    parser = commands.add_parser("data", help="import data sets from your own files")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    look = actions.add_parser("preview", help="say how a file would be read: columns, gaps, time stamps")
    look.add_argument("file", type=Path)
    look.add_argument("--window", type=int, help="steps in a window")
    look.add_argument("--stride", type=int, help="rows between windows")
    _reading(look)
    look.set_defaults(command=_preview)
    own = actions.add_parser("import", help="cut a CSV, Parquet, NPY, NPZ or TS file into windows")
    own.add_argument("file", type=Path)
    own.add_argument("--window", type=int, required=True, help="steps in a window")
    own.add_argument("--stride", type=int, help="rows between windows; default: the window, no overlap")
    own.add_argument("--gaps", default="drop", help="drop windows over a gap, or interpolate short ones")
    own.add_argument("--max-gap", type=int, default=3, help="longest run of rows to interpolate")
    own.add_argument("--resample", help="even grid for uneven stamps, such as 10min, or auto")
    own.add_argument(
        "--ignore-calendar", action="store_true", help="rows are steps, whatever their time stamps say"
    )
    own.add_argument("--title", help="what to call it")
    own.add_argument(
        "--dry-run", action="store_true", help="say how the file would be read, and write nothing"
    )
    _reading(own)
    own.add_argument("--out", type=Path, required=True, help="folder to write")
    own.set_defaults(command=_import)
    original = actions.add_parser("original", help="load one of the paper's data sets from local files")
    original.add_argument("name", choices=ORIGINALS)
    original.add_argument("folder", type=Path)
    original.add_argument("--out", type=Path, required=True, help="folder to write")
    original.set_defaults(command=_original)


def _reading(parser: argparse.ArgumentParser) -> None:
    """Add the options that control how a file is read."""
    parser.add_argument(
        "--channels",
        type=_names,
        help="columns, separated by commas, in quotes where a name holds one; default: all numbers",
    )
    parser.add_argument("--group", help="column whose values must not share a window, or none")
    parser.add_argument("--time", help="column of time stamps, or none; found by itself where it is plain")
    parser.add_argument(
        "--missing", type=_names, help="cells that mean a gap, separated by commas: n.a.,sensor off"
    )
    parser.add_argument("--decimal", help="decimal mark, . or , where the file leaves it open")
    parser.add_argument("--date-order", help="dmy or mdy, where the file leaves it open")
    parser.add_argument("--tz", help="time zone of local time stamps, such as Europe/Berlin")
    parser.add_argument("--skip", type=int, help="lines above the table")
    parser.add_argument("--header", type=int, help="header rows, 0 for none")
    parser.add_argument(
        "--axes", help="order of axes: NM rows of time, SN a series in each row, SMN channels before steps"
    )


def _need(command: str) -> None:
    """Raise LabError unless the packages that read files are installed."""
    from e2crf_core.io.extras import require

    require("data", f"data {command}", "pandas", "pyarrow")


def _names(text: str) -> tuple[str, ...]:
    """Split names such as `a,b` or `"Temp, C",hum`."""
    return tuple(name.strip() for name in next(csv.reader([text], skipinitialspace=True), []) if name.strip())


def _said(arguments: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(arguments, name) for name in READING if getattr(arguments, name) is not None}


def _preview(arguments: argparse.Namespace) -> None:
    _need("preview")
    from e2crf_core.data.survey import survey_file

    survey = survey_file(arguments.file, window=arguments.window, stride=arguments.stride, **_said(arguments))
    _show(survey.decisions, survey.choices, [str(question) for question in survey.questions])
    print(json.dumps(_plain(survey)))


def _plain(survey: FileSurvey) -> dict[str, Any]:
    """Return a survey as plain values, without the stretch for a plot."""
    shown = {name: value for name, value in vars(survey).items() if not name.startswith("stretch")}
    shown["columns"] = [asdict(column) for column in survey.columns]
    shown["decisions"] = [asdict(decision) for decision in survey.decisions]
    shown["choices"] = [asdict(choice) for choice in survey.choices]
    shown["questions"] = [
        {"problem": q.problem, "field": q.field, "remedy": q.remedy} for q in survey.questions
    ]
    return shown


def _show(decisions: Iterable[Decision], choices: Iterable[GapChoice], questions: Iterable[str] = ()) -> None:
    """Print on stderr how a file is read and what each way of handling gaps would leave."""
    for decision in decisions:
        name = f"{decision.column}: " if decision.column else ""
        guess = "" if decision.certain else "  (a guess)"
        print(f"{decision.role:>9}  {name}{decision.reading}{guess}", file=sys.stderr)
    for choice in choices:
        mark = "  (recommended)" if choice.recommended else ""
        filled = f", {choice.filled:,} cells filled" if choice.filled else ""
        print(f"     gaps  {choice.text}: {choice.windows:,} windows{filled}{mark}", file=sys.stderr)
    for question in questions:
        print(f" question  {question}", file=sys.stderr)


def _import(arguments: argparse.Namespace) -> None:
    _need("import")
    if arguments.dry_run:
        _preview(arguments)
        return
    from e2crf_core.data.importing import import_file

    cutting = {name: getattr(arguments, name) for name in CUTTING}
    report = import_file(
        arguments.file, window=arguments.window, out=arguments.out, **cutting, **_said(arguments)
    )
    _show(report.decisions, report.choices)
    print(json.dumps(asdict(report)))


def _original(arguments: argparse.Namespace) -> None:
    _need("original")
    from e2crf_core.data.original_datasets import import_original

    data = import_original(arguments.name, arguments.folder, arguments.out)
    print(json.dumps({"out": str(arguments.out), "windows": len(data.x), "shape": list(data.x.shape)}))
