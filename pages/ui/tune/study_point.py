"""One point of a study: its setting and figures, its warnings, its recorded run, and the way into production."""

import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path

import streamlit as st

from e2crf_core.caching.policy import PRESETS
from e2crf_core.deploy.policy_card import PolicyCard, load_policy, usage
from e2crf_core.errors import LabError
from e2crf_core.runs.archive import archive_name
from e2crf_core.runs.run import FINISHED, RunSpec
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.tuning.measure import Point
from e2crf_core.tuning.record import Record
from pages.ui.common.messages import minutes_text
from pages.ui.common.registry import RUNS, STORE
from pages.ui.tune import study_job
from pages.ui.tune.study_job import advice_of, card_of, checkpoint_of
from pages.ui.tune.study_plots import REFERENCE, change_of, cost_of, figure, name_of, spanned
from pages.ui.tune.study_worker import advice_job

TICK_S = 0.5
FRESH_SEED = 1000
"""Far from the seeds that people tune with: the best of many trials looks better on its own noise than it is."""
LIVE_PLAN = ("euler_maruyama", "linear")
LIVE_STEPS = (10, 2000)
BUSY = "Something of a study is at work. One measures at a time, so that times are right."
Attempt = Callable[[Callable[[], None]], None]


def solver_code(checkpoint: str, setting: SamplerConfig) -> str:
    """The lines that draw samples with a solver alone."""
    return (
        "from e2crf_core import Sampler, load_checkpoint\n"
        f"model = load_checkpoint({checkpoint!r})\n"
        f"settings = {{'steps': {setting.steps}, 'solver': {setting.solver!r}, 'grid': {setting.grid!r}}}\n"
        "sampler = Sampler(model, cached=False, **settings)\n"
        "series = sampler.sample(num=16, seed=0).series\n"
    )


def run_spec(record: Record, point: Point, checkpoint: str) -> RunSpec:
    """The run that draws the first batch of a trial again: same solver, grid, steps, policy and noise.

    No cache at all is the policy that computes everything, so that there are decisions to record.
    """
    setting = point.setting
    return RunSpec(
        checkpoint,
        record.spec.batch,
        record.spec.seed,
        SamplerConfig(setting.policy or PRESETS["exact"], setting.steps, setting.solver, setting.grid),
        compare=False,
    )


def point_view(name: str, record: Record, point: Point, attempt: Attempt, quiet: bool) -> None:
    """Everything about a point; `quiet` says that nothing is measured at present."""
    checkpoint = checkpoint_of(record.digest)
    _figures(record, point)
    if checkpoint is None:
        st.warning("The checkpoint of this study is not here, or has changed: nothing more can be measured.")
    _actions(name, record, point, checkpoint, quiet)
    if not point.complete:
        st.caption(
            f":material/info: It ended early: trial {point.beaten_by} is cheaper and certainly better. It cannot be "
            "deployed from here."
        )
        return
    left, right = st.columns(2, gap="large")
    with left:
        _warnings(name, record, point, checkpoint is not None, attempt, quiet)
    with right:
        _deploy(name, record, point, checkpoint, attempt, quiet)


def _figures(record: Record, point: Point) -> None:
    last, reference = point.last, record.reference
    assert reference is not None
    origin = "" if point.origin in ("search", "reference") else f" · {point.origin}"
    st.markdown(f"##### {name_of(point)}{origin}")
    st.markdown(point.setting.describe())
    a, b, c, d = st.columns(4)
    value, low, high = cost_of(last, "seconds")
    with a:
        st.metric(
            "Time of a sample", f"{figure(value)} ms", help="Median over batches; below, the range seen."
        )
        ratio = reference.last.seconds / last.seconds
        st.caption(
            f"{figure(low)} to {figure(high)} ms"
            + ("" if point.number == REFERENCE else f" · {figure(ratio)}× the reference's speed")
        )
    with b:
        st.metric("Operations of a sample", f"{figure(last.flops / 1e9)} GFLOP")
        st.caption(f"{100 * last.flop_share:.3g}% of the same solver without a cache")
    relative = record.spec.quality == "relative_l2"
    with c:
        label = "Relative L2 to the twin" if relative else "Sliced Wasserstein"
        st.metric(label, f"{last.quality:.4g}", help="Below, the 95% interval.")
        floor = "" if record.floor is None else f" · real against real {record.floor:.3g}"
        st.caption(f"{last.low:.3g} to {last.high:.3g}, {last.num} samples{floor}")
    with d:
        change = change_of(point, reference)
        if relative or change is None or point.number == REFERENCE:
            st.metric("Tokens computed", f"{100 * last.token_share:.3g}%")
            st.caption("of a run without a cache")
        else:
            st.metric(
                "Against uncached",
                f"{change[0]:+.3g}%",
                help="Change of the distance against the uncached reference on the same samples, with a 95% interval "
                "of its own. Positive is worse.",
            )
            st.caption(
                f"{change[1]:+.3g}% to {change[2]:+.3g}% · {100 * last.token_share:.3g}% of tokens computed"
            )


# ---- look at it


def _actions(name: str, record: Record, point: Point, checkpoint: str | None, quiet: bool) -> None:
    key = (name, point.number)
    policy = point.setting.policy
    with st.container(horizontal=True, vertical_alignment="center", key="tune_actions"):
        if checkpoint is not None:
            _anatomy(key, record, point, checkpoint, quiet)
            _live(point.setting, checkpoint)
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


def _anatomy(key: tuple[str, int], record: Record, point: Point, checkpoint: str, quiet: bool) -> None:
    begun = st.session_state.get("tune.run")
    run = RUNS.get(begun[1]) if begun is not None and begun[0] == key else None
    if run is not None and run.status not in FINISHED:
        _recording(run.id)
        return
    if run is not None and run.status == "done":
        archived = archive_name(run)
        if any(entry.name == archived for entry in STORE.list()):
            st.page_link(
                "anatomy.py",
                label="See every step in Anatomy",
                icon=":material/biotech:",
                query_params={"run": archived},
            )
            return
        _recording(run.id)
        return
    if run is not None:
        st.error(run.error or "The run ended early.")

    def start() -> None:
        try:
            run = RUNS.start(run_spec(record, point, checkpoint))
            st.session_state["tune.run"] = (key, run.id)
        except LabError as fault:
            st.session_state["tune.fault"] = str(fault)

    st.button(
        "Open in Anatomy",
        icon=":material/biotech:",
        key="tune.anatomy",
        on_click=start,
        disabled=not quiet,
        help=f"Draws the first {record.spec.batch} samples of this trial again, and keeps what was decided at every "
        f"step. About {max(1.0, point.last.seconds * record.spec.batch):.0f} s."
        if quiet
        else BUSY,
    )


@st.fragment(run_every=TICK_S)
def _recording(run_id: str) -> None:
    """Progress of the run that is recorded; draws the page anew when it is kept."""
    run = RUNS.get(run_id)
    if run is None or run.status in FINISHED:
        if run is None or run.status != "done":
            st.rerun(scope="app")
        archived = archive_name(run)
        if any(entry.name == archived for entry in STORE.list()):
            st.rerun(scope="app")
        st.caption("Keeping the record")
        return
    run.touch()
    left = run.eta_s
    st.progress(
        run.progress, f"Recording {run.progress:.0%}" + ("" if left is None else f", {left:.0f} s left")
    )


def _live(setting: SamplerConfig, checkpoint: str) -> None:
    fits = (
        setting.policy is not None
        and (setting.solver, setting.grid) == LIVE_PLAN
        and LIVE_STEPS[0] <= setting.steps <= LIVE_STEPS[1]
    )
    pressed = st.button(
        "Use on the Live page",
        icon=":material/play_circle:",
        key="tune.live",
        disabled=not fits,
        help="Opens the Live page with this checkpoint, policy and number of steps."
        if fits
        else "The Live page runs cached Euler-Maruyama on the linear grid; this setting is another one.",
    )
    if pressed:
        st.session_state.pop("run", None)
        st.session_state.update(checkpoint=checkpoint, policy=setting.policy, steps=setting.steps)
        st.switch_page("live.py")


# ---- what to beware of


def _warnings(name: str, record: Record, point: Point, able: bool, attempt: Attempt, quiet: bool) -> None:
    st.markdown(
        "##### Before you deploy it",
        help="Measures what a warning needs: which fields of the policy never change a decision, what ±20% of the "
        "threshold does to the quality on the same samples, and how fast the solver alone is.",
    )
    job = advice_job(point.number)
    if _in_progress(name, job, "Measuring its neighbors and its knobs"):
        return
    advice = advice_of(name, point.number)
    if advice is None:
        st.caption(
            "Not measured yet: knobs that do nothing here, a cliff beside the threshold, a cache slower than none, too "
            "few samples."
        )
        runs = 2 * record.spec.num * point.last.seconds + 14 * point.last.seconds * 2
        st.button(
            "Measure warnings",
            icon=":material/troubleshoot:",
            key="tune.advise",
            disabled=not (quiet and able),
            on_click=attempt,
            args=(lambda: study_job.JOBS.advise(name, point.number),),
            help=f"About {runs + 3:.0f} s." if quiet else BUSY,
        )
        return
    for caution in advice.warnings:
        if not caution.kind.startswith("inert"):
            st.warning(caution.text, icon=":material/warning:")
    if advice.inert:
        st.markdown("**Knobs that do nothing here** (they never changed a decision)")
        st.markdown("\n".join(f"- `{knob.field}`: {knob.why}" for knob in advice.inert))
    if not advice.warnings:
        st.success("Nothing to warn of was found.", icon=":material/check:")


def _in_progress(name: str, job: str, text: str) -> bool:
    """Draw a job that is at work, or why it failed; False where the page should offer it."""
    state = study_job.JOBS.state(name, job)
    if state is not None and state.running:
        _job_progress(name, job, text)
        return True
    if state is not None and state.status == "failed":
        st.error(f"Failed: {state.error}")
    elif state is not None and state.status in ("stopped", "interrupted"):
        st.caption(f"It was {state.status}.")
    return False


@st.fragment(run_every=TICK_S)
def _job_progress(name: str, job: str, text: str) -> None:
    state = study_job.JOBS.state(name, job)
    if state is None or not state.running:
        st.rerun(scope="app")
        return
    left = state.seconds_left
    said = f", about {minutes_text(left)} left" if left is not None else ""
    st.progress(min(1.0, state.share), f"{text}{said}" if state.share else "Loading the network")
    st.button(
        "Cancel", icon=":material/stop:", key=f"cancel.{job}", on_click=study_job.JOBS.stop, args=(name, job)
    )


# ---- into production


def _deploy(
    name: str, record: Record, point: Point, checkpoint: str | None, attempt: Attempt, quiet: bool
) -> None:
    st.markdown(
        "##### Deploy",
        help="A policy card states the policy, the checkpoint's hash, solver, steps and device, speed and quality "
        "measured on fresh noise with intervals, and the range in which it counts as unchanged.",
    )
    if point.setting.policy is None:
        st.markdown("This is a solver without a cache: it needs no policy and no card. These lines run it:")
        st.code(solver_code(checkpoint or "CHECKPOINT", point.setting), language="python", wrap_lines=True)
        return
    if _in_progress(name, f"card-{point.number}", "Measuring on fresh noise, beside the uncached twin"):
        return
    folder = card_of(name, point.number)
    if folder is not None:
        try:
            _card(folder, load_policy(folder / "card.json"))
        except LabError as fault:
            st.error(f"{fault}. Make it again.")
    num = st.number_input(
        "Samples to measure on",
        record.spec.batch,
        4096,
        value=record.spec.num,
        step=record.spec.batch,
        key="tune.card.num",
        width=220,
    )
    assert record.reference is not None
    share = max(point.last.flop_share, 1e-6)
    about = num * point.last.seconds * (1 + 1 / share)
    st.button(
        "Make the policy card" if folder is None else "Make it again",
        type="primary" if folder is None else "secondary",
        icon=":material/verified:",
        key="tune.card",
        disabled=not quiet or checkpoint is None,
        on_click=attempt,
        args=(
            lambda: study_job.JOBS.make_card(
                name, point.number, num=int(num), seed=_fresh(record), batch=record.spec.batch
            ),
        ),
        help=f"Draws {num} samples with and without the cache from noise that no trial has seen (seed "
        f"{_fresh(record)}). Up to about {about + 3:.0f} s."
        if quiet
        else BUSY,
    )


def _fresh(record: Record) -> int:
    return (record.spec.seed + FRESH_SEED) % 2**31


def _card(folder: Path, card: PolicyCard) -> None:
    m = card.measured
    wall = m.speedup_wall
    twin = m.relative_l2
    st.markdown(
        f"On {m.num} fresh samples (seed {m.seed}): **{spanned((wall.value, wall.low, wall.high), unit=' times')}** as "
        f"fast as the same solver without a cache, relative L2 to it **{spanned((twin.value, twin.low, twin.high))}**"
        + (
            ""
            if m.sliced_wasserstein is None
            else ", sliced Wasserstein "
            f"{spanned((m.sliced_wasserstein.value, m.sliced_wasserstein.low, m.sliced_wasserstein.high))}"
        )
        + "."
    )
    with st.container(horizontal=True):
        for file, label, mime in (
            ("card.json", "Card (JSON)", "application/json"),
            ("card.html", "Card (HTML)", "text/html"),
        ):
            st.download_button(
                label,
                (folder / file).read_bytes,
                file,
                mime,
                on_click="ignore",
                icon=":material/download:",
                key=f"tune.{file}",
            )
    path = str(folder / "card.json")
    st.caption("Run it in a program of yours:")
    st.code(usage(path), language="python", wrap_lines=True)
    st.caption("A gate for your tests: measures again, and fails when quality or speed fell out of range.")
    st.code(f"python -m e2crf_core check --card {shlex.quote(path)}", language="sh", wrap_lines=True)
