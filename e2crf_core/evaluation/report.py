"""Render an evaluation as one self-contained HTML page."""

from __future__ import annotations

from markupsafe import Markup

from e2crf_core.evaluation.reading import reading
from e2crf_core.evaluation.tables import STABLE_WITHIN, Evaluation, TableRow
from e2crf_core.quality.protocol import PRIMARY
from e2crf_core.report.charts import (
    ChartPoint,
    as_html,
    interval_chart,
    order_chart,
    pareto_chart,
    plotly_script,
)
from e2crf_core.report.html import render

HEAD = (
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
)


def evaluation_report(evaluation: Evaluation) -> str:
    """Render one page: summary, Pareto charts in time and operations, intervals, order, measurements."""
    e = evaluation
    about = ", ".join(f"{key} {value}" for key, value in e.machine.items() if value is not None)
    return render(
        "evaluation.html",
        e=e,
        reading=reading(e),
        charts=_charts(e),
        head=(*HEAD, *(f"{e.titles[name]} ({e.units[name]})" for name in e.titles)),
        rows=sorted(e.rows, key=lambda row: row.seconds.value),
        front=e.front(lambda row: row.seconds.value),
        within=f"{100 * STABLE_WITHIN:g}%",
        machine=about,
        plotly=Markup(plotly_script()),
    )


def _charts(e: Evaluation) -> list[tuple[str, str, Markup | None]]:
    """Return (heading, note, chart) of every plot; None replaces an order without pairs."""
    wall, work = e.front(lambda row: row.seconds.value), e.front(lambda row: row.flops)
    floor, title = e.floors[PRIMARY], f"{e.titles[PRIMARY]}, {e.units[PRIMARY]}"
    band = (floor.low, floor.value, floor.high)
    by_wall = pareto_chart(
        [_point(row, row.seconds.value, wall) for row in e.rows],
        x_title=f"wall clock of {e.num} samples, s",
        y_title=title,
        floor=band,
        reference=e.reference,
    )
    by_work = pareto_chart(
        [_point(row, row.flops / 1e9, work) for row in e.rows],
        x_title="operations of one sample, GFLOP",
        y_title=title,
        floor=band,
        reference=e.reference,
    )
    intervals = interval_chart(
        [_point(row, 0.0, wall) for row in e.rows],
        title=title,
        floor=band,
        repeats=[row.quality.values for row in e.rows],
    )
    pairs = e.pairs()
    order = order_chart([row.name for row in e.rows], pairs) if pairs else None
    described = [
        (
            "Quality against wall clock",
            "Lower left is better. The line joins the rows that no other row beats, which are named; hover for the"
            " others. Open marks are solvers alone, filled ones of the same color use the cache. Bars are 95%"
            " intervals, the band is the distance between real sets of the same size.",
            by_wall,
        ),
        (
            "Quality against operations",
            "The same, by counted operations: what a machine without overhead would see.",
            by_work,
        ),
        ("Intervals, seeds and the floor of real data", "One dot for each seed.", intervals),
        (
            "Which pairs can be told apart",
            "Filled: the row is better than the column, and their intervals do not overlap. Empty: not told apart.",
            order,
        ),
    ]
    return [
        (heading, note, None if chart is None else Markup(as_html(chart)))
        for heading, note, chart in described
    ]


def _point(row: TableRow, x: float, front: set[str]) -> ChartPoint:
    c, q = row.config, row.quality
    group = c.solver + (" + E²-CRF" if c.policy is not None else "")
    note = f"{c.steps} calls, {c.grid} grid, {100 * row.token_share:.1f}% of tokens, {row.speedup.value:.2f}x"
    return ChartPoint(row.name, x, q.value, q.low, q.high, group, row.name in front, note, c.solver)
