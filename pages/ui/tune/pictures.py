"""Charts and tables of a study, redrawn while a process works on it."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import streamlit as st

from e2crf_core.tuning.choice import FEWEST_TRIALS, Choice
from e2crf_core.tuning.measure import Point
from e2crf_core.tuning.record import Record
from pages.ui.common.components import tune_board
from pages.ui.common.downloads import data_buttons
from pages.ui.common.messages import plain_text
from pages.ui.common.theme import palette
from pages.ui.tune import study_job
from pages.ui.tune.choices import (
    Options,
    choose,
    clicked,
    select,
    selected_trial,
    shown_points,
)
from pages.ui.tune.progress import progress_words, works_elsewhere
from pages.ui.tune.study_files import importance_of, record_of
from pages.ui.tune.study_packets import parallel_packet, pareto_packet
from pages.ui.tune.study_tables import importance_chart, trials_frame
from pages.ui.tune.study_values import CHANGE, REFERENCE, name_of

TICK_S = 1.0
MARKED, CLEARED = "tune.marked", "tune.cleared"
SLOW_TICK_S = 5.0


def picture(name: str, drawn_running: bool, shown: int | None, options: Options | None) -> None:
    """Draw progress, the chart, and the point that the budgets pick.

    `drawn_running` and `shown` are the state the page around was drawn for; it is drawn again when they
    change.
    """
    record, state = record_of(name), study_job.JOBS.state(name)
    running = (state is not None and state.running) or works_elsewhere(record, state)
    if running != drawn_running:
        st.rerun(scope="app")
    if state is not None and state.running:
        st.progress(*progress_words(state, record))
    elif running and record is not None:
        st.info(
            "Another process, such as `tune` on the command line, is working on this study: "
            f"{len(record.points)} settings so far. Stop it where it was started."
        )
    if record is None or record.reference is None:
        if running:
            st.caption("The first point appears when the uncached reference has been measured.")
        return
    choice = None if options is None else choose(record, options)
    if options is None or choice is None:
        # Now there are points to choose from, so the page draws its controls.
        st.rerun(scope="app")
    selected = selected_trial(name, record)
    effective = choice.point.number if selected is None else selected
    if effective != shown:
        st.rerun(scope="app")
    pareto(name, record, options, choice, effective)


def pareto(name: str, record: Record, options: Options, choice: Choice, selected: int) -> None:
    """Draw cost against quality, and explain the picked point."""
    tune_board(
        key="tune.pareto",
        data=pareto_packet(
            record,
            name,
            shown_points(record, options, selected),
            cost=options.cost,
            quality=options.quality,
            selected=selected,
            chosen=choice.point.number,
            latency_ms=options.latency,
            budget=options.budget,
        ),
        on_pick_change=partial(clicked, name, "tune.pareto"),
    )
    icon = ":material/target:" if choice.within else ":material/warning:"
    st.markdown(f"{icon} **Picked: {name_of(choice.point)}.** {plain_text(choice.why)}")
    notes = ["Values above 0% are worse than the uncached reference."] if options.quality == CHANGE else []
    notes.append("Lines through a point are the 95% interval of quality and the range of measured times.")
    if any(not p.complete for p in record.points):
        notes.append("Crosses ended early: they show the change measured on their few samples.")
    st.caption(" ".join(notes))


@st.fragment(run_every=TICK_S)
def live_picture(name: str, drawn_running: bool, shown: int | None, options: Options | None) -> None:
    """Redraw a running study every second."""
    picture(name, drawn_running, shown, options)


def trials(name: str, shown: int | None, options: Options) -> None:
    """Draw all trials: their parameters side by side, a table, and which parameters matter."""
    record = record_of(name)
    if record is None or record.reference is None:
        return
    selected = selected_trial(name, record)
    if selected is not None and selected != shown:
        st.rerun(scope="app")
    points = shown_points(record, options, shown)
    marked = marked_trials(name)
    if len(record.points) > 1:
        st.markdown(
            "##### Parameters side by side",
            help="Each line is a finished trial; its cost and quality are on the right, better toward the "
            "bottom. Drag along an axis to keep the trials that pass there; click on the axis to let go. With keys: "
            "Shift and left or right choose an axis, Shift and down or up narrow it, Escape lets go.",
        )
        tune_board(
            key="tune.parallel",
            data=parallel_packet(
                record,
                name,
                points,
                cost=options.cost,
                quality=options.quality,
                selected=shown,
                cleared=st.session_state.get(CLEARED, 0),
            ),
            on_pick_change=partial(clicked, name, "tune.parallel"),
            on_marked_change=partial(mark, name),
        )
    if marked is not None:
        points = [p for p in points if p.number in marked]
    st.markdown("##### All trials", help="Choose a row to see its details above.")
    if len(points) < len(record.known):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(f"{len(points)} of {len(record.known)} are shown.")
            if marked is not None:
                st.button("Show all again", key="tune.clear", type="tertiary", on_click=clear_marks)
    table(name, record, points, shown, options.cost)
    importance(name, record)
    if record.failed:
        with st.expander(f"Settings that could not run: {len(record.failed)}"):
            st.markdown("\n".join(f"- Trial {number}: {plain_text(why)}" for number, why in record.failed))


def marked_trials(name: str) -> frozenset[int] | None:
    """Return the trials that pass where the axes are marked; None without a mark."""
    study, numbers = st.session_state.get(MARKED, (name, None))
    return numbers if study == name else None


def mark(name: str) -> None:
    """Keep the trials that the canvas reports as marked."""
    message = getattr(st.session_state["tune.parallel"], "marked", None)
    if message:
        numbers = message["numbers"]
        st.session_state[MARKED] = (name, None if numbers is None else frozenset(map(int, numbers)))


def clear_marks() -> None:
    """Let go of all marks, on the canvas too."""
    st.session_state.pop(MARKED, None)
    st.session_state[CLEARED] = st.session_state.get(CLEARED, 0) + 1


def importance(name: str, record: Record) -> None:
    """Draw which parameters matter."""
    st.markdown(
        "##### Which parameters matter",
        help="PED-ANOVA of the finished trials: how much of the variation in cost and in quality among good "
        "trials each parameter explains.",
    )
    shares = importance_of(name, len(record.points))
    if shares:
        st.plotly_chart(
            importance_chart(shares, palette()),
            key=f"tune.importance.{name}",
            alt="Importance of each parameter for cost and for quality",
        )
    else:
        st.caption(f"This needs {FEWEST_TRIALS} finished trials in which a parameter varies.")


def table(name: str, record: Record, points: Sequence[Point], shown: int | None, cost: str) -> None:
    """Draw trials as rows; choosing a row selects its trial."""
    frame = trials_frame(record, points, cost)
    if frame.empty:
        st.info("No trial passes all marks on the axes.")
        return
    view = frame.drop(columns=["trial", "ms_low", "ms_high", "setting"])
    view["name"] = [
        ("▶ " if number == shown else "") + ("Reference" if number == REFERENCE else label)
        for number, label in zip(frame["trial"], frame["name"], strict=True)
    ]

    def chosen() -> None:
        rows = st.session_state["tune.table"]["selection"]["rows"]
        if rows and rows[0] < len(frame):
            select(name, int(frame["trial"].iloc[rows[0]]))

    st.dataframe(
        view,
        hide_index=True,
        key="tune.table",
        height=min(420, 38 + 35 * len(view)),
        on_select=chosen,
        selection_mode="single-row",
        placeholder="–",
        alt="All trials of this study",
        column_config=columns(),
    )
    with st.container(horizontal=True):
        data_buttons(frame, f"{name}-trials")


def columns() -> dict[str, Any]:
    """Return the columns of the table of trials."""
    column = st.column_config
    return {
        "name": column.TextColumn("Trial", pinned=True, help="▶: its details are shown above."),
        "state": column.TextColumn("State"),
        "origin": column.TextColumn("Proposed by"),
        "solver": column.TextColumn("Solver"),
        "grid": column.TextColumn("Time grid"),
        "steps": column.NumberColumn("Steps"),
        "trigger": column.TextColumn("Trigger"),
        "tau": column.NumberColumn("τ", format="%.3g"),
        "refresh_every": column.NumberColumn("R"),
        "ms": column.NumberColumn("Time (ms)", format="%.3g"),
        "ms_alone": column.NumberColumn("Alone (ms)", format="%.3g", help="Time of a lone sample"),
        "gflop": column.NumberColumn("GFLOP", format="%.3g"),
        "quality": column.NumberColumn("Quality", format="%.4g"),
        "quality_low": column.NumberColumn("Low", format="%.3g", help="95% interval of the quality"),
        "quality_high": column.NumberColumn("High", format="%.3g", help="95% interval of the quality"),
        "change_percent": column.NumberColumn("Change (%)", format="%+.3g"),
        "change_low": column.NumberColumn("Low (%)", format="%+.3g", help="95% interval of the change"),
        "change_high": column.NumberColumn("High (%)", format="%+.3g", help="95% interval of the change"),
        "tokens_percent": column.NumberColumn("Tokens (%)", format="%.3g"),
        "samples": column.NumberColumn("Samples"),
    }


@st.fragment(run_every=SLOW_TICK_S)
def live_trials(name: str, shown: int | None, options: Options) -> None:
    """Draw the trials of a running study every few seconds."""
    trials(name, shown, options)
