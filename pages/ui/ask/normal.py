"""Is this normal? How improbable a series is under the model, beside held-out windows, and which values are why."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from e2crf_core.data.datasets import Dataset
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.models.heldout import heldout_blocks
from e2crf_core.progress import Cancel, Progress
from e2crf_core.questions.anomaly import Detector, Threshold
from e2crf_core.questions.watching import RecordingScores, score_recording
from pages.ui.ask.answers import job_state
from pages.ui.ask.plots import normal_chart
from pages.ui.ask.subject import Subject
from pages.ui.ask.work import JOBS
from pages.ui.common import library
from pages.ui.common.downloads import chart, data_buttons
from pages.ui.common.messages import say
from pages.ui.common.query_params import note, recall_number
from pages.ui.common.theme import palette
from pages.ui.jobs.thread_job import ThreadJob

JOB = "ask.normal"
MOST_NORMAL = 160
"""Normal windows to calibrate on: enough for 1% of false alarms."""
KEPT = 4
_detectors: dict[tuple[Any, ...], Detector] = {}


@dataclass(frozen=True)
class ScoredSeries:
    """A series judged by a detector that was calibrated on normal windows."""

    detector: Detector
    scores: RecordingScores

    def unusual(self, threshold: Threshold) -> np.ndarray:
        """Return which windows (W,) exceed a threshold; those with too little known do not."""
        return np.nan_to_num(self.scores.totals, nan=-np.inf) > threshold.value

    def causes(self, threshold: Threshold) -> np.ndarray:
        """Return the fewest values (T, M) without which no window would exceed a threshold.

        A value taken away counts as an average one.
        """
        found = np.zeros(self.scores.per_step.shape, dtype=bool)
        for window in np.flatnonzero(self.unusual(threshold)):
            rows = np.flatnonzero(self.scores.window == window)
            share = np.nan_to_num(self.scores.per_step[rows], nan=-np.inf) - self.detector.mean
            order = np.argsort(share, axis=None)[::-1]
            excess = self.scores.totals[window] - threshold.value
            count = 1 + int((np.cumsum(share.ravel()[order]) < excess).sum())
            found[rows[order[:count] // share.shape[1]], order[:count] % share.shape[1]] = True
        return found


def calibration_part(data: Dataset) -> np.ndarray:
    """Return which held-out windows (K,) calibrate: every other stretch, so that the rest can be judged."""
    _, number = np.unique(heldout_blocks(data), return_inverse=True)
    return number % 2 == 1


def detector_for(
    checkpoint: str, model: ScoreModel, data: Dataset, progress: Progress, cancelled: Cancel
) -> Detector:
    """Return a detector calibrated on held-out windows, the same for all visitors. Raises LabError."""
    key = library.model_stamp(checkpoint), data.digest
    if key not in _detectors:
        part = np.flatnonzero(calibration_part(data))
        part = part[np.linspace(0, len(part) - 1, min(MOST_NORMAL, len(part))).astype(int)]
        detector = Detector.fit(
            model,
            data.x[data.heldout[part]],
            blocks=heldout_blocks(data)[part],
            progress=progress,
            cancelled=cancelled,
        )
        while len(_detectors) >= KEPT:
            _detectors.pop(next(iter(_detectors)))
        _detectors[key] = detector
    return _detectors[key]


def _work(checkpoint: str, model: ScoreModel, data: Dataset, subject: Subject) -> Any:
    def work(progress: Progress, cancelled: Cancel) -> ScoredSeries:
        later = -(-len(subject.values) // model.length)

        def first(done: int, total: int) -> None:
            progress(done, total + later)

        detector = detector_for(checkpoint, model, data, first, cancelled)
        fit = len(detector.normal)

        def second(done: int, total: int) -> None:
            progress(fit + done, fit + total)

        return ScoredSeries(
            detector, score_recording(detector, subject.values, progress=second, cancelled=cancelled)
        )

    return work


def normal_panel(checkpoint: str, model: ScoreModel, data: Dataset | None, subject: Subject) -> None:
    """Draw the button, the progress, and the series with or without its verdict."""
    if data is None:
        st.info(
            "The data set that this model was trained on is not here, so nothing tells what is normal for it."
        )
        return
    digest = hashlib.sha256(np.ascontiguousarray(subject.values).tobytes()).hexdigest()
    key = (checkpoint, data.name, digest)
    kept = st.session_state.get(JOB)
    job: ThreadJob[ScoredSeries] | None = kept[1] if kept and kept[0] == key else None
    running = job is not None and job.status == "running"
    if st.button("Answer", type="primary", icon=":material/play_arrow:", disabled=running):
        try:
            st.session_state[JOB] = key, JOBS.start(_work(checkpoint, model, data, subject))
            st.rerun()
        except LabError as fault:
            st.error(say(fault))
    if job is not None:
        job_state(job, "Scoring normal windows, then this series")
    if job is None or job.result is None:
        figure = normal_chart(subject, None, None, palette())
        st.plotly_chart(figure, key="ask-normal.preview", alt="The series to be judged")
        return
    verdict_view(subject, job.result)


def verdict_view(subject: Subject, verdict: ScoredSeries) -> None:
    """Draw the verdict at a chosen rate of false alarms, the values that cause it, and the downloads."""
    count = len(verdict.detector.normal)
    least = -(-100 // (count + 1))
    recall_number("ask.alarms", "alarms", max(5, least), least, 50)
    percent = st.slider(
        "False alarms (% of normal windows)",
        least,
        max(50, least + 1),
        key="ask.alarms",
        width=420,
        help="The share of normal windows that you accept to be called unusual. Fewer false alarms miss more.",
    )
    note("alarms", str(percent), "5")
    threshold = verdict.detector.threshold(percent / 100)
    unusual, totals = verdict.unusual(threshold), verdict.scores.totals
    numbers(verdict, threshold)
    causes = verdict.causes(threshold)
    if len(totals) > 1:
        known = int((~np.isnan(totals)).sum())
        st.markdown(f"**{int(unusual.sum())} of {known} windows** are unusual.")
    elif unusual.any():
        st.markdown("**This is unusual.** Without the marked values it would not be.")
    else:
        st.markdown("**This looks normal.**")
    frame = verdict_frame(subject, verdict, threshold)
    chart(normal_chart(subject, verdict.scores, causes, palette(), threshold.value), "ask-normal", frame)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("Download scores and causes of every step:")
        data_buttons(frame, "scores")
    rate = threshold.rate
    st.caption(
        f"The score is how improbable a window is under the model, in nats and up to a constant. The threshold "
        f"{threshold.value:,.1f} was set on {count} held-out windows ({threshold.windows} that do not overlap), of "
        f"which {rate.value:.0%} exceed it; of other normal windows, {rate.low:.0%} to {rate.high:.0%} will (95% "
        "interval). A series from another source may be unusual as a whole."
    )


def numbers(verdict: ScoredSeries, threshold: Threshold) -> None:
    """Draw the highest score and how rare it is among normal windows."""
    totals = verdict.scores.totals
    if np.isnan(totals).all():
        st.warning("Too little is known in this series to score it.")
        return
    highest = float(np.nanmax(totals))
    above = float((verdict.detector.normal >= highest).mean())
    with st.container(horizontal=True):
        st.metric("Score" if len(totals) == 1 else "Highest score", f"{highest:,.1f}", width="content")
        st.metric("Threshold", f"{threshold.value:,.1f}", width="content")
        st.metric(
            "Normal windows that score higher",
            f"{above:.0%}",
            width="content",
            help="Among the held-out windows on which the threshold was set.",
        )


def verdict_frame(subject: Subject, verdict: ScoredSeries, threshold: Threshold) -> pd.DataFrame:
    """Return scores as a table: the window's score and verdict, and each value's contribution, step by step."""
    scores = verdict.scores
    causes = verdict.causes(threshold)
    columns: dict[str, Any] = {
        subject.row_name: subject.rows,
        "window score": scores.totals[scores.window],
        "unusual": verdict.unusual(threshold)[scores.window],
    }
    for channel, title in enumerate(subject.titles):
        columns[f"{title} score"] = scores.per_step[:, channel]
        columns[f"{title} cause"] = causes[:, channel]
    return pd.DataFrame(columns)
