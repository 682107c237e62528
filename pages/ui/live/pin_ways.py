"""Where a pinned setting can be taken: to Compare, to a search around it, to a recorded run in Anatomy."""

from dataclasses import replace

import streamlit as st

from e2crf_core.caching.policy import PRESETS
from e2crf_core.errors import LabError
from e2crf_core.runs.archive import archive_name
from e2crf_core.runs.run import FINISHED, RunSpec
from pages.ui.common.compared import config_of, text_of
from pages.ui.common.kept_runs import is_kept
from pages.ui.common.messages import say
from pages.ui.common.recording import recording
from pages.ui.common.registry import RUNS
from pages.ui.common.session import owner
from pages.ui.live.answer_packets import SETTLED_NUM
from pages.ui.live.pins import pin_text
from pages.ui.live.run_form import sampler_config

COMPARE, TUNE, ANATOMY = "compare", "tune", "anatomy"
WAY, RUN = "pin.way", "pin.run"


def leave(to: str, pin: str) -> None:
    """Remember where the visitor wants to take a pin. Raises LabError for an unknown place or a damaged pin."""
    config_of(pin)
    if to not in (COMPARE, TUNE, ANATOMY):
        raise LabError(f"a pin cannot be taken to {to[:40]!r}")
    st.session_state[WAY] = (to, pin)


def follow(checkpoint: str, seed: int) -> None:
    """Go where the visitor wants to take a pin of this network and seed; to Anatomy once its run is recorded."""
    to, pin = st.session_state.pop(WAY, (None, ""))
    if to == COMPARE:
        st.switch_page("compare.py", query_params=compare_query(pin, checkpoint, seed))
    elif to == TUNE:
        query = {"study": "~new", "checkpoint": checkpoint, "setting": pin}
        st.switch_page("tune.py", query_params=query)
    elif to == ANATOMY:
        try:
            spec = RunSpec(checkpoint, SETTLED_NUM, seed, config_of(pin), compare=True)
            st.session_state[RUN] = RUNS.start(spec, owner()).id
        except LabError as fault:
            st.error(say(fault))
    _recorded()


def compare_query(pin: str, checkpoint: str, seed: int) -> dict[str, str]:
    """Return the address of a comparison: the uncached twin, the pin, and the present setting."""
    config = config_of(pin)
    rows = [text_of(replace(config, policy=PRESETS["exact"])), pin, pin_text(sampler_config())]
    known = ";".join(dict.fromkeys(filter(None, rows)))
    return {"v": known, "num": str(SETTLED_NUM), "seed": str(seed), "checkpoint": checkpoint}


def _recorded() -> None:
    """Follow a run that is recorded for Anatomy: its progress, then the page."""
    run = RUNS.get(st.session_state.get(RUN))
    if run is None:
        return
    if run.status in FINISHED and run.status != "done":
        st.session_state.pop(RUN)
        st.error(say(run.error or "The run ended early"))
    elif run.status == "done" and is_kept(archive_name(run)):
        st.session_state.pop(RUN)
        st.switch_page("anatomy.py", query_params={"run": archive_name(run)})
    else:
        with st.container(horizontal=True, vertical_alignment="center", key="pin_run"):
            recording(run.id)
            if st.button("Cancel", icon=":material/stop:", key="pin.cancel"):
                st.session_state.pop(RUN)
                run.stop()
                st.rerun()
