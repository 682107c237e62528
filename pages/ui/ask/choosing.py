"""What a good answer costs: ways to answer on the plane of CRPS against whole forwards, and one that is proposed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from e2crf_core.data.datasets import Dataset
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.io.packet import pack
from e2crf_core.progress import Cancel, Progress
from e2crf_core.quality.interval import Interval
from e2crf_core.quality.pareto import pareto_front
from e2crf_core.questions.choosing import MARGIN, ChosenWay, MeasuredWay, choose
from e2crf_core.sampling.config import SamplerConfig
from pages.ui.ask.answers import job_state
from pages.ui.ask.ways import NONE, TUNED, WAY
from pages.ui.ask.work import JOBS, Drawing
from pages.ui.common.components import tune_board
from pages.ui.common.downloads import data_buttons
from pages.ui.common.messages import say
from pages.ui.jobs.thread_job import ThreadJob

JOB = "ask.choice"
USED = "ask.used"
PICKED = "ask.picked"
PLANE = "ask.plane"
WINDOWS = 24
SEED = 2_000_003
"""Seed of windows and draws, apart from those of answers and judgments."""
HEIGHT = 380


def tuned_way(checkpoint: str, known: np.ndarray) -> SamplerConfig | None:
    """Return the way that the visitor took over for this question, None without one."""
    used = st.session_state.get(USED)
    return used[1] if used and used[0] == (checkpoint, known.tobytes()) else None


def choosing_panel(
    checkpoint: str, model: ScoreModel, data: Dataset | None, known: np.ndarray, drawing: Drawing
) -> None:
    """Offer to compare ways to answer this question on held-out windows, and show what was measured."""
    if data is None:
        return
    st.markdown(
        "##### What does a good answer cost?",
        help="Answers the same question about held-out windows through caches, with fewer steps, and with every "
        "step uncached, and compares CRPS with the work of the network.",
    )
    key = (checkpoint, data.name, known.tobytes(), drawing.plan)
    kept = st.session_state.get(JOB)
    job: ThreadJob[ChosenWay] | None = kept[1] if kept and kept[0] == key else None
    if job is not None and job.result is not None:
        choice_view(job.result, data, (checkpoint, known.tobytes()))
        return
    if job is not None:
        job_state(job, "Comparing ways to answer")
        if job.status == "running":
            return
    if not st.button(
        "Compare ways to answer",
        icon=":material/balance:",
        key="ask.choose",
        help="Takes about three times as long as the measurement above.",
    ):
        return

    def work(progress: Progress, cancelled: Cancel) -> ChosenWay:
        return choose(
            model,
            data,
            known,
            reference=drawing.plan,
            windows=WINDOWS,
            seed=SEED,
            progress=progress,
            cancelled=cancelled,
        )

    try:
        st.session_state[JOB] = key, JOBS.start(work)
        st.session_state.pop(PICKED, None)
        st.rerun()
    except LabError as fault:
        st.error(say(fault))


def choice_view(choice: ChosenWay, data: Dataset, question: tuple[str, bytes]) -> None:
    """Draw what was measured: the plane, the proposal, a table, and a way to take one over."""
    proposal = choice.proposal
    names = [measured.way.name for measured in choice.tried]
    proposed = None if proposal is None else names.index(proposal.way.name)
    picked = st.session_state.get(PICKED, proposed or 0)
    tune_board(key=PLANE, data=plane_packet(choice, data.name, proposed, picked), on_pick_change=_picked)
    st.markdown(f"{':material/target:' if proposal else ':material/warning:'} {verdict(choice)}")
    first, second = choice.windows
    st.caption(
        f"The plane shows {first} held-out windows of {data.name} on which ways were chosen; the verdict comes from "
        f"{second} others with other noise and {choice.draws} draws each. Ranges are 95% bootstrap intervals over "
        "windows. Fewer steps without a cache compete too, since they may do as well: on the shipped sets wind and "
        "household, 13 steps without a cache answered as well as the best cache of that cost; on stocks that is not "
        "certain."
    )
    way = choice.tried[picked].way
    st.button(
        f"Answer this way: {way.name}",
        icon=":material/check:",
        key="ask.use",
        on_click=_take_over,
        args=(question, way.config if picked else None),
    )
    frame = ways_frame(choice)
    st.dataframe(frame, hide_index=True, alt="CRPS, its change and the cost of each way to answer")
    with st.container(horizontal=True):
        data_buttons(frame, "ask-ways")


def _take_over(question: tuple[str, bytes], config: SamplerConfig | None) -> None:
    """Use a way for this question from now on, the reference if it is None."""
    st.session_state[USED] = question, config
    st.session_state[WAY] = TUNED if config else NONE


def _picked() -> None:
    message = getattr(st.session_state[PLANE], "pick", None)
    if message:
        st.session_state[PICKED] = int(message["number"])


def change(ratio: Interval) -> str:
    """Return the change of CRPS against the reference in percent, with its interval."""
    value, low, high = (100 * (part - 1) for part in (ratio.value, ratio.low, ratio.high))
    return f"{value:+.1f}% ({low:+.1f} to {high:+.1f})"


def verdict(choice: ChosenWay) -> str:
    """Return what was judged in a sentence or two."""
    whole, *rest = choice.judged
    proposal = choice.proposal
    if proposal is not None:
        others = [m for m in rest if m is not proposal and m.as_good]
        also = f" So does {others[0].way.name}, with {others[0].forwards:.1f}." if others else ""
        return (
            f"**Proposed: {proposal.way.name}.** It takes {proposal.forwards:.1f} whole forwards a draw instead of "
            f"{whole.forwards:.1f}, and its CRPS is certain to stay within {MARGIN:.0%}: "
            f"{change(proposal.ratio)}.{also}"
        )
    closest = "; ".join(f"{m.way.name}, {m.forwards:.1f} forwards, {change(m.ratio)}" for m in rest)
    return (
        f"**Keep {whole.way.name}.** Nothing cheaper is certain to keep CRPS within {MARGIN:.0%} on windows that did "
        f"not choose it: {closest}."
    )


def _lines(measured: MeasuredWay) -> list[str]:
    return [
        measured.way.name,
        f"CRPS {measured.crps.value:.3f}, {change(measured.ratio)}",
        f"{measured.forwards:.1f} whole forwards",
    ]


def plane_packet(choice: ChosenWay, name: str, proposed: int | None, selected: int) -> bytes:
    """Pack the change of CRPS against whole forwards of all ways that were tried."""
    points, places = [], {}
    for number, measured in enumerate(choice.tried):
        y, low, high = (
            100 * (v - 1) for v in (measured.ratio.value, measured.ratio.low, measured.ratio.high)
        )
        x = measured.forwards
        mark = "reference" if not number else "cached" if measured.way.cached else "solver"
        point = {"n": number, "x": x, "xl": x, "xh": x, "y": y, "yl": low, "yh": high}
        points.append({**point, "mark": mark, "complete": True, "text": _lines(measured)})
        places[number] = (x, y)
    front = sorted(pareto_front(places), key=lambda number: places[number])
    head = {
        "kind": "pareto",
        "key": f"ask-{name}",
        "height": HEIGHT,
        "alt": f"CRPS against cost of {len(points)} ways to answer. Use the arrow keys to move from one to the next.",
        "x": {"title": "network calls per draw (whole forwards, log scale)"},
        "y": {"title": "change in CRPS from uncached", "percent": True},
        "points": points,
        "front": front,
        "floor": None,
        "limit": 100 * MARGIN,
        "latency": None,
        "selected": selected,
        "chosen": proposed,
    }
    return pack(head, {})


def ways_frame(choice: ChosenWay) -> pd.DataFrame:
    """Return all measurements as a table: a row for each way and kind of windows."""
    rows = [
        {
            "way": measured.way.name,
            "windows": kind,
            "whole forwards": round(measured.forwards, 2),
            "CRPS": round(measured.crps.value, 4),
            "change of CRPS": change(measured.ratio),
        }
        for kind, part in (("to choose", choice.tried), ("to judge", choice.judged))
        for measured in part
    ]
    return pd.DataFrame(rows)
