"""What the cache did to the samples of a finished run, measured once for each session and run."""

import streamlit as st

from e2crf_core.runs.quality import TwinQuality, twin_quality
from e2crf_core.runs.run import RunHandle

KEY = "twin.quality"


def quality_of(run: RunHandle) -> TwinQuality | None:
    """Return the protocol's measurements of a finished run; None without an uncached twin."""
    result = run.result
    if result is None or result.comparison is None or run.model is None:
        return None
    kept = st.session_state.get(KEY)
    if kept is None or kept[0] != run.id:
        kept = run.id, twin_quality(result.samples, result.comparison.samples_uncached, run.model)
        st.session_state[KEY] = kept
    return kept[1]
