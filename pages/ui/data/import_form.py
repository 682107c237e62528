"""The form of an import: names, channels, windows, gaps and resampling."""

from pathlib import Path
from typing import Any

import streamlit as st

from e2crf_core.data.datasets import list_datasets
from e2crf_core.data.survey import FileSurvey
from e2crf_core.io.userfiles import free_name
from pages.ui.data.reading import READING_LABELS

ENOUGH = 400
DAY_S = 86400
MOST_CHANNELS = 40
LABELS = {
    "title": "Title",
    "name": "Short name",
    "channels": "Channels",
    "columns": "Channels",
    "window": "Window (rows)",
    "stride": "Stride (rows)",
    "group": "Group",
    "gaps": "Gaps",
    "max_gap": "Longest gap to fill (rows)",
    "resample": "Resample to",
    **READING_LABELS,
}


def usual_window(seen: FileSurvey) -> int:
    """Return a default window: a day if that fits, else one that leaves a few dozen windows."""
    most = max(4, seen.n_rows // 8)
    day = round(DAY_S / seen.step) if seen.step else 0
    return day if 16 <= day <= min(512, most) else min(128, most)


def usual_stride(seen: FileSurvey, window: int) -> int:
    """Return a default stride: no overlap with enough data, else one that gives a few hundred windows."""
    return max(1, min(window, (seen.n_rows - window) // ENOUGH))


def import_form(path: Path, seen: FileSurvey, ready: int | None) -> dict[str, Any]:
    """Draw the form; returns the importer's arguments and `name`."""
    first, second, third = st.columns(3, gap="medium")
    with first:
        choices = _names(path, seen)
    with second:
        choices |= _windows(path, seen, ready, choices["channels"])
    with third:
        choices |= _gaps(path, seen)
    return {**choices, "channels": choices["channels"] or None}


def _names(path: Path, seen: FileSurvey) -> dict[str, Any]:
    numbers = [c.name for c in seen.columns if c.kind == "number"]
    # Row counters and parts of a date are numbers, but they are channels only on request.
    suggested = set(seen.stretch_names or numbers)
    clean = [c.name for c in seen.columns if c.name in suggested and c.kind == "number" and not c.texts]
    title = st.text_input(LABELS["title"], value=path.stem, key=f"title.{path}", max_chars=80)
    name = st.text_input(
        LABELS["name"],
        value=free_name(path.stem, list_datasets()),
        key=f"name.{path}",
        help="Letters, digits, - and _. Pages and commands use this name.",
    )
    channels = st.multiselect(
        LABELS["channels"],
        numbers,
        default=clean[:MOST_CHANNELS],
        key=f"channels.{path}",
        placeholder="choose channels",
    )
    return {"title": title.strip() or None, "name": name.strip(), "channels": channels}


def _windows(path: Path, seen: FileSurvey, ready: int | None, channels: list[str]) -> dict[str, Any]:
    window = st.number_input(
        LABELS["window"],
        4,
        4096,
        value=ready or usual_window(seen),
        key=f"window.{path}",
        disabled=ready is not None,
        help="Steps of one series that the network learns to draw.",
    )
    stride = st.number_input(
        LABELS["stride"],
        1,
        4096,
        value=window if ready else usual_stride(seen, window),
        key=f"stride.{path}.{window}",
        disabled=ready is not None,
        help="Rows from one window to the next. A stride below the window gives more windows, which overlap; "
        "the split keeps overlapping windows apart.",
    )
    group = st.selectbox(
        LABELS["group"],
        [c.name for c in seen.columns if c.name not in channels and c.name != seen.time],
        index=None,
        key=f"group.{path}",
        placeholder="none",
        disabled=ready is not None,
        help="A column whose values must not share a window, such as a patient or a turbine.",
    )
    return {"window": int(window), "stride": None if ready else int(stride), "group": group}


def _gaps(path: Path, seen: FileSurvey) -> dict[str, Any]:
    gaps = st.radio(
        LABELS["gaps"],
        ["drop", "interpolate"],
        format_func={"drop": "Drop windows", "interpolate": "Fill short ones"}.__getitem__,
        key=f"gaps.{path}",
        horizontal=True,
    )
    longest = st.number_input(
        LABELS["max_gap"], 1, 1000, value=3, key=f"longest.{path}", disabled=gaps == "drop"
    )
    resample = st.text_input(
        LABELS["resample"],
        value="auto" if seen.uneven > 0 else "",
        key=f"resample.{path}",
        placeholder="as it is",
        disabled=not seen.time,
        help="An even grid of means: 10min, 1h, 1d, a number of seconds, or auto for the usual step.",
    )
    ignore = st.checkbox(
        LABELS["ignore_calendar"],
        key=f"ignore_calendar.{path}",
        disabled=not seen.time,
        help="Treat rows as consecutive steps, even across outages and holidays.",
    )
    return {
        "gaps": gaps,
        "max_gap": int(longest),
        "resample": resample.strip() or None,
        "ignore_calendar": ignore,
    }
