"""The Evidence page: the lab's measurements of triggers, solvers, and speed, and of the published tables."""

import streamlit as st

from e2crf_core.errors import LabError
from pages.ui.common.messages import say, unlinked
from pages.ui.common.query_params import choice
from pages.ui.evidence.controls import chosen_file, missing, quick_warning
from pages.ui.evidence.files import demoted, read_text, result_files
from pages.ui.evidence.localization_view import localization_view
from pages.ui.evidence.solvers_view import solvers_view
from pages.ui.evidence.speed_view import speed_view
from pages.ui.evidence.triggers_view import triggers_view

TRIGGERS, SOLVERS, SPEED, TABLES, BANDS = "triggers", "solvers", "speed", "tables", "bands"
VIEWS = {
    SOLVERS: "Solvers and caches",
    TRIGGERS: "Triggers",
    SPEED: "Speed",
    TABLES: "Published tables",
    BANDS: "Nested bands",
}


def tables_view() -> None:
    """Draw the published tables next to ours."""
    files = result_files("paper_tables", ".md")
    if not files:
        missing(
            "measurement of the published tables",
            "make paper-tables",
            "under an hour",
            "make paper-tables-quick",
            "under 5 minutes",
        )
        return
    path = chosen_file("paper_tables", files)
    text = read_text(path)
    quick_warning(path, "a tenth of the steps")
    with st.container(key="tables"):
        st.markdown(unlinked(demoted(text)))
    st.download_button(
        "Markdown", text, path.name, "text/markdown", on_click="ignore", icon=":material/download:"
    )


DRAW = {
    TRIGGERS: triggers_view,
    SOLVERS: solvers_view,
    SPEED: speed_view,
    TABLES: tables_view,
    BANDS: localization_view,
}


def page() -> None:
    """Lay out the page."""
    st.title("Evidence", anchor=False)
    view = choice("View", VIEWS, "view", bare=True)
    try:
        DRAW[view]()
    except LabError as fault:
        st.error(say(fault))


page()
