"""Import a file: how it is read and cut into windows, then the data set or a clear error."""

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from e2crf_core.data.datasets import list_datasets
from e2crf_core.data.importing import ImportReport, import_file
from e2crf_core.data.survey import FileSurvey, survey_file
from e2crf_core.errors import LabError
from e2crf_core.io.userfiles import check_name, user_dir, user_folder
from pages.ui.common import library
from pages.ui.common.messages import plain_text, say
from pages.ui.common.uploads import chosen_file
from pages.ui.data.import_form import LABELS, import_form
from pages.ui.data.reading import decisions_panel, reading_form, stretch_panel

MEASURABLE = 8
SHOWN_WARNINGS = 3
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", " ": "space", "|": "bar"}


@st.cache_data(show_spinner="Reading the file", max_entries=4)
def look_at(path: str, stamp: library.Stamp, reading: dict[str, Any]) -> tuple[FileSurvey, int | None]:
    """Return how a file would be read, and the steps of a window if it holds finished windows (S, N, M)."""
    seen = survey_file(path, **reading)
    return seen, seen.ready_steps


def import_view() -> None:
    """Draw the import."""
    st.markdown(
        "Choose a table with a row for each time and a column for each channel, or an array (windows, "
        f"steps, channels). The data set is stored in your own folder, `{user_dir()}`, and nowhere else."
    )
    path = chosen_file()
    if path is None:
        return
    reading = reading_form(path)
    try:
        seen, ready = look_at(str(path), library.stamp(path), reading)
    except LabError as fault:
        st.error(say(fault, LABELS))
        return
    except OSError as fault:
        st.error(say(f"{path.name} cannot be read: {fault.strerror}"))
        return
    preview_panel(seen)
    if not any(c.kind == "number" for c in seen.columns):
        st.error(say(f"{path.name} has no column of numbers, so there is nothing to learn from"))
        return
    decisions_panel(seen, LABELS)
    stretch_panel(seen)
    choices = import_form(path, seen, ready) | reading
    result = f"imported.{path}"
    if st.button("Import", type="primary", icon=":material/download_done:", key="import"):
        st.session_state.pop(result, None)
        try:
            st.session_state[result] = run_import(path, choices)
        except LabError as fault:
            st.error(say(fault, LABELS))
    if result in st.session_state:
        result_panel(*st.session_state[result])


def run_import(path: Path, choices: dict[str, Any]) -> tuple[str, ImportReport]:
    """Import a file; returns the name of the data set and the report. Raises LabError."""
    name = choices.pop("name")
    if check_name(name) in list_datasets():
        raise LabError(
            f"there is already a data set {name!r}",
            field="name",
            remedy="choose another name, or remove that data set",
        )
    with st.spinner("Cutting windows"):
        return name, import_file(path, out=user_folder("data", name), **choices)


def preview_panel(seen: FileSurvey) -> None:
    """Draw how a file would be read: its form, columns, gaps and first rows."""
    parts = [f"{seen.n_rows:,} rows", f"{len(seen.columns)} columns", plain_text(seen.form.upper())]
    if seen.delimiter:
        parts.append(f"separated by {DELIMITERS.get(seen.delimiter, repr(seen.delimiter))}")
        parts.append(seen.encoding)
    if seen.time:
        parts.append(f"time in **{plain_text(seen.time)}**, usually every {seconds_text(seen.step)}")
    st.markdown(" · ".join(parts))
    if seen.uneven > 0:
        share = "Less than 1%" if seen.uneven < 0.01 else f"{seen.uneven:.0%}"
        st.warning(
            f"{share} of the time steps differ from the usual one. Windows over long jumps are dropped; resample "
            "the file to put its rows on an even grid."
        )
    for question in seen.questions:
        if question.field != "missing":
            st.warning(say(question, LABELS))
    texts = [c for c in seen.columns if c.kind == "number" and c.texts]
    for column in texts[:SHOWN_WARNINGS]:
        st.warning(
            f"The column '{plain_text(column.name)}' holds text among its numbers ({column.texts:,} cells, "
            f"first in row {column.first_text}). It is left out unless you correct these cells."
        )
    left, right = st.columns([2, 3], gap="medium")
    with left:
        st.dataframe(
            columns_table(seen),
            hide_index=True,
            height=252,
            column_config={"Share": st.column_config.NumberColumn("Of rows", format="percent")},
            alt="Columns of the file with what they hold and their gaps",
        )
    with right:
        rows = pd.DataFrame(list(seen.rows), columns=[c.name for c in seen.columns], dtype=str)
        rows.index = pd.RangeIndex(seen.first_row, seen.first_row + len(rows), name="row")
        st.dataframe(rows, height=252, alt="The first rows of the file")


def columns_table(seen: FileSurvey) -> pd.DataFrame:
    """Return the columns of a file: what they hold, how they are read, and their gaps."""
    readings = {d.column: d.reading if d.certain else f"{d.reading}?" for d in seen.decisions}
    return pd.DataFrame(
        [
            (c.name, c.kind, readings.get(c.name, ""), c.gaps, c.gaps / max(1, seen.n_rows))
            for c in seen.columns
        ],
        columns=["Column", "Holds", "Read as", "Gaps", "Share"],
    )


def seconds_text(seconds: float) -> str:
    """Return a time step in words."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def result_panel(name: str, report: ImportReport) -> None:
    """Draw the import report, and links to the next steps."""
    with st.container(border=True):
        st.markdown(f"##### :material/check_circle: {plain_text(name)} is now a data set")
        with st.container(horizontal=True):
            st.metric("Windows", f"{report.windows:,}", width="content")
            st.metric("Training", f"{report.train:,}", width="content")
            st.metric("Held out", f"{report.heldout:,}", width="content")
            st.metric(
                "Dropped", f"{report.dropped:,}", width="content", help="Windows over a gap or an outage."
            )
            st.metric("Filled cells", f"{report.filled:,}", width="content")
        if report.heldout < MEASURABLE:
            st.warning(
                f"{report.heldout} held-out windows are too few to judge a model. Use a smaller window or "
                "stride, or more data."
            )
        for text in report.notes:
            st.caption(f":material/info: {plain_text(text)}")
        with st.container(horizontal=True):
            st.button("Show it", icon=":material/visibility:", on_click=partial(show_dataset, name))
            st.page_link(
                "training.py",
                label="Train on it",
                icon=":material/model_training:",
                query_params={"data": name},
            )


def show_dataset(name: str) -> None:
    """Open the card of a data set."""
    st.session_state.update({"view": "sets", "set": name})
