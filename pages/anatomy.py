"""Anatomy of a recorded run: every step at once, why each frequency was computed, and what another policy would do."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from e2crf_core.caching.events import Reason
from e2crf_core.errors import LabError
from e2crf_core.runs.archive import Archive, archive_name
from e2crf_core.runs.layer_errors import LayerTable
from e2crf_core.runs.run import FINISHED
from e2crf_core.runs.whatif import predict, trace
from pages.ui.anatomy.layer_job import INSIDES
from pages.ui.common.components import anatomy_canvas, notify
from pages.ui.common.downloads import data_buttons
from pages.ui.common.recording import (
    ASKED,
    DEMO,
    confirmed_spec,
    demo_path,
    label,
    model_of,
    open_run,
    recording_packet,
)
from pages.ui.common.registry import RUNS, STORE

KEY = "anatomy"

GUIDE = """
- **Drag over the map**, or focus it and use the arrow keys: every panel follows. All steps are in your browser, so
  nothing waits for the server.
- **Why** says what decided about the chosen frequency at the chosen step, and what it would have taken to decide
  otherwise. The lines of the running code that did it are marked beside it.
- **Look inside this run** runs the record again and shows, layer by layer, how far what the cache held is from what
  a fresh forward of all frequencies gives at that step: of each layer's input h, keys K and values V, of C, F, D and
  the score.
- **What if** asks what another threshold, cutoff or interval would have done with this very run. It is a prediction
  until you confirm it with a real run.
- The address holds the run, the step, the frequency and the question: send it to somebody, and they see the same.
"""


def chosen_run() -> str | None:
    """Name of the run to show: that of the address, else this session's last one, else the youngest, else the demo."""
    asked = st.query_params.get("run")
    if asked:
        return asked
    live = RUNS.get(st.session_state.get("run"))
    entries = STORE.list()
    if live is not None and live.status in FINISHED:
        name = archive_name(live)
        if any(entry.name == name for entry in entries):
            return name
    if entries:
        return entries[0].name
    return DEMO if demo_path().is_file() else None


def run_menu(shown: str) -> None:
    """Choose among the kept runs."""
    entries = {entry.name: entry for entry in STORE.list()}
    names = [*entries, *([DEMO] if demo_path().is_file() else [])]
    if shown not in names:
        names.insert(0, shown)
    st.session_state["anatomy.run"] = shown

    def pick() -> None:
        st.query_params.clear()
        st.query_params["run"] = st.session_state["anatomy.run"]

    st.selectbox(
        "Recorded run",
        names,
        key="anatomy.run",
        on_change=pick,
        format_func=lambda name: label(entries[name]) if name in entries else "Demo: heartbeats",
        help="Runs are kept when they end. Type to search.",
    )


def asked_view(archive: Archive) -> dict[str, Any]:
    """What of the view the address asks for; what makes no sense is left out."""
    query = st.query_params
    view: dict[str, Any] = {}
    changes: dict[str, Any] = {}
    for name, key in (("step", "step"), ("k", "k"), ("channel", "channel")):
        if query.get(name, "").isdecimal():
            view[key] = min(int(query[name][:9]), 10**6)
    view |= {name: query[key] for name, key in (("mode", "view"), ("shade", "map")) if key in query}
    for name in (*ASKED, "trigger"):
        if name in query:
            value = query[name]
            try:
                changes[name] = value if name == "trigger" else float(value) if name == "tau" else int(value)
                confirmed_spec(archive, changes)
            except (ValueError, LabError):
                changes.pop(name, None)
    return {**view, "policy": changes}


def confirm(archive: Archive, name: str) -> None:
    """Start the real run of what was predicted."""
    said = st.session_state[KEY].confirm
    if not said:
        return
    try:
        spec = confirmed_spec(archive, said["changes"])
        model = model_of(spec.checkpoint, archive.model["digest"])
        prediction = predict(archive, trace(archive, model), spec.policy)
        run = RUNS.start(spec)
        st.session_state["confirm"] = {"of": name, "run": run.id, "prediction": prediction}
    except (LabError, TypeError) as fault:
        st.session_state["anatomy.fault"] = str(fault)


def look_inside(archive: Archive, key: str) -> None:
    """Begin or end running the record again to see inside the network."""
    said = st.session_state[KEY].inside
    if not said:
        return
    job = INSIDES.get(key)
    try:
        if said["act"] == "start":
            INSIDES.start(key, archive, model_of(archive.spec.checkpoint, archive.model["digest"]))
        elif job is not None:
            job.stop()
    except (LabError, TypeError, KeyError) as fault:
        st.session_state["anatomy.fault"] = str(fault)


@st.fragment(run_every=0.3)
def looking(key: str) -> None:
    """Tell the canvas how far the record is run again; draws the page anew at its end."""
    job = INSIDES.get(key)
    if job is None or job.state != "running":
        st.rerun()
        return
    left = job.seconds_left
    notify("inside", {"kind": "inside", "key": key, "state": "running", "share": job.share, "left": left})


@st.fragment(run_every=0.5)
def awaited(run_id: str) -> None:
    """Progress of the confirming run; draws the page anew at its end."""
    run = RUNS.get(run_id)
    if run is None or run.status in FINISHED:
        st.rerun()
        return
    run.touch()
    st.progress(run.progress, f"Running the real thing: {run.progress:.0%}")


def truth(name: str) -> None:
    """Prediction beside truth, once the real run is there."""
    asked = st.session_state.get("confirm")
    if not asked or asked["of"] != name:
        return
    run = RUNS.get(asked["run"])
    if run is None:
        return
    with st.container(border=True, key="truth"):
        st.markdown(
            f"##### Prediction against truth: `{run.spec.policy.trigger}`, τ = {run.spec.policy.tau:g}"
        )
        if run.status not in FINISHED:
            awaited(run.id)
            return
        if run.result is None or run.recorder is None:
            st.error(run.error or "The run ended before it was done.")
            return
        said, share, seconds = asked["prediction"], run.result.token_share, run.result.seconds
        agree = float((run.recorder.column("reasons") == said.reasons).mean())
        rows = [
            (
                "Tokens computed",
                f"{said.share:.2%}",
                f"{said.share_low:.2%} to {said.share_high:.2%}" if not said.exact else "exact",
                f"{share:.2%}",
                f"{said.share / share - 1:+.1%}",
            ),
            (
                "Compute time (s)",
                f"{said.seconds:.2f}",
                f"{said.seconds_low:.2f} to {said.seconds_high:.2f}",
                f"{seconds:.2f}",
                f"{said.seconds / seconds - 1:+.1%}",
            ),
            ("Same decisions, this sample", f"{agree:.1%}", "", "100%", ""),
        ]
        columns = ["", "predicted", "allowed for", "real run", "prediction off by"]
        st.dataframe(pd.DataFrame(rows, columns=columns), hide_index=True)
        st.page_link(
            "anatomy.py",
            label="Open the real run here",
            icon=":material/open_in_new:",
            query_params={"run": archive_name(run)},
        )


def facts(archive: Archive) -> str:
    """The run in one line."""
    spec, result = archive.spec, archive.result
    made = "" if result is None else f", **{result.token_share:.1%}** of the tokens computed"
    twin = result.comparison if result is not None else None
    cost = "" if twin is None else f", relative L2 to the uncached twin **{twin.relative_l2:.3f}**"
    note = f" *{archive.note}*" if archive.note else ""
    solver = spec.config.solver.replace("_", "-")
    return (
        f"**{spec.checkpoint}**, {solver}, {archive.recorder.count} of {spec.config.steps} steps, "
        f"batch of {spec.num}, seed {spec.seed}{made}{cost}.{note}"
    )


def steps_table(archive: Archive) -> pd.DataFrame:
    """One row a step: what was decided for the watched sample and the batch, and what it took."""
    recorder = archive.recorder
    names = (
        "step",
        "t",
        "log_snr",
        "policy_version",
        "share",
        "tokens",
        "flops",
        "seconds",
        "tau",
        "r",
        "r_mean",
    )
    frame = pd.DataFrame({name: recorder.column(name) for name in names})
    for reason in Reason:
        frame[reason.name.lower()] = (recorder.column("reasons") == reason).sum(1)
    return frame


def layers_table(table: LayerTable) -> pd.DataFrame:
    """One row for each step and frequency: differences to a fresh forward, as kept before and as used."""
    steps, _, n = table.kept.shape
    step, k = np.divmod(np.arange(steps * n), n)
    frame = {"step": step + 1, "k": k}
    for side in ("kept", "used"):
        rows = getattr(table, side).transpose(0, 2, 1).reshape(steps * n, -1)
        frame |= {f"{side} {name}": rows[:, i] for i, name in enumerate(table.names)}
    return pd.DataFrame(frame)


def take_away(archive: Archive, name: str) -> None:
    """The record as files."""
    path = demo_path() if name == DEMO else STORE.path(name)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("Take away, step by step:")
        data_buttons(steps_table(archive), f"{name}-steps")
        st.download_button(
            "Whole run (zip)",
            path.read_bytes,
            f"{name}.zip",
            "application/zip",
            on_click="ignore",
            icon=":material/download:",
        )


def page() -> None:
    """Lay the page out."""
    name = chosen_run()
    if name is None:
        st.title("Anatomy of a run", anchor=False)
        st.info("There is no recorded run yet. Start one on the **Live** page: it is kept when it ends.")
        return
    with st.sidebar:
        run_menu(name)
        st.page_link("runs.py", label="All runs, notes, files", icon=":material/folder_open:")
    try:
        archive = open_run(name)
    except LabError as fault:
        st.error(str(fault))
        st.info("Choose another run in the sidebar.")
        return
    if st.query_params.get("run") != name:
        st.query_params["run"] = name
    st.markdown(facts(archive))
    refused = st.session_state.pop("anatomy.fault", None)
    if refused:
        st.error(refused)
    truth(name)
    complete = archive.recorder.count == archive.spec.config.steps
    key = f"{name} {archive.created}"
    job = INSIDES.get(key)
    anatomy_canvas(
        key=KEY,
        data=recording_packet(archive, key, asked_view(archive), complete, job),
        on_confirm=lambda: confirm(archive, name),
        on_inside=lambda: look_inside(archive, key),
    )
    if job is not None and job.state == "running":
        looking(key)
    take_away(archive, name)
    if job is not None and job.table is not None:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption("Layer by layer, for every step and frequency:")
            data_buttons(partial(layers_table, job.table), f"{name}-layers")
    with st.expander("How to use this page", icon=":material/help:"):
        st.markdown(GUIDE)


page()
