"""The live canvas as a Streamlit component, and the polling feed that replaces a missing socket."""

from collections.abc import Callable

import streamlit as st

from e2crf_core.report.front import markup, script, styles
from e2crf_core.runs.run import RunHandle
from pages.ui.common.components import parquet_courier, send_news
from pages.ui.common.reference import Reference
from pages.ui.live.live_packets import picture

KEY = "lab"
POLL_S = 0.2
OVERLAP = 40
"""Steps that two polled updates share, because Streamlit may drop one of two quick updates."""

_canvas = st.components.v2.component(
    "e2crf_lab",
    html=markup("live/live.html"),
    css=styles("shared/shared.css"),
    js=script("live/live.js"),
)


def live_canvas(hello: bytes, on: Callable[[str], Callable[[], None]]) -> None:
    """Mount the canvas. `on(name)` gives the callback of a message: policy, pace, control, feed, phase.

    Values arrive in `st.session_state[KEY]` under the message's name.
    """
    _canvas(
        key=KEY,
        data=hello,
        on_policy_change=on("policy"),
        on_pace_change=on("pace"),
        on_control_change=on("control"),
        on_feed_change=on("feed"),
        on_phase_change=on("phase"),
    )
    parquet_courier()


@st.fragment(run_every=POLL_S)
def polled_feed(handle: RunHandle, reference: Reference) -> None:
    """Send new steps every `POLL_S` seconds, with an overlap; counts as a viewer, as an open socket does."""
    handle.touch()
    key = f"cursor.{handle.id}"
    start = max(0, st.session_state.get(key, 0) - OVERLAP)
    frame, st.session_state[key] = picture(handle, reference, start)
    send_news("poll", frame)


def whole_feed(handle: RunHandle, reference: Reference) -> None:
    """Send a finished run completely, once."""
    frame, _ = picture(handle, reference, 0, limit=handle.spec.config.steps)
    send_news("poll", frame)
