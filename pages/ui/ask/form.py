"""The form of a question: which model, about which series, and what is missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from e2crf_core.data.datasets import Dataset, list_datasets
from e2crf_core.data.series_files import ReadySeries, open_file
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.models.checkpoints import read_card
from e2crf_core.questions.answers import ASKING
from e2crf_core.questions.files import Recording, mismatches, read_recording
from e2crf_core.sampling.config import SamplerConfig
from pages.ui.ask.normal import calibration_part
from pages.ui.ask.subject import (
    DROPOUT,
    SHIFT,
    SPIKE,
    Subject,
    gaps_subject,
    next_subject,
    planted,
    whole_subject,
    window_subject,
)
from pages.ui.ask.ways import way_form
from pages.ui.ask.work import Drawing
from pages.ui.common import library
from pages.ui.common.messages import plain_text, say
from pages.ui.common.query_params import choice, note, recall, recall_number
from pages.ui.common.uploads import chosen_file

GAPS, NEXT, NORMAL = "gaps", "next", "normal"
NOTHING = "nothing"
FAULTS = {NOTHING: "Nothing", SPIKE: "Spike", SHIFT: "Shift", DROPOUT: "Stuck"}
SOURCES = {"window": "A held-out window", "file": "A file of mine"}
LABELS = {
    "channels": "Columns",
    "time": "Time column",
    "missing": "Words for missing values",
    "checkpoint": "Model",
    "horizon": "Steps ahead",
    "data": "Data set",
    "num": "Draws",
    "steps": "Network calls",
    "policy": "Cache",
}
MOST_DRAWS, MOST_CALLS, MOST_SEED = 256, 200, 2**31 - 1


def model_choice(names: list[str]) -> str:
    """Draw the choice of the model; returns its name."""
    unknown = recall("checkpoint", names)
    if unknown:
        st.warning(f"There is no checkpoint '{plain_text(unknown)}'.")
    name = st.selectbox(LABELS["checkpoint"], names, key="checkpoint", format_func=model_label)
    note("checkpoint", name, names[0])
    return name


def model_label(name: str) -> str:
    """Return a checkpoint with what it draws."""
    try:
        card = read_card(name)
    except LabError:
        return f"{name} (damaged)"
    count = len(card["channels"])
    return f"{name}: {card['length']} steps, {count} channel{'s' if count > 1 else ''}"


def own_data(model: ScoreModel) -> Dataset | None:
    """Return the data set that a model was trained on, if it is here."""
    try:
        return library.dataset(model.dataset) if model.dataset else None
    except LabError:
        return None


def fitting_sets(model: ScoreModel) -> list[str]:
    """Return the data sets whose windows a model can be asked about, its own one first."""
    fitting = []
    for name in list_datasets():
        try:
            data = library.dataset(name)
        except LabError:
            continue
        if data.x.shape[1:] == (model.length, len(model.channels)) and len(data.heldout):
            fitting.append(name)
    return sorted(fitting, key=lambda name: name != model.dataset)


def drawing_form(tuned: SamplerConfig | None) -> Drawing:
    """Draw how answers are sampled; `tuned` is the way that was chosen for this question. Raises LabError."""
    recall_number("ask.num", "num", Drawing.num, 20, MOST_DRAWS)
    recall_number("ask.calls", "calls", ASKING.steps, 4, MOST_CALLS)
    recall_number("ask.seed", "seed", Drawing.seed, 0, MOST_SEED)
    a, b, c = st.columns(3)
    num = a.number_input(
        LABELS["num"], 20, MOST_DRAWS, key="ask.num", help="More draws give steadier bands and take longer."
    )
    calls = b.number_input(
        LABELS["steps"],
        4,
        MOST_CALLS,
        key="ask.calls",
        help="Steps of the sampler for each draw. Without a cache, each is a network call.",
    )
    seed = c.number_input("Seed", 0, MOST_SEED, key="ask.seed")
    note("num", str(num), str(Drawing.num))
    note("calls", str(calls), str(ASKING.steps))
    note("seed", str(seed), str(Drawing.seed))
    plan = replace(ASKING, steps=int(calls))
    return Drawing(int(num), int(seed), way_form(plan, tuned), plan)


def horizon_form(model: ScoreModel) -> int:
    """Draw how far to look ahead."""
    usual, most = max(1, model.length // 4), model.length - 1
    recall_number(f"ask.horizon.{most}", "horizon", usual, 1, most)
    horizon = st.slider(
        LABELS["horizon"],
        1,
        most,
        key=f"ask.horizon.{most}",
        help=f"Windows of this model have {model.length} steps; the rest is what it may look back on.",
    )
    note("horizon", str(horizon), str(usual))
    return int(horizon)


def window_form(model: ScoreModel, kind: str) -> tuple[Dataset, int]:
    """Draw the choice of a held-out window. Raises LabError if no data set fits.

    Whether a window is normal is asked only about those that do not calibrate the answer.
    """
    names = fitting_sets(model)
    if not names:
        raise LabError(
            "no data set here has windows of this model's length and channels",
            remedy="choose another model, or ask about a file",
        )
    recall("set", names)
    left, right = st.columns(2, gap="large")
    with left:
        name = st.selectbox(LABELS["data"], names, key="set")
    note("set", name, names[0])
    data = library.dataset(name)
    windows = data.heldout[~calibration_part(data)] if kind == NORMAL else data.heldout
    key = f"ask.window.{name}{'.normal' if kind == NORMAL else ''}"
    recall_number(key, "window", 1, 1, len(windows))
    with right:
        place = st.number_input(
            f"Window (1 to {len(windows)})",
            1,
            len(windows),
            key=key,
            help="Held-out windows, which no network has seen, in order.",
        )
    note("window", str(place), "1")
    return data, int(windows[int(place) - 1])


def window_question(model: ScoreModel, kind: str) -> tuple[Subject, Dataset]:
    """Draw the question about a held-out window. Raises LabError."""
    data, index = window_form(model, kind)
    hidden = np.zeros((model.length, len(model.channels)), dtype=bool)
    if kind == NEXT:
        hidden[-horizon_form(model) :] = True
    elif kind == GAPS:
        first, last, channels = gap_form(model, data)
        hidden[first:last, channels] = True
    subject = window_subject(data, index, hidden)
    return (planted_form(subject, data) if kind == NORMAL else subject), data


def planted_form(subject: Subject, data: Dataset) -> Subject:
    """Draw what is planted into a window, to see whether it is noticed; returns the window with it."""
    left, right = st.columns(2, gap="large")
    with left:
        fault = choice("Plant into it", FAULTS, "plant")
    if fault == NOTHING:
        return subject
    recall_number("ask.size", "size", 5, 1, 20)
    size = right.slider("Size (standard deviations)", 1, 20, key="ask.size", disabled=fault == DROPOUT)
    note("size", str(size), "5")
    return planted(subject, fault, size * data.std.astype(np.float64))


def gap_form(model: ScoreModel, data: Dataset) -> tuple[int, int, list[int]]:
    """Draw which steps and channels to hide; returns first step, last step + 1, and channels."""
    length = model.length
    key = f"ask.gap.{length}"
    usual = (3 * length // 8 + 1, 5 * length // 8)
    if key not in st.session_state:
        linked = st.query_params.get("gap", "").split("-")
        steps = tuple(int(text[:6]) for text in linked if text.isascii() and text.isdecimal())
        good = len(steps) == 2 and 1 <= steps[0] <= steps[1] <= length
        st.session_state[key] = steps if good else usual
    left, right = st.columns(2, gap="large")
    ends: tuple[int, int] = left.slider("Hidden steps", 1, length, key=key)  # type: ignore[assignment]
    first, last = ends
    note("gap", f"{first}-{last}", f"{usual[0]}-{usual[1]}")
    everything = list(range(len(model.channels)))
    channels = everything
    if len(everything) > 1:
        channels = right.multiselect(
            "Hidden channels",
            everything,
            default=everything,
            format_func=data.channels.__getitem__,
            key=f"ask.hidden.{data.name}",
            placeholder="choose channels",
        )
    if not channels or (last - first + 1 == length and len(channels) == len(everything)):
        raise LabError(
            "no channel is hidden" if not channels else "everything is hidden",
            remedy="hide a part of the window",
        )
    return first - 1, last, channels


@st.cache_data(show_spinner="Reading the file", max_entries=4)
def recording_of(
    path: str, stamp: library.Stamp, checkpoint: str, model: library.Stamp, reading: dict[str, Any]
) -> Recording:
    """Read a file for a model. Raises LabError."""
    return read_recording(Path(path), library.model(checkpoint), **reading)


def file_question(model: ScoreModel, checkpoint: str, kind: str) -> Subject | None:
    """Draw the question about a file; None until there is one. Raises LabError."""
    path = chosen_file("ask.")
    if path is None:
        st.caption(
            f"A table with a column for each channel: {plain_text(', '.join(model.channels))}, and perhaps one "
            "of time stamps. Empty cells and rows left out are gaps. It stays on this computer."
        )
        return None
    reading = reading_form(path, model)
    try:
        recording = recording_of(
            str(path), library.stamp(path), checkpoint, library.model_stamp(checkpoint), reading
        )
    except OSError as fault:
        raise LabError(f"{path.name} cannot be read: {fault.strerror}") from None
    data = own_data(model)
    step = data.card.get("sampling", {}).get("seconds") if data else None
    for text in mismatches(model, recording, step):
        st.warning(say(text))
    if kind == NORMAL:
        return whole_subject(recording)
    if kind == NEXT:
        horizon = horizon_form(model)
        held_back = st.toggle(
            "Hide the last rows and compare",
            key="ask.held_back",
            help="Forecasts rows that the file already holds, so that you see how far off the answer is.",
        )
        return next_subject(model, recording, horizon, held_back=held_back)
    return gaps_subject(recording)


def reading_form(path: Path, model: ScoreModel) -> dict[str, Any]:
    """Draw what overrides the reading of a file; returns arguments of `read_recording`."""
    with st.expander("Change how the file is read", icon=":material/tune:"):
        first, second, third = st.columns(3)
        source = open_file(path)
        names = list(source.names)
        channels = first.multiselect(
            LABELS["channels"],
            names,
            key=f"ask.channels.{path}.{len(model.channels)}",
            max_selections=len(model.channels),
            placeholder="found automatically",
            help=f"In the order of the model's channels: {plain_text(', '.join(model.channels))}.",
        )
        time = None
        if not isinstance(source, ReadySeries):
            time = second.selectbox(
                LABELS["time"],
                [*names, "none"],
                index=None,
                key=f"ask.time.{path}",
                placeholder="found automatically",
            )
        missing = third.text_input(
            LABELS["missing"],
            key=f"ask.missing.{path}",
            placeholder="n.a., sensor off",
            help="Cells that mean a gap, separated by commas.",
        )
    words = tuple(word.strip() for word in missing.split(",") if word.strip())
    return {"channels": tuple(channels), "time": time, "missing": words}


def source_choice() -> str:
    """Draw the choice of the kind of series."""
    return choice("Series", SOURCES, "from")
