"""Lessons that measure: error feedback, and a cache compared with fewer steps."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from e2crf_core.caching.policy import CachePolicy
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.diffusion.solvers import make_plan
from e2crf_core.models.checkpoints import list_checkpoints
from e2crf_core.report.charts import ChartPoint, pareto_chart
from pages.ui.common import library
from pages.ui.common.charts import Line, line_chart, lines_frame, pair_chart
from pages.ui.common.downloads import chart
from pages.ui.common.messages import NO_NETWORK, plain_text
from pages.ui.common.query_params import note, recall
from pages.ui.common.theme import palette
from pages.ui.lessons.lesson_data import (
    FEEDBACK,
    FEWER_NUM,
    FEWER_STEPS,
    MEETING_FINE,
    Cost,
    Feedback,
    Meeting,
    feedback_runs,
    fewer_runs,
    meeting_runs,
)
from pages.ui.lessons.lesson_texts import Text


def checkpoint_choice() -> str | None:
    """Draw the choice of the network to measure; None when there is none."""
    names = list_checkpoints()
    if not names:
        st.warning(NO_NETWORK)
        return None
    unknown = recall("checkpoint", names)
    if unknown:
        st.warning(f"There is no checkpoint '{plain_text(unknown)}'.")
    name = st.selectbox("Checkpoint", names, key="checkpoint", width=340)
    note("checkpoint", name, names[0])
    return name


def symbols(rows: Sequence[tuple[str, str, str]]) -> None:
    """Draw the symbols of the formula with their values in this run."""
    st.markdown("  ·  ".join(f"**{letter}** = {value} ({what})" for letter, value, what in rows))


def measured(text: Text, name: str) -> Any:
    """Return the results of a lesson's experiment on a network, once the visitor has asked for them."""
    key = f"lesson.{text.key}.{name}.{library.model(name).digest()[:12]}"
    if key not in st.session_state:
        if not st.button("Run it", type="primary", icon=":material/play_arrow:"):
            st.info("Press **Run it**: real runs on this machine, which take a few seconds to a minute.")
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
    """Compare feedback off and on with the run without a cache."""
    name = checkpoint_choice()
    runs: list[Feedback] | None = measured(text, name) if name is not None else None
    if not runs:
        return
    colors = palette()
    above = [Line(r.name, r.log_snr, r.error.clip(1e-4), colors[i]) for i, r in enumerate(runs)]
    below = [Line(r.name, r.log_snr, np.cumsum(r.share), colors[i]) for i, r in enumerate(runs)]
    plot = pair_chart(
        above,
        below,
        x_title="log(a/s): from noise (left) to data (right)",
        y_titles=("error of D", "full calls so far"),
        log_upper=True,
    )
    chart(plot, "feedback", lines_frame(above, below, ("log_snr", "error", "full_calls")))
    correcting, adapting = (
        next((r for r in runs if word in r.name), runs[-1]) for word in ("correct", "adapt")
    )
    policies = (FEEDBACK.get(run.name, CachePolicy()) for run in (correcting, adapting))
    alpha, budget = next(policies).alpha, next(policies).error_budget
    r, tau = float(np.nanmedian(correcting.r)), adapting.tau[1:]
    symbols(
        (
            ("r", f"{r:.3g}", "event intensity, median while correcting"),
            ("|ρ| / |C|", f"{np.sqrt(r):.3g}", "residual of a recompute, the square root of r"),
            ("α", f"{alpha:g}", "upper bound of the gain"),
            ("min(α, r/2)", f"{min(alpha, r / 2):.3g}", "typical gain in use"),
            ("b", f"{budget:g}", "error budget"),
            ("err", f"{np.median(adapting.error):.3g}", "error of D while adapting, median"),
            ("τ", f"{tau.min():.3g} to {tau.max():.3g}", "as it was adapted"),
        )
    )
    rows = [(r.name, f"{r.share.mean():.1%}", f"{r.relative_l2:.4f}") for r in runs]
    st.dataframe(
        pd.DataFrame(rows, columns=["Policy", "Tokens computed", "Relative L2 at the end"]), hide_index=True
    )


def fewer_lesson(text: Text) -> None:
    """Show caches and short solvers on one axis of cost."""
    name = checkpoint_choice()
    results = measured(text, name) if name is not None else None
    if not results:
        return
    ways: list[Cost] = results[0]
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
    plot = pareto_chart(
        points,
        x_title="full network calls per sample",
        y_title="sliced Wasserstein to held-out series",
        floor=floor,
    )
    colors = palette()
    for trace in plot.data:
        if trace.name in {way.family for way in ways}:
            trace.marker.color = colors[list(dict.fromkeys(way.family for way in ways)).index(trace.name)]
            trace.marker.line = {}
    plot.update_layout(template=None)
    rows = [
        (w.family, w.name, w.calls, w.seconds, w.quality.value, w.quality.low, w.quality.high) for w in ways
    ]
    columns = ["family", "setting", "full calls", "seconds", "sliced Wasserstein", "low", "high"]
    chart(plot, "fewer", pd.DataFrame(rows, columns=columns))
    st.caption(
        f"{FEWER_NUM} samples each, from one seed; the cached sampler takes {FEWER_STEPS} steps. The 95% "
        "intervals mostly overlap at this size: do not rank settings whose intervals overlap. The "
        "**Compare** page draws more samples."
    )
    meeting_chart(library.model(str(name)), results[1])


def meeting_chart(model: ScoreModel, meeting: Sequence[Meeting]) -> None:
    """Show that extrapolating over a fine Euler grid approaches the multistep solver."""
    st.markdown("##### The same idea: a cache that continues F approaches a multistep solver")
    st.markdown(
        f"A fine Euler grid (DDIM, {MEETING_FINE} steps for each network call) whose F is **held** between "
        "the calls stays away from the multistep solver. **Continue** F along its last difference instead, "
        "and the same grid approaches that solver: the more calls, the closer. The rest of the gap has two "
        "reasons: the cache continues F while the solver continues D, and the fine Euler steps have an error "
        "of their own."
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
    plot = line_chart(
        lines, x_title="network calls", y_title="relative L2 to DPM-Solver++(2M), equal calls", log=True
    )
    frame = pd.DataFrame([dataclasses.asdict(m) for m in meeting])
    chart(plot, "meeting", frame)
    grid = make_plan(model.schedule, meeting[-1].calls, "dpmpp_2m", "log_snr")
    levels = [model.schedule.log_snr(row.t) for row in grid.rows]
    symbols(
        (
            ("λ", f"{levels[0]:.2f} to {levels[-1]:.2f}", "log(a/s), from noise to data"),
            ("λᵢ − λᵢ₋₁", f"{levels[1] - levels[0]:.3f}", f"between calls, at {meeting[-1].calls} calls"),
            ("gap of F held", f"{meeting[-1].held:.3g}", f"to 2M, at {meeting[-1].calls} calls"),
            ("gap of F continued", f"{meeting[-1].continued:.3g}", f"to 2M, at {meeting[-1].calls} calls"),
        )
    )
