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


def run_downloads(name: str, archive: Archive) -> None:
    """Offer a run as files; each is made when its button is pressed."""
    refused = None
    try:
        check_page_size(archive)
    except LabError as fault:
        refused = say(fault)
    files = (
        (
            "Page that works offline (HTML)",
            ".html",
            "text/html",
            lambda: _page(name).encode(),
            "One file: scrub through the run and ask what-if, without the lab or a network.",
        ),
        (
            "Timeline (JSON)",
            "-timeline.json",
            "application/json",
            lambda: _timeline(name).encode(),
            "Steps, network calls, and recomputed bands, for ui.perfetto.dev or chrome://tracing.",
        ),
        (
            "Whole run (zip)",
            ".zip",
            "application/zip",
            lambda: archive_path(name).read_bytes(),
            "Every step, decision, and sample; Runs opens it again.",
        ),
    )
    for label, ending, mime, make, words in files:
        wrong = refused if ending == ".html" else None
        st.download_button(
            label,
            make,
            f"{name}{ending}",
            mime,
            on_click="ignore",
            icon=":material/download:",
            key=f"{name}{ending}",
            disabled=wrong is not None,
            help=wrong or words,
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
