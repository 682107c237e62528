"""The Compare page: policies and solvers on the same noise, with cost, quality and intervals."""

import pandas as pd
import streamlit as st

from e2crf_core.diffusion.solvers import GRIDS
from e2crf_core.errors import LabError
from e2crf_core.models.checkpoints import list_checkpoints
from pages.ui.common.compared import (
    BASE,
    COLUMNS,
    DEFAULT,
    MOST,
    POLICIES,
    SOLVER_CHOICES,
    STEPS,
    cells_of,
    setting_of,
    settings_of,
)
from pages.ui.common.messages import NO_NETWORK, say
from pages.ui.common.query_params import linked, note, recall, recall_number, unknown_words
from pages.ui.common.reference import reference_of
from pages.ui.common.registry import RUNS, line_text
from pages.ui.common.session import owner
from pages.ui.compare.job import ComparisonJob
from pages.ui.compare.results import results

NUM, MOST_SAMPLES, SEED, MOST_SEED = 16, 256, 0, 2**31 - 1
INTRO = (
    "Two or more settings draw **the same samples from the same noise**, so you see what each of them costs "
    "and what it does to the samples. Add, change or delete rows, then run. Differences are measured from "
    "**row 1**."
)


def linked_settings() -> tuple[str, ...]:
    """Return the settings that a link asks for, or the default ones."""
    text = linked("v")
    if not text:
        return DEFAULT
    note("v", text)
    try:
        return settings_of(text)
    except LabError as fault:
        st.warning(f"{say(fault)} The default settings are shown instead.")
        return DEFAULT


def editor() -> tuple[str, ...]:
    """Draw the table of settings; return their text forms. Raises LabError for an invalid table."""
    if "compare.start" not in st.session_state or linked("v"):
        st.session_state.pop("compare.rows", None)
        frame = pd.DataFrame([cells_of(setting) for setting in linked_settings()])
        st.session_state["compare.start"] = frame.astype({"tau": "Float64", "R": "Int64", "steps": "Int64"})
    column = st.column_config
    own = [name for name in st.session_state["compare.start"]["policy"].dropna() if name not in POLICIES]
    edited = st.data_editor(
        st.session_state["compare.start"],
        key="compare.rows",
        num_rows="dynamic",
        hide_index=True,
        placeholder="own",
        column_config={
            "policy": column.SelectboxColumn(
                "Policy", options=[*POLICIES, *own], required=True, width="medium"
            ),
            "tau": column.NumberColumn(
                "τ", min_value=1e-8, format="%.4g", help="Leave it empty for the policy's own value."
            ),
            "R": column.NumberColumn(
                "R", min_value=0, max_value=2000, step=1, help="Leave it empty for the policy's own value."
            ),
            "solver": column.SelectboxColumn(
                "Solver", options=list(SOLVER_CHOICES), required=True, default=BASE["solver"]
            ),
            "grid": column.SelectboxColumn(
                "Time grid", options=list(GRIDS), required=True, default=BASE["grid"]
            ),
            "steps": column.NumberColumn(
                "Steps",
                min_value=STEPS[0],
                max_value=STEPS[1],
                step=1,
                required=True,
                default=BASE["steps"],
            ),
        },
    )
    settings = []
    for row in edited.to_dict("records"):
        if not pd.isna(row["policy"]):
            settings.append(setting_of([BASE[c] if pd.isna(row[c]) else row[c] for c in COLUMNS]))
    if not 2 <= len(settings) <= MOST:
        raise LabError(f"the table has {len(settings)} rows", remedy=f"compare two to {MOST}")
    if len(set(settings)) < len(settings):
        raise LabError("two rows are the same", remedy="change one of them")
    return tuple(settings)


@st.fragment(run_every=0.4)
def progress(comparison: ComparisonJob) -> None:
    """Drive the runs and show their progress."""
    try:
        comparison.advance(RUNS, owner())
    except LabError as fault:
        st.error(say(fault))
        return
    if comparison.over:
        st.rerun()
    number = max(1, len(comparison.runs))
    st.progress(
        comparison.progress,
        (line_text(comparison.runs[-1]) if comparison.runs else "")
        or f"Running {number} of {len(comparison.specs)}: {comparison.names[number - 1]}",
    )


def form(checkpoints: list[str]) -> tuple[ComparisonJob | None, bool]:
    """Draw the inputs; returns the planned comparison, and whether to run it now."""
    recall_number("compare.num", "num", NUM, 1, MOST_SAMPLES)
    recall_number("compare.seed", "seed", SEED, 0, MOST_SEED)
    unknown = recall("checkpoint", checkpoints)
    if unknown:
        st.warning(unknown_words("checkpoint", unknown))
    a, b, c, d = st.columns([2, 1, 1, 1.4], vertical_alignment="bottom")
    checkpoint = a.selectbox("Checkpoint", checkpoints, key="checkpoint")
    num = b.number_input(
        "Samples",
        1,
        MOST_SAMPLES,
        key="compare.num",
        help="Use 64 or more to decide whether a row is as good as row 1.",
    )
    seed = c.number_input("Seed", 0, MOST_SEED, key="compare.seed")
    planned: ComparisonJob | None = None
    try:
        settings = editor()
        planned = ComparisonJob.of(settings, checkpoint, num, seed)
        for name, value in (("v", ";".join(settings)), ("num", str(num)), ("seed", str(seed))):
            note(name, value)
        note("checkpoint", checkpoint)
    except LabError as fault:
        st.error(say(fault))
    running: ComparisonJob | None = st.session_state.get("compare.job")
    pressed = d.button(
        "Run on the same noise",
        type="primary",
        icon=":material/play_arrow:",
        disabled=planned is None or (running is not None and not running.over),
        width="stretch",
    )
    return planned, pressed


def page() -> None:
    """Lay out the page."""
    st.title("Compare", anchor=False)
    st.markdown(INTRO)
    checkpoints = list_checkpoints()
    if not checkpoints:
        st.warning(NO_NETWORK)
        return
    planned, pressed = form(checkpoints)
    if pressed:
        st.session_state["compare.job"] = planned
    comparison: ComparisonJob | None = st.session_state.get("compare.job")
    if comparison is None:
        st.info(
            "Press **Run on the same noise**. The rows run one after the other, which takes seconds with the "
            "networks that ship with the lab."
        )
        return
    if not comparison.over:
        progress(comparison)
        return
    failed = next((run for run in comparison.runs if run.status != "done"), None)
    if failed is not None:
        st.error(say(failed.error or "A run was stopped before its end"))
        return
    if planned is not None and planned.specs != comparison.specs:
        st.caption(
            ":material/info: The rows have changed. The results below are those of the last comparison; run "
            "again to update them."
        )
    try:
        results(comparison, reference_of(comparison.specs[0].checkpoint))
    except LabError as fault:
        st.error(say(fault))


page()
