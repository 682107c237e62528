"""The form that begins a study: what to search, for how long, and by what it is judged."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from e2crf_core.caching.triggers import TRIGGERS, deciding
from e2crf_core.diffusion.solvers import GRIDS, MAX_STEPS, SOLVERS
from e2crf_core.errors import LabError
from e2crf_core.io.userfiles import free_name
from e2crf_core.models.checkpoints import list_checkpoints
from e2crf_core.tuning.measure import StudySpec
from e2crf_core.tuning.space import FIELDS, MAIN_FIELDS, NONE, SEARCHABLE, SearchSpace
from pages.ui.common import library
from pages.ui.common.query_params import note, recall
from pages.ui.tune import study_job

BATCH, SAMPLES, MINUTES = 16, 64, 15.0
TRY: dict[str, Any] = {"minutes": 2.0, "num": 32, "steps": (10, 300)}
ONE_PLAN_STEPS = 300
QUALITIES = {
    "sliced_wasserstein": "Distance to held-out data (sliced Wasserstein): compares all solvers",
    "relative_l2": "Distance to the uncached twin (relative L2): sharper, for one solver and number of steps",
}
COSTS = {
    "seconds": "Wall clock on this machine",
    "flops": "Operations (FLOPs): the same on every machine",
}
Begin = Callable[[str, str, float, StudySpec, SearchSpace], None]


def try_button(begin: Begin) -> None:
    """Two minutes with defaults, for somebody who has no study yet."""
    checkpoint = list_checkpoints()[0]
    name = free_name(f"{checkpoint}-try", study_job.JOBS.names())

    def start() -> None:
        space = SearchSpace(library.model(checkpoint).n, steps=TRY["steps"])
        begin(name, checkpoint, TRY["minutes"], StudySpec(num=TRY["num"], batch=BATCH), space)

    st.button(
        f"Try it: {TRY['minutes']:g} minutes on {checkpoint}",
        type="primary",
        icon=":material/play_arrow:",
        key="try",
        on_click=start,
    )


def study_form(begin: Begin, primary: bool = True) -> None:
    """Draw the form; `begin` is called with what it says. Refusals of the values are shown in place."""
    checkpoints = list_checkpoints()
    recall("checkpoint", checkpoints)
    left, right = st.columns(2, gap="large")
    with left:
        checkpoint = st.selectbox("Checkpoint", checkpoints, key="checkpoint")
        note("checkpoint", checkpoint, checkpoints[0])
        quality = st.radio("Quality", list(QUALITIES), key="tune.quality", format_func=QUALITIES.__getitem__)
        cost = st.radio("Cost", list(COSTS), key="tune.cost", format_func=COSTS.__getitem__)
    with right:
        minutes = st.number_input(
            "Budget (minutes)",
            0.1,
            1440.0,
            value=MINUTES,
            step=5.0,
            format="%g",
            key="tune.minutes",
            help="Measuring warnings at the end comes on top. A study can be given more minutes later.",
        )
        num = st.number_input(
            "Samples of a finished trial",
            2 * BATCH,
            4096,
            value=SAMPLES,
            step=BATCH,
            key="tune.num",
            help="More samples tell smaller differences apart and take longer. Trials that are certainly beaten "
            f"on the first {BATCH} end there.",
        )
        name = st.text_input(
            "Name of the study",
            value=free_name(f"{checkpoint}-study", study_job.JOBS.names()),
            key=f"tune.name.{checkpoint}",
        )
    try:
        model = library.model(checkpoint)
    except LabError as damaged:
        st.error(str(damaged))
        return
    with st.expander("What to search", icon=":material/tune:"):
        space, seed, fault = _space(model.n, one_plan=quality == "relative_l2")
    spec: StudySpec | None = None
    try:
        spec = StudySpec(num=num, batch=BATCH, seed=seed, quality=quality, cost=cost)
    except LabError as refused:
        fault = str(refused)
    if fault:
        st.error(fault)

    def start() -> None:
        assert spec is not None and space is not None
        begin(name.strip(), checkpoint, minutes, spec, space)

    st.button(
        "Start the study",
        type="primary" if primary else "secondary",
        icon=":material/play_arrow:",
        key="tune.start",
        on_click=start,
        disabled=bool(fault) or space is None,
    )
    st.caption(
        "It runs in a process of its own and goes on when you leave this page. Closing the lab interrupts it; nothing "
        "that was measured is lost. Times are right only while the machine has nothing else to do."
    )


def _space(tokens: int, one_plan: bool) -> tuple[SearchSpace | None, int, str]:
    """Widgets of the search space: the space, the seed, and what is wrong with it."""
    default = SearchSpace(tokens)
    left, right = st.columns(2, gap="large")
    with left:
        if one_plan:
            solvers = [st.selectbox("Solver", list(SOLVERS), key="tune.solver")]
            grids = [st.selectbox("Time grid", list(GRIDS), key="tune.grid")]
            steps = st.number_input("Steps", 10, MAX_STEPS, value=ONE_PLAN_STEPS, step=50, key="tune.steps")
            low = high = steps
        else:
            solvers = st.multiselect(
                "Solvers",
                list(SOLVERS),
                default=default.solvers,
                key="tune.solvers",
                help="A solver that needs few calls is the rival of every cache.",
            )
            grids = st.multiselect("Time grids", list(GRIDS), default=default.grids, key="tune.grids")
            one, two = st.columns(2)
            low = one.number_input("Fewest steps", 3, MAX_STEPS, value=default.steps[0], key="tune.low")
            high = two.number_input(
                "Most steps", 3, MAX_STEPS, value=default.steps[1], step=50, key="tune.high"
            )
        seed = st.number_input(
            "Seed", 0, 2**31 - 1, value=0, key="tune.seed", help="All trials draw from the same noise."
        )
    with right:
        triggers = st.multiselect(
            "Triggers",
            [NONE, *deciding()],
            default=default.triggers,
            key="tune.triggers",
            format_func=lambda t: "none: the solver alone" if t == NONE else t,
            help="; ".join(f"**{t}**: {TRIGGERS[t].help}" for t in deciding()),
        )
        chosen = st.multiselect(
            "Fields of the policy",
            list(SEARCHABLE),
            default=MAIN_FIELDS,
            key="tune.fields",
            format_func=lambda f: str(FIELDS[f].metadata["label"]),
            help="A field that is not searched keeps the value of the trigger's preset, or its default.",
        )
    try:
        space = SearchSpace(
            tokens,
            triggers=tuple(triggers),
            fields=tuple(chosen),
            solvers=tuple(solvers),
            grids=tuple(grids),
            steps=(int(low), int(high)),
        )
    except LabError as fault:
        return None, int(seed), str(fault)
    return space, int(seed), ""
