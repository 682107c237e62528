"""How a file is read: the decisions, the open questions, and the widgets that answer or override them."""

from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from e2crf_core.data.survey import FileSurvey
from pages.ui.common.messages import plain_text, say
from pages.ui.common.theme import palette
from pages.ui.data.plots import stretch_chart

MOST_DRAWN = 6

READING_LABELS = {
    "time": "Time column",
    "missing": "Words for missing values",
    "decimal": "Decimal mark",
    "date_order": "Order of dates",
    "tz": "Time zone",
    "skip": "Lines above the table",
    "axes": "Order of axes",
    "ignore_calendar": "Ignore the calendar",
}
DECIMALS = {"": "as found", ".": "point", ",": "comma"}
ORDERS = {"": "as found", "dmy": "day first", "mdy": "month first"}
AXES = {
    "": "as found",
    "NM": "rows are moments, columns are channels",
    "MN": "rows are channels",
    "SN": "each row is a series",
    "SNM": "windows, steps, channels",
    "SMN": "windows, channels, steps",
}


def reading_form(path: Path) -> dict[str, Any]:
    """Draw the widgets that override how a file is read; return the importer's arguments."""
    with st.expander("Change how the file is read", icon=":material/tune:"):
        first, second, third = st.columns(3, gap="medium")
        with first:
            time = _text(path, "time", "found automatically", "A column of time stamps, or the word none.")
            tz = _text(
                path, "tz", "Europe/Berlin", "For local time stamps without an offset. They are kept in UTC."
            )
        with second:
            missing = _text(
                path, "missing", "n.a., sensor off", "Cells that mean a gap, separated by commas."
            )
            skip = _text(path, "skip", "found automatically", "How many lines stand above the header.")
        with third:
            decimal = _choice(path, "decimal", DECIMALS)
            order = _choice(path, "date_order", ORDERS)
            axes = _choice(path, "axes", AXES)
    words = tuple(word.strip() for word in missing.split(",") if word.strip())
    chosen = {"time": time, "tz": tz, "missing": words, "decimal": decimal, "date_order": order, "axes": axes}
    lines = {"skip": int(skip)} if skip.isdigit() else {}
    return {**{field: value for field, value in chosen.items() if value}, **lines}


def _text(path: Path, field: str, placeholder: str, explanation: str) -> str:
    return st.text_input(
        READING_LABELS[field], key=f"{field}.{path}", placeholder=placeholder, help=explanation, max_chars=200
    ).strip()


def _choice(path: Path, field: str, words: dict[str, str]) -> str:
    return st.selectbox(
        READING_LABELS[field], list(words), format_func=words.__getitem__, key=f"{field}.{path}"
    )


def decisions_panel(seen: FileSurvey, labels: dict[str, str]) -> None:
    """Draw the open questions, the decisions, and the windows left under each way of handling gaps."""
    for question in seen.questions:
        st.warning(say(question, labels))
    left, right = st.columns([3, 2], gap="medium")
    with left:
        decided = pd.DataFrame(
            [(d.column, d.role, d.reading, "" if d.certain else "a guess") for d in seen.decisions],
            columns=["Column", "Is", "Read as", "Sure"],
        )
        st.dataframe(decided, hide_index=True, height=190, alt="How each column of the file is read")
    with right:
        if seen.choices:
            counted = pd.DataFrame(
                [(c.text, c.windows, c.filled, "recommended" if c.recommended else "") for c in seen.choices],
                columns=["Gaps", "Windows", "Filled cells", ""],
            )
            window = seen.choices[0].cutting.window
            st.dataframe(
                counted, hide_index=True, height=190, alt="Windows left under each way of handling gaps"
            )
            st.caption(plain_text(f"Windows of {window} rows without overlap; nothing has been written yet."))


def stretch_panel(seen: FileSurvey) -> None:
    """Draw the beginning of the file as it is read, before anything is written."""
    shown = len(seen.stretch)
    if shown < 2 or not seen.stretch_names:
        return
    channels = min(MOST_DRAWN, len(seen.stretch_names))
    st.markdown(
        f"##### The first {shown:,} rows, as they are read",
        help="In order of time. Shaded: empty cells, and rows that the file leaves out.",
    )
    st.plotly_chart(
        stretch_chart(
            seen.stretch[:, :channels],
            seen.stretch_names[:channels],
            seen.stretch_stamps,
            seen.step,
            palette()[0],
        ),
        key=f"stretch.{seen.path}",
        alt=f"The first {shown} rows of {channels} channels, with gaps shaded",
    )
    if channels < len(seen.stretch_names):
        st.caption(f"{channels} of {len(seen.stretch_names)} channels are drawn.")
