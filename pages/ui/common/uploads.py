"""Files that a visitor uploads, kept in a folder of the session under harmless names."""

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import streamlit as st

from e2crf_core.data.sources import TABLE_SUFFIXES
from pages.ui.common.messages import say


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


def chosen_file(key: str = "") -> Path | None:
    """Draw the upload and, for a visitor at this machine, the path of a table; return the chosen file.

    `key` distinguishes the widgets of several pages.
    """
    upload = st.file_uploader("File", type=[s.lstrip(".") for s in TABLE_SUFFIXES], key=f"{key}upload")
    typed = ""
    if at_home():
        typed = st.text_input(
            "or its path on this computer",
            key=f"{key}path",
            placeholder="/home/me/prices.csv",
            help="Large files need no upload. Offered only to a browser on the same computer.",
        )
    if upload is not None:
        return keep(upload)
    if not typed.strip():
        return None
    path = Path(typed.strip().strip('"')).expanduser()
    if not path.is_file():
        st.error(say(f"there is no file '{path}': check the path"))
        return None
    return path
