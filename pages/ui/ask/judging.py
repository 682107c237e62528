"""How good such answers are: the same question about many held-out windows, beside naive answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from e2crf_core.data.datasets import Dataset
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.progress import Cancel, Progress
from e2crf_core.quality.interval import Interval
from e2crf_core.questions.heldout import HeldoutScores, judge
from pages.ui.ask.answers import job_state
from pages.ui.ask.plots import judgment_chart
from pages.ui.ask.work import JOBS, Drawing
from pages.ui.common.downloads import chart
from pages.ui.common.messages import say
from pages.ui.common.theme import palette
from pages.ui.jobs.thread_job import ThreadJob

JOB = "ask.judgment"
DRAWS = 20
SEED = 1_000_003
"""Seed of windows and draws, apart from those that a visitor is likely to look at."""


def judging_panel(
    checkpoint: str, model: ScoreModel, data: Dataset | None, known: np.ndarray, drawing: Drawing
) -> None:
    """Offer to measure the same question on held-out windows, and show what was measured."""
    st.markdown(
        "##### How good are such answers?",
        help="Hides the same part of many held-out windows, whose truth is known, and compares the answers "
        "with those of simple methods that need no network.",
    )
    if data is None:
        st.info("The data set that this model was trained on is not here, so its answers cannot be judged.")
        return
    windows = min(24, len(data.heldout))
    key = (checkpoint, data.name, known.tobytes(), drawing.config)
    kept = st.session_state.get(JOB)
    job: ThreadJob[HeldoutScores] | None = kept[1] if kept and kept[0] == key else None
    if job is not None and job.result is not None:
        judgment_view(job.result, data)
        return
    if job is not None:
        job_state(job, f"Answering for {windows} held-out windows")
        if job.status == "running":
            return
    if not st.button(f"Measure on {windows} held-out windows", icon=":material/straighten:", key="ask.judge"):
        return
    try:
        st.session_state[JOB] = key, JOBS.start(_work(model, data, known, windows, drawing))
        st.rerun()
    except LabError as fault:
        st.error(say(fault))


def _work(model: ScoreModel, data: Dataset, known: np.ndarray, windows: int, drawing: Drawing) -> Any:
    def work(progress: Progress, cancelled: Cancel) -> HeldoutScores:
        return judge(
            model,
            data,
            known,
            windows=windows,
            draws=DRAWS,
            seed=SEED,
            config=drawing.config,
            progress=progress,
            cancelled=cancelled,
        )

    return work


def spread(value: Interval, form: str) -> str:
    """Return a value with its interval."""
    return f"{value.value:{form}} ({value.low:{form}} to {value.high:{form}})"


def verdict(judgment: HeldoutScores) -> str:
    """Return what was measured in a sentence."""
    best, ratio = judgment.best, judgment.ratio
    if ratio is None:
        return f"The best answer without a network, **{best.name}**, makes no error on some windows."
    gain = f"{abs(1 - ratio.value):.0%} {'below' if ratio.value < 1 else 'above'}"
    sure = "" if ratio.high < 1 or ratio.low > 1 else ", which may be chance"
    return (
        f"The model's CRPS is **{gain}** that of the best answer without a network, {best.name}{sure}: "
        f"ratio {spread(ratio, '.2f')}."
    )


def judgment_view(judgment: HeldoutScores, data: Dataset) -> None:
    """Draw a judgment: a sentence, a chart and a table."""
    ours = judgment.scores[0].coverage
    assert ours is not None
    inside = f"**{ours.value:.0%}** of the hidden values are inside its 90% bands ({ours.low:.0%} to {ours.high:.0%})"
    honest = "." if 0.85 <= ours.value <= 0.95 else ": take the bands as too "
    if honest != ".":
        honest += "narrow." if ours.value < 0.85 else "wide."
    st.markdown(f"{verdict(judgment)} {inside}{honest}")
    frame = pd.DataFrame(
        [
            {
                "answer": score.name,
                "crps": score.crps.value,
                "crps low": score.crps.low,
                "crps high": score.crps.high,
                "coverage of 90%": np.nan if score.coverage is None else score.coverage.value,
            }
            for score in judgment.scores
        ]
    )
    chart(judgment_chart(judgment, palette()), "ask-judgment", frame)
    rows = [
        (
            score.name,
            spread(score.crps, ".3f"),
            "" if score.coverage is None else f"{score.coverage.value:.0%}",
        )
        for score in judgment.scores
    ]
    st.dataframe(
        pd.DataFrame(rows, columns=["Answer", "CRPS", "In 90% band"]),
        hide_index=True,
        alt="CRPS and coverage of the model and of answers without a network",
    )
    st.caption(
        f"{judgment.windows} held-out windows of {data.name}, {judgment.draws} draws each, all with the same "
        "part hidden. CRPS is in standard deviations of the data; in parentheses, 95% bootstrap intervals over "
        "windows. The Gaussian process knows only the mean and variance of each frequency (E3)."
    )
