"""Learned scores of a finished comparison, on request, measured on a thread that reports progress."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from e2crf_core.data.datasets import Dataset
from e2crf_core.models.heldout import heldout_blocks
from e2crf_core.progress import Cancel, Progress
from e2crf_core.quality.learned_scores import FEWEST, NAMES, Learned, learned_scores
from pages.ui.common.downloads import data_buttons
from pages.ui.common.messages import say
from pages.ui.jobs.thread_job import ThreadJob

LearnedJob = ThreadJob[Learned]
STALE_S = 10.0


def start_scores(
    sets: Sequence[np.ndarray], data: Dataset, score: Callable[..., Learned] = learned_scores
) -> LearnedJob:
    """Measure standardized sets (S, N, M) on a thread; it ends by itself `STALE_S` after the last visit."""

    def work(progress: Progress, cancelled: Cancel) -> Learned:
        held, train = (data.standardize(data.x[part]) for part in (data.heldout, data.train))
        return score(
            [[x] for x in sets],
            held,
            train,
            blocks=heldout_blocks(data),
            progress=progress,
            cancelled=cancelled,
        )

    return ThreadJob(work, stale_s=STALE_S)


def scores_frame(names: Sequence[str], result: Learned) -> pd.DataFrame:
    """Return one row for each set and one for real training series, with the interval of every score."""
    scored: list[Any] = [*(sets[0] for sets in result.scores), result.floors]
    rows = []
    for name, values in zip([*names, "real training series"], scored, strict=True):
        row: dict[str, object] = {"setting": name}
        for score, (title, _) in NAMES.items():
            value = values[score]
            row |= {title: value.value, f"{title} low": value.low, f"{title} high": value.high}
        rows.append(row)
    return pd.DataFrame(rows)


def learned_panel(key: object, names: Sequence[str], sets: Sequence[np.ndarray], data: Dataset) -> None:
    """Offer the scores of standardized sets (S, N, M); `key` identifies the comparison they belong to."""
    st.markdown("##### Learned scores")
    kept = st.session_state.get("compare.learned")
    job: LearnedJob | None = kept[1] if kept is not None and kept[0] == key else None
    if job is not None and job.status == "running":
        _progress(job)
    elif job is not None and job.result is not None:
        _scores(scores_frame(names, job.result))
    else:
        if job is not None:
            st.info("Stopped." if job.status == "stopped" else say(job.error))
        st.caption(
            "Small networks try to tell samples from real series, learn to forecast from them, and embed "
            f"them. This takes half a minute to a few minutes and needs at least {FEWEST} samples; use 64 or "
            "more for meaningful scores."
        )
        too_few = min(map(len, sets)) < FEWEST
        if st.button("Measure learned scores", icon=":material/neurology:", disabled=too_few):
            st.session_state["compare.learned"] = key, start_scores(sets, data)
            st.rerun()


def _scores(frame: pd.DataFrame) -> None:
    readable = pd.DataFrame({"Setting": frame["setting"]})
    for title, unit in NAMES.values():
        cells = zip(frame[title], frame[f"{title} low"], frame[f"{title} high"], strict=True)
        readable[f"{title} ({unit})"] = [f"{v:.3f}  ({a:.3f} to {b:.3f})" for v, a, b in cells]
    st.dataframe(readable, hide_index=True)
    st.caption(
        "Smaller is better in all three. In parentheses: 95% bootstrap intervals over the series, which "
        "leave out the randomness of training; for real series, the range over draws. Do not rank rows whose "
        "intervals overlap."
    )
    with st.container(horizontal=True):
        data_buttons(frame, "learned-scores")


@st.fragment(run_every=0.5)
def _progress(job: LearnedJob) -> None:
    job.touch()
    if job.status != "running":
        st.rerun()
    left = job.seconds_left
    st.progress(job.share, "Measuring" if left is None else f"Measuring, {left:.0f} s left")
    st.button("Stop", icon=":material/stop:", key="compare.learned.stop", on_click=job.stop)
