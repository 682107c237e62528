"""One training: its progress, its losses, its samples while it learns, and its actions."""

from functools import partial

import numpy as np
import streamlit as st

from e2crf_core.data.axes import time_axis
from e2crf_core.errors import LabError
from e2crf_core.models.checkpoints import list_checkpoints
from pages.ui.common import library
from pages.ui.common.charts import history_chart
from pages.ui.common.messages import minutes_text, remove_button, say
from pages.ui.common.theme import palette
from pages.ui.jobs.job import JobState
from pages.ui.training import training_job
from pages.ui.training.form import NEW, attempt
from pages.ui.training.plots import stages_chart
from pages.ui.training.training_job import job_folder, order_of, read_previews

TICK_S = 1.0
STAGES = 4


def progress_words(state: JobState) -> str:
    """Describe the progress of a training in a few words."""
    if state.status == "training":
        left = "" if state.seconds_left is None else f", about {minutes_text(state.seconds_left)} left"
        return f"Step {state.step:,} of {state.steps:,}{left}"
    words = {
        "starting": "Starting a process, which takes some seconds",
        "preparing": "Reading the data and timing the first steps",
        "measuring": "Measuring the best weights against held-out series",
        "done": "Done",
        "stopped": f"Stopped at step {state.step:,} of {state.steps:,}",
        "interrupted": f"Interrupted at step {state.step:,} of {state.steps:,}: resume it to the same result",
        "failed": "Failed",
    }
    return words.get(state.status, state.status)


def watch(name: str) -> None:
    """Draw a training; redraw it every second while it runs."""
    jobs = training_job.JOBS
    state = jobs.state(name)
    if state is None:
        st.info("This training no longer exists.")
        return
    with st.container(horizontal=True, vertical_alignment="center", key="training_actions"):
        if state.running:
            label = "Skip the measurement" if state.status == "measuring" else "Stop and keep the best"
            st.button(label, icon=":material/stop:", key="stop", on_click=jobs.stop, args=(name,))
        if state.resumable:
            st.button(
                "Resume",
                type="primary",
                icon=":material/play_arrow:",
                key="resume",
                on_click=attempt,
                args=(partial(jobs.resume, name),),
            )
        if name in list_checkpoints() and not state.running:
            link = {"checkpoint": name}
            st.page_link("live.py", label="Run it live", icon=":material/play_circle:", query_params=link)
            st.page_link(
                "models.py",
                label="Show its card",
                icon=":material/neurology:",
                query_params={"checkpoint": name},
            )
        if not state.running:
            remove_button("training and the checkpoint", name, partial(forget, name))
    (ticking if state.running else picture)(name, state.status)


@st.fragment(run_every=TICK_S)
def ticking(name: str, status: str) -> None:
    """Draw the part that changes; redraw the page when the training enters another phase."""
    state = training_job.JOBS.state(name)
    if state is None or state.status != status:
        st.rerun(scope="app")
    picture(name, status)


def picture(name: str, _: str) -> None:
    """Draw progress, losses and samples."""
    state = training_job.JOBS.state(name)
    if state is None:
        return
    if state.running:
        st.progress(state.share, text=progress_words(state))
    elif state.status == "failed":
        st.error(f"Failed: {say(state.error)}")
    else:
        st.markdown(f"**{progress_words(state)}**")
        if state.error:
            st.warning(say(state.error))
    if state.note:
        st.caption(f":material/info: {say(state.note)}")
    left, right = st.columns([2, 3], gap="medium")
    with left:
        losses(name, state)
    with right:
        st.markdown(
            "##### Samples as it learns",
            help="Series drawn with the best weights so far, always from the same noise: each column is one "
            "noise.",
        )
        order = order_of(name)
        if order is not None:
            samples(name, order.spec.data)


def losses(name: str, state: JobState) -> None:
    """Draw the losses."""
    st.markdown(
        "##### Loss",
        help="Weighted squared error of what the network adds to the linear denoiser. Held out: on series "
        "that it never sees, always with the same noise.",
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
            "The first point appears with the first report." if state.running else "Nothing was reported."
        )


def samples(name: str, data_name: str) -> None:
    """Draw rows of real series, then of generated ones at an early, a middle and the last report."""
    drawn = read_previews(job_folder(name))
    if not drawn:
        st.caption("The first samples appear with the first report.")
        return
    try:
        data = library.dataset(data_name)
    except LabError as fault:
        st.warning(say(fault))
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
    """Delete a training with its checkpoint, and show the form for a new one."""
    library.remove("checkpoints", name)
    st.session_state["job"] = NEW
