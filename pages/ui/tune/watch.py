"""One study: its state, its results, and its actions."""

from functools import partial

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from e2crf_core.errors import LabError
from e2crf_core.tuning.choice import Choice
from e2crf_core.tuning.measure import Point
from e2crf_core.tuning.more import MOST
from e2crf_core.tuning.record import Record
from pages.ui.common.messages import minutes_text, plain_text, remove_button, say
from pages.ui.common.query_params import note
from pages.ui.jobs.job import JobState
from pages.ui.tune import study_job
from pages.ui.tune.choices import Options, choose, options_row, select, selected_trial
from pages.ui.tune.deploy import BUSY, in_progress
from pages.ui.tune.pictures import live_picture, live_trials, picture, trials
from pages.ui.tune.progress import attempt, ended_words, resume_button, works_elsewhere
from pages.ui.tune.study_files import checkpoint_of, record_of
from pages.ui.tune.study_point import deployment, point_card


def forget(name: str) -> None:
    """Delete a study and open another."""

    def remove() -> None:
        study_job.JOBS.remove(name)
        st.session_state.pop("study", None)
        for key in ("study", "trial"):
            st.query_params.pop(key, None)

    attempt(remove)


def head(name: str, state: JobState | None, record: Record | None) -> DeltaGenerator:
    """Draw the buttons of a study and its state; return their row."""
    jobs, busy = study_job.JOBS, study_job.JOBS.running()
    row = st.container(horizontal=True, vertical_alignment="center", key="tune_head")
    with row:
        if state is not None and state.running:
            st.button(
                "Skip the warnings" if state.status == "advising" else "Cancel the search",
                icon=":material/stop:",
                key="tune.stop",
                on_click=jobs.stop,
                args=(name,),
                help="Everything measured so far is kept, and the search can be resumed.",
            )
        elif not works_elsewhere(record, state):
            if busy is None:
                resume_button(name, state, record)
            if busy is None or busy[0] != name:
                remove_button("study, with its trials and cards,", name, partial(forget, name))
            st.markdown(ended_words(state, record))
    if state is not None and state.status == "failed":
        st.error(f"Failed: {say(state.error)}")
    return row


def watch(name: str, training: str | None) -> None:
    """Draw a study; `training` names a model that is being trained at the same time."""
    try:
        record, state = record_of(name), study_job.JOBS.state(name)
    except LabError as fault:
        st.error(say(fault))
        st.caption("Remove the study, or restore its file. Your other studies are not affected.")
        remove_button("study", name, partial(forget, name))
        return
    row = head(name, state, record)
    running = (state is not None and state.running) or works_elsewhere(record, state)
    if running and training is not None and (record is None or record.spec.cost == "seconds"):
        st.warning(
            f"**{plain_text(training)}** is being trained at the same time, so measured times are too long."
        )
    options: Options | None = None
    choice: Choice | None = None
    shown = None
    if record is not None and record.reference is not None:
        options = options_row(record, row)
        choice = choose(record, options)
    if record is not None and choice is not None:
        selected = selected_trial(name, record)
        shown = choice.point.number if selected is None else selected
        note("trial", None if selected is None else str(selected))
    draw = partial(live_picture if running else picture, name, running, shown, options)
    if record is None or choice is None or options is None:
        draw()
        return
    quiet = not running and study_job.JOBS.running() is None
    point = record.point(shown)
    assert point is not None
    left, right = st.columns([1.5, 1], gap="medium")
    with left:
        draw()
    with right:
        card(name, record, choice, point, quiet=quiet)
    if point.complete:
        with st.container(border=True, key="deployment"):
            deployment(name, record, point, quiet=quiet)
    (live_trials if running else trials)(name, shown, options)


def more(name: str, record: Record, choice: Choice, *, quiet: bool) -> None:
    """Offer to measure as many samples as a decision needs, or show how far that is."""
    if in_progress(name, study_job.MORE_JOB, "Measuring more samples of a trial and of the reference"):
        return
    point, reference = record.point(choice.candidate), record.reference
    if choice.needed is None or point is None or reference is None:
        return
    num = min(choice.needed, MOST)
    seconds = num * (point.last.seconds + reference.last.seconds)
    able = checkpoint_of(record.digest) is not None
    st.button(
        f"Measure {num - record.spec.num} more samples of trial {point.number}",
        type="primary",
        icon=":material/playlist_add:",
        key="tune.measure_more",
        disabled=not (quiet and able),
        on_click=attempt,
        args=(lambda: study_job.JOBS.measure_more(name, point.number, num),),
        help=f"Draws {num} samples of trial and reference: about {minutes_text(seconds)}." if quiet else BUSY,
    )


def card(name: str, record: Record, choice: Choice, point: Point, *, quiet: bool) -> None:
    """Draw the selected point; `quiet` means that nothing is being measured."""
    with st.container(border=True, key="results"):
        if choice.point.number != point.number:
            st.button(
                "Back to the picked point",
                icon=":material/target:",
                type="tertiary",
                key="tune.back",
                on_click=select,
                args=(name, None),
            )
        point_card(name, record, point, quiet=quiet)
        more(name, record, choice, quiet=quiet)
