"""Lessons that measure: the record is shown at once, and a button measures again on this machine."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from e2crf_core.lessons.record import AXES, COMMAND, Axes, LessonStudy, measured, recorded, table
from e2crf_core.lessons.studies import LessonBench, Sizes
from e2crf_core.lessons.texts import CAUSAL
from e2crf_core.models.checkpoints import list_checkpoints
from e2crf_core.progress import Cancel, Progress
from e2crf_core.quality.interval import Interval
from e2crf_core.report.charts import log_axis
from pages.ui.common import library
from pages.ui.common.downloads import chart
from pages.ui.common.messages import minutes_text, plain_text, say
from pages.ui.common.plot_style import interval_bars, plain
from pages.ui.common.query_params import note
from pages.ui.common.theme import palette
from pages.ui.jobs.thread_job import ThreadJob

SIZES = Sizes()
STALE_S = 15.0
MOST = 2
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
_jobs: list[ThreadJob[list[LessonStudy]]] = []


def network_choice(key: str, first: Sequence[str] = ()) -> str | None:
    """Draw a lesson's choice of a network: the `first` ones, then all others; None when there is none."""
    names = [*first, *(name for name in list_checkpoints() if name not in first)]
    if not names:
        return None
    # A key of its own: what was chosen on other pages need not be on record here.
    widget, linked = f"lesson.{key}.network", st.query_params.get("checkpoint")
    if st.session_state.get(widget) not in names:
        st.session_state[widget] = linked if linked in names else names[0]
        if linked and linked not in names:
            st.warning(f"There is no checkpoint '{plain_text(linked)}'.")
    name = st.selectbox("Network", names, key=widget, width=340)
    note("checkpoint", name, names[0])
    return name


def measured_lesson(key: str, revealed: bool) -> None:
    """Draw a lesson's measurement: the record or what this visitor measured, and the button to measure again.

    Before the guess it draws only the choice of the network, and that only if the lesson shows more of it.
    """
    if not revealed:
        st.caption(":material/visibility_off: The measurement appears with your guess.")
        if key != "change":
            return
    record = recorded(key)
    names = [study.checkpoint for study in record] or ["wind", CAUSAL][: 1 + AXES[key].both]
    if not AXES[key].both:
        chosen = network_choice(key, names if record else ())
        if chosen is None:
            return
        names = [chosen]
    if not revealed:
        return
    jobs = st.session_state.setdefault("lessons.jobs", {})
    place = f"{key} {' '.join(names)}"
    job: ThreadJob[list[LessonStudy]] | None = jobs.get(place)
    fresh = job.result if job is not None and job.status == "done" else None
    studies = fresh or [study for study in record if study.checkpoint in names]
    if studies:
        study_view(key, studies, fresh is not None)
    if job is not None and job.status == "running":
        running(job)
        return
    if job is not None and job.status == "failed":
        st.error(say(job.error))
    measure_button(key, names, place, studies)


def measure_button(key: str, names: Sequence[str], place: str, studies: Sequence[LessonStudy]) -> None:
    """Draw the button that starts a measurement, with how long it takes."""
    missing = [name for name in names if name not in list_checkpoints()]
    seconds = sum(study.seconds * SIZES.num / study.samples for study in studies)
    about = f", about {minutes_text(seconds)}" if studies else ""

    def begin() -> None:
        _jobs[:] = [job for job in _jobs if job.status == "running"]
        if len(_jobs) >= MOST:
            st.session_state["lessons.fault"] = (
                "Other visitors are measuring. Wait until one of them is done, then try again."
            )
            return
        job = ThreadJob(lambda progress, cancelled: work(key, names, progress, cancelled), stale_s=STALE_S)
        _jobs.append(job)
        st.session_state["lessons.jobs"][place] = job

    st.button(
        f"Measure again on this machine{about}" if studies else "Measure on this machine",
        icon=":material/replay:" if studies else ":material/play_arrow:",
        key="lessons.measure",
        type="secondary" if studies else "primary",
        on_click=begin,
        disabled=bool(missing),
        help=f"The network {', '.join(missing)} is not on this machine." if missing else None,
    )
    fault = st.session_state.pop("lessons.fault", None)
    if fault:
        st.warning(fault)


def work(key: str, names: Sequence[str], progress: Progress, cancelled: Cancel) -> list[LessonStudy]:
    """Measure a lesson on networks, one after the other. Raises LabError and Cancelled."""
    made = []
    for done, name in enumerate(names):
        model = library.model(name)

        def report(now: int, total: int, done: int = done) -> None:
            progress(done * total + now, len(names) * total)

        bench = LessonBench(model, library.dataset(model.dataset), SIZES, report, cancelled)
        made.append(measured(key, name, bench))
    return made


@st.fragment(run_every=0.5)
def running(job: ThreadJob[list[LessonStudy]]) -> None:
    """Draw the progress of a measurement with a way to stop it; draw the page again at its end."""
    job.touch()
    if job.status != "running":
        st.rerun()
    left = job.seconds_left
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(job.share, "Measuring" if left is None else f"Measuring, about {minutes_text(left)} left")
        st.button("Stop", icon=":material/stop:", key="lessons.stop", on_click=job.stop)


def study_view(key: str, studies: Sequence[LessonStudy], fresh: bool) -> None:
    """Draw the plot of a study and its table."""
    frame = study_frame(studies)
    left, right = st.columns([11, 9], gap="medium")
    with left:
        chart(study_plot(studies, AXES[key]), f"lesson-{key}", frame)
    with right:
        st.dataframe(table(studies, AXES[key]), hide_index=True, height=330)
    samples, names = studies[0].samples, " and ".join(plain_text(study.checkpoint) for study in studies)
    origin = (
        "Measured here, just now."
        if fresh
        else f"Recorded by `{COMMAND}`, commit {plain_text(studies[0].provenance.get('commit') or 'unknown')}."
    )
    st.caption(
        f"{samples} samples of {names} on common noise; median sample with its 95% bootstrap interval over samples. "
        f"{origin}"
    )


def study_frame(studies: Sequence[LessonStudy]) -> pd.DataFrame:
    """Return all points of studies, a row each."""
    rows = []
    for study in studies:
        for p in study.points:
            distance = p.distance or Interval(np.nan, np.nan, np.nan)
            rows.append(
                {
                    "network": study.checkpoint,
                    "family": p.family,
                    "setting": p.label,
                    "x": p.x,
                    "error": p.error.value,
                    "error low": p.error.low,
                    "error high": p.error.high,
                    "distance change": distance.value,
                    "distance change low": distance.low,
                    "distance change high": distance.high,
                }
            )
    return pd.DataFrame(rows)


def study_plot(studies: Sequence[LessonStudy], axes: Axes) -> go.Figure:
    """Plot families with intervals; each has a color, a marker and a dash of its own."""
    plot, colors = go.Figure(), palette()
    points = [p for study in studies for p in study.points]
    families = list(dict.fromkeys(p.family for p in points))
    for place, family in enumerate(families):
        own = sorted((p for p in points if p.family == family), key=lambda p: p.x)
        errors = [p.error for p in own]
        color = colors[place % len(colors)]
        plot.add_trace(
            go.Scatter(
                x=[p.x for p in own],
                y=[e.value for e in errors],
                error_y=interval_bars(
                    [e.value for e in errors], [e.low for e in errors], [e.high for e in errors], color
                ),
                mode="lines+markers",
                name=family,
                text=[p.label for p in own],
                line={"color": color, "width": 1.8, "dash": DASHES[place % len(DASHES)]},
                marker={"size": 9, "symbol": place},
                hovertemplate="%{text}<br>%{x:.3g}: %{y:.3g}<extra>%{fullData.name}</extra>",
            )
        )
    xs = [p.x for p in points]
    plot.update_xaxes(title=axes.x, **log_axis(xs))
    if axes.log:
        ends = [end for p in points for end in (p.error.low, p.error.high)]
        plot.update_yaxes(title=axes.y, **log_axis(ends))
    else:
        plot.update_yaxes(title=axes.y, rangemode="tozero", tickformat=".0%")
    plot = plain(plot, 400)
    if st.query_params.get("present") == "1":
        plot.update_layout(height=560, font={"size": 18})
    return plot
