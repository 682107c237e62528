"""Lessons that run in the browser: real series, a real run, and a recorded run."""

from typing import Any

import numpy as np
import streamlit as st

from e2crf_core.data.datasets import list_datasets
from e2crf_core.io.packet import pack
from e2crf_core.lessons.material import change_recording, events_recording, series_packet
from e2crf_core.lessons.texts import OPENS_ON, Text
from e2crf_core.models.checkpoints import list_checkpoints
from pages.ui.common import library
from pages.ui.common.components import lesson_canvas
from pages.ui.common.kept_runs import DEMO, DEMO_LABEL, demo_path, entry_label, open_run
from pages.ui.common.messages import NO_NETWORK, plain_text
from pages.ui.common.query_params import note, recall
from pages.ui.common.reference import reference_for
from pages.ui.common.registry import STORE


def linked_controls() -> dict[str, str]:
    """Return the values of a lesson's controls in the address."""
    return {key: value[:12] for key, value in st.query_params.items() if len(key) < 10}


def series_lesson(text: Text) -> None:
    """Draw a lesson on real series."""
    names = list_datasets()
    if not names:
        st.info("There is no data set. Import one on the **Data** page.")
        return
    unknown = recall("dataset", names, OPENS_ON)
    if unknown:
        st.warning(f"There is no data set '{plain_text(unknown)}'.")
    name = st.selectbox("Data set", names, key="dataset", width=340)
    note("dataset", name, OPENS_ON)
    lesson_canvas(
        key=f"lesson.{text.key}", data=series_packet(text.key, reference_for(name), linked_controls())
    )


@st.cache_data(max_entries=6, show_spinner="Running the network without a cache, 200 steps")
def _change(name: str, digest: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    return change_recording(library.model(name), name)


def change_lesson(text: Text) -> None:
    """Draw a real run, and what reusing its parts would have cost."""
    names = list_checkpoints()
    name = st.session_state.get(f"lesson.{text.key}.network")
    name = name if name in names else next(iter(names), None)
    if name is None:
        st.warning(NO_NETWORK)
        return
    header, arrays = _change(name, library.model(name).digest())
    lesson_canvas(key=f"lesson.{text.key}", data=pack({**header, "view": linked_controls()}, arrays))


def events_lesson(text: Text) -> None:
    """Draw the published rule over a recorded run."""
    entries = {entry.name: entry for entry in STORE.list()}
    names = [*([DEMO] if demo_path().is_file() else []), *entries]
    if not names:
        st.info("This lesson needs a recorded run. Start one on the **Live** page.")
        return
    recall("run", names)
    name = st.selectbox(
        "Recorded run",
        names,
        key="run",
        format_func=lambda n: entry_label(entries[n]) if n in entries else DEMO_LABEL,
        width=520,
    )
    note("run", name, names[0])
    header, arrays = events_recording(open_run(name))
    view = {"lesson": text.key, "key": f"{text.key} {name}", "view": linked_controls()}
    lesson_canvas(key=f"lesson.{text.key}", data=pack({**header, **view}, arrays))
