"""The live canvas as a Streamlit component, and the polling feed that stands in where no socket is served."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from e2crf_core.runs.run import RunHandle
from pages.ui.common.packet import pack
from pages.ui.common.reference import Reference
from pages.ui.live.live_packets import picture

FRONT = Path(__file__).resolve().parents[1] / "front"
KEY = "lab"
POLL_S = 0.2
OVERLAP = 40
"""Steps that two polled pictures share: Streamlit may drop one of two quick updates of a component's data."""


def front_text(*names: str) -> str:
    """Files of the front end, one after the other."""
    return "\n".join((FRONT / name).read_text(encoding="utf-8") for name in names)


_canvas = st.components.v2.component(
    "e2crf_lab",
    html=front_text("live.html"),
    css=front_text("live.css"),
    js=front_text("theme.js", "plot.js", "takeaway.js", "store.js", "link.js", "live.js"),
)
# The script of an inline component is sent with every update, so what ticks is a component of three lines.
_poll = st.components.v2.component("e2crf_poll", js=front_text("poll.js"))


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


@st.fragment(run_every=POLL_S)
def polled_feed(handle: RunHandle, reference: Reference) -> None:
    """Send what is new every `POLL_S`, with an overlap; counts as a viewer like an open socket does."""
    handle.touch()
    key = f"cursor.{handle.id}"
    start = max(0, st.session_state.get(key, 0) - OVERLAP)
    frame, st.session_state[key] = picture(handle, reference, start)
    _poll(key="poll", data=frame)


def tell(key: str, header: Mapping[str, Any]) -> None:
    """Say something to a canvas that is on the page already, without handing it all its data again."""
    _poll(key=key, data=pack(header, {}))


def whole_feed(handle: RunHandle, reference: Reference) -> None:
    """Send all of a run that has ended, once: nothing will follow."""
    frame, _ = picture(handle, reference, 0, limit=handle.spec.config.steps)
    _poll(key="poll", data=frame)
