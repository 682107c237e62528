"""Kept runs: search, notes, files in and out, deletion, and the proof that a run repeats bit for bit."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from e2crf_core.errors import LabError
from e2crf_core.runs.manifest import LIMIT_BYTES, NOTE_LENGTH
from e2crf_core.runs.replay import differences, rerun
from e2crf_core.runs.store import Entry
from pages.ui.common.recording import DEMO, demo_path, model_of, open_run
from pages.ui.common.registry import STORE


def table(entries: list[Entry]) -> pd.DataFrame:
    """The list as people read it."""
    return pd.DataFrame(
        {
            "Made (UTC)": [e.created[:16].replace("T", " ") for e in entries],
            "Checkpoint": [e.checkpoint for e in entries],
            "Trigger": [e.trigger for e in entries],
            "Solver": [e.solver for e in entries],
            "Steps": [e.steps for e in entries],
            "Batch": [e.num for e in entries],
            "Seed": [e.seed for e in entries],
            "Tokens computed": [None if e.token_share is None else 100 * e.token_share for e in entries],
            "Relative L2": [e.relative_l2 for e in entries],
            "Note": [e.note for e in entries],
            "Kept": [e.kept for e in entries],
            "MB": [e.bytes / 1e6 for e in entries],
        }
    )


def bring() -> None:
    """Take in an archive from a file."""
    upload = st.session_state["runs.upload"]
    if upload is None:
        return
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "uploaded.zip"
            path.write_bytes(upload.getbuffer())
            archive = STORE.bring(path)
        st.session_state["runs.said"] = f"Taken in as **{archive.name}**."
    except (LabError, OSError) as fault:
        st.session_state["runs.fault"] = str(fault)


def annotate(name: str) -> None:
    """Save the note that was written; the run is kept from then on."""
    try:
        STORE.annotate(name, st.session_state[f"runs.note.{name}"])
    except (LabError, OSError) as fault:
        st.session_state["runs.fault"] = str(fault)


def delete(name: str) -> None:
    """Delete a run."""
    STORE.delete(name)
    st.session_state["runs.said"] = f"Deleted {name}."


def repeat(name: str) -> None:
    """Run it again and compare every recorded number."""
    try:
        archive = open_run(name)
        model = model_of(archive.spec.checkpoint, archive.model["digest"])
        bar = st.progress(0.0, "Running it again")

        def progress(done: int, total: int) -> None:
            if done % 20 == 0:
                bar.progress(done / total, f"Running it again: step {done} of {total}")

        recorder, samples = rerun(archive, load=lambda checkpoint, device: model, progress=progress)
        bar.empty()
    except LabError as fault:
        st.error(str(fault))
        return
    changed = differences(archive.recorder, recorder)
    same = archive.result is None or np.array_equal(samples, archive.result.samples)
    if not changed and same:
        st.success("Every recorded decision, score, state and sample came out again, to the last bit.")
    else:
        st.warning(
            f"Not bit for bit: {', '.join(changed) or 'the samples'} differ. A run repeats exactly on the same kind of "
            f"machine with the same versions; this one was made with {dict(archive.versions)}."
        )


def detail(entry: Entry) -> None:
    """What can be done with one run."""
    with st.container(border=True):
        st.markdown(f"##### {entry.name}")
        st.text_area(
            "Note",
            entry.note,
            key=f"runs.note.{entry.name}",
            max_chars=NOTE_LENGTH,
            height=80,
            on_change=annotate,
            args=(entry.name,),
            placeholder="What was this run for? A run with a note is kept; others make room after a while.",
        )
        with st.container(horizontal=True):
            st.page_link(
                "anatomy.py",
                label="Open in Anatomy",
                icon=":material/biotech:",
                query_params={"run": entry.name},
            )
            again = st.button("Run it again, bit for bit", icon=":material/replay:")
            st.download_button(
                "Download (zip)",
                entry.path.read_bytes,
                f"{entry.name}.zip",
                mime="application/zip",
                on_click="ignore",
                icon=":material/download:",
            )
            st.button("Delete", icon=":material/delete:", on_click=delete, args=(entry.name,))
        if again:
            repeat(entry.name)


def page() -> None:
    """Lay the page out."""
    st.title("Runs", anchor=False)
    st.markdown(
        "Every run is kept when it ends: what was asked, each step, each decision, the samples, the versions. The "
        "youngest forty stay; one with a note stays until you delete it."
    )
    for kind, show in (("runs.fault", st.error), ("runs.said", st.success)):
        said = st.session_state.pop(kind, None)
        if said:
            show(said)
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    search = left.text_input(
        "Search", key="runs.search", bind="query-params", placeholder="checkpoint, trigger, solver, note"
    )
    with right.popover("Take in a file", icon=":material/upload:", width="stretch"):
        st.file_uploader(
            f"A run saved by this lab (zip, up to {LIMIT_BYTES // 2**20} MB inflated)",
            type="zip",
            key="runs.upload",
            on_change=bring,
        )
    entries = STORE.list(search or "")
    if demo_path().is_file():
        st.page_link(
            "anatomy.py",
            label="Demo run that ships with the lab",
            icon=":material/biotech:",
            query_params={"run": DEMO},
        )
    if not entries:
        st.info("No run fits." if search else "No run is kept yet. Start one on the **Live** page.")
        return
    picked = st.dataframe(
        table(entries),
        hide_index=True,
        key="runs.table",
        on_select="rerun",
        selection_mode="single-row",
        column_config={
            "Tokens computed": st.column_config.NumberColumn(format="%.1f %%"),
            "Relative L2": st.column_config.NumberColumn(format="%.3f"),
            "MB": st.column_config.NumberColumn(format="%.2f"),
        },
    )
    rows = picked["selection"]["rows"]
    names = {entry.name: entry for entry in entries}
    if rows and rows[0] < len(entries):
        st.query_params["run"] = entries[rows[0]].name
    # A table's selection cannot be set from outside: a link shows its run below all the same.
    shown = names.get(st.query_params.get("run", ""))
    if shown is not None:
        detail(shown)
    else:
        st.caption("Choose a row to write a note, open, repeat, download or delete it.")


page()
