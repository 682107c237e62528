"""Learned scores of a finished comparison, on request: measured on a thread, with progress and a way to stop."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import streamlit as st

from e2crf_core.data.datasets import Dataset
from e2crf_core.errors import Cancelled, LabError
from e2crf_core.evaluation.heldout import heldout_blocks
from e2crf_core.quality.learned_scores import FEWEST, NAMES, Learned, learned_scores
from pages.ui.common.downloads import data_buttons

Score = Callable[..., Learned]
STALE_S = 10.0


@dataclass
class LearnedJob:
    """One measurement. It ends by itself when no page has asked for it for `STALE_S`."""

    names: tuple[str, ...]
    sets: tuple[np.ndarray, ...]
    data: Dataset
    share: float = 0.0
    result: Learned | None = None
    error: str = ""
    stopped: threading.Event = field(default_factory=threading.Event)
    begin: float = field(default_factory=time.monotonic)
    seen: float = field(default_factory=time.monotonic)

    def start(self, score: Score = learned_scores) -> None:
        """Measure on a thread of its own, which never touches a page."""
        threading.Thread(target=self._run, args=(score,), daemon=True).start()

    def _run(self, score: Score) -> None:
        data = self.data
        held, train = (data.standardize(data.x[part]) for part in (data.heldout, data.train))
        try:
            self.result = score(
                [[x] for x in self.sets],
                held,
                train,
                blocks=heldout_blocks(data),
                progress=self._tell,
                cancelled=self._unwanted,
            )
        except Cancelled:
            self.error = "stopped"
        except LabError as fault:
            self.error = str(fault)
        except Exception as fault:  # on a thread nobody else would say so
            self.error = f"{type(fault).__name__}: {fault}"

    def _tell(self, done: int, total: int) -> None:
        self.share = done / total

    def _unwanted(self) -> bool:
        return self.stopped.is_set() or time.monotonic() - self.seen > STALE_S

    @property
    def over(self) -> bool:
        """Whether there is a result or a reason for none."""
        return self.result is not None or bool(self.error)

    @property
    def seconds_left(self) -> float | None:
        """An estimate by the pace so far; None at the very beginning."""
        if self.share < 0.02:
            return None
        return (time.monotonic() - self.begin) * (1 - self.share) / self.share


def scores_frame(names: Sequence[str], result: Learned) -> pd.DataFrame:
    """A row for each set and one for real training series, with the interval of every score."""
    rows: list[dict[str, object]] = []
    for name, sets in zip(names, result.scores, strict=True):
        line: dict[str, object] = {"variant": name}
        for score, (title, _) in NAMES.items():
            figure = sets[0][score]
            line |= {title: figure.value, f"{title} low": figure.low, f"{title} high": figure.high}
        rows.append(line)
    floor: dict[str, object] = {"variant": "real training series"}
    for score, (title, _) in NAMES.items():
        f = result.floors[score]
        floor |= {title: f.value, f"{title} low": f.low, f"{title} high": f.high}
    return pd.DataFrame([*rows, floor])


def learned_panel(key: object, names: Sequence[str], sets: Sequence[np.ndarray], data: Dataset) -> None:
    """Offer the scores of standardized sets (S, N, M); `key` says which comparison they belong to."""
    st.markdown("##### Learned scores")
    kept = st.session_state.get("compare.learned")
    job: LearnedJob | None = kept[1] if kept is not None and kept[0] == key else None
    few = min(map(len, sets)) < FEWEST
    if job is None or job.error:
        if job is not None:
            st.info("Stopped." if job.error == "stopped" else job.error)
        st.caption(
            f"Small networks try to tell samples from data, learn from them, and embed them. Takes from half a minute "
            f"to some minutes; needs {FEWEST} samples or more, and 64 to mean something."
        )
        if st.button("Measure learned scores", icon=":material/neurology:", disabled=few):
            job = LearnedJob(tuple(names), tuple(sets), data)
            job.start()
            st.session_state["compare.learned"] = key, job
            st.rerun()
        return
    if not job.over:
        _progress(job)
        return
    assert job.result is not None
    frame = scores_frame(job.names, job.result)
    readable = pd.DataFrame({"Variant": frame["variant"]})
    for title, unit in NAMES.values():
        cells = zip(frame[title], frame[f"{title} low"], frame[f"{title} high"], strict=True)
        readable[f"{title} ({unit})"] = [f"{v:.3f}  ({a:.3f} to {b:.3f})" for v, a, b in cells]
    st.dataframe(readable, hide_index=True)
    st.caption(
        "Smaller is better in all three. In brackets: 95% bootstrap intervals of the series, not of the training; for "
        "real series the range of draws. Overlapping intervals must not be ranked."
    )
    with st.container(horizontal=True):
        data_buttons(frame, "learned-scores")


@st.fragment(run_every=0.5)
def _progress(job: LearnedJob) -> None:
    job.seen = time.monotonic()
    if job.over:
        st.rerun()
    left = job.seconds_left
    st.progress(min(1.0, job.share), "Measuring" if left is None else f"Measuring: {left:.0f} s left")
    st.button("Stop", icon=":material/stop:", key="compare.learned.stop", on_click=job.stopped.set)
