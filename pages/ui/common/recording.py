"""A run that is recorded for another page: its progress, until the record is kept."""

import streamlit as st

from e2crf_core.runs.archive import archive_name
from e2crf_core.runs.run import FINISHED
from pages.ui.common.kept_runs import is_kept
from pages.ui.common.registry import RUNS, line_text

TICK_S = 0.5


@st.fragment(run_every=TICK_S)
def recording(run_id: str) -> None:
    """Draw the progress of a run that is recorded; the page is drawn again once the record is kept."""
    run = RUNS.get(run_id)
    if run is None or (run.status in FINISHED and (run.status != "done" or is_kept(archive_name(run)))):
        st.rerun(scope="app")
    if run.status in FINISHED:
        st.caption("Saving the record")
        return
    run.touch()
    left = "" if run.eta_s is None else f", {run.eta_s:.0f} s left"
    st.progress(run.progress, line_text(run) or f"Recording {run.progress:.0%}{left}")
