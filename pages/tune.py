"""The Tune page: search solvers, steps and policies for the best trade-off of cost and quality; deploy it."""

import streamlit as st

from e2crf_core.io.userfiles import check_name
from e2crf_core.models.checkpoints import list_checkpoints
from e2crf_core.tuning.measure import StudySpec
from e2crf_core.tuning.space import SearchSpace
from pages.ui.common.messages import NO_NETWORK, plain_text
from pages.ui.common.query_params import note, recall
from pages.ui.training import training_job
from pages.ui.tune import study_job
from pages.ui.tune.progress import attempt
from pages.ui.tune.study_form import SETTING, study_form, try_button
from pages.ui.tune.watch import watch

# No study can have this name.
NEW = "~new"
INTRO = (
    "A study measures many settings on the same noise (solver, number of steps, what is cached and when) and "
    "shows what each one costs and how good its samples are. State the latency or the quality you need: the "
    "study picks a setting, warns you where it is fragile, and turns it into a file that your program can "
    "run."
)


def begin(name: str, checkpoint: str, minutes: float, spec: StudySpec, space: SearchSpace) -> None:
    """Start a study and open it."""

    def start() -> None:
        study_job.JOBS.start(check_name(name), checkpoint, minutes, spec, space)
        st.session_state["study"] = name

    attempt(start)


def chosen_study(names: list[str], busy: tuple[str, str] | None) -> str:
    """Draw the list of studies; returns the chosen one, or NEW."""
    newest = busy[0] if busy else names[0] if names else NEW
    missing = recall("study", [NEW, *names], newest)
    if missing:
        st.info(f"The study '{plain_text(missing)}' is no longer in your folder.")
    if not names:
        return NEW
    return st.selectbox(
        "Study",
        [NEW, *names],
        key="study",
        format_func=lambda name: "New study" if name == NEW else name,
        width=480,
    )


def page() -> None:
    """Lay out the page."""
    st.title("Tune", anchor=False)
    if not list_checkpoints():
        st.warning(NO_NETWORK)
        return
    jobs = study_job.JOBS
    names, busy = jobs.names(), jobs.running()
    fault = st.session_state.pop("tune.fault", None)
    choice = chosen_study(names, busy)
    if fault:
        st.error(fault)
    if choice != NEW:
        note("study", choice)
        note(SETTING, None)
        watch(choice, training_job.JOBS.running())
        return
    note("study", NEW if names else None)
    st.markdown(INTRO)
    if busy is not None:
        st.info(
            f"The study **{busy[0]}** is running. Only one measures at a time; choose it above to watch it."
        )
    if not names:
        try_button(begin)
        st.caption("Or choose what to search, and for how long:")
    study_form(begin, primary=bool(names))


page()
