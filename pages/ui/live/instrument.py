"""The instrument as a Streamlit component: its canvas, and what it reports to the page."""

import json
from collections.abc import Callable, Sequence

import streamlit as st

from e2crf_core.caching.policy import CachePolicy
from e2crf_core.errors import LabError
from e2crf_core.report.front import markup, script, styles
from e2crf_core.sampling.config import SamplerConfig
from pages.ui.common import library
from pages.ui.common.components import parquet_courier, send_news
from pages.ui.common.messages import say
from pages.ui.common.reference import Reference
from pages.ui.live.answer_packets import instrument_hello, read_request
from pages.ui.live.ask_socket import ask_path
from pages.ui.live.asking import answer_now, way_of
from pages.ui.live.pin_ways import leave
from pages.ui.live.pins import keep_pins
from pages.ui.live.policy_form import use_policy
from pages.ui.live.run_form import FAULT, LABELS, SOLVER_LABELS, sampler_config

KEY = "instrument"
ANSWER = "instrument.answer"

_instrument = st.components.v2.component(
    "e2crf_instrument",
    html=markup("live/instrument.html"),
    css=styles("shared/shared.css", "live/instrument.css"),
    js=script("live/instrument.js"),
)


def instrument(
    checkpoint: str, reference: Reference, pins: Sequence[str] = (), spotlight: str | None = None
) -> None:
    """Draw the instrument for the settings of this session and its pins; the panel `spotlight` is framed."""
    state = st.session_state
    try:
        config = sampler_config()
        way = way_of(library.model(checkpoint), config)
    except LabError as fault:
        st.error(say(fault, LABELS))
        return
    polled = state.get("feed") == "poll"
    hello = instrument_hello(
        reference,
        checkpoint,
        config,
        state.seed,
        way=way,
        solvers=SOLVER_LABELS,
        pins=pins,
        spotlight=spotlight,
        socket=None if polled else ask_path(st.get_option("server.baseUrlPath")),
    )
    _instrument(
        key=KEY,
        data=hello,
        on_setting_change=_on("setting", _setting),
        on_feed_change=_on("feed", _feed),
        on_ask_change=_on("ask", _ask),
        on_pins_change=_on("pins", _pins),
        on_go_change=_on("go", _go),
    )
    parquet_courier()
    packet = state.pop(ANSWER, None)
    if packet is not None:
        send_news("answers", packet)


def _on(name: str, receive: Callable[[dict], None]) -> Callable[[], None]:
    def call() -> None:
        message = getattr(st.session_state[KEY], name)
        if not message:
            return
        try:
            receive(message)
        except LabError as fault:
            st.session_state[FAULT] = say(fault, LABELS)

    return call


def _setting(message: dict) -> None:
    """Take over what was set on the canvas, so that the widgets and the address follow.

    A setting that cannot run is left to the canvas, which says why: here it would take the canvas's place.
    """
    state = st.session_state
    policy = CachePolicy.from_json(json.dumps(message["policy"]))
    config = SamplerConfig(policy, int(message["steps"]), message["solver"], message["grid"])
    try:
        way_of(library.model(state.checkpoint), config)
    except LabError:
        return
    use_policy(policy, None)
    state["steps"], state["solver"], state["grid"] = config.steps, config.solver, config.grid


def _pins(message: dict) -> None:
    state = st.session_state
    keep_pins(state.checkpoint, state.seed, str(message["text"]))


def _go(message: dict) -> None:
    leave(str(message["to"]), str(message["text"]))


def _feed(_: object) -> None:
    """Answer through the page from now on: the browser found no socket."""
    st.session_state["feed"] = "poll"


def _ask(message: dict) -> None:
    st.session_state[ANSWER] = answer_now(read_request(message))
