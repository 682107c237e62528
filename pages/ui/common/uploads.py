"""Files that a visitor uploads, kept in a folder of the session under harmless names."""

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import streamlit as st


def keep(upload: Any) -> Path:
    """Write an uploaded file where the importers can read it; it is removed when the session ends."""
    folder = st.session_state.get("uploads")
    if folder is None:
        # The session holds the only reference: the folder goes when the session does.
        folder = st.session_state["uploads"] = tempfile.TemporaryDirectory(prefix="e2crf-upload-")
    name = re.sub(r"[^\w. -]", "_", Path(upload.name).name)[-80:].lstrip(". ") or "file"
    place = Path(folder.name) / re.sub(r"\W", "", upload.file_id)
    path = place / name
    if not path.is_file():
        place.mkdir(exist_ok=True)
        upload.seek(0)
        partial = place / "partial"
        with open(partial, "wb") as file:
            shutil.copyfileobj(upload, file)
        partial.replace(path)
    return path


def at_home() -> bool:
    """Return whether the visitor is at this machine; only then may a page read files by path.

    Behind a proxy every visitor appears to be, so any proxy header means no.
    """
    marks = ("X-Forwarded-For", "X-Forwarded-Host", "Forwarded", "X-Real-Ip", "Via")
    return st.context.ip_address is None and not any(mark in st.context.headers for mark in marks)
