"""Seven short lessons: from a spectrum to the question whether to cache or to take fewer steps."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from e2crf_core.caching.policy import CachePolicy
from e2crf_core.data.datasets import list_datasets
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.diffusion.solvers import make_plan
from e2crf_core.errors import LabError
from e2crf_core.models.checkpoints import list_checkpoints
from e2crf_core.report.charts import ChartPoint, pareto_chart
from pages.ui.common import library
from pages.ui.common import query_params as address
from pages.ui.common.components import lesson_canvas
from pages.ui.common.downloads import chart
from pages.ui.common.packet import pack
from pages.ui.common.recording import DEMO, demo_path, label, lesson_recording, open_run
from pages.ui.common.reference import reference_for
from pages.ui.common.registry import STORE
from pages.ui.common.series_charts import Line, line_chart, lines_frame, pair_chart
from pages.ui.common.theme import palette
from pages.ui.lessons.lesson_data import (
    FEEDBACK,
    FEWER_NUM,
    FEWER_STEPS,
    MEETING_FINE,
    Cost,
    Feedback,
    Meeting,
    change_recording,
    feedback_runs,
    fewer_runs,
    meeting_runs,
    series_packet,
)
from pages.ui.lessons.lesson_texts import TEXTS, Text


def go(place: int) -> None:
    """Open another lesson; what the last one put into the address goes."""
    kept = {key: st.query_params[key] for key in ("dataset", "checkpoint") if key in st.query_params}
    st.query_params.clear()
    st.query_params.update({"lesson": str(place + 1), **kept})


def shown() -> int:
    """Index of the lesson in the address."""
    asked = st.query_params.get("lesson", "1")
    place = int(asked) - 1 if asked.isdecimal() and len(asked) < 3 else 0
    return min(max(0, place), len(TEXTS) - 1)


def view() -> dict[str, str]:
    """What the address says of a lesson's controls."""
    return {key: value[:12] for key, value in st.query_params.items() if len(key) < 10}


def series_lesson(text: Text) -> None:
    """Lessons on real series."""
    names = list_datasets()
    refused = address.recall("dataset", names, "ecg")
    if refused:
        st.warning(f"There is no data set {refused!r}.")
    name = st.selectbox("Data", names, key="dataset", width=340)
    address.note("dataset", name, "ecg")
    lesson_canvas(key=f"lesson.{text.key}", data=series_packet(text.key, reference_for(name), view()))


def checkpoint_choice() -> str | None:
    """The network to measure; says what to do where there is none."""
    names = list_checkpoints()
    if not names:
        st.warning("This lesson measures a trained network, and there is none yet: train one first.")
        return None
    refused = address.recall("checkpoint", names)
    if refused:
        st.warning(f"There is no checkpoint {refused!r}.")
    name = st.selectbox("Network", names, key="checkpoint", width=340)
    address.note("checkpoint", name, names[0])
    return name


@st.cache_data(max_entries=6, show_spinner="Running the network without a cache, 200 steps")
def _change(name: str, digest: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    return change_recording(library.model(name), name)


def change_lesson(text: Text) -> None:
    """A real run, and what reusing its parts would have cost."""
    name = checkpoint_choice()
    if name is None:
        return
    header, arrays = _change(name, library.model(name).digest())
    lesson_canvas(key=f"lesson.{text.key}", data=pack({**header, "view": view()}, arrays))


def events_lesson(text: Text) -> None:
    """The published rule over a recorded run."""
    entries = {entry.name: entry for entry in STORE.list()}
    names = [*([DEMO] if demo_path().is_file() else []), *entries]
    if not names:
        st.info("This lesson needs a recorded run: start one on the **Live** page.")
        return
    address.recall("run", names)
    name = st.selectbox(
        "Recorded run",
        names,
        key="run",
        format_func=lambda n: label(entries[n]) if n in entries else "Demo: heartbeats",
        width=520,
    )
    address.note("run", name, names[0])
    header, arrays = lesson_recording(open_run(name))
    lesson_canvas(
        key=f"lesson.{text.key}",
        data=pack({**header, "lesson": text.key, "key": f"{text.key} {name}", "view": view()}, arrays),
    )


def symbols(rows: Sequence[tuple[str, str, str]]) -> None:
    """Letters of the formula beside their values in what was just run."""
    st.markdown("  ·  ".join(f"**{letter}** = {value} ({what})" for letter, value, what in rows))


def measured(text: Text, name: str) -> Any:
    """Results of a lesson's experiment on a network, once somebody has asked for them."""
    key = f"lesson.{text.key}.{name}.{library.model(name).digest()[:12]}"
    if key not in st.session_state:
        if not st.button("Run it", type="primary", icon=":material/play_arrow:"):
            st.info("Press **Run it**: real runs on this machine, some seconds to a minute.")
            return None
        bar = st.progress(0.0, "Starting")
        begin = time.monotonic()

        def progress(share: float, what: str) -> None:
            spent = time.monotonic() - begin
            left = f", about {spent * (1 - share) / share:.0f} s left" if share > 0.05 and spent > 2 else ""
            bar.progress(min(1.0, share), f"Running: {what}{left}. Leave the lesson to cancel.")

        model = library.model(name)
        if text.key == "feedback":
            st.session_state[key] = feedback_runs(model, progress)
        else:
            # The second experiment is the shorter one.
            meeting = meeting_runs(model, lambda share, what: progress(0.25 * share, what))
            data = library.dataset(model.dataset)
            ways = fewer_runs(model, data, lambda share, what: progress(0.25 + 0.75 * share, what))
            st.session_state[key] = (ways, meeting)
        bar.empty()
    return st.session_state[key]


def feedback_lesson(text: Text) -> None:
    """Feedback off and on, against the run without a cache."""
    name = checkpoint_choice()
    runs: list[Feedback] | None = measured(text, name) if name is not None else None
    if not runs:
        return
    colors = palette()
    above = [Line(r.name, r.log_snr, r.error.clip(1e-4), colors[i]) for i, r in enumerate(runs)]
    below = [Line(r.name, r.log_snr, np.cumsum(r.share), colors[i]) for i, r in enumerate(runs)]
    figure = pair_chart(
        above,
        below,
        x_title="log(a/s): noise to the left, data to the right",
        y_titles=("error of D", "full calls so far"),
        log_upper=True,
    )
    chart(figure, "feedback", lines_frame(above, below, ("log_snr", "error", "full_calls")))
    correcting, adapting = (
        next((r for r in runs if word in r.name), runs[-1]) for word in ("correct", "adapt")
    )
    policies = (FEEDBACK.get(run.name, CachePolicy()) for run in (correcting, adapting))
    alpha, budget = next(policies).alpha, next(policies).error_budget
    r, tau = float(np.nanmedian(correcting.r)), adapting.tau[1:]
    symbols(
        (
            ("r", f"{r:.3g}", "event intensity, median while correcting"),
            ("|ρ| / |C|", f"{np.sqrt(r):.3g}", "residual of a recompute, the root of r"),
            ("α", f"{alpha:g}", "upper bound of the gain"),
            ("min(α, r/2)", f"{min(alpha, r / 2):.3g}", "gain that was used, typically"),
            ("b", f"{budget:g}", "error budget"),
            ("err", f"{np.median(adapting.error):.3g}", "error of D while adapting, median"),
            ("τ", f"{tau.min():.3g} to {tau.max():.3g}", "as it was adapted"),
        )
    )
    rows = [(r.name, f"{r.share.mean():.1%}", f"{r.relative_l2:.4f}") for r in runs]
    st.dataframe(
        pd.DataFrame(rows, columns=["policy", "tokens computed", "relative L2 at the end"]), hide_index=True
    )


def fewer_lesson(text: Text) -> None:
    """Caches and short solvers on one axis."""
    name = checkpoint_choice()
    found = measured(text, name) if name is not None else None
    if not found:
        return
    ways: list[Cost] = found[0]
    points = [
        ChartPoint(
            way.name,
            way.calls,
            way.quality.value,
            way.quality.low,
            way.quality.high,
            way.family,
            note=f"{way.seconds:.2f} s",
        )
        for way in ways
    ]
    first = ways[0].quality
    floor = None if first.floor is None else (first.floor, first.floor, first.floor_high or first.floor)
    figure = pareto_chart(
        points,
        x_title="full network calls a sample",
        y_title="sliced Wasserstein to held-out series",
        floor=floor,
    )
    colors = palette()
    for trace in figure.data:
        if trace.name in {way.family for way in ways}:
            trace.marker.color = colors[list(dict.fromkeys(way.family for way in ways)).index(trace.name)]
            trace.marker.line = {}
    figure.update_layout(template=None)
    rows = [
        (w.family, w.name, w.calls, w.seconds, w.quality.value, w.quality.low, w.quality.high) for w in ways
    ]
    columns = ["family", "setting", "full calls", "seconds", "sliced Wasserstein", "low", "high"]
    chart(figure, "fewer", pd.DataFrame(rows, columns=columns))
    st.caption(
        f"{FEWER_NUM} samples each, from one seed; the sampler behind the cache takes {FEWER_STEPS} "
        f"steps. Intervals are 95% "
        "and mostly overlap at this size: ways whose intervals overlap must not be ranked. The Compare "
        "page takes more samples."
    )
    meeting_chart(library.model(str(name)), found[1])


def meeting_chart(model: ScoreModel, meeting: Sequence[Meeting]) -> None:
    """Extrapolating over a fine Euler grid, and the multistep solver: the gap closes."""
    st.markdown("##### The same idea: a cache that continues F, and a multistep solver, meet")
    st.markdown(
        f"A fine Euler grid (DDIM, {MEETING_FINE} steps for each network call) whose F is **held** between the "
        "calls keeps a distance from the multistep solver. **Continue** F along its last difference instead, and "
        "the same fine grid comes to that solver: the more calls, the closer. What remains is that the cache "
        "continues F and the solver continues D, and the error of the fine Euler steps themselves."
    )
    calls, colors = np.array([m.calls for m in meeting]), palette()
    names = {
        "held": "F held over a fine Euler grid",
        "continued": "F continued over a fine Euler grid",
        "first_order": "first-order solver, no cache",
    }
    lines = [
        Line(what, calls, np.array([getattr(m, name) for m in meeting]), colors[i])
        for i, (name, what) in enumerate(names.items())
    ]
    figure = line_chart(
        lines, x_title="network calls", y_title="relative L2 to DPM-Solver++(2M) of as many calls", log=True
    )
    frame = pd.DataFrame([dataclasses.asdict(m) for m in meeting])
    chart(figure, "meeting", frame)
    grid = make_plan(model.schedule, meeting[-1].calls, "dpmpp_2m", "log_snr")
    levels = [model.schedule.log_snr(row.t) for row in grid.rows]
    symbols(
        (
            ("λ", f"{levels[0]:.2f} to {levels[-1]:.2f}", "log(a/s) from noise to data"),
            ("λᵢ − λᵢ₋₁", f"{levels[1] - levels[0]:.3f}", f"between calls, at {meeting[-1].calls} calls"),
            ("gap of F held", f"{meeting[-1].held:.3g}", f"to 2M, at {meeting[-1].calls} calls"),
            ("gap of F continued", f"{meeting[-1].continued:.3g}", f"to 2M, at {meeting[-1].calls} calls"),
        )
    )


DRAW = {
    "spectrum": series_lesson,
    "mirror": series_lesson,
    "noise": series_lesson,
    "change": change_lesson,
    "events": events_lesson,
    "feedback": feedback_lesson,
    "fewer": fewer_lesson,
}


def page() -> None:
    """Lay the page out."""
    place = shown()
    text = TEXTS[place]
    with st.sidebar:
        st.markdown("**Lessons**, two to five minutes each")
        for i, other in enumerate(TEXTS):
            st.button(
                f"{i + 1}. {other.title}",
                key=f"lesson.{i}",
                on_click=go,
                args=(i,),
                type="primary" if i == place else "tertiary",
            )
    st.markdown(f"### {place + 1}. {text.title}")
    left, right = st.columns([11, 9], gap="large")
    with left:
        st.markdown(text.idea)
        st.markdown(f":material/touch_app: {text.attempt}")
    with right:
        lines = text.formula.replace(r",\qquad", r",\\[6pt]")
        st.latex(rf"\begin{{gathered}}{lines}\end{{gathered}}")
        st.caption(text.letters)
    try:
        DRAW[text.key](text)
    except LabError as fault:
        st.error(str(fault))
    with st.container(border=True):
        st.markdown(f":material/help: **{text.question}**")
        with st.expander("Show the answer"):
            st.markdown(text.answer)
    back, _, on = st.columns([1, 3, 1])
    if place:
        back.button(f"← {TEXTS[place - 1].title}", on_click=go, args=(place - 1,), width="stretch")
    if place < len(TEXTS) - 1:
        on.button(
            f"{TEXTS[place + 1].title} →", on_click=go, args=(place + 1,), width="stretch", type="primary"
        )


page()
