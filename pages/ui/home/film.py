"""The recorded run that moves on the landing page: the demo, thinned to what an eye can follow."""

from functools import lru_cache
from typing import Any

import numpy as np
import streamlit as st

from e2crf_core.data.axes import STEPS_AXIS, time_axis
from e2crf_core.errors import LabError
from e2crf_core.io.packet import pack
from e2crf_core.report.front import markup, script, styles
from e2crf_core.runs.archive import Archive, load
from pages.ui.common.kept_runs import demo_path
from pages.ui.common.reference import recorded_reference

FRAMES = 100

_film = st.components.v2.component(
    "e2crf_home",
    html=markup("home/home.html"),
    css=styles("shared/shared.css", "home/home.css"),
    js=script("home/home.js"),
)


def film() -> None:
    """Draw the film; without the demo run the page does without it."""
    path = demo_path()
    try:
        _film(key="film", data=_packet(str(path), path.stat().st_mtime_ns))
    except (LabError, OSError):
        return


@lru_cache(maxsize=1)
def _packet(path: str, changed: int) -> bytes:
    return film_packet(load(path))


def film_packet(archive: Archive) -> bytes:
    """Pack at most FRAMES steps of a run, evenly spread from the first to the last."""
    recorder = archive.recorder
    steps = np.unique(np.linspace(0, recorder.count - 1, FRAMES).astype(int))
    arrays = {name: recorder.column(name)[steps] for name in ("reasons", "series", "x0")}
    header: dict[str, Any] = {"time": dict(STEPS_AXIS), "units": [""] * recorder.M}
    reference = recorded_reference(archive)
    if reference is not None and reference.dataset.x.shape[1:] == (recorder.N, recorder.M):
        arrays["fan"] = reference.fan
        header = {"time": time_axis(reference.dataset), "units": list(reference.dataset.units)}
    share = float(recorder.column("share").mean())
    header |= {
        "n": recorder.n,
        "N": recorder.N,
        "M": recorder.M,
        "frames": len(steps),
        "steps": steps.tolist(),
        "total": archive.spec.config.steps,
        "channels": list(archive.model["channels"]),
        "caption": f"Recorded: {recorder.count} steps on {archive.spec.checkpoint}; "
        f"the network computed {share:.1%} of what it would without a cache.",
    }
    return pack(header, arrays)
