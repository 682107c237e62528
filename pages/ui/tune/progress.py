"""The progress of a study while a process works on it, its state afterwards, and how to resume it."""

from collections.abc import Callable

import streamlit as st

from e2crf_core.errors import LabError
from e2crf_core.tuning.record import Record
from pages.ui.common.messages import minutes_text, say
from pages.ui.jobs.job import JobState
from pages.ui.tune import study_job

MORE_MINUTES = 10.0
LABELS = {"name": "Name of the study", "num": "Samples per finished trial", "seed": "Seed"}
ENDED = {
    "done": "Done",
    "stopped": "Stopped",
    "interrupted": "Interrupted: resume it, no finished trial is lost",
    "failed": "Failed",
}


def attempt(action: Callable[[], None]) -> None:
    """Do a button's action; show an error when the page is next drawn."""
    try:
        action()
    except LabError as fault:
        st.session_state["tune.fault"] = say(fault, LABELS)


def works_elsewhere(record: Record | None, state: JobState | None) -> bool:
    """Return whether another process, such as the command line, works on a study."""
    return record is not None and record.driver is not None and not (state is not None and state.running)


def progress_words(state: JobState, record: Record | None) -> tuple[float, str]:
    """Return the progress of a running study: the share of its phase, and words."""
    if state.status == "advising":
        left = "" if state.seconds_left is None else f", about {minutes_text(state.seconds_left)} left"
        return state.share, f"Measuring the neighbors of the picked point for warnings{left}"
    if state.status not in ("reference", "searching"):
        return (
            0.0,
            "Starting"
            if state.status == "starting"
            else "Loading the network and locating useful thresholds",
        )
    budget = max(1e-9, 60 * state.minutes)
    left = f"about {minutes_text(max(0.0, budget - state.spent))} of {state.minutes:g} min left"
    measured = 0 if record is None else len(record.points)
    phase = (
        "Measuring the uncached reference"
        if state.status == "reference"
        else f"Trial {measured + 1} is running, {measured} measured"
    )
    return min(1.0, state.spent / budget), f"{phase}, {left}"


def ended_words(state: JobState | None, record: Record | None) -> str:
    """Describe a study that no process works on."""
    count = 0 if record is None else len(record.points)
    spent = "" if record is None else f" in {minutes_text(record.spent)}"
    word = "Kept" if state is None else ENDED.get(state.status, state.status)
    return f"**{word}** · {count} setting{'' if count == 1 else 's'} measured{spent}"


def resume_button(name: str, state: JobState | None, record: Record | None) -> None:
    """Offer to continue the search, with the rest of the budget or with more minutes."""
    spent = 0.0 if record is None else record.spent / 60
    left = (0.0 if state is None else state.minutes) - spent
    with st.popover("Resume", icon=":material/play_arrow:"):
        more = st.number_input(
            "More minutes",
            0.1,
            1440.0,
            value=round(left, 1) if left > 0.1 else MORE_MINUTES,
            step=5.0,
            format="%g",
            key=f"tune.more.{name}",
        )
        st.button(
            "Continue the search",
            type="primary",
            icon=":material/play_arrow:",
            key="tune.resume",
            on_click=attempt,
            args=(lambda: study_job.JOBS.resume(name, spent + more),),
        )
