"""The view of the localization study: nested bands at equal error, and the published rule beside ours."""

import streamlit as st

from e2crf_core.quality.interval import Interval
from e2crf_core.quality.pareto import pareto_front
from pages.ui.common.downloads import chart, data_buttons
from pages.ui.common.messages import plain_text
from pages.ui.common.query_params import choice
from pages.ui.common.theme import palette
from pages.ui.evidence.controls import missing, opened, provenance, values_table
from pages.ui.evidence.files import result_files
from pages.ui.evidence.localization_table import (
    COMMAND,
    KINDS,
    UNITS,
    Localization,
    comparison_frame,
    differences_frame,
    long_frame,
    read_localization,
    rows_frame,
)
from pages.ui.evidence.plots import Mark, solvers_chart

INTRO = (
    "A solver pays for all frequencies at every call. On a spectrally causal network, nested bands pay only "
    "for those whose error matters. Comparisons are made at a required error, and at the error that the "
    "baseline really reached. "
    "**Lower and further left is better.**"
)
NETWORKS = {"causal": "causal network", "full": "network with full attention"}
CACHED = ("whole", "nested", "detail")


def localization_view() -> None:
    """Draw the localization study."""
    files = result_files("localization")
    if not files:
        missing("localization study", COMMAND, "about an hour", f"{COMMAND} --quick", "12 minutes")
        return
    path, studies = opened("localization", files, read_localization, "one seed and few samples")
    st.markdown(INTRO)
    with st.container(horizontal=True):
        data = choice("Data set", {name: name for name in studies}, "localized")
        kind = choice("Error", KINDS, "error_kind")
    study = studies[data]
    if study.rows:
        _short(study, kind)
    for network, title in NETWORKS.items():
        if network in study.euler:
            _long(study, network, title)
    _differences()
    provenance(COMMAND, path, study.machine)


def _short(study: Localization, kind: str) -> None:
    """Draw errors against cost for few calls, and the comparisons at equal error."""
    rated = {name: row for name, row in study.rows.items() if row.cost > 0 and row.error(kind).median > 0}
    front = pareto_front({name: (row.cost, row.error(kind).median) for name, row in rated.items()})
    marks = []
    for name, row in rated.items():
        error = row.error(kind)
        spread = Interval(error.median, error.median, max(error.median, error.high))
        cached = row.method in CACHED
        marks.append(Mark(name, row.title, cached, row.cost, spread, name in front, "up to the 90% quantile"))
    plot = solvers_chart(
        marks, palette(), x_title="network work (forwards of all tokens)", y_title=UNITS[kind], floor=None
    )
    frame = comparison_frame(study, kind)
    chart(plot, "localization", frame)
    st.caption(
        f"{len(study.seeds)} seeds of {study.num} samples on common noise; bars reach from the median to the "
        "90% quantile."
    )
    st.subheader("At equal error", anchor=False)
    st.dataframe(frame, hide_index=True)
    st.caption(
        "Network work: 95% bootstrap interval over samples. Wall clock: ratio of runs that take turns, with its "
        "range over rounds. “Not reached”: no measured row comes that close; nothing is extrapolated."
    )
    values_table("All rows with few calls", rows_frame(study), "localization-rows")


def _long(study: Localization, network: str, title: str) -> None:
    """Draw the rows of the paper's sampler on one network."""
    runs = study.euler[network]
    st.subheader(f"{runs.steps:,} Euler-Maruyama steps, {title}", anchor=False)
    frame = long_frame(runs)
    st.dataframe(frame, hide_index=True)
    data_buttons(frame, f"euler-{network}")
    st.caption(
        f"{runs.num} samples and their uncached twins on common noise. Speed: median and range over repeats in "
        "one process. As good: at most 5% and 0.5 dB farther from held-out data, by the upper ends."
    )


def _differences() -> None:
    """Draw the effect of each difference between the published text and our reading of it."""
    frame = differences_frame()
    if frame is None:
        st.caption(
            plain_text("What separates paper from paper_literal: python -m benchmarks.paper_differences")
        )
        return
    values_table(
        "Published rule to the letter and our reading of it, one difference at a time", frame, "paper"
    )
