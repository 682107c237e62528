"""The training page: choose data, size and time; watch the losses fall and the samples form; stop, resume, use."""

from collections.abc import Callable
from functools import partial

import numpy as np
import streamlit as st

from e2crf_core.data.datasets import list_datasets
from e2crf_core.errors import LabError
from e2crf_core.io.userfiles import check_name, free_name
from e2crf_core.models.checkpoints import list_checkpoints
from e2crf_core.models.training import TRAIN_PRESETS, TrainSpec
from pages.ui.common import library
from pages.ui.common.charts import history_chart, stages_chart
from pages.ui.common.messages import minutes_text, remove_button
from pages.ui.common.query_params import note, recall
from pages.ui.common.theme import palette
from pages.ui.jobs.training_job import JOBS, JobState, series_drawn
from pages.ui.live.live_packets import time_axis

NEW = "new"
TICK_S = 1.0
STAGES = 4
PATIENCE = 12
PRESETS = {
    "compact": "Compact: 0.5 million weights, for a laptop",
    "paper": "Paper: 3.2 million weights in 10 layers, for hours",
}


def data_label(name: str) -> str:
    """A data set with its size."""
    try:
        data = library.dataset(name)
    except LabError:
        return f"{name} (damaged)"
    return f"{name}: {data.title}, {len(data.train):,} training windows of {data.length}"


def job_label(name: str) -> str:
    """A training in the list. Its state is not said here: a label that changes would lose the choice."""
    return "A new training" if name == NEW else name


# ---- a new one


def form() -> None:
    """What to train, how large, and for how long."""
    names = list_datasets()
    if not names:
        st.info("There is no data set yet. Import one on the Data page.")
        return
    recall("data", names)
    left, right = st.columns(2, gap="large")
    with left:
        data = st.selectbox("Data set", names, key="data", format_func=data_label)
        note("data", data, names[0])
        preset = st.radio("Size", list(TRAIN_PRESETS), key="preset.size", format_func=PRESETS.__getitem__)
    with right:
        minutes = st.number_input(
            "Minutes",
            0.1,
            600.0,
            value=20.0,
            step=5.0,
            format="%g",
            key="minutes",
            help="Sets the number of steps: a few are timed first. Drawing samples and measuring come on top.",
        )
        name = st.text_input(
            "Name of the checkpoint",
            value=free_name(f"{data}-{preset}", [*list_checkpoints(), *JOBS.names()]),
            key=f"name.{data}.{preset}",
        )
        early = st.toggle(
            "Stop when the held-out loss no longer falls",
            key="early",
            help=f"After {PATIENCE} reports without a gain. The best weights are kept in any case.",
        )
    st.button(
        "Train",
        type="primary",
        icon=":material/play_arrow:",
        key="train",
        on_click=begin,
        args=(name, data, preset, minutes, early),
    )
    st.caption(
        "It runs in a process of its own and goes on when you leave this page. Closing the lab stops it with its best "
        "weights kept, and it can be resumed to the same result."
    )


def attempt(action: Callable[[], None]) -> None:
    """Do what a button says; a refusal is shown on the next drawing of the page."""
    try:
        action()
    except LabError as fault:
        st.session_state["training.fault"] = str(fault)


def begin(name: str, data: str, preset: str, minutes: float, early: bool) -> None:
    """Start a training and turn to it."""

    def start() -> None:
        options = TRAIN_PRESETS[preset]
        spec = TrainSpec(data=data, minutes=minutes, patience=PATIENCE if early else 0, **options)
        JOBS.start(check_name(name.strip()), spec)
        st.session_state["job"] = name.strip()

    attempt(start)


# ---- one that there is


def badge(state: JobState) -> str:
    """Where a training is, in a few words."""
    if state.status == "training":
        left = "" if state.seconds_left is None else f", about {minutes_text(state.seconds_left)} left"
        return f"Step {state.step:,} of {state.steps:,}{left}"
    words = {
        "starting": "Starting",
        "preparing": "Reading the data and timing the first steps",
        "measuring": "Measuring the best weights against held-out series",
        "done": "Done",
        "stopped": f"Stopped at step {state.step:,} of {state.steps:,}",
        "interrupted": f"Interrupted at step {state.step:,} of {state.steps:,}: resume it to the same result",
        "failed": "Failed",
    }
    return words[state.status]


def progress(state: JobState) -> float:
    """Share of the present phase that is done."""
    if state.status == "measuring":
        return state.measured
    return min(1.0, state.step / state.steps) if state.steps else 0.0


def watch(name: str) -> None:
    """Draw a training; while it runs, anew every second."""
    state = JOBS.state(name)
    if state is None:
        st.info("This training is no longer there.")
        return
    with st.container(horizontal=True, vertical_alignment="center", key="training_actions"):
        if state.running:
            label = "Leave out" if state.status == "measuring" else "Stop and keep the best"
            st.button(label, icon=":material/stop:", key="stop", on_click=JOBS.stop, args=(name,))
        if state.resumable:
            st.button(
                "Resume",
                type="primary",
                icon=":material/play_arrow:",
                key="resume",
                on_click=attempt,
                args=(partial(JOBS.resume, name),),
            )
        if state.saved and not state.running:
            link = {"checkpoint": name}
            st.page_link("live.py", label="Run it live", icon=":material/play_circle:", query_params=link)
            st.page_link(
                "models.py", label="Its card", icon=":material/neurology:", query_params={"model": name}
            )
        if not state.running:
            remove_button("training and its checkpoint", name, partial(forget, name))
    (ticking if state.running else picture)(name, state.status)


@st.fragment(run_every=TICK_S)
def ticking(name: str, status: str) -> None:
    """The part that changes; the buttons above follow when the training enters another phase."""
    state = JOBS.state(name)
    if state is None or state.status != status:
        st.rerun(scope="app")
    picture(name, status)


def picture(name: str, _: str) -> None:
    """Progress, losses and samples as they are now."""
    state = JOBS.state(name)
    if state is None:
        return
    if state.running:
        st.progress(progress(state), text=badge(state))
    elif state.status == "failed":
        st.error(f"Failed: {state.error}")
    else:
        st.markdown(f"**{badge(state)}**")
        if state.error:
            st.warning(state.error)
    if state.note:
        st.caption(f":material/info: {state.note}")
    left, right = st.columns([2, 3], gap="medium")
    with left:
        st.markdown(
            "##### Loss",
            help="Weighted squared error of what the network adds to the linear denoiser. Held out: on series it "
            "never sees, always with the same noise.",
        )
        if state.history:
            best = min(h["heldout"] for h in state.history)
            st.caption(f"Best held-out loss {best:.4f} after {state.history[-1]['step']:,} steps")
            st.plotly_chart(
                history_chart(state.history, palette(), height=380),
                key=f"history.{name}",
                alt="Training and held-out loss against steps",
            )
        else:
            st.caption(
                "The first point comes with the first report." if state.running else "Nothing was reported."
            )
    with right:
        st.markdown(
            "##### Samples as it learns",
            help="Series drawn from the best weights so far, always out of the same noise: a column is one noise.",
        )
        learning(name, state.spec.data)


def learning(name: str, data_name: str) -> None:
    """Rows of real series, then of drawn ones at an early, a middle and the last report."""
    drawn = series_drawn(name)
    if not drawn:
        st.caption("The first samples come with the first report.")
        return
    try:
        data = library.dataset(data_name)
    except LabError as fault:
        st.warning(str(fault))
        return
    steps = sorted(drawn)
    shown = sorted(
        {steps[i] for i in np.linspace(0, len(steps) - 1, min(STAGES, len(steps))).round().astype(int)}
    )
    channel = 0
    if len(data.channels) > 1:
        channel = st.selectbox(
            "Channel",
            range(len(data.channels)),
            format_func=data.channels.__getitem__,
            key=f"learning.channel.{data_name}",
            label_visibility="collapsed",
        )
    count = len(drawn[steps[0]])
    real = data.heldout[np.linspace(0, len(data.heldout) - 1, count).astype(int)]
    colors, time = palette(), time_axis(data)
    rows = [("Real, held out", data.x[real, :, channel], colors[7])]
    rows += [(f"Step {step:,}", drawn[step][:, :, channel], colors[0]) for step in shown]
    st.plotly_chart(
        stages_chart(rows, step=time["step"], x_title=time["title"], y_title=data.units[channel]),
        key=f"learning.{name}",
        alt=f"Real series, and series drawn at steps {', '.join(map(str, shown))}",
    )


def forget(name: str) -> None:
    """Delete a training with its checkpoint and turn to a new one."""
    library.remove("checkpoints", name)
    st.session_state["job"] = NEW


def page() -> None:
    """Lay the page out."""
    st.title("Training", anchor=False)
    jobs = JOBS.names()
    missing = recall("job", [NEW, *jobs])
    if missing:
        st.info(f"There is no training {missing!r} in your folder any more.")
    choice = NEW
    if jobs:
        choice = st.selectbox("Training", [NEW, *jobs], key="job", format_func=job_label, width=480)
    note("job", choice, NEW)
    fault = st.session_state.pop("training.fault", None)
    if fault:
        st.error(fault)
    busy = JOBS.running()
    if choice != NEW:
        watch(choice)
    else:
        if busy:
            st.info(
                f"**{busy}** is being trained. One training runs at a time: choose it above to watch or stop it."
            )
        form()


page()
