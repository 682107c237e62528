"""What an evaluation says: as JSON and CSV, in sentences, and as one HTML page that needs nothing beside it."""

from __future__ import annotations

import csv
import html
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from e2crf_core.evaluation.evaluate import (
    FEWEST_SEEDS,
    PRIMARY,
    SCHEMA,
    STABLE_WITHIN,
    Estimate,
    Evaluation,
    Row,
    Timing,
)
from e2crf_core.io.files import replace_file
from e2crf_core.quality.intervals import StableSize
from e2crf_core.report.charts import Point, as_html, interval_chart, order_chart, pareto_chart, plotly_script


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """Everything as plain JSON values."""
    pairs = {metric: evaluation.pairs(metric) for metric in evaluation.titles}
    wall = evaluation.front(lambda row: row.seconds.median)
    work = evaluation.front(lambda row: row.flops)
    rows = []
    for row in evaluation.rows:
        rows.append(
            {
                **asdict(row),
                "config": row.config.describe(),
                "front_wall": row.config.name in wall,
                "front_flops": row.config.name in work,
            }
        )
    return {
        "schema": SCHEMA,
        **{k: v for k, v in vars(evaluation).items() if k not in ("rows", "floors", "stable")},
        "floors": {name: asdict(floor) for name, floor in evaluation.floors.items()},
        "stable": {name: asdict(curve) for name, curve in evaluation.stable.items()},
        "rows": rows,
        "pairs": pairs,
        "reading": reading(evaluation),
    }


def to_csv(evaluation: Evaluation) -> str:
    """One line for each row; columns NAME, NAME_low, NAME_high for figures with an interval."""
    lines = []
    for row in evaluation.rows:
        config = row.config
        policy = config.policy
        line: dict[str, Any] = {
            "name": config.name,
            "solver": config.solver,
            "grid": config.grid,
            "steps": config.steps,
            "policy": "" if policy is None else policy.trigger,
            "token_share": row.token_share,
            "flop_share": row.flop_share,
            "flops_per_sample": row.flops,
        }
        for name, timing in (
            ("seconds", row.seconds),
            ("speedup", row.speedup),
            ("speedup_twin", row.speedup_twin),
        ):
            for part in ("median", "low", "high"):
                key = name if part == "median" else f"{name}_{part}"
                line[key] = "" if timing is None else getattr(timing, part)
        for name, figure in (("relative_l2", row.relative_l2), *row.metrics.items()):
            for part in ("value", "low", "high"):
                key = name if part == "value" else f"{name}_{part}"
                line[key] = "" if figure is None else getattr(figure, part)
        lines.append(line)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def reading(evaluation: Evaluation) -> list[str]:
    """What the table says, in sentences. Nothing is claimed where intervals overlap."""
    reference = evaluation.row(evaluation.reference)
    floor, told = evaluation.floors[PRIMARY], evaluation.pairs()
    total = len(evaluation.rows) * (len(evaluation.rows) - 1) // 2
    q = reference.quality
    lines = [
        f"The reference is {reference.config.name}: {reference.seconds.median:.3g} s for {evaluation.num} samples,"
        f" sliced Wasserstein {q.value:.4f} ({q.low:.4f} to {q.high:.4f}). Real training series of the same number"
        f" are {floor.value:.4f} from the held-out ones: no sampler can be expected below that floor.",
        f"Of {total} pairs of rows, {len(told)} can be told apart by sliced Wasserstein; the others must not be"
        " ranked by it.",
    ]
    others = tuple(evaluation.titles)
    alone = evaluation.fastest(reference, cached=False)
    cached = evaluation.fastest(reference, cached=True)
    for row, what in ((alone, "without a cache"), (cached, "with E²-CRF")):
        if row is None:
            lines.append(f"No row {what} is as good as the reference.")
            continue
        worse = [
            evaluation.titles[m].lower()
            for m in others
            if m != PRIMARY and not evaluation.not_worse(row, reference, (m,))
        ]
        but = f", though clearly worse in {', '.join(worse)}" if worse else ", and in no other figure worse"
        lines.append(
            f"The fastest row {what} that is not worse than the reference is {row.config.name}:"
            f" {row.speedup.median:.1f} times as fast in wall clock ({row.speedup.low:.1f} to"
            f" {row.speedup.high:.1f}), {reference.flops / row.flops:.1f} times in operations{but}."
        )
    if alone is not None and cached is not None:
        ratio = alone.seconds.median / cached.seconds.median
        word = "faster" if ratio > 1 else "slower"
        lines.append(
            f"At that quality the best cached row is {max(ratio, 1 / ratio):.2f} times {word} than the best solver"
            " alone." + (" Caching does not pay here: take the better solver." if ratio <= 1 else "")
        )
    for row in evaluation.rows:
        if row.speedup_twin is not None and row.speedup_twin.median < 1:
            lines.append(
                f"{row.config.name} is slower than the same solver without a cache"
                f" ({row.speedup_twin.median:.2f} times its speed)."
            )
    if evaluation.interval == "bootstrap":
        lines.append(
            f"With {evaluation.repeats} repeat(s) the intervals are bootstrap intervals of one run: use at least"
            f" {FEWEST_SEEDS} repeats to see the spread from seed to seed."
        )
    else:
        lines.append(
            f"Intervals are 95% intervals of the mean over {evaluation.repeats} seeds, all against the same"
            f" {evaluation.heldout} held-out series: they say what other seeds would give, not what other data would."
        )
    if PRIMARY in evaluation.stable:
        curve, share = evaluation.stable[PRIMARY], f"{100 * STABLE_WITHIN:g}%"
        lines.append(
            f"Sliced Wasserstein of the reference is known to within {share} from {curve.size} samples on."
            if curve.size is not None
            else f"Even all {curve.sizes[-1]} samples of the reference leave its sliced Wasserstein uncertain by more"
            f" than {share}: take more samples to tell rows apart that are this close."
        )
    if any(row.sessions > 1 for row in evaluation.rows):
        lines.append("The evaluation was interrupted: timings come from more than one process.")
    return lines


def write_results(evaluation: Evaluation, out: Path) -> None:
    """Write results.json, results.csv and report.html into `out`."""
    stored = to_json(evaluation)
    replace_file(out / "results.json", lambda p: p.write_text(json.dumps(stored, indent=1) + "\n"))
    replace_file(out / "results.csv", lambda p: p.write_text(to_csv(evaluation)))
    page = evaluation_report(evaluation)
    replace_file(out / "report.html", lambda p: p.write_text(page, encoding="utf-8"))


_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1180px;margin:2em auto;padding:0 1em;color:#1b2733;background:#fff}
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}
th,td{padding:.3em .6em;text-align:right;border-bottom:1px solid #d8dee4;white-space:nowrap}
th:first-child,td:first-child{text-align:left}tr.front td{background:#e8f3ec}tr.reference td{font-weight:600}
th:first-child,td:first-child{position:sticky;left:0;background:#fff}tr.front td:first-child{background:#e8f3ec}
th{vertical-align:bottom;white-space:normal;min-width:4.5em}small,.note{color:#56636f}
"""


def evaluation_report(evaluation: Evaluation) -> str:
    """One HTML page: the reading, Pareto charts in wall clock and operations, intervals, order, all figures."""
    e = evaluation
    wall, work = e.front(lambda row: row.seconds.median), e.front(lambda row: row.flops)
    floor, title = e.floors[PRIMARY], f"{e.titles[PRIMARY]}, {e.units[PRIMARY]}"
    charts = [
        pareto_chart(
            [_point(row, row.seconds.median, wall) for row in e.rows],
            x_title=f"wall clock of {e.num} samples, s",
            y_title=title,
            floor=(floor.low, floor.value, floor.high),
            reference=e.reference,
        ),
        pareto_chart(
            [_point(row, row.flops / 1e9, work) for row in e.rows],
            x_title="operations of one sample, GFLOP",
            y_title=title,
            floor=(floor.low, floor.value, floor.high),
            reference=e.reference,
        ),
        interval_chart(
            [_point(row, 0.0, wall) for row in e.rows],
            title=title,
            floor=(floor.low, floor.value, floor.high),
            repeats=[row.quality.values for row in e.rows],
        ),
        order_chart([row.config.name for row in e.rows], e.pairs()) if e.pairs() else None,
    ]
    headings = (
        "Quality against wall clock",
        "Quality against operations",
        "Intervals, seeds and the floor of real data",
        "Which pairs can be told apart",
    )
    notes = (
        "Lower left is better. The line joins the rows that no other row beats, which are named; hover for the others."
        " Open marks are solvers alone, filled ones of the same color use the cache. Bars are 95% intervals, the band"
        " is the distance between real sets of the same size.",
        "The same, by counted operations: what a machine without overheads would see.",
        "One dot for each seed.",
        "Filled: the row is better than the column, and their intervals do not overlap. Empty: not told apart.",
    )
    parts = [f"<h1>{_text(e.checkpoint)} on {_text(e.dataset)}: solvers and caches</h1>"]
    parts.append("<ul>" + "".join(f"<li>{_text(line)}</li>" for line in reading(e)) + "</ul>")
    for heading, note, chart in zip(headings, notes, charts, strict=True):
        drawn = "<p><b>None.</b> All intervals overlap.</p>" if chart is None else as_html(chart)
        parts.append(f"<h2>{heading}</h2><p class='note'>{note}</p>{drawn}")
    parts.append(f"<h2>All figures</h2><div class='scroll'>{_table(e, wall)}</div>")
    about = ", ".join(f"{key} {value}" for key, value in e.machine.items() if value is not None)
    parts.append(
        f"<p class='note'>{e.repeats} repeats of {e.num} samples in batches of {e.batch}, seeds from {e.seed}."
        f" Checkpoint {e.digest[:16]}. Distances are in standard deviations of the data, sliced Wasserstein with"
        f" p = 2. {_text(about)}.</p>"
    )
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width'>"
        f"<title>Evaluation of {_text(e.checkpoint)}</title><style>{_STYLE}</style>"
        f"<script>{plotly_script()}</script></head><body>{''.join(parts)}</body></html>\n"
    )


def _text(value: object) -> str:
    return html.escape(str(value))


def _point(row: Row, x: float, front: set[str]) -> Point:
    c, q = row.config, row.quality
    group = c.solver + (" + E²-CRF" if c.policy is not None else "")
    note = (
        f"{c.steps} calls, {c.grid} grid, {100 * row.token_share:.1f}% of tokens, {row.speedup.median:.2f}x"
    )
    return Point(c.name, x, q.value, q.low, q.high, group, c.name in front, note, c.solver)


def _cell(figure: Estimate | Timing | None, digits: int = 4) -> str:
    if figure is None:
        return ""
    center = figure.value if isinstance(figure, Estimate) else figure.median
    return f"{center:.{digits}g} <small>{figure.low:.{digits}g}–{figure.high:.{digits}g}</small>"


def _enough(curve: StableSize | None) -> str:
    if curve is None:
        return ""
    return f"over {curve.sizes[-1]}" if curve.size is None else str(curve.size)


def _table(e: Evaluation, front: set[str]) -> str:
    """Rows from fast to slow; the floor of real data as the last one."""
    head = [
        "name",
        "solver",
        "grid",
        "calls",
        "trigger",
        "tokens",
        "GFLOP/sample",
        "seconds",
        "speed vs reference",
        "vs uncached twin",
        "relative L2 to twin",
        *(f"{e.titles[m]} ({e.units[m]})" for m in e.titles),
    ]
    lines = ["<tr>" + "".join(f"<th>{_text(h)}</th>" for h in head) + "</tr>"]
    for row in sorted(e.rows, key=lambda row: row.seconds.median):
        c = row.config
        kind = " ".join(
            name for name, on in (("front", c.name in front), ("reference", c.name == e.reference)) if on
        )
        cells = [
            _text(c.name),
            _text(c.solver),
            _text(c.grid),
            str(c.steps),
            "none" if c.policy is None else _text(c.policy.trigger),
            f"{100 * row.token_share:.1f}%",
            f"{row.flops / 1e9:.3g}",
            _cell(row.seconds, 3),
            _cell(row.speedup, 3),
            _cell(row.speedup_twin, 3),
            _cell(row.relative_l2, 3),
            *(_cell(row.metrics[m]) for m in e.titles),
        ]
        lines.append(f"<tr class='{kind}'>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    floors = "".join(
        f"<td>{f.value:.4g} <small>{f.low:.4g}–{f.high:.4g}</small></td>"
        for f in (e.floors[name] for name in e.titles)
    )
    lines.append(f"<tr><td colspan='11'>real training series instead of samples</td>{floors}</tr>")
    if e.stable:
        sizes = "".join(f"<td>{_enough(e.stable.get(name))}</td>" for name in e.titles)
        share = f"{100 * STABLE_WITHIN:g}%"
        lines.append(
            f"<tr><td colspan='11'>samples from which on the reference's figure is within {share}</td>{sizes}</tr>"
        )
    return f"<table>{''.join(lines)}</table>"
