"""The view of the solver study: solvers with and without the cache."""

from collections.abc import Callable

import streamlit as st

from e2crf_core.quality.protocol import PRIMARY
from pages.ui.common.downloads import chart
from pages.ui.common.messages import plain_text
from pages.ui.common.query_params import choice, note, recall
from pages.ui.common.theme import palette
from pages.ui.evidence.controls import missing, opened, provenance, values_table
from pages.ui.evidence.files import result_files
from pages.ui.evidence.plots import Mark, solvers_chart
from pages.ui.evidence.solver_table import COMMAND, RatedSolver, SolverTable, read_tables, table_frame

WORK = {"seconds": "Wall clock", "calls": "Network-call equivalents"}
FEW_METRICS = 3
INTRO = (
    "A cache for a thousand steps is worthless if twenty steps of a better solver do as well. Here both "
    "are measured, against real series that the network never saw or against the converged solution on the "
    "same noise. **Lower and further left is better.**"
)


def solvers_view() -> None:
    """Draw the solver study."""
    files = result_files("solver_study")
    if not files:
        missing(
            "solver study",
            COMMAND,
            "about half an hour",
            f"{COMMAND} --checkpoints wind --num 8 --repeats 3",
            "a few minutes",
        )
        return
    path, studies = opened("solver_study", files, read_tables, "few steps and samples")
    tables = {table.dataset: table for table in studies.values()}
    st.markdown(INTRO)
    with st.container(horizontal=True):
        data = choice("Data set", {name: name for name in tables}, "solved")
        work = choice("Work (horizontal axis)", WORK, "work")
        table = tables[data]
        metric = metric_choice(table)
    draw(table, work, metric)
    floor = "; the band is real data against real data" if metric in table.floors else ""
    left_out = len(table.rated(metric)) < len(table.rows)
    note_left_out = "Rows that add noise at every step have no converged solution and are left out. "
    provenance(
        COMMAND,
        path,
        table.machine,
        f"{table.repeats} repeats of {table.num} samples; bars are 95% intervals{floor}. Filled marks use "
        f"the cache. {note_left_out if left_out else ''}",
    )
    st.subheader(f"Results for {plain_text(data)}", anchor=False)
    st.markdown("\n".join(f"- {plain_text(line)}" for line in table.reading))
    values_table("All rows", table_frame(table), "solver-study")


def metric_choice(table: SolverTable) -> str:
    """Draw the choice of the distance, at first the protocol's: a list when there are many."""
    label = "Distance (vertical axis)"
    usual = PRIMARY if PRIMARY in table.titles else next(iter(table.titles))
    if len(table.titles) < FEW_METRICS:
        return choice(label, table.titles, "metric", usual)
    recall("metric", list(table.titles), usual)
    metric = st.selectbox(
        label, list(table.titles), key="metric", format_func=table.titles.__getitem__, width=320
    )
    note("metric", metric, usual)
    return metric


def draw(table: SolverTable, work: str, metric: str) -> None:
    """Draw cost against a distance."""
    price: Callable[[RatedSolver], float] = table.calls if work == "calls" else lambda row: row.seconds.value
    front = table.front(price, metric)
    marks = []
    for row in table.rated(metric):
        text = (
            f"{row.config.steps} calls on the {row.config.grid} grid, {100 * row.token_share:.1f}% of tokens, "
            f"{row.speedup.value:.1f}× the speed of {table.reference}"
        )
        cached = row.trigger != "none"
        name, value = row.config.name, row.values[metric]
        marks.append(Mark(name, row.config.solver, cached, price(row), value, name in front, text))
    plot = solvers_chart(
        marks,
        palette(),
        x_title=f"wall clock of {table.num} samples (s)" if work == "seconds" else "network-call equivalents",
        y_title=f"{table.titles[metric]} ({table.units[metric]})",
        floor=table.floors.get(metric),
    )
    chart(plot, "solvers", table_frame(table))
