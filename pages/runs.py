"""The Runs page: search, notes, upload, download, deletion, and reruns that must be equal bit for bit."""

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from e2crf_core.errors import LabError
from e2crf_core.runs.manifest import LIMIT_BYTES, NOTE_LENGTH
from e2crf_core.runs.replay import differences, rerun
from e2crf_core.runs.store import AUTOSAVED, Entry
from pages.ui.common.compared import MOST, text_of
from pages.ui.common.kept_runs import DEMO, demo_path, model_of, open_run
from pages.ui.common.messages import plain_text, remove_button, say
from pages.ui.common.registry import STORE
from pages.ui.common.run_downloads import run_downloads

DONE, FAULT = "runs.done", "runs.fault"
POOLED = "Relative L2, pooled"


def table(entries: list[Entry]) -> pd.DataFrame:
    """Return the list of runs as a readable table."""
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
            POOLED: [e.relative_l2 for e in entries],
            "Note": [e.note for e in entries],
            "Kept": [e.kept for e in entries],
            "MB": [e.bytes / 1e6 for e in entries],
        }
    )


def add_file() -> None:
    """Add a run from an uploaded file."""
    upload = st.session_state["runs.upload"]
    if upload is None:
        return
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "uploaded.zip"
            path.write_bytes(upload.getbuffer())
            archive = STORE.bring(path)
        st.session_state[DONE] = f"Added as **{plain_text(archive.name)}**."
    except LabError as fault:
        st.session_state[FAULT] = say(fault)
    except OSError as fault:
        st.session_state[FAULT] = say(f"the run could not be stored: {fault.strerror}")


def annotate(name: str) -> None:
    """Save the note of a run; a run with a note is kept."""
    try:
        STORE.annotate(name, st.session_state[f"runs.note.{name}"])
    except LabError as fault:
        st.session_state[FAULT] = say(fault)
    except OSError as fault:
        st.session_state[FAULT] = say(f"the note could not be stored: {fault.strerror}")


def delete(name: str) -> None:
    """Delete a run."""
    STORE.delete(name)
    st.session_state[DONE] = f"Deleted {plain_text(name)}."


def repeat(name: str) -> None:
    """Run a record again and compare every recorded number."""
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
        st.error(say(fault))
        return
    changed = differences(archive.recorder, recorder)
    same = archive.result is None or np.array_equal(samples, archive.result.samples)
    if not changed and same:
        st.success("Every recorded decision, score, state and sample is identical, to the last bit.")
        return
    versions = ", ".join(f"{name} {version}" for name, version in archive.versions.items())
    st.warning(
        f"The runs are not identical. These differ: {plain_text(', '.join(changed) or 'the samples')}. A run "
        "repeats exactly on the same kind of machine with the same versions; this one was made with "
        f"{plain_text(versions)}."
    )


def detail(entry: Entry) -> None:
    """Draw the actions for one run."""
    with st.container(border=True):
        st.markdown(f"##### {plain_text(entry.name)}")
        st.text_area(
            "Note",
            entry.note,
            key=f"runs.note.{entry.name}",
            max_chars=NOTE_LENGTH,
            height=80,
            on_change=annotate,
            args=(entry.name,),
            placeholder="What was this run for? A run with a note is kept; others make room for new ones.",
        )
        with st.container(horizontal=True):
            st.page_link(
                "anatomy.py",
                label="Open in Anatomy",
                icon=":material/biotech:",
                query_params={"run": entry.name},
            )
            again = st.button("Run it again, bit for bit", icon=":material/replay:")
            remove_button("run", entry.name, partial(delete, entry.name))
        with st.container(horizontal=True):
            try:
                run_downloads(entry.name, open_run(entry.name))
            except LabError as fault:
                st.error(say(fault))
        if again:
            repeat(entry.name)


def together(entries: list[Entry]) -> None:
    """Draw the link that compares the settings of several runs on the same noise."""
    if len({entry.checkpoint for entry in entries}) > 1:
        st.info("These runs are of different networks. Choose runs of one network to compare their settings.")
        return
    try:
        settings = list(dict.fromkeys(text_of(open_run(entry.name).spec.config) for entry in entries))
    except LabError as fault:
        st.error(say(fault))
        return
    if len(settings) < 2:
        st.info("These runs have the same settings, so there is nothing to compare.")
        return
    first = entries[0]
    st.page_link(
        "compare.py",
        label=f"Compare the settings of these {len(entries)} runs on the same noise",
        icon=":material/compare:",
        query_params={
            "v": ";".join(settings[:MOST]),
            "num": str(first.num),
            "seed": str(first.seed),
            "checkpoint": first.checkpoint,
        },
    )


def toolbar() -> list[Entry]:
    """Draw the search and the upload; returns the runs that match."""
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    search = left.text_input(
        "Search", key="runs.search", bind="query-params", placeholder="checkpoint, trigger, solver, note"
    )
    with right.popover("Add a file", icon=":material/upload:", width="stretch"):
        st.file_uploader(
            f"A run saved by this lab (zip, up to {LIMIT_BYTES // 2**20} MB unpacked)",
            type="zip",
            key="runs.upload",
            on_change=add_file,
        )
    if demo_path().is_file():
        st.page_link(
            "anatomy.py",
            label="Demo run that ships with the lab",
            icon=":material/biotech:",
            query_params={"run": DEMO},
        )
    entries = STORE.list(search or "")
    if not entries:
        st.info(
            "No run matches the search." if search else "No run is kept yet. Start one on the **Live** page."
        )
    return entries


def page() -> None:
    """Lay out the page."""
    st.title("Runs", anchor=False)
    st.markdown(
        "Every run is kept when it ends, with its settings, all steps and decisions, the samples and the "
        f"versions. The newest {AUTOSAVED} stay; a run with a note stays until you delete it."
    )
    for kind, show in ((FAULT, st.error), (DONE, st.success)):
        message = st.session_state.pop(kind, None)
        if message:
            show(message)
    entries = toolbar()
    if not entries:
        return
    picked = st.dataframe(
        table(entries),
        hide_index=True,
        key="runs.table",
        on_select="rerun",
        selection_mode="multi-row",
        column_config={
            "Tokens computed": st.column_config.NumberColumn(format="%.1f %%"),
            POOLED: st.column_config.NumberColumn(
                format="%.3f",
                help="Distance of all samples together from their uncached twins; Compare shows the median sample.",
            ),
            "MB": st.column_config.NumberColumn(format="%.2f"),
        },
    )
    rows = [entries[row] for row in picked["selection"]["rows"] if row < len(entries)]
    if len(rows) > 1:
        together(rows)
        return
    if rows:
        st.query_params["run"] = rows[0].name
    # A table's selection cannot be set from outside, so the run of a link is shown below without it.
    shown = {entry.name: entry for entry in entries}.get(st.query_params.get("run", ""))
    if shown is not None:
        detail(shown)
    else:
        st.caption(
            "Choose a row to write a note, or to open, repeat, download or delete the run; choose two or more to "
            "compare their settings."
        )


page()
