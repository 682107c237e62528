"""The components that several pages share, registered once, when this module is first imported.

They are the canvases of Anatomy, lessons and Tune; `notify`, which sends messages to a canvas; and a courier,
which returns the table behind a canvas as a Parquet file.
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import streamlit as st

from e2crf_core.errors import LabError
from e2crf_core.io.packet import pack
from e2crf_core.report.front import markup, script, styles
from pages.ui.common.downloads import parquet_of_csv

COURIER = "courier"

_anatomy = st.components.v2.component(
    "e2crf_anatomy",
    html=markup("anatomy/anatomy.html"),
    css=styles("shared/shared.css", "anatomy/anatomy.css"),
    js=script("anatomy/component.js"),
)
_lesson = st.components.v2.component(
    "e2crf_lesson",
    html=markup("lessons/lessons.html"),
    css=styles("shared/shared.css", "anatomy/anatomy.css", "lessons/lessons.css"),
    js=script("lessons/component.js"),
)
tune_board = st.components.v2.component(
    "e2crf_tune",
    html=markup("tune/tune.html"),
    css=styles("shared/shared.css", "tune/tune.css"),
    js=script("tune/tune.js"),
)
# Every update sends the script of an inline component, so the one that updates often has only three lines.
_news = st.components.v2.component("e2crf_news", js=script("shared/news.js"))
_courier = st.components.v2.component("e2crf_courier", js=script("shared/courier.js"))


def anatomy_canvas(
    key: str,
    data: bytes,
    on_confirm: Callable[[], None],
    on_inside: Callable[[], None],
    on_foresee: Callable[[], None],
) -> None:
    """Mount the canvas of a recorded run.

    Values arrive in `st.session_state[key]` as `confirm`, `inside` and `foresee`.
    """
    _anatomy(
        key=key,
        data=data,
        on_confirm_change=on_confirm,
        on_inside_change=on_inside,
        on_foresee_change=on_foresee,
    )
    parquet_courier()


def lesson_canvas(key: str, data: bytes) -> None:
    """Mount the canvas of a lesson."""
    _lesson(key=key, data=data)
    parquet_courier()


def send_news(key: str, frame: bytes) -> None:
    """Hand a packet to the canvases on the page; `key` is unique among their senders."""
    _news(key=key, data=frame)


def notify(key: str, header: Mapping[str, Any]) -> None:
    """Send a short message to a canvas that is on the page, without sending all of its data again."""
    send_news(key, pack(header, {}))


@st.fragment
def parquet_courier() -> None:
    """Serve the Save menu of the page's canvas: receive its table as compressed CSV and return Parquet."""
    state = st.session_state
    _courier(key=COURIER, data=state.pop("courier.file", None), on_table_change=_make_file)
    fault = state.pop("courier.fault", None)
    if fault:
        st.error(fault)


def _make_file() -> None:
    """Turn the table that came from the browser into a packet with the file."""
    state = st.session_state
    table = state[COURIER].table
    if not table:
        return
    try:
        body = parquet_of_csv(base64.b64decode(table["csv"], validate=True))
    except (LabError, binascii.Error) as fault:
        state["courier.fault"] = f"The Parquet file could not be written: {fault}."
        return
    header = {"id": table["n"], "file": f"{table['file']}.parquet"}
    state["courier.file"] = pack(header, {"body": np.frombuffer(body, np.uint8)})
