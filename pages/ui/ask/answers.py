"""Answers: draw them, show them beside what was hidden, and offer them for download."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from pages.ui.ask.plots import fan_chart
from pages.ui.ask.subject import Subject, stretches
from pages.ui.ask.work import JOBS, LEVELS, Answer, Drawing, answer
from pages.ui.common.downloads import chart, data_buttons
from pages.ui.common.messages import minutes_text, say
from pages.ui.common.theme import palette
from pages.ui.jobs.thread_job import ThreadJob

SHOWN = 4
MOST_POINTS = 3000
JOB = "ask.job"
NAMES = ("p05", "p25", "median", "p75", "p95")


def question_key(checkpoint: str, subject: Subject, drawing: Drawing) -> str:
    """Return a key that is the same for the same question."""
    digest = hashlib.sha256(f"{checkpoint} {drawing} {subject.values.shape}".encode())
    digest.update(np.ascontiguousarray(subject.values).tobytes())
    return digest.hexdigest()


def answer_panel(checkpoint: str, model: ScoreModel, subject: Subject, drawing: Drawing) -> None:
    """Draw the button, the progress, and the chart with or without the answer."""
    key = question_key(checkpoint, subject, drawing)
    kept = st.session_state.get(JOB)
    job: ThreadJob[Answer] | None = kept[1] if kept and kept[0] == key else None
    running = job is not None and job.status == "running"
    with st.container(horizontal=True, vertical_alignment="center"):
        pressed = st.button("Answer", type="primary", icon=":material/play_arrow:", disabled=running)
        gaps = stretches(subject.missing)
        count = int(subject.missing.sum())
        st.caption(
            f"{count:,} missing value{'s' if count > 1 else ''} in {len(gaps):,} "
            f"stretch{'es' if len(gaps) > 1 else ''} · {drawing.text}"
        )
    if pressed:
        try:
            job = JOBS.start(partial(answer, model, subject, drawing))
            st.session_state[JOB] = key, job
            st.rerun()
        except LabError as fault:
            st.error(say(fault))
    if job is not None:
        job_state(job, "Drawing")
    found = job.result if job is not None else None
    if found is not None:
        numbers(found)
    picture(subject, found)


def job_state(job: ThreadJob[Any], what: str) -> None:
    """Show the progress of a job, or why it ended without a result."""
    if job.status == "running":
        _job_progress(job, what)
    elif job.status == "stopped":
        st.info("Stopped. Nothing was kept.")
    elif job.status == "failed":
        st.error(say(job.error))


@st.fragment(run_every=0.5)
def _job_progress(job: ThreadJob[Any], what: str) -> None:
    """Show the progress of a job with a way to stop it; draw the page again at its end."""
    job.touch()
    if job.status != "running":
        st.rerun()
    left = job.seconds_left
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(job.share, what if left is None else f"{what}, about {minutes_text(left)} left")
        st.button("Stop", icon=":material/stop:", key=f"ask.stop.{what}", on_click=job.stop)


def numbers(found: Answer) -> None:
    """Draw how far the answer is from the hidden truth, if that is known."""
    if found.error is None or found.median_error is None or found.inside is None:
        return
    with st.container(horizontal=True):
        st.metric(
            "CRPS",
            f"{found.error:.3f}",
            width="content",
            help="Distance of the draws from the hidden values, in standard deviations of the training data, "
            "averaged over hidden values. Smaller is better; for a single guess it is its absolute error.",
        )
        st.metric(
            "Error of the median",
            f"{found.median_error:.3f}",
            width="content",
            help="Mean, in the same unit.",
        )
        st.metric(
            "Inside the 90% band",
            f"{found.inside:.0%}",
            width="content",
            help="Share of the hidden values. One window says little: measure on many below.",
        )


def picture(subject: Subject, found: Answer | None) -> None:
    """Draw the series with its answer, and the downloads."""
    channels = list(range(len(subject.titles)))
    gaps = stretches(subject.missing)
    left, right = st.columns(2)
    if len(channels) > SHOWN:
        channels = left.multiselect(
            "Channels shown",
            channels,
            default=channels[:SHOWN],
            format_func=subject.titles.__getitem__,
            key=f"ask.shown.{'.'.join(subject.titles)}",
        )
    view = subject
    first, last = 0, len(subject.values)
    if last > MOST_POINTS:
        place = 0
        if len(gaps) > 1:
            place = right.selectbox(
                "Stretch shown",
                range(len(gaps)),
                format_func=lambda i: f"{i + 1} of {len(gaps)}: from {subject.rows[gaps[i][0]]}",
                key="ask.stretch",
            )
        middle = sum(gaps[place]) // 2
        first = min(max(0, middle - MOST_POINTS // 2), last - MOST_POINTS)
        last = first + MOST_POINTS
        view = subject.part(first, last)
    if not channels:
        st.info("Choose a channel to show.")
        return
    shown = None
    if found is not None:
        shown = Answer(found.quantiles[:, first:last], found.known[first:last])
    chart(
        fan_chart(view, shown, channels, palette()),
        "ask",
        answer_frame(view, shown) if shown is not None else values_frame(view),
    )
    if found is not None:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption("Download medians and quantiles of the whole series:")
            data_buttons(partial(answer_frame, subject, found), "answer")


def values_frame(subject: Subject) -> pd.DataFrame:
    """Return a subject as a table: one column for each channel."""
    columns: dict[str, Any] = {subject.row_name: subject.rows}
    columns |= {title: subject.values[:, c] for c, title in enumerate(subject.titles)}
    return pd.DataFrame(columns)


def answer_frame(subject: Subject, found: Answer) -> pd.DataFrame:
    """Return an answer as a table: for each channel the median and the quantiles; known values equal all."""
    assert len(NAMES) == len(LEVELS)
    columns: dict[str, Any] = {subject.row_name: subject.rows}
    for channel, title in enumerate(subject.titles):
        columns |= {f"{title} {name}": found.quantiles[i, :, channel] for i, name in enumerate(NAMES)}
        columns[f"{title} filled"] = ~found.known[:, channel]
    return pd.DataFrame(columns)
