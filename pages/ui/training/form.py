"""The form that starts a training."""

from collections.abc import Callable

import streamlit as st

from e2crf_core.data.datasets import list_datasets
from e2crf_core.errors import LabError
from e2crf_core.io.userfiles import check_name, free_name
from e2crf_core.models.checkpoints import list_checkpoints
from e2crf_core.models.training import TRAIN_PRESETS, TrainSpec
from pages.ui.common import library
from pages.ui.common.messages import say
from pages.ui.common.query_params import note, recall
from pages.ui.training import training_job

NEW = "new"
FAULT = "training.fault"
PATIENCE = 12
PRESETS = {
    "compact": "Compact: 0.5 million weights, for a laptop",
    "paper": "Paper: 3.2 million weights in 10 layers, takes hours",
}
LABELS = {"name": "Name of the checkpoint", "data": "Data set", "minutes": "Minutes"}


def data_label(name: str) -> str:
    """Return a data set with its size."""
    try:
        data = library.dataset(name)
    except LabError:
        return f"{name} (damaged)"
    return f"{name}: {data.title}, {len(data.train):,} training windows of {data.length}"


def form() -> None:
    """Draw the form: what to train, how large, and for how long."""
    names = list_datasets()
    if not names:
        st.info("There is no data set yet. Import one on the **Data** page.")
        return
    recall("data", names)
    left, right = st.columns(2, gap="large")
    with left:
        data = st.selectbox(LABELS["data"], names, key="data", format_func=data_label)
        note("data", data, names[0])
        preset = st.radio("Size", list(TRAIN_PRESETS), key="preset.size", format_func=PRESETS.__getitem__)
    with right:
        minutes = st.number_input(
            LABELS["minutes"],
            0.1,
            600.0,
            value=20.0,
            step=5.0,
            format="%g",
            key="minutes",
            help="Sets the number of steps: a few are timed first. Drawing samples and measuring take extra "
            "time.",
        )
        name = st.text_input(
            LABELS["name"],
            value=free_name(f"{data}-{preset}", [*list_checkpoints(), *training_job.JOBS.names()]),
            key=f"name.{data}.{preset}",
        )
        early = st.toggle(
            "Stop when the held-out loss no longer falls",
            key="early",
            help=f"After {PATIENCE} reports without improvement. The best weights are kept in any case.",
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
        "The training runs in a separate process and continues when you leave this page. Closing the lab "
        "stops it and keeps its best weights; resuming it leads to the same result."
    )


def attempt(action: Callable[[], None]) -> None:
    """Do a button's action; show an error when the page is next drawn."""
    try:
        action()
    except LabError as fault:
        st.session_state[FAULT] = say(fault, LABELS)


def begin(name: str, data: str, preset: str, minutes: float, early: bool) -> None:
    """Start a training and open it."""

    def start() -> None:
        options = TRAIN_PRESETS[preset]
        spec = TrainSpec(data=data, minutes=minutes, patience=PATIENCE if early else 0, **options)
        training_job.JOBS.start(check_name(name.strip()), spec)
        st.session_state["job"] = name.strip()

    attempt(start)
