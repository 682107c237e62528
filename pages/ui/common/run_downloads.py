"""Take a recorded run along: as a page that works offline, a timeline, or the whole record."""

import json

import streamlit as st

from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.runs.archive import Archive
from e2crf_core.runs.page import check_page_size, run_page
from e2crf_core.runs.timeline import errors_to_twin, timeline
from e2crf_core.runs.twin import TWINS
from pages.ui.common.kept_runs import archive_path, model_of, open_run
from pages.ui.common.messages import say
from pages.ui.common.reference import recorded_reference

ICON = ":material/download:"


def run_downloads(name: str, archive: Archive) -> None:
    """Offer a run as files; each is made when its button is pressed."""
    refused = None
    try:
        check_page_size(archive)
    except LabError as fault:
        refused = say(fault)
    st.download_button(
        "Page that works offline (HTML)",
        lambda: _page(name).encode(),
        f"{name}.html",
        "text/html",
        on_click="ignore",
        icon=ICON,
        key=f"{name}.page",
        disabled=refused is not None,
        help=refused or "One file: scrub through the run and ask what-if, without the lab or a network.",
    )
    st.download_button(
        "Timeline (JSON)",
        lambda: _timeline(name).encode(),
        f"{name}-timeline.json",
        "application/json",
        on_click="ignore",
        icon=ICON,
        key=f"{name}.timeline",
        help="Steps, network calls, and recomputed bands, for ui.perfetto.dev or chrome://tracing.",
    )
    st.download_button(
        "Whole run (zip)",
        lambda: archive_path(name).read_bytes(),
        f"{name}.zip",
        "application/zip",
        on_click="ignore",
        icon=ICON,
        key=f"{name}.zip",
        help="Every step, decision, and sample; Runs opens it again.",
    )


def _model(archive: Archive) -> ScoreModel:
    return model_of(archive.spec.checkpoint, archive.model["digest"])


def _page(name: str) -> str:
    archive = open_run(name)
    return run_page(archive, lambda: _model(archive), recorded_reference(archive))


def _timeline(name: str) -> str:
    """Return the timeline as JSON, with the error to the twin where that is kept or quickly computed."""
    archive = open_run(name)
    errors, spec = None, archive.spec
    try:
        model = _model(archive)
        twin = TWINS.soon(model, spec.config, spec.num, spec.seed)
        errors = None if twin is None else errors_to_twin(archive, model, twin)
    except LabError:
        pass  # a timeline without the error is complete
    return json.dumps(timeline(archive, errors), allow_nan=False)
