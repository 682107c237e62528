"""The data page: what the data sets are, as real series and in figures, and how a file of one's own becomes one."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from e2crf_core.data.datasets import Dataset, list_datasets, shipped_datasets
from e2crf_core.data.importing import ImportReport, import_file
from e2crf_core.data.tables import TABLE_SUFFIXES, Preview, open_source, preview
from e2crf_core.errors import LabError
from e2crf_core.io.userfiles import check_name, free_name, user_dir, user_folder
from pages.ui.common import library
from pages.ui.common.charts import localization_chart, series_grid
from pages.ui.common.messages import for_page, remove_button
from pages.ui.common.query_params import note, recall, views
from pages.ui.common.theme import palette
from pages.ui.common.uploads import at_home, keep
from pages.ui.live.live_packets import time_axis

LOOK, IMPORT = "sets", "import"
VIEWS = {LOOK: "Data sets", IMPORT: "Import a file"}
SHOWN = 12
ENOUGH = 400
MEASURABLE = 8
CUTOFFS = (0.01, 0.05, 0.10, 0.25, 0.50)
RIGHTS = ("License", "Attribution")
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", " ": "space", "|": "bar"}


def label(name: str) -> str:
    """A data set's short name and title."""
    try:
        return f"{name}: {library.dataset(name).title}"
    except LabError:
        return f"{name} (damaged)"


# ---- cards


def card_view() -> None:
    """One data set: its series, where their energy sits, and where they come from."""
    names = list_datasets()
    if not names:
        st.info("No data set ships with this copy. Import a file of your own.")
        return
    missing = recall("set", names)
    if missing:
        st.info(f"There is no data set {missing!r} here any more.")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.selectbox("Data set", names, key="set", format_func=label, width=480)
        note("set", name, names[0])
        own_actions(name)
    try:
        data = library.dataset(name)
    except LabError as fault:
        st.error(str(fault))
        return
    with st.container(horizontal=True, key="data_figures"):
        sampling = data.card.get("sampling", {}).get("text", "")
        st.metric("Windows", f"{len(data.x):,}", width="content")
        st.metric("Training", f"{len(data.train):,}", width="content")
        st.metric(
            "Held out",
            f"{len(data.heldout):,}",
            width="content",
            help="Whole stretches of time that no network sees. Windows that overlap both parts are left out.",
        )
        st.metric("Steps", f"{data.length:,}", width="content", help=sampling)
        st.metric("Frequencies", f"{data.length // 2 + 1:,}", width="content", help="Tokens of the network.")
        st.metric("Channels", f"{len(data.channels):,}", width="content")
    left, right = st.columns([3, 2], gap="medium")
    with left:
        windows_panel(data)
    with right:
        st.markdown(
            "##### Where the energy sits",
            help="Share of each channel's energy in its lowest frequencies, measured over all windows. The "
            "steeper the rise, the more a cache can leave to reuse.",
        )
        st.plotly_chart(
            localization_chart(data.localization, data.channels, palette(), height=430),
            key=f"localization.{name}",
            alt="Share of the energy of each channel in its lowest frequencies",
        )
    left, right = st.columns([3, 2], gap="medium")
    said = facts(data)
    with left:
        for heading, text in said.items():
            if heading not in RIGHTS:
                st.markdown(f"**{heading}.** {text}")
    with right:
        st.markdown("##### Energy below a cutoff, measured")
        st.dataframe(cutoff_table(data), alt="Energy share below each cutoff, for every channel")
        for heading in RIGHTS:
            if heading in said:
                st.markdown(f"**{heading}.** {said[heading]}")


def windows_panel(data: Dataset) -> None:
    """Real windows of one channel, drawn small, all on one scale."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.markdown("##### Real windows")
        channel = 0
        if len(data.channels) > 1:
            channel = st.selectbox(
                "Channel",
                range(len(data.channels)),
                format_func=lambda m: axis_title(data, m),
                key=f"channel.{data.name}",
                label_visibility="collapsed",
                width=260,
            )
        draw = st.session_state.setdefault("data.draw", 0)
        if st.button("Others", icon=":material/shuffle:", help="Draw other windows"):
            draw = st.session_state["data.draw"] = draw + 1
    rng = np.random.default_rng(draw)
    pick = np.sort(rng.choice(len(data.x), size=min(SHOWN, len(data.x)), replace=False))
    time = time_axis(data)
    st.plotly_chart(
        series_grid(
            [(axis_title(data, channel), data.x[pick, :, channel], palette()[channel % 10])],
            step=time["step"],
            x_title=time["title"],
            y_title=data.units[channel] or "value",
        ),
        key=f"windows.{data.name}",
        alt=f"{len(pick)} real windows of {axis_title(data, channel)}",
    )


def axis_title(data: Dataset, channel: int) -> str:
    """A channel's name with its unit."""
    unit = data.units[channel]
    return f"{data.channels[channel]} ({unit})" if unit else data.channels[channel]


def facts(data: Dataset) -> dict[str, str]:
    """What a card says in words."""
    card = data.card
    gaps = card.get("gaps", {})
    said = {
        "About": card.get("about", ""),
        "Where from": card.get("origin", data.source),
        "Sampling": card.get("sampling", {}).get("text", ""),
        "Window": card.get("window", {}).get("text", ""),
        "Split": card.get("split", {}).get("text", ""),
        "Groups": f"{len(np.unique(data.group))}" if len(np.unique(data.group)) > 1 else "",
        "Gaps": f"{sum(gaps['by_channel'].values()):,} empty cells, {gaps['filled_cells']:,} filled, "
        f"{gaps['dropped_windows']:,} windows dropped"
        if "by_channel" in gaps
        else str(gaps.get("text", "")),
        "Notes": "; ".join(card.get("notes", [])),
        "Good to know": " ".join(card.get("traps", [])),
        "License": data.license,
        "Attribution": " ".join(card.get("attribution", [])),
    }
    return {key: value for key, value in said.items() if value}


def cutoff_table(data: Dataset) -> pd.DataFrame:
    """Energy share in the lowest 1, 5, 10, 25 and 50 percent of the frequencies, channels as rows."""
    n = len(data.localization)
    counts = [max(1, round(share * n)) for share in CUTOFFS]
    columns = {
        f"{share:.0%}: {count}": [f"{value:.1%}" for value in data.localization[count - 1]]
        for share, count in zip(CUTOFFS, counts, strict=True)
    }
    return pd.DataFrame(columns, index=pd.Index(data.channels, name="frequencies kept"))


def own_actions(name: str) -> None:
    """What can be done with the data set shown."""
    st.page_link(
        "training.py", label="Train on it", icon=":material/model_training:", query_params={"data": name}
    )
    if name not in shipped_datasets():
        remove_button("data set", name, partial(library.remove, "data", name))


# ---- import


@st.cache_data(show_spinner="Reading the file", max_entries=4)
def look_at(path: str, _stamp: library.Stamp) -> tuple[Preview, int | None]:
    """How a file would be read, and the steps of a window where it holds ready windows (S, N, M)."""
    seen = preview(path)
    ready = None
    if Path(path).suffix.lower() in (".npy", ".npz"):
        source = open_source(path)
        ready = source.shape[1] if isinstance(source, np.ndarray) else None
    return seen, ready


def import_view() -> None:
    """Bring a file, see how it is read, choose how it is cut, and get a data set or one clear refusal."""
    st.markdown(
        "A table with a row for each moment and a column for each channel, or an array (windows, steps, channels). "
        "It becomes a data set in your own folder, `" + str(user_dir()) + "`, and nowhere else."
    )
    path = chosen_file()
    if path is None:
        return
    try:
        seen, ready = look_at(str(path), library.stamp(path))
    except LabError as fault:
        st.error(for_page(fault))
        return
    except OSError as fault:
        st.error(f"{path.name} cannot be read: {fault.strerror}")
        return
    preview_panel(seen)
    if not any(c.kind == "number" for c in seen.columns):
        st.error(f"{path.name} has no column of numbers: there is nothing to learn from.")
        return
    choices = import_form(path, seen, ready)
    report_key = f"imported.{path}"
    if st.button("Import", type="primary", icon=":material/download_done:", key="import"):
        st.session_state.pop(report_key, None)
        try:
            name = choices.pop("name")
            if check_name(name) in list_datasets():
                raise LabError(
                    f"there is a data set {name!r} already: choose another name, or remove that one"
                )
            with st.spinner("Cutting windows"):
                report = import_file(path, out=user_folder("data", name), **choices)
            st.session_state[report_key] = (name, report)
        except LabError as fault:
            st.error(for_page(fault))
    if report_key in st.session_state:
        result_panel(*st.session_state[report_key])


def chosen_file() -> Path | None:
    """An upload, or for someone who sits at this machine a path."""
    suffixes = [s.lstrip(".") for s in TABLE_SUFFIXES]
    upload = st.file_uploader("File", type=suffixes, key="upload")
    typed = ""
    if at_home():
        typed = st.text_input(
            "or its path on this computer",
            key="path",
            placeholder="/home/me/prices.csv",
            help="Large files need no upload. Only offered to a browser on the same computer.",
        )
    if upload is not None:
        return keep(upload)
    if not typed.strip():
        return None
    path = Path(typed.strip().strip('"')).expanduser()
    if not path.is_file():
        st.error(f"There is no file {str(path)!r}: check the path.")
        return None
    return path


def preview_panel(seen: Preview) -> None:
    """What was found: form, columns, gaps, first rows."""
    said = [f"{seen.n_rows:,} rows", f"{len(seen.columns)} columns", seen.form.upper()]
    if seen.delimiter:
        said.append(f"separated by {DELIMITERS.get(seen.delimiter, repr(seen.delimiter))}")
        said.append(f"decimal {'comma' if seen.decimal == ',' else 'point'}")
        said.append(seen.encoding)
    if seen.time:
        said.append(f"time in **{seen.time}**, usually every {seconds_text(seen.step)}")
    st.markdown(" · ".join(said))
    if seen.uneven > 0:
        st.warning(
            f"{seen.uneven:.0%} of the time steps differ from the usual one: resample, or see them refused."
        )
    texts = [c for c in seen.columns if c.kind == "number" and c.texts]
    for column in texts[:3]:
        st.warning(
            f"Column {column.name!r} holds text among its numbers ({column.texts:,} cells, the first in row "
            f"{column.first_text}): it is left out unless you correct them."
        )
    left, right = st.columns([2, 3], gap="medium")
    with left:
        table = pd.DataFrame(
            [(c.name, c.kind, c.gaps, c.gaps / max(1, seen.n_rows)) for c in seen.columns],
            columns=["column", "holds", "gaps", "share"],
        )
        st.dataframe(
            table,
            hide_index=True,
            height=252,
            column_config={"share": st.column_config.NumberColumn("of rows", format="percent")},
            alt="Columns of the file with what they hold and their gaps",
        )
    with right:
        rows = pd.DataFrame(list(seen.rows), columns=[c.name for c in seen.columns], dtype=str)
        rows.index = pd.RangeIndex(seen.first_row, seen.first_row + len(rows), name="row")
        st.dataframe(rows, height=252, alt="The first rows of the file")


def seconds_text(seconds: float) -> str:
    """A time step as people say it."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def usual_window(seen: Preview) -> int:
    """A window to begin with: a day where that fits, else what leaves a few dozen windows."""
    most = max(4, seen.n_rows // 8)
    day = round(86400 / seen.step) if seen.step else 0
    return day if 16 <= day <= min(512, most) else min(128, most)


def usual_stride(seen: Preview, window: int) -> int:
    """No overlap where there are data enough; otherwise what makes a few hundred windows of them."""
    return max(1, min(window, (seen.n_rows - window) // ENOUGH))


def import_form(path: Path, seen: Preview, ready: int | None) -> dict[str, Any]:
    """Widgets of all choices; returns the importer's arguments and `name`."""
    numbers = [c.name for c in seen.columns if c.kind == "number"]
    clean = [c.name for c in seen.columns if c.kind == "number" and not c.texts]
    first, second, third = st.columns(3, gap="medium")
    with first:
        title = st.text_input("Title", value=path.stem, key=f"title.{path}", max_chars=80)
        name = st.text_input(
            "Short name",
            value=free_name(path.stem, list_datasets()),
            key=f"name.{path}",
            help="Letters, digits, - and _: what pages and commands call it.",
        )
        channels = st.multiselect(
            "Channels", numbers, default=clean[:40], key=f"channels.{path}", placeholder="choose channels"
        )
    with second:
        window = st.number_input(
            "Window (rows)",
            4,
            4096,
            value=ready or usual_window(seen),
            key=f"window.{path}",
            disabled=ready is not None,
            help="Steps of one series that the network learns to draw.",
        )
        stride = st.number_input(
            "Stride (rows)",
            1,
            4096,
            value=window if ready else usual_stride(seen, window),
            key=f"stride.{path}.{window}",
            disabled=ready is not None,
            help="Rows from one window to the next. Less than the window makes more windows, which overlap; the "
            "split keeps overlapping ones apart.",
        )
        grouping = [c.name for c in seen.columns if c.name not in channels and c.name != seen.time]
        group = st.selectbox(
            "Group",
            grouping,
            index=None,
            key=f"group.{path}",
            placeholder="none",
            disabled=ready is not None,
            help="A column whose values must not share a window, such as a patient or a turbine.",
        )
    with third:
        gaps = st.radio(
            "Gaps",
            ["drop", "interpolate"],
            format_func=lambda how: {"drop": "Drop windows", "interpolate": "Fill short ones"}[how],
            key=f"gaps.{path}",
            horizontal=True,
        )
        longest = st.number_input(
            "Longest gap to fill (rows)", 1, 1000, value=3, key=f"longest.{path}", disabled=gaps == "drop"
        )
        step = st.text_input(
            "Resample to",
            value="auto" if seen.uneven > 0 else "",
            key=f"resample.{path}",
            placeholder="as it is",
            disabled=not seen.time,
            help="An even grid of means: 10min, 1h, 1d, seconds, or auto for the usual step.",
        )
    return {
        "name": name.strip(),
        "title": title.strip() or None,
        "channels": channels or None,
        "window": int(window),
        "stride": None if ready else int(stride),
        "group": group,
        "time": seen.time or None,
        "gaps": gaps,
        "max_gap": int(longest),
        "resample": step.strip() or None,
    }


def result_panel(name: str, report: ImportReport) -> None:
    """What the import did, and where to go from here."""
    with st.container(border=True):
        st.markdown(f"##### :material/check_circle: {name} is a data set now")
        with st.container(horizontal=True):
            st.metric("Windows", f"{report.windows:,}", width="content")
            st.metric("Training", f"{report.train:,}", width="content")
            st.metric("Held out", f"{report.heldout:,}", width="content")
            st.metric(
                "Dropped", f"{report.dropped:,}", width="content", help="Windows over a gap or an outage."
            )
            st.metric("Filled cells", f"{report.filled:,}", width="content")
        if report.heldout < MEASURABLE:
            st.warning(
                f"{report.heldout} held-out windows are too few to judge a model by: take a smaller window or stride, "
                "or more data."
            )
        for said in report.notes:
            st.caption(f":material/info: {said}")
        with st.container(horizontal=True):
            st.button("Look at it", icon=":material/visibility:", on_click=show_set, args=(name,))
            st.page_link(
                "training.py",
                label="Train on it",
                icon=":material/model_training:",
                query_params={"data": name},
            )


def show_set(name: str) -> None:
    """Turn to the card of a data set."""
    st.session_state.update({"view": LOOK, "set": name})


def page() -> None:
    """Lay the page out."""
    st.title("Data", anchor=False)
    (import_view if views("view", VIEWS) == IMPORT else card_view)()


page()
