"""Controls that the views of the Evidence page share."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import streamlit as st

from pages.ui.common.downloads import data_buttons
from pages.ui.common.messages import plain_text
from pages.ui.common.query_params import choice, note
from pages.ui.evidence.files import QUICK, file_label, results_folder

Measured = TypeVar("Measured")
DIGITS = {
    "%": "%.2f",
    "GFLOP per sample": "%.3g",
    "seconds": "%.2f",
    "equivalent calls": "%.1f",
    "speed": "%.1f×",
}


def missing(what: str, command: str, takes: str, quick: str, quick_takes: str) -> None:
    """Explain how to measure what is missing."""
    st.info(
        f"There is no {what} in `{results_folder()}`. This command measures it and continues where it was "
        f"stopped (2 cores: {takes}):"
    )
    st.code(command, language="sh")
    st.markdown(f"To check that everything works, in {quick_takes}; draw no conclusions from its values:")
    st.code(quick, language="sh")


def chosen_file(stem: str, files: Sequence[Path]) -> Path:
    """Return the file to show; visitors choose when there are several."""
    if len(files) == 1:
        return files[0]
    labels = {path.name: file_label(path, stem) for path in files}
    name = choice("Measurement", labels, f"{stem}_file")
    return next(path for path in files if path.name == name)


def quick_warning(path: Path, detail: str) -> None:
    """Warn when a file holds a quick measurement."""
    if QUICK in path.stem:
        st.warning(
            f"**Quick measurement**: {detail}. It shows that everything works; draw no conclusions from it."
        )


def opened(
    stem: str, files: Sequence[Path], read: Callable[[Path], Measured], quick: str
) -> tuple[Path, Measured]:
    """Return the file to show and what it holds; `quick` says in what a quick measurement falls short."""
    path = chosen_file(stem, files)
    measured = read(path)
    quick_warning(path, quick)
    return path, measured


def provenance(command: str, path: Path, machine: dict[str, Any], extra: str = "") -> None:
    """State where the values come from."""
    about = ", ".join(f"{key} {value}" for key, value in machine.items() if value is not None)
    st.caption(f"{extra}Measured by `{command}`, stored in {plain_text(path.name)}. {plain_text(about)}.")


def several(label: str, options: Sequence[str], key: str, default: Sequence[str]) -> list[str]:
    """Draw a choice of any number of options; all of them when none is chosen. The address holds it."""
    if key not in st.session_state:
        linked = [name for name in st.query_params.get(key, "").split(",") if name in options]
        st.session_state[key] = linked or [name for name in default if name in options]
    st.session_state[key] = [name for name in st.session_state[key] if name in options]
    picked = st.pills(label, options, selection_mode="multi", key=key, format_func=plain_text)
    note(key, ",".join(picked), ",".join(default))
    return picked or list(options)


def values_table(title: str, frame: pd.DataFrame, name: str) -> None:
    """Draw a table of measured values in an expander, with downloads."""
    formats = {
        column: st.column_config.NumberColumn(
            format=next((f for end, f in DIGITS.items() if column.endswith(end)), "%.4f")
        )
        for column in frame.columns
        if frame[column].dtype.kind == "f"
    }
    with st.expander(title, icon=":material/table:"):
        st.dataframe(frame, hide_index=True, column_config=formats)
        with st.container(horizontal=True):
            data_buttons(frame, name)
