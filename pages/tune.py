"""The tune page: search solvers, steps and policies for the best trade of cost and quality; deploy what is found."""

from collections.abc import Callable
from functools import partial

import streamlit as st

from e2crf_core.errors import LabError
from e2crf_core.io.userfiles import check_name
from e2crf_core.models.checkpoints import list_checkpoints
from e2crf_core.tuning.choice import FEWEST_TRIALS, Choice, pick
from e2crf_core.tuning.measure import StudySpec
from e2crf_core.tuning.record import Record
from e2crf_core.tuning.space import SearchSpace
from pages.ui.common.components import tune_board
from pages.ui.common.downloads import data_buttons
from pages.ui.common.messages import for_page, minutes_text, remove_button
from pages.ui.common.query_params import note, recall
from pages.ui.common.theme import palette
from pages.ui.jobs import training_job
from pages.ui.tune import study_job
from pages.ui.tune.study_form import study_form, try_button
from pages.ui.tune.study_job import JobState, importance_of, record_of
from pages.ui.tune.study_plots import (
    CHANGE,
    COSTS,
    REFERENCE,
    importance_chart,
    name_of,
    parallel_packet,
    pareto_packet,
    qualities,
    trials_frame,
)
from pages.ui.tune.study_point import point_view

# No study can be called so.
NEW = "~new"
TICK_S = 1.0
SLOW_TICK_S = 5.0
MORE_MINUTES = 10.0
# Axes of cost and quality, latency budget in ms, quality budget as a share or a relative L2.
Options = tuple[str, str, float | None, float | None]

INTRO = (
    "A study measures many settings on the same noise (solver, number of steps, what is cached when) and shows what "
    "each costs and how good its samples are. You name a latency or a quality that you need; it names the setting, "
    "warns of what is fragile about it, and makes it a file that your program runs."
)


def attempt(action: Callable[[], None]) -> None:
    """Do what a button says; a refusal is shown on the next drawing of the page."""
    try:
        action()
    except LabError as fault:
        st.session_state["tune.fault"] = for_page(fault)


def begin(name: str, checkpoint: str, minutes: float, spec: StudySpec, space: SearchSpace) -> None:
    """Start a study and turn to it."""

    def start() -> None:
        study_job.JOBS.start(check_name(name), checkpoint, minutes, spec, space)
        st.session_state["study"] = name

    attempt(start)


def forget(name: str) -> None:
    """Delete a study and turn to another."""

    def remove() -> None:
        study_job.JOBS.remove(name)
        st.session_state.pop("study", None)
        for key in ("study", "trial"):
            st.query_params.pop(key, None)

    attempt(remove)


# ---- where a study is


def elsewhere(record: Record | None, state: JobState | None) -> bool:
    """Whether a process that is not ours, such as the command line, is at work on it."""
    return record is not None and record.driver is not None and not (state is not None and state.running)


def badge(state: JobState, record: Record | None) -> tuple[float, str]:
    """How far a study of ours is that is at work: share of its phase, and in words."""
    if state.status == "advising":
        seconds = state.seconds_left
        said = "" if seconds is None else f", about {minutes_text(seconds)} left"
        return state.share, f"Measuring what the picked point has beside it, for warnings{said}"
    if state.status not in ("reference", "searching"):
        words = {
            "starting": "Starting",
            "preparing": "Loading the network and finding where thresholds matter",
        }
        return 0.0, words[state.status]
    budget = 60 * state.minutes
    left = f"about {minutes_text(max(0.0, budget - state.spent))} of {state.minutes:g} min left"
    done = 0 if record is None else len(record.points)
    what = (
        "Measuring the uncached reference"
        if state.status == "reference"
        else f"Trial {done + 1} at work, {done} measured"
    )
    return min(1.0, state.spent / budget), f"{what}, {left}"


def ended_words(state: JobState | None, record: Record | None) -> str:
    """Where a study is that nothing works on."""
    count = 0 if record is None else len(record.points)
    spent = "" if record is None else f" in {record.spent / 60:.3g} min"
    words = {
        "done": "Done",
        "stopped": "Stopped",
        "interrupted": "Interrupted: resume it, no finished trial is lost",
        "failed": "Failed",
    }
    said = "Kept" if state is None else words.get(state.status, state.status)
    return f"**{said}** · {count} setting{'' if count == 1 else 's'} measured{spent}"


def resume_button(name: str, state: JobState | None, record: Record | None) -> None:
    """Go on, with what is left of the budget or with more."""
    spent = 0.0 if record is None else record.spent / 60
    budget = 0.0 if state is None else state.minutes
    left = budget - spent
    with st.popover("Resume", icon=":material/play_arrow:"):
        more = st.number_input(
            "Minutes more",
            0.1,
            1440.0,
            value=round(left, 1) if left > 0.1 else MORE_MINUTES,
            step=5.0,
            format="%g",
            key=f"tune.more.{name}",
        )
        st.button(
            "Search on",
            type="primary",
            icon=":material/play_arrow:",
            key="tune.resume",
            on_click=attempt,
            args=(lambda: study_job.JOBS.resume(name, spent + more),),
        )


# ---- choices


def selected_trial(name: str, record: Record) -> int | None:
    """The trial that this session, or else the address, chose; None where it chose none of this study."""
    kept = st.session_state.get("tune.trial")
    if kept is not None and kept[0] == name:
        return kept[1] if record.point(kept[1]) is not None else None
    asked = st.query_params.get("trial", "")
    number = int(asked[:9]) if asked.removeprefix("-").isdecimal() else None
    return number if record.point(number) is not None else None


def select(name: str, number: int | None) -> None:
    """Choose a trial; None leaves the choice to the budgets."""
    st.session_state["tune.trial"] = (name, number)
    note("trial", None if number is None else str(number))


def clicked(name: str, key: str) -> None:
    """A chart says which trial was chosen on it."""
    said = getattr(st.session_state[key], "pick", None)
    if said:
        select(name, int(said["number"]))


def wanted(record: Record) -> Options:
    """Axes and budgets: cost, quality, latency in ms, quality budget (share, or relative L2)."""
    a, b, c, d = st.columns([1.1, 1.5, 1, 1.2], vertical_alignment="bottom")
    options = qualities(record.spec.quality)
    st.session_state.setdefault("cost", asked("cost", COSTS, record.spec.cost))
    cost = a.segmented_control("Cost", list(COSTS), key="cost", format_func=COSTS.__getitem__, required=True)
    note("cost", cost, record.spec.cost)
    if st.session_state.get("quality") not in options:
        st.session_state["quality"] = asked("quality", options, next(iter(options)))
    quality = b.segmented_control(
        "Quality, smaller is better",
        list(options),
        key="quality",
        format_func=options.__getitem__,
        required=True,
    )
    note("quality", quality, next(iter(options)))
    latency = c.number_input(
        "Latency budget (ms)",
        1e-3,
        1e6,
        value=None,
        format="%g",
        key="latency",
        bind="query-params",
        placeholder="none",
        help="For one sample. The best quality that takes no longer is picked.",
    )
    relative = record.spec.quality == "relative_l2"
    budget = d.number_input(
        "Quality budget (L2)" if relative else "Quality budget (%)",
        1e-4,
        1e4,
        value=None,
        format="%g",
        key="budget",
        bind="query-params",
        placeholder="none",
        help=(
            "Largest relative L2 to the uncached twin."
            if relative
            else "Most that the distance may be above uncached."
        )
        + " The cheapest setting is picked that stays within it with the whole of its 95% interval.",
    )
    share = budget if relative or budget is None else budget / 100
    return cost or record.spec.cost, quality or next(iter(options)), latency, share


def asked(name: str, options: dict[str, str], default: str) -> str:
    """What the address asks for, if there is such an option."""
    found = st.query_params.get(name, "")
    return found if found in options else default


def choose(record: Record, latency: float | None, budget: float | None, cost: str) -> Choice | None:
    """The point for the budgets, None before any has finished."""
    if record.reference is None:
        return None
    return pick(
        record.known,
        record.reference,
        cost=cost,
        quality=record.spec.quality,
        latency=None if latency is None else latency / 1e3,
        budget=budget,
    )


# ---- pictures


def picture(name: str, drawn: bool, shown: int | None, options: Options | None) -> None:
    """Progress, the chart, and which point the budgets pick. `drawn`: whether the page saw the study at work."""
    record, state = record_of(name), study_job.JOBS.state(name)
    at_work = (state is not None and state.running) or elsewhere(record, state)
    if at_work != drawn:
        st.rerun(scope="app")
    if state is not None and state.running:
        st.progress(*badge(state, record))
    elif at_work and record is not None:
        st.info(
            f"Another process, such as `tune` on the command line, is at work on this study: {len(record.points)} "
            "settings so far. It is stopped where it was started."
        )
    if record is None or record.reference is None:
        if at_work:
            st.caption("The first point comes when the uncached reference has been measured.")
        return
    if options is None:
        # There is something to choose from now: the page draws its controls.
        st.rerun(scope="app")
    cost, quality, latency, budget = options
    choice = choose(record, latency, budget, cost)
    assert choice is not None
    now = selected_trial(name, record)
    effective = choice.point.number if now is None else now
    if effective != shown:
        st.rerun(scope="app")
    tune_board(
        key="tune.pareto",
        data=pareto_packet(
            record,
            name,
            cost=cost,
            quality=quality,
            selected=effective,
            chosen=choice.point.number,
            latency_ms=latency,
            budget=budget,
        ),
        on_pick_change=partial(clicked, name, "tune.pareto"),
    )
    icon = ":material/target:" if choice.within else ":material/warning:"
    st.markdown(f"{icon} **Picked: {name_of(choice.point)}.** {choice.why}")
    said = [] if quality != CHANGE else ["Above 0% is worse than the uncached reference."]
    said.append("Lines through a point are 95% intervals of quality and the range of times seen.")
    if any(not p.complete for p in record.points):
        said.append(
            "Crosses ended early: they stand at the change measured on the few samples that they had."
        )
    st.caption(" ".join(said))


@st.fragment(run_every=TICK_S)
def live_picture(name: str, drawn: bool, shown: int | None, options: Options | None) -> None:
    """The picture of a study at work."""
    picture(name, drawn, shown, options)


def trials(name: str, shown: int | None, cost: str, quality: str) -> None:
    """All trials as a table, their parameters side by side, and which of these matter."""
    record = record_of(name)
    if record is None or record.reference is None:
        return
    now = selected_trial(name, record)
    if now is not None and now != shown:
        st.rerun(scope="app")
    if len(record.points) > 1:
        st.markdown(
            "##### Parameters side by side",
            help="A line is a finished setting; on the right its cost and quality, better toward the bottom.",
        )
        tune_board(
            key="tune.parallel",
            data=parallel_packet(record, name, cost=cost, quality=quality, selected=shown),
            on_pick_change=partial(clicked, name, "tune.parallel"),
        )
    st.markdown("##### All trials", help="Choose a row to see its details above.")
    table(name, record, shown, cost)
    st.markdown(
        "##### Which knob matters",
        help="PED-ANOVA of the finished trials: how much of what cost and quality vary by, among good trials, a "
        "parameter decides.",
    )
    shares = importance_of(name, len(record.points))
    if shares:
        st.plotly_chart(
            importance_chart(shares, palette()),
            key=f"tune.importance.{name}",
            alt="Importance of each parameter for cost and for quality",
        )
    else:
        st.caption(f"It takes {FEWEST_TRIALS} finished trials that have a knob to say what the knob does.")
    if record.failed:
        with st.expander(f"Settings that could not run: {len(record.failed)}"):
            st.markdown("\n".join(f"- Trial {number}: {why}" for number, why in record.failed))


def table(name: str, record: Record, shown: int | None, cost: str) -> None:
    """The trials, a row each; choosing one selects it."""
    frame = trials_frame(record, cost)
    view = frame.drop(columns=["trial", "ms_low", "ms_high", "setting"])
    view["name"] = [
        ("▶ " if number == shown else "") + ("Reference" if number == REFERENCE else said)
        for number, said in zip(frame["trial"], frame["name"], strict=True)
    ]
    column = st.column_config

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
        column_config={
            "name": column.TextColumn("Trial", pinned=True, help="▶: its details are shown above."),
            "state": column.TextColumn("State"),
            "origin": column.TextColumn("Proposed by"),
            "solver": column.TextColumn("Solver"),
            "grid": column.TextColumn("Grid"),
            "steps": column.NumberColumn("Steps"),
            "trigger": column.TextColumn("Trigger"),
            "tau": column.NumberColumn("τ", format="%.3g"),
            "refresh_every": column.NumberColumn("R"),
            "ms": column.NumberColumn("Time (ms)", format="%.3g"),
            "gflop": column.NumberColumn("GFLOP", format="%.3g"),
            "quality": column.NumberColumn("Quality", format="%.4g"),
            "quality_low": column.NumberColumn("low", format="%.3g", help="95% interval of the quality"),
            "quality_high": column.NumberColumn("high", format="%.3g", help="95% interval of the quality"),
            "change_percent": column.NumberColumn("Change %", format="%+.3g"),
            "change_low": column.NumberColumn("low %", format="%+.3g", help="95% interval of the change"),
            "change_high": column.NumberColumn("high %", format="%+.3g", help="95% interval of the change"),
            "tokens_percent": column.NumberColumn("Tokens %", format="%.3g"),
            "samples": column.NumberColumn("Samples"),
        },
    )
    with st.container(horizontal=True):
        data_buttons(frame, f"{name}-trials")


@st.fragment(run_every=SLOW_TICK_S)
def live_trials(name: str, shown: int | None, cost: str, quality: str) -> None:
    """The same, now and then, for a study at work."""
    trials(name, shown, cost, quality)


# ---- the page


def watch(name: str) -> None:
    """Draw a study."""
    jobs = study_job.JOBS
    try:
        record, state = record_of(name), jobs.state(name)
    except LabError as fault:
        st.error(str(fault))
        st.caption(
            "Remove it, or put the file back that was there. Your other studies are not touched by it."
        )
        remove_button("the study", name, partial(forget, name))
        return
    ours = state is not None and state.running
    at_work = ours or elsewhere(record, state)
    busy = jobs.running()
    with st.container(horizontal=True, vertical_alignment="center", key="tune_head"):
        if ours and state is not None:
            st.button(
                "Cancel the search" if state.status != "advising" else "Leave the warnings out",
                icon=":material/stop:",
                key="tune.stop",
                on_click=jobs.stop,
                args=(name,),
                help="What has been measured is kept, and the search can be resumed.",
            )
        elif not at_work:
            if busy is None:
                resume_button(name, state, record)
            if busy is None or busy[0] != name:
                remove_button("the study, with its trials and cards,", name, partial(forget, name))
            st.markdown(ended_words(state, record))
    if state is not None and state.status == "failed":
        st.error(f"Failed: {state.error}")
    training = training_job.JOBS.running()
    if at_work and training is not None and (record is None or record.spec.cost == "seconds"):
        st.warning(f"**{training}** is being trained at the same time: the times measured now are too long.")
    options: Options | None = None
    choice: Choice | None = None
    if record is not None and record.reference is not None:
        options = wanted(record)
        choice = choose(record, options[2], options[3], options[0])
    shown = None
    if record is not None and choice is not None:
        mine = selected_trial(name, record)
        shown = choice.point.number if mine is None else mine
        note("trial", None if mine is None else str(mine))
    (live_picture if at_work else picture)(name, at_work, shown, options)
    if record is None or choice is None or options is None:
        return
    point = record.point(shown)
    assert point is not None
    with st.container(border=True, key="results"):
        if choice.point.number != shown:
            st.button(
                "Back to the picked point",
                icon=":material/target:",
                type="tertiary",
                key="tune.back",
                on_click=select,
                args=(name, None),
            )
        point_view(name, record, point, attempt, quiet=busy is None and not at_work)
    (live_trials if at_work else trials)(name, shown, options[0], options[1])


def page() -> None:
    """Lay the page out."""
    st.title("Tune", anchor=False)
    if not list_checkpoints():
        st.warning("There is no trained network yet: train one on the Training page, then come back.")
        return
    jobs = study_job.JOBS
    names = jobs.names()
    busy = jobs.running()
    missing = recall("study", [NEW, *names], busy[0] if busy else names[0] if names else NEW)
    if missing:
        st.info(f"There is no study {missing!r} in your folder any more.")
    fault = st.session_state.pop("tune.fault", None)
    choice = NEW
    if names:
        choice = st.selectbox(
            "Study",
            [NEW, *names],
            key="study",
            format_func=lambda name: "A new study" if name == NEW else name,
            width=480,
        )
    if fault:
        st.error(fault)
    if choice != NEW:
        note("study", choice)
        watch(choice)
        return
    note("study", NEW if names else None)
    st.markdown(INTRO)
    if busy is not None:
        st.info(f"The study **{busy[0]}** is at work. One measures at a time: choose it above to watch it.")
    if not names:
        try_button(begin)
        st.caption("Or say what to search, and for how long:")
    study_form(begin, primary=bool(names))


page()
