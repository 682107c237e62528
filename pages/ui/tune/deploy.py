"""Deploying a trial: its warnings, and the policy card with the lines that run it."""

import shlex
from pathlib import Path

import streamlit as st

from e2crf_core.deploy.card import PolicyCard, load_policy, usage
from e2crf_core.deploy.measure import cautions
from e2crf_core.errors import LabError
from e2crf_core.network.backends import AUTO, BACKENDS
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.tuning.measure import Point
from e2crf_core.tuning.record import Record
from pages.ui.common.messages import minutes_text, plain_text, say
from pages.ui.tune import study_job
from pages.ui.tune.progress import attempt
from pages.ui.tune.study_files import Advice, advice_job, advice_of, card_job, card_of
from pages.ui.tune.study_values import spanned

TICK_S = 0.5
FRESH_SEED = 1000
"""Far from common tuning seeds: the best of many trials looks better on its own noise than it is."""
DEFAULT_BACKEND = "eager"
BUSY = "A study is being measured. Only one job measures at a time, so that times are accurate."


def solver_code(checkpoint: str, setting: SamplerConfig) -> str:
    """Return the lines that draw samples with a solver alone."""
    return (
        "from e2crf_core import Sampler, load_checkpoint\n"
        f"model = load_checkpoint({checkpoint!r})\n"
        f"settings = {{'steps': {setting.steps}, 'solver': {setting.solver!r}, 'grid': {setting.grid!r}}}\n"
        "sampler = Sampler(model, policy=None, **settings)\n"
        "series = sampler.sample(num=16, seed=0).series\n"
    )


def warnings(name: str, record: Record, point: Point, *, able: bool, quiet: bool) -> None:
    """Draw the warnings of a trial, or offer to measure them."""
    st.markdown(
        "##### Before you deploy it",
        help="Measures what a warning needs: which fields of the policy never change a decision, what ±20% "
        "of the threshold does to quality on the same samples, and how fast the solver is without a cache.",
    )
    job = advice_job(point.number)
    if in_progress(name, job, "Measuring neighboring settings and unused fields"):
        return
    advice = advice_of(name, point.number)
    if advice is not None:
        _show_advice(advice)
        return
    st.caption(
        "Not measured yet: fields that have no effect here, a cliff next to the threshold, a cache slower "
        "than none, too few samples."
    )
    seconds = (2 * record.spec.num + 28) * point.last.seconds + 3
    st.button(
        "Measure warnings",
        icon=":material/troubleshoot:",
        key="tune.advise",
        disabled=not (quiet and able),
        on_click=attempt,
        args=(lambda: study_job.JOBS.advise(name, point.number),),
        help=f"About {seconds:.0f} s." if quiet else BUSY,
    )


def _show_advice(advice: Advice) -> None:
    for caution in advice.warnings:
        if not caution.kind.startswith("inert"):
            st.warning(plain_text(caution.text), icon=":material/warning:")
    if advice.inert:
        st.markdown("**Fields that have no effect here** (they never changed a decision)")
        st.markdown("\n".join(f"- `{field.field}`: {plain_text(field.why)}" for field in advice.inert))
    if not advice.warnings:
        st.success("No reason for a warning was found.", icon=":material/check:")


def in_progress(name: str, job: str, text: str) -> bool:
    """Draw a running job, or why it failed; False when the page should offer it."""
    state = study_job.JOBS.state(name, job)
    if state is not None and state.running:
        _job_progress(name, job, text)
        return True
    if state is not None and state.status == "failed":
        st.error(f"Failed: {say(state.error)}")
    elif state is not None and state.status in ("stopped", "interrupted"):
        st.caption(f"It was {state.status}.")
    return False


@st.fragment(run_every=TICK_S)
def _job_progress(name: str, job: str, text: str) -> None:
    state = study_job.JOBS.state(name, job)
    if state is None or not state.running:
        st.rerun(scope="app")
    left = "" if state.seconds_left is None else f", about {minutes_text(state.seconds_left)} left"
    st.progress(state.share, f"{text}{left}" if state.share else "Loading the network")
    st.button(
        "Cancel", icon=":material/stop:", key=f"cancel.{job}", on_click=study_job.JOBS.stop, args=(name, job)
    )


def deploy(name: str, record: Record, point: Point, checkpoint: str | None, *, quiet: bool) -> None:
    """Draw the policy card of a trial and offer to make it; a solver alone needs none."""
    st.markdown(
        "##### Deploy",
        help="A policy card states the policy, the checkpoint's hash, solver, steps and device, the speed "
        "and quality measured on fresh noise with intervals, and the range within which they count as "
        "unchanged.",
    )
    if point.setting.policy is None:
        st.markdown("This is a solver without a cache: it needs no policy and no card. These lines run it:")
        st.code(solver_code(checkpoint or "CHECKPOINT", point.setting), language="python", wrap_lines=True)
        return
    if in_progress(name, card_job(point.number), "Measuring on fresh noise, next to the uncached twin"):
        return
    folder = card_of(name, point.number)
    if folder is not None:
        try:
            _card(folder, load_policy(folder / "card.json"))
        except LabError as fault:
            st.error(f"{say(fault)} Make the card again.")
    _card_button(name, record, point, able=checkpoint is not None, quiet=quiet, first=folder is None)


def _card_button(name: str, record: Record, point: Point, *, able: bool, quiet: bool, first: bool) -> None:
    num = st.number_input(
        "Samples to measure",
        record.spec.batch,
        4096,
        value=record.spec.num,
        step=record.spec.batch,
        key="tune.card.num",
        width=220,
    )
    backend = st.selectbox(
        "Backend",
        (DEFAULT_BACKEND, AUTO, *(one for one in BACKENDS if one != DEFAULT_BACKEND)),
        key="tune.card.backend",
        width=220,
        help="What runs the network wherever all of it is called: "
        + "; ".join(f"**{one}**: {about}" for one, about in BACKENDS.items())
        + f"; **{AUTO}**: the fastest float32 one, measured for two seconds. The card states speed and quality on it.",
    )
    seed = (record.spec.seed + FRESH_SEED) % 2**31
    seconds = num * point.last.seconds * (1 + 1 / max(point.last.flop_share, 1e-6)) + 3
    st.button(
        "Make the policy card" if first else "Make it again",
        type="primary" if first else "secondary",
        icon=":material/verified:",
        key="tune.card",
        disabled=not (quiet and able),
        on_click=attempt,
        args=(
            lambda: study_job.JOBS.make_card(name, point.number, num=int(num), seed=seed, backend=backend),
        ),
        help=f"Draws {num} samples with and without the cache from noise that no trial has seen (seed "
        f"{seed}). Takes up to {seconds:.0f} s."
        if quiet
        else BUSY,
    )


def _card(folder: Path, card: PolicyCard) -> None:
    m = card.measured
    error = m.relative_l2 if m.twin is None else m.twin.median
    speed, twin = ((x.value, x.low, x.high) for x in (m.speedup_wall, error))
    st.markdown(
        f"On {m.num} fresh samples (seed {m.seed}): **{spanned(speed, unit=' times')}** as fast as the same "
        f"solver without a cache; the median sample's relative L2 to it is **{spanned(twin)}**."
    )
    if card.config.backend != DEFAULT_BACKEND:
        st.markdown(f"The network runs on the backend **{card.config.backend}**.")
    if m.judgment is not None:
        st.markdown(
            f"Distance to real data, compared with no cache: **{m.judgment.verdict}**"
            f" ({m.judgment.describe()})."
        )
    for note in cautions(card):
        st.warning(plain_text(f"{note[:1].upper()}{note[1:]}."), icon=":material/warning:")
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
    st.caption("Run it in your own program:")
    st.code(usage(path), language="python", wrap_lines=True)
    st.caption(
        "Check it in your tests: this command measures again and fails if quality or speed is out of range."
    )
    st.code(f"python -m e2crf_core check --card {shlex.quote(path)}", language="sh", wrap_lines=True)
