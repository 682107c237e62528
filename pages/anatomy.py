"""The Anatomy page: each step of a recorded run, the reasons for its decisions, and what-if predictions."""

from functools import partial
from typing import Any

import streamlit as st

from e2crf_core.errors import LabError
from e2crf_core.runs.archive import Archive, archive_name
from e2crf_core.runs.run import FINISHED
from pages.ui.anatomy.canvas_actions import (
    FAULT,
    KEY,
    confirm,
    foresee,
    layer_progress,
    look_inside,
    tell_foreseen,
    truth_panel,
)
from pages.ui.anatomy.layer_job import LAYER_JOBS
from pages.ui.anatomy.recording import ASKED, confirmed_spec, recording_packet
from pages.ui.anatomy.tables import layers_table, steps_table, summary
from pages.ui.common.components import anatomy_canvas
from pages.ui.common.downloads import data_buttons
from pages.ui.common.kept_runs import (
    DEMO,
    DEMO_LABEL,
    demo_path,
    entry_label,
    is_kept,
    open_run,
)
from pages.ui.common.messages import say
from pages.ui.common.registry import RUNS, STORE
from pages.ui.common.run_downloads import run_downloads

GUIDE = """
- **Drag over the map**, or focus it and use the arrow keys: every panel follows. All steps are already in your
  browser, so nothing waits for the server.
- **Why** explains the decision for the chosen frequency at the chosen step, and what would have changed the
  decision. The responsible lines of the running code are marked next to it.
- **Look inside this run** runs the record again and shows, layer by layer, how far the cached values are from those
  of a fresh forward of all frequencies at that step: each layer's input h, keys K and values V, and C, F, D and the
  score.
- **What if** predicts what another threshold, cutoff or interval would have done in this very run. You can confirm
  the prediction with a real run.
- The address holds the run, the step, the frequency and the question. Share it to show others the same view.
"""


def chosen_run() -> str | None:
    """Return the run to show: the address's, else this session's last, else the newest, else the demo."""
    linked = st.query_params.get("run")
    if linked:
        return linked
    live = RUNS.get(st.session_state.get("run"))
    if live is not None and live.status in FINISHED and is_kept(archive_name(live)):
        return archive_name(live)
    entries = STORE.list()
    if entries:
        return entries[0].name
    return DEMO if demo_path().is_file() else None


def run_menu(shown: str) -> None:
    """Draw the list of kept runs."""
    entries = {entry.name: entry for entry in STORE.list()}
    names = [*entries, *([DEMO] if demo_path().is_file() else [])]
    if shown not in names:
        names.insert(0, shown)
    st.session_state["anatomy.run"] = shown

    def pick() -> None:
        st.query_params.clear()
        st.query_params["run"] = st.session_state["anatomy.run"]

    def label(name: str) -> str:
        return entry_label(entries[name]) if name in entries else DEMO_LABEL if name == DEMO else name

    st.selectbox(
        "Recorded run",
        names,
        key="anatomy.run",
        on_change=pick,
        format_func=label,
        help="Every run is kept when it ends. Type to search.",
    )


def linked_view(archive: Archive) -> dict[str, Any]:
    """Return the view that the address asks for, without invalid parts."""
    query = st.query_params
    view: dict[str, Any] = {}
    changes: dict[str, Any] = {}
    for name in ("step", "k", "channel"):
        if query.get(name, "").isdecimal():
            view[name] = min(int(query[name][:9]), 10**6)
    view |= {name: query[key] for name, key in (("mode", "view"), ("shade", "map")) if key in query}
    kinds: dict[str, Any] = {name: int for name in ASKED} | {"tau": float, "trigger": str}
    for name, kind in kinds.items():
        if name in query:
            try:
                changes[name] = kind(query[name][:40])
                confirmed_spec(archive, changes)
            except (ValueError, LabError):
                changes.pop(name, None)
    return {**view, "policy": changes}


def downloads(archive: Archive, name: str) -> None:
    """Offer the record as files."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("Download every step:")
        data_buttons(steps_table(archive), f"{name}-steps")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("Take the whole run along:")
        run_downloads(name, archive)


def show(archive: Archive, name: str) -> None:
    """Draw an opened run."""
    st.markdown(summary(archive))
    fault = st.session_state.pop(FAULT, None)
    if fault:
        st.error(fault)
    truth_panel(name)
    complete = archive.recorder.count == archive.spec.config.steps
    key = f"{name} {archive.created}"
    job = LAYER_JOBS.get(key)
    anatomy_canvas(
        key=KEY,
        data=recording_packet(archive, key, linked_view(archive), complete, job),
        on_confirm=lambda: confirm(archive, name),
        on_inside=lambda: look_inside(archive, key),
        on_foresee=lambda: foresee(archive, key),
    )
    tell_foreseen()
    if job is not None and job.status == "running":
        layer_progress(key)
    downloads(archive, name)
    if job is not None and job.result is not None:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption("Download every layer, step and frequency:")
            data_buttons(partial(layers_table, job.result), f"{name}-layers")
    with st.expander("How to use this page", icon=":material/help:"):
        st.markdown(GUIDE)


def page() -> None:
    """Lay out the page."""
    name = chosen_run()
    if name is not None:
        with st.sidebar:
            run_menu(name)
            st.page_link("runs.py", label="All runs, notes and files", icon=":material/folder_open:")
    st.title("Anatomy", anchor=False)
    if name is None:
        st.info("There is no recorded run yet. Start one on the **Live** page: it is kept when it ends.")
        return
    try:
        archive = open_run(name)
    except LabError as fault:
        st.error(say(fault))
        st.info("Choose another run in the sidebar.")
        return
    if st.query_params.get("run") != name:
        st.query_params["run"] = name
    show(archive, name)


page()
