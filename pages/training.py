"""The Training page: choose data, size and time; watch losses and samples; stop and resume."""

import streamlit as st

from pages.ui.common.messages import plain_text
from pages.ui.common.query_params import note, recall
from pages.ui.training import training_job
from pages.ui.training.form import FAULT, NEW, form
from pages.ui.training.watch import watch


def chosen_training(names: list[str]) -> str:
    """Draw the list of trainings; returns the chosen one, or NEW."""
    unknown = recall("job", [NEW, *names], training_job.JOBS.running())
    if unknown:
        st.info(f"The training '{plain_text(unknown)}' is no longer in your folder.")
    if not names:
        return NEW
    # The labels omit the state of a training, because changing a label would lose the choice.
    return st.selectbox(
        "Training",
        [NEW, *names],
        key="job",
        format_func=lambda name: "New training" if name == NEW else name,
        width=480,
    )


def page() -> None:
    """Lay out the page."""
    st.title("Training", anchor=False)
    jobs = training_job.JOBS
    choice = chosen_training(jobs.names())
    note("job", choice, NEW)
    fault = st.session_state.pop(FAULT, None)
    if fault:
        st.error(fault)
    if choice != NEW:
        watch(choice)
        return
    busy = jobs.running()
    if busy:
        st.info(
            f"**{plain_text(busy)}** is being trained. Only one training runs at a time; choose it above to "
            "watch or stop it."
        )
    form()


page()
