"""One trial of a study: its setting and measurements, its recorded run, its warnings and its deployment."""

from dataclasses import replace
from functools import partial

import streamlit as st

from e2crf_core.caching.policy import PRESETS
from e2crf_core.errors import LabError
from e2crf_core.lessons.texts import live_query
from e2crf_core.runs.archive import archive_name
from e2crf_core.runs.run import FINISHED, RunSpec
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.tuning.measure import QUALITIES, Point
from e2crf_core.tuning.record import Record
from pages.ui.common.compared import text_of
from pages.ui.common.kept_runs import is_kept
from pages.ui.common.messages import plain_text, say
from pages.ui.common.recording import recording
from pages.ui.common.registry import RUNS
from pages.ui.common.session import owner
from pages.ui.tune.deploy import BUSY, deploy, warnings
from pages.ui.tune.study_files import checkpoint_of
from pages.ui.tune.study_values import REFERENCE, change_of, cost_of, name_of, number

LIVE_STEPS = (2, 2000)


def run_spec(record: Record, point: Point, checkpoint: str) -> RunSpec:
    """Return the run that draws the first batch of a trial again: same solver, grid, steps, policy and noise.

    A trial without a cache runs the policy that computes everything, so that there are decisions to record.
    """
    setting = point.setting
    config = SamplerConfig(setting.policy or PRESETS["exact"], setting.steps, setting.solver, setting.grid)
    return RunSpec(checkpoint, record.spec.batch, record.spec.seed, config, compare=False)


def point_card(name: str, record: Record, point: Point, *, quiet: bool) -> None:
    """Draw a trial and where it can be taken; `quiet` means that nothing is being measured."""
    checkpoint = checkpoint_of(record.digest)
    measurements(record, point)
    if checkpoint is None:
        st.warning("The checkpoint of this study is missing or has changed: nothing more can be measured.")
    actions(name, record, point, checkpoint, quiet)
    if not point.complete:
        st.caption(
            f":material/info: This trial ended early: trial {point.beaten_by} is cheaper and certainly "
            "better. It cannot be deployed from here."
        )


def deployment(name: str, record: Record, point: Point, *, quiet: bool) -> None:
    """Draw the warnings of a finished trial and its way into a program."""
    checkpoint = checkpoint_of(record.digest)
    left, right = st.columns(2, gap="large")
    with left:
        warnings(name, record, point, able=checkpoint is not None, quiet=quiet)
    with right:
        deploy(name, record, point, checkpoint, quiet=quiet)


def measurements(record: Record, point: Point) -> None:
    """Draw the setting of a trial and its measurements."""
    last, reference = point.last, record.reference
    assert reference is not None
    origin = "" if point.origin in ("search", "reference") else f" · {plain_text(point.origin)}"
    st.markdown(f"##### {name_of(point)}{origin}")
    st.markdown(plain_text(point.setting.describe()))
    a, b = st.columns(2)
    c, d = st.columns(2)
    value, low, high = cost_of(last, "seconds")
    with a:
        st.metric("Time per sample", f"{number(value)} ms", help="Median over batches; below, the range.")
        ratio = reference.last.seconds / last.seconds
        speed = "" if point.number == REFERENCE else f" · {number(ratio)}× as fast as the reference"
        alone = "" if last.alone is None else f" · alone {number(1e3 * last.alone)} ms"
        st.caption(f"{number(low)} to {number(high)} ms in batches of {record.spec.batch}{alone}{speed}")
    with b:
        st.metric("Operations per sample", f"{number(last.flops / 1e9)} GFLOP")
        st.caption(f"{100 * last.flop_share:.3g}% of the same solver without a cache")
    relative = record.spec.quality == "relative_l2"
    with c:
        distance = f"{QUALITIES[record.spec.quality]} distance"
        label = "Relative L2 to the twin" if relative else distance[0].upper() + distance[1:]
        st.metric(label, f"{last.quality:.4g}", help="Below, the 95% interval.")
        floor = "" if record.floor is None else f" · real vs real {record.floor:.3g}"
        st.caption(f"{last.low:.3g} to {last.high:.3g}, {last.num} samples{floor}")
    with d:
        change = change_of(point, reference)
        if relative or change is None or point.number == REFERENCE:
            st.metric("Tokens computed", f"{100 * last.token_share:.3g}%")
            st.caption("of a run without a cache")
        else:
            st.metric(
                "Compared with uncached",
                f"{change[0]:+.3g}%",
                help="Change in distance from the uncached reference on the same samples, with its own 95% "
                "interval. Positive is worse.",
            )
            st.caption(
                f"{change[1]:+.3g}% to {change[2]:+.3g}% · {100 * last.token_share:.3g}% of tokens computed"
            )


def actions(name: str, record: Record, point: Point, checkpoint: str | None, quiet: bool) -> None:
    """Draw the links that open a trial elsewhere and the ways to use its policy."""
    policy = point.setting.policy
    with st.container(horizontal=True, vertical_alignment="center", key="tune_actions"):
        if checkpoint is not None:
            anatomy((name, point.number), record, point, checkpoint, quiet)
            live(point.setting, checkpoint)
            compare(point.setting, checkpoint)
        if policy is not None:
            st.download_button(
                "policy.json",
                partial(str.encode, policy.to_json()),
                "policy.json",
                "application/json",
                on_click="ignore",
                icon=":material/download:",
                key="tune.policy",
            )


def anatomy(key: tuple[str, int], record: Record, point: Point, checkpoint: str, quiet: bool) -> None:
    """Offer to record the trial's run; then its progress; then the link to the record."""
    started = st.session_state.get("tune.run")
    run = RUNS.get(started[1]) if started is not None and started[0] == key else None
    if run is not None and run.status == "done" and is_kept(archive_name(run)):
        st.page_link(
            "anatomy.py",
            label="See every step in Anatomy",
            icon=":material/biotech:",
            query_params={"run": archive_name(run)},
        )
        return
    if run is not None and (run.status not in FINISHED or run.status == "done"):
        recording(run.id)
        return
    if run is not None:
        st.error(say(run.error or "The run ended early"))

    def start() -> None:
        try:
            run = RUNS.start(run_spec(record, point, checkpoint), owner())
            st.session_state["tune.run"] = (key, run.id)
        except LabError as fault:
            st.session_state["tune.fault"] = say(fault)

    st.button(
        "Open in Anatomy",
        icon=":material/biotech:",
        key="tune.anatomy",
        on_click=start,
        disabled=not quiet,
        help=f"Draws the first {record.spec.batch} samples of this trial again and records every decision. "
        f"About {max(1.0, point.last.seconds * record.spec.batch):.0f} s."
        if quiet
        else BUSY,
    )


def live(setting: SamplerConfig, checkpoint: str) -> None:
    """Link to the Live page with the setting, if that page can run it."""
    if setting.policy is None or not LIVE_STEPS[0] <= setting.steps <= LIVE_STEPS[1]:
        st.page_link(
            "live.py",
            label="Use on the Live page",
            icon=":material/play_circle:",
            disabled=True,
            help="The Live page runs cached settings only.",
        )
        return
    st.page_link(
        "live.py",
        label="Use on the Live page",
        icon=":material/play_circle:",
        help="Opens the Live page with this checkpoint, policy, solver, and number of steps.",
        query_params=live_query(checkpoint, setting),
    )


def compare(setting: SamplerConfig, checkpoint: str) -> None:
    """Link to the Compare page with this setting beside its uncached twin, if it can be a row there."""
    try:
        rows = [text_of(replace(setting, policy=PRESETS["exact"])), text_of(setting)]
    except LabError:
        return
    st.page_link(
        "compare.py",
        label="Compare with its twin",
        icon=":material/compare:",
        query_params={"v": ";".join(rows), "checkpoint": checkpoint},
    )
