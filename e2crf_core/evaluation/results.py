"""Write an evaluation to files: results.json, results.csv, and report.html if plotly is installed."""

from __future__ import annotations

import csv
import io
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from e2crf_core.evaluation.reading import reading
from e2crf_core.evaluation.shards import SCHEMA, stored_config
from e2crf_core.evaluation.tables import Evaluation, TableRow
from e2crf_core.io.files import text_writer
from e2crf_core.io.sets import write_set
from e2crf_core.quality.interval import Interval

TIMINGS = ("seconds", "speedup", "speedup_twin")
LOG = logging.getLogger(__name__)


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return everything as plain JSON values; a timing's center is `median`, a distance's is `value`."""
    wall = evaluation.front(lambda row: row.seconds.value)
    work = evaluation.front(lambda row: row.flops)
    parts = ("rows", "floors", "stable", "provenance")
    return {
        "schema": SCHEMA,
        **{key: value for key, value in vars(evaluation).items() if key not in parts},
        "floors": {name: asdict(floor) for name, floor in evaluation.floors.items()},
        "stable": {name: asdict(curve) for name, curve in evaluation.stable.items()},
        "provenance": None if evaluation.provenance is None else evaluation.provenance.to_json(),
        "rows": [_stored_row(row, wall, work) for row in evaluation.rows],
        "pairs": {metric: evaluation.pairs(metric) for metric in evaluation.titles},
        "reading": reading(evaluation),
    }


def _stored_row(row: TableRow, wall: set[str], work: set[str]) -> dict[str, Any]:
    stored = asdict(row)
    del stored["name"]
    return {
        **stored,
        **{name: stored_timing(getattr(row, name)) for name in TIMINGS},
        "config": stored_config(row.name, row.config),
        "front_wall": row.name in wall,
        "front_flops": row.name in work,
    }


def stored_timing(timing: Interval | None) -> dict[str, float] | None:
    """Return a timing over repeats as plain JSON values: median and observed range."""
    return None if timing is None else {"median": timing.value, "low": timing.low, "high": timing.high}


def to_csv(evaluation: Evaluation) -> str:
    """Return one line per row; values with an interval have columns NAME, NAME_low, NAME_high."""
    text = io.StringIO()
    lines = [_line(row) for row in evaluation.rows]
    writer = csv.DictWriter(text, fieldnames=list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _line(row: TableRow) -> dict[str, Any]:
    config = row.config
    line: dict[str, Any] = {
        "name": row.name,
        "solver": config.solver,
        "grid": config.grid,
        "steps": config.steps,
        "policy": "" if config.policy is None else config.policy.trigger,
        "token_share": row.token_share,
        "flop_share": row.flop_share,
        "flops_per_sample": row.flops,
    }
    values = {name: getattr(row, name) for name in (*TIMINGS, "relative_l2")} | row.metrics
    for name, value in values.items():
        for part in ("value", "low", "high"):
            key = name if part == "value" else f"{name}_{part}"
            line[key] = "" if value is None else getattr(value, part)
    return line


def write_results(evaluation: Evaluation, out: Path) -> None:
    """Write results.json, results.csv and, if plotly is installed, report.html to `out`."""
    stored = json.dumps(to_json(evaluation), indent=1) + "\n"
    writers = {"results.json": text_writer(stored), "results.csv": text_writer(to_csv(evaluation))}
    try:
        from e2crf_core.evaluation.report import evaluation_report
    except ImportError as missing:
        LOG.warning("no report.html: %s is not installed (pip install 'e2crf-lab[tune]')", missing.name)
    else:
        writers["report.html"] = text_writer(evaluation_report(evaluation))
    write_set(out, writers)
