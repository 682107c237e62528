"""Recorded runs: which are kept, and how to open them."""

from pathlib import Path

import streamlit as st

from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.io.resources import assets_dir
from e2crf_core.runs.archive import Archive, load
from e2crf_core.runs.store import Entry
from pages.ui.common import library
from pages.ui.common.registry import STORE

DEMO = "demo"
DEMO_LABEL = "Demo: heartbeats"


def demo_path() -> Path:
    """Return the path of the run that ships with the lab; the file may be missing."""
    return assets_dir() / "demo" / "run.zip"


def archive_path(name: str) -> Path:
    """Return the file of a kept run, or of the demo. Raises LabError for a name that is not a file name."""
    return demo_path() if name == DEMO else STORE.path(name)


def is_kept(name: str) -> bool:
    """Return whether the record of a run is on disk."""
    return any(entry.name == name for entry in STORE.list())


def entry_label(entry: Entry) -> str:
    """Describe a kept run in one line."""
    share = "" if entry.token_share is None else f" · {entry.token_share:.1%} of tokens"
    when = entry.created[:16].replace("T", " ")
    return f"{entry.checkpoint} · {entry.trigger}{share} · {entry.steps} steps · {when}"


@st.cache_resource(max_entries=6, show_spinner="Opening the run")
def _opened(path: str, changed: int) -> Archive:
    return load(path)


def open_run(name: str) -> Archive:
    """Open a kept run, or the demo. Raises LabError when it is missing or cannot be read."""
    path = archive_path(name)
    if not path.is_file():
        raise LabError(f"The run {name!r} is no longer kept here")
    return _opened(str(path), path.stat().st_mtime_ns)


def model_of(checkpoint: str, digest: str) -> ScoreModel:
    """Load a checkpoint on the CPU. Raises LabError when it is missing or its digest differs."""
    model = library.model(checkpoint)
    if not model.has_digest(digest):
        raise LabError(f"the checkpoint {checkpoint!r} has changed since this run was recorded")
    return model
