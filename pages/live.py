"""The Live page: turn the threshold and see samples, error, and price answer; or watch one run step by step."""

from collections.abc import Callable

import streamlit as st

from e2crf_core.errors import LabError
from e2crf_core.models.checkpoints import list_checkpoints
from e2crf_core.runs.archive import archive_mark
from e2crf_core.runs.run import FINISHED, RunHandle
from pages.ui.common import library
from pages.ui.common.messages import NO_NETWORK, plain_text, say
from pages.ui.common.query_params import choice, recall
from pages.ui.common.reference import Reference, reference_of
from pages.ui.common.registry import RUNS, STORE
from pages.ui.live.canvas import KEY, live_canvas, polled_feed, whole_feed
from pages.ui.live.instrument import instrument
from pages.ui.live.live_packets import hello, obey, phase_of
from pages.ui.live.pin_ways import follow
from pages.ui.live.pins import recall_pins
from pages.ui.live.policy_form import current_policy, policy_form, use_policy
from pages.ui.live.results import results_card
from pages.ui.live.run_form import (
    EXPLORE,
    FAULT,
    PACE,
    WATCH,
    adopt,
    note_settings,
    recall_settings,
    settings,
    start,
)
from pages.ui.live.socket import live_path
from pages.ui.live.tour import arrive, guide

VIEWS = {EXPLORE: "Explore settings", WATCH: "Watch one run"}
EXPLORE_GUIDE = """
- **Threshold**: the tolerance of the rule that decides what the network computes. At every move the whole sampler
  runs again, on the same noise.
- **Error against cost**: how far the samples are from those of an uncached run on the same noise, against what they
  cost. Down and left is better. Diamonds are solvers without a cache that take fewer steps: a cache is worth having
  only where it lies below them. Under the twin's own error, smaller errors mean little.
- **Sample over its uncached twin**: the first sample. What lies between the two lines is what the cache changed.
- **Error by band**: the same error, split by frequency. In data units, weak high frequencies hardly count; relative
  to each frequency's own strength, they count like all others.
- **Decisions of the whole run**: a column for each step, a row for each frequency, colored where it was computed.
"""
GUIDE = """
- **Sample in time**: the noisy series (thin), the network's current estimate of the clean one (thick), and real series
  (faint).
- **Spectrum**: the strength of each frequency. Frequencies up to the cutoff **K**, the shaded part, are computed at
  every step.
- **Decisions**: a column for each step, a row for each frequency. Gray cells are reused; a color shows why a cell was
  computed. Move the pointer over the map, or focus it and use the arrow keys, to read single decisions.
- **Event score eₖ**: the trigger's score of each frequency at this step. A frequency above the threshold **τ** is
  computed.
- **Event intensity r**: how much the network's features changed since the previous step. Below **τ safe** a step may
  pass without any work; above **τ warn** everything is computed.
- **Band energy**: noise has the same energy at all frequencies. Watch the spectrum of the series emerge from it.
"""


def adopted_run() -> RunHandle | None:
    """Return the run of this session or, after a reload, the one in the address."""
    wanted = st.session_state.get("run") or st.query_params.get("run")
    handle = RUNS.get(wanted)
    if handle is None:
        if wanted:
            forget_run(wanted)
        return None
    if st.session_state.get("run") != handle.id:
        adopt(handle)
    if st.query_params.get("run") != handle.id:
        st.query_params["run"] = handle.id
    if phase_of(handle) == "live":
        # Another window, or a handle on the canvas, may have changed it.
        st.session_state["policy"] = handle.policy
    handle.touch()
    return handle


def forget_run(run_id: str) -> None:
    """Report that a run is no longer on the server, and link to its record if one is kept."""
    st.session_state.pop("run", None)
    st.query_params.pop("run", None)
    st.info("The run in this address is no longer on the server. Press **Start** for a new one.")
    kept = next((e.name for e in STORE.list() if e.name.endswith(archive_mark(run_id))), None)
    if kept is not None:
        st.page_link(
            "anatomy.py",
            label="Its record is kept: see every step in Anatomy",
            icon=":material/biotech:",
            query_params={"run": kept},
        )


def listener(handle: RunHandle | None) -> Callable[[str], Callable[[], None]]:
    """Return the callbacks for messages of the canvas."""

    def policy(changes: dict) -> None:
        if handle is not None and phase_of(handle) == "live":
            obey(handle, {"type": "policy", "changes": changes})
            use_policy(handle.policy, handle)
        else:
            use_policy(current_policy().replace(**changes), None)

    def receive(name: str, message: dict) -> None:
        if name == "policy":
            policy(message["changes"])
        elif name == "pace":
            st.session_state["pace"] = float(message["value"])
        elif name == "feed":
            st.session_state["feed"] = "poll"
        elif name == "control" and handle is not None:
            if message["type"] == "resync":
                st.session_state[f"cursor.{handle.id}"] = 0
            else:
                obey(handle, message)

    def on(name: str) -> Callable[[], None]:
        def call() -> None:
            message = getattr(st.session_state[KEY], name)
            if not message:
                return
            try:
                receive(name, message)
            except LabError as fault:
                st.session_state[FAULT] = say(fault)

        return call

    return on


def view(handle: RunHandle | None, reference: Reference) -> None:
    """Draw the canvas, fed by the socket, or by polling if the browser found no socket."""
    polled = st.session_state.get("feed") == "poll"
    state = st.session_state
    if handle is None:
        packet = hello(
            reference, current_policy(), steps=state.steps, num=state.num, pace=state.get("pace", PACE)
        )
    else:
        base = st.get_option("server.baseUrlPath")
        packet = hello(
            reference,
            handle.policy,
            steps=handle.spec.config.steps,
            num=handle.spec.num,
            pace=handle.pace,
            run=handle.id,
            phase=phase_of(handle),
            socket=None if polled else live_path(handle.id, base),
        )
    live_canvas(packet, listener(handle))
    if polled and handle is not None:
        (whole_feed if handle.status in FINISHED else polled_feed)(handle, reference)


def advice(handle: RunHandle | None, reference: Reference, view: str) -> str:
    """Return one sentence on what to do now."""
    if view == EXPLORE:
        return "Drag the threshold: the whole sampler runs again, on the same noise, at every move."
    if handle is None:
        return (
            "Press **Start**: a network draws new series like those of "
            f"*{plain_text(reference.dataset.title)}* from noise, and you see which frequencies it computes "
            "and which it reuses."
        )
    phase = phase_of(handle)
    if phase == "comparing":
        return "The run is done. The same noise now runs without a cache, to measure what caching gained and cost."
    if phase == "live":
        return "Drag a line with a handle, K or τ, and watch the decisions change from the next step on."
    if handle.status == "done":
        return (
            "Done: the results are below the panels. Change the policy and press **Start again**: the same seed "
            "gives the same noise, so runs compare."
        )
    return "This run ended early. Press **Start again** for a new one."


def present_view() -> str:
    """Return the view of this session or of the address; a link to a run is to be watched."""
    state, query = st.session_state, st.query_params
    if "view" not in state and "view" not in query and "run" in query:
        state["view"] = WATCH
    recall("view", list(VIEWS), EXPLORE)
    if state["view"] == EXPLORE:
        query.pop("run", None)
    return state["view"]


def head(handle: RunHandle | None, reference: Reference) -> str:
    """Draw title, views, start button, and advice; return the view."""
    with st.container(horizontal=True, vertical_alignment="center", key="head"):
        st.title("Live", anchor=False, width="content")
        view = choice("View", VIEWS, "view", bare=True)
        if view == WATCH:
            st.button(
                "Start again" if handle is not None else "Start",
                type="primary",
                icon=":material/restart_alt:" if handle is not None else ":material/play_arrow:",
                on_click=start,
                key="start",
            )
        st.markdown(advice(handle, reference, view))
    return view


def page() -> None:
    """Lay out the page."""
    checkpoints = list_checkpoints()
    if not checkpoints:
        st.title("Live", anchor=False)
        st.warning(NO_NETWORK)
        return
    recall_settings(checkpoints)
    stop = arrive()
    handle = adopted_run() if present_view() == WATCH else None
    with st.sidebar:
        st.markdown("**Run**")
        settings(checkpoints)
    shown = handle.spec.checkpoint if handle is not None else st.session_state.checkpoint
    try:
        reference, model = reference_of(shown), library.model(shown)
    except LabError as fault:
        st.title("Live", anchor=False)
        st.error(say(fault))
        return
    with st.sidebar:
        st.markdown("**Cache policy**", help="Changes act on a running sampler at once.")
        policy_form(handle, reference.frequencies, model)
    note_settings(checkpoints)
    pins = recall_pins(shown, st.session_state.seed)
    follow(shown, st.session_state.seed)
    shown_view = head(handle, reference)
    if stop is not None:
        guide(stop)
    fault_text = st.session_state.pop(FAULT, None)
    if fault_text:
        st.error(fault_text)
    if shown_view == EXPLORE:
        instrument(shown, reference, pins, None if stop is None else stop.panel)
    else:
        view(handle, reference)
        # Below the canvas: it comes when the run ends, and must not push away what is being looked at.
        if handle is not None:
            results_card(handle, reference)
    with st.expander("How to read the panels", icon=":material/help:"):
        st.markdown(EXPLORE_GUIDE if shown_view == EXPLORE else GUIDE)
        if stop is None:
            st.page_link(
                "live.py", label="Take the tour", icon=":material/signpost:", query_params={"tour": "1"}
            )


page()
