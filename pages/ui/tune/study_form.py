"""The form that starts a study: what to search, for how long, and how to evaluate it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import streamlit as st

from e2crf_core.caching.triggers import TRIGGERS, deciding
from e2crf_core.diffusion.solvers import GRIDS, MAX_STEPS, SOLVERS
from e2crf_core.errors import LabError
from e2crf_core.io.userfiles import free_name
from e2crf_core.models.checkpoints import list_checkpoints
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.tuning.measure import StudySpec
from e2crf_core.tuning.space import FIELDS, MAIN_FIELDS, NONE, SEARCHABLE, SearchSpace
from pages.ui.common import library
from pages.ui.common.compared import config_of
from pages.ui.common.messages import plain_text, say
from pages.ui.common.query_params import linked, note, recall, unknown_words
from pages.ui.tune import study_job
from pages.ui.tune.progress import LABELS

BATCH, SAMPLES, MINUTES = 16, 64, 15.0
TRY: dict[str, Any] = {"minutes": 2.0, "num": 32, "steps": (10, 300)}
ONE_PLAN_STEPS = 300
SETTING = "setting"
PLAN_KEYS = ("tune.triggers", "tune.solvers", "tune.grids", "tune.low", "tune.high")
QUALITIES = {
    "marginal_wasserstein": "Distance to held-out data (marginal Wasserstein): compares all solvers",
    "relative_l2": "Distance to the uncached twin (relative L2): sharper, for one solver and number of steps",
}
COSTS = {
    "seconds": "Wall clock on this machine",
    "flops": "Operations (FLOPs): the same on every machine",
}
Begin = Callable[[str, str, float, StudySpec, SearchSpace], None]


@dataclass(frozen=True)
class Judging:
    """The answers of the upper half of the form."""

    checkpoint: str
    quality: str
    cost: str
    minutes: float
    num: int
    name: str


def try_button(begin: Begin) -> None:
    """Offer a two-minute study with defaults to visitors without a study."""
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


def linked_setting() -> SamplerConfig | None:
    """Return the setting that the address wants a search around; it takes what was searched before with it."""
    fresh, text = linked(SETTING) is not None, st.query_params.get(SETTING)
    if text is None:
        return None
    note(SETTING, text)
    if fresh:
        for key in PLAN_KEYS:
            st.session_state.pop(key, None)
    try:
        return config_of(text)
    except LabError as fault:
        if fresh:
            st.warning(f"The setting in this address is left out. {say(fault)}")
        return None


def around(tokens: int, setting: SamplerConfig | None) -> SearchSpace:
    """Return what is searched by default: everything, or the neighborhood of a setting."""
    usual = SearchSpace(tokens)
    if setting is None or setting.policy is None:
        return usual
    trigger = setting.policy.trigger
    return SearchSpace(
        tokens,
        triggers=(NONE, trigger) if trigger in deciding() else (NONE,),
        solvers=(setting.solver,) if setting.solver in SOLVERS else usual.solvers,
        grids=(setting.grid,),
        steps=(max(3, setting.steps // 2), max(3, setting.steps)),
    )


def study_form(begin: Begin, primary: bool = True) -> None:
    """Draw the form; `begin` is called with its answers. Errors are shown in place."""
    judging, setting = _judging(), linked_setting()
    try:
        tokens = library.model(judging.checkpoint).n
    except LabError as fault:
        st.error(say(fault))
        return
    spec: StudySpec | None = None
    space: SearchSpace | None = None
    try:
        if setting is not None:
            st.info(
                f"The search is set up around {plain_text(setting.describe())}.", icon=":material/target:"
            )
        with st.expander("What to search", icon=":material/tune:", expanded=setting is not None):
            space, seed = _space(around(tokens, setting), one_plan=judging.quality == "relative_l2")
        spec = StudySpec(num=judging.num, batch=BATCH, seed=seed, quality=judging.quality, cost=judging.cost)
    except LabError as fault:
        st.error(say(fault, LABELS))

    def start() -> None:
        assert spec is not None and space is not None
        begin(judging.name, judging.checkpoint, judging.minutes, spec, space)

    st.button(
        "Start the study",
        type="primary" if primary else "secondary",
        icon=":material/play_arrow:",
        key="tune.start",
        on_click=start,
        disabled=spec is None,
    )
    st.caption(
        "The study runs in a separate process and continues when you leave this page. Closing the lab "
        "interrupts it; nothing that was measured is lost. Times are accurate only while the machine "
        "is otherwise idle."
    )


def _judging() -> Judging:
    checkpoints = list_checkpoints()
    unknown = recall("checkpoint", checkpoints)
    if unknown:
        st.warning(unknown_words("checkpoint", unknown))
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
            help="Measuring the warnings at the end takes extra time. You can give a study more minutes "
            "later.",
        )
        num = st.number_input(
            LABELS["num"],
            2 * BATCH,
            4096,
            value=SAMPLES,
            step=BATCH,
            key="tune.num",
            help="More samples resolve smaller differences and take longer. A trial that is certainly beaten "
            f"on its first {BATCH} samples ends there.",
        )
        name = st.text_input(
            LABELS["name"],
            value=free_name(f"{checkpoint}-study", study_job.JOBS.names()),
            key=f"tune.name.{checkpoint}",
        )
    return Judging(checkpoint, quality, cost, minutes, num, name.strip())


def _space(usual: SearchSpace, one_plan: bool) -> tuple[SearchSpace, int]:
    """Draw the widgets of the search space, `usual` at first; returns it with the seed. Raises LabError."""
    left, right = st.columns(2, gap="large")
    with left:
        solvers, grids, steps = _one_plan() if one_plan else _plans(usual)
        seed = st.number_input(
            LABELS["seed"],
            0,
            2**31 - 1,
            value=0,
            key="tune.seed",
            help="All trials draw from the same noise.",
        )
    with right:
        triggers = st.multiselect(
            "Triggers",
            [NONE, *deciding()],
            default=usual.triggers,
            key="tune.triggers",
            format_func=lambda t: "none: the solver alone" if t == NONE else t,
            help="; ".join(f"**{t}**: {TRIGGERS[t].help}" for t in deciding()),
        )
        chosen = st.multiselect(
            "Policy fields",
            list(SEARCHABLE),
            default=MAIN_FIELDS,
            key="tune.fields",
            format_func=lambda f: str(FIELDS[f].metadata["label"]),
            help="A field that is not searched keeps the value of the trigger's preset, or its default.",
        )
    space = SearchSpace(
        usual.tokens,
        triggers=tuple(triggers),
        fields=tuple(chosen),
        solvers=tuple(solvers),
        grids=tuple(grids),
        steps=steps,
    )
    return space, int(seed)


def _one_plan() -> tuple[list[str], list[str], tuple[int, int]]:
    solver = st.selectbox("Solver", list(SOLVERS), key="tune.solver")
    grid = st.selectbox("Time grid", list(GRIDS), key="tune.grid")
    steps = int(st.number_input("Steps", 10, MAX_STEPS, value=ONE_PLAN_STEPS, step=50, key="tune.steps"))
    return [solver], [grid], (steps, steps)


def _plans(default: SearchSpace) -> tuple[list[str], list[str], tuple[int, int]]:
    solvers = st.multiselect(
        "Solvers",
        list(SOLVERS),
        default=default.solvers,
        key="tune.solvers",
        help="Every cache competes with solvers that need few calls.",
    )
    grids = st.multiselect("Time grids", list(GRIDS), default=default.grids, key="tune.grids")
    one, two = st.columns(2)
    low = one.number_input("Fewest steps", 3, MAX_STEPS, value=default.steps[0], key="tune.low")
    high = two.number_input("Most steps", 3, MAX_STEPS, value=default.steps[1], step=50, key="tune.high")
    return solvers, grids, (int(low), int(high))
