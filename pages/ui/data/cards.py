"""The card of a data set: its series, their energy, their origin and license."""

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from e2crf_core.data.axes import channel_title, time_axis
from e2crf_core.data.datasets import Dataset, list_datasets, shipped_datasets
from e2crf_core.errors import LabError
from e2crf_core.models.checkpoints import list_checkpoints, read_card
from pages.ui.common import library
from pages.ui.common.charts import series_grid
from pages.ui.common.items import item_choice
from pages.ui.common.messages import plain_text, say
from pages.ui.common.theme import palette
from pages.ui.data.plots import localization_chart

SHOWN = 12
CUTOFFS = (0.01, 0.05, 0.10, 0.25, 0.50)
RIGHTS = ("License", "Attribution")
# In px: given before the code of the widgets has arrived, so that nothing moves when it does.
NUMBER_WIDTH, DIGIT_WIDTH, TABLE_ROW = 112, 21, 35


def dataset_label(name: str) -> str:
    """Return a data set's short name and title."""
    try:
        return f"{name}: {library.dataset(name).title}"
    except LabError:
        return f"{name} (damaged)"


def card_view() -> None:
    """Draw one data set: its series, where their energy is, and where they come from."""
    names = list_datasets()
    if not names:
        st.info("There is no data set yet. Import a file to add one.")
        return
    name = item_choice(
        "data set", names, "set", dataset_label, use_link, kind="data", shipped=shipped_datasets()
    )
    try:
        data = library.dataset(name)
    except LabError as fault:
        st.error(say(fault))
        return
    numbers(data)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        windows_panel(data)
    with right:
        energy_panel(data)
    left, right = st.columns([3, 2], gap="medium")
    texts = facts(data)
    with left:
        for heading, text in texts.items():
            if heading not in RIGHTS:
                st.markdown(f"**{heading}.** {text}")
    with right:
        st.markdown("##### Energy below a cutoff, measured")
        table = cutoff_table(data)
        st.dataframe(
            table,
            height=TABLE_ROW * (len(table) + 1) + 2,
            alt="Energy share below each cutoff, for every channel",
        )
        for heading in RIGHTS:
            if heading in texts:
                st.markdown(f"**{heading}.** {texts[heading]}")


def numbers(data: Dataset) -> None:
    """Draw the size of a data set."""
    with st.container(horizontal=True, key="data_numbers"):
        number("Windows", len(data.x))
        number("Training", len(data.train))
        number(
            "Held out",
            len(data.heldout),
            "Whole stretches of time that no network sees. Windows that overlap both parts are left out.",
        )
        number("Steps", data.length, plain_text(data.card.get("sampling", {}).get("text", "")))
        number("Frequencies", data.length // 2 + 1, "Tokens of the network.")
        number("Channels", len(data.channels))


def number(label: str, value: int, text: str = "") -> None:
    """Draw a count, with an explanation of its label."""
    words = f"{value:,}"
    st.metric(label, words, width=max(NUMBER_WIDTH, DIGIT_WIDTH * len(words)), help=text or None)


def energy_panel(data: Dataset) -> None:
    """Draw the share of energy in the lowest frequencies."""
    st.markdown(
        "##### Where the energy is",
        help="Share of each channel's energy in its lowest frequencies, measured over all windows. The "
        "steeper the rise, the more a cache can reuse.",
    )
    st.plotly_chart(
        localization_chart(data.localization, data.channels, palette(), height=430),
        key=f"localization.{data.name}",
        alt="Share of the energy of each channel in its lowest frequencies",
    )
    for text in gain_texts(data.name):
        st.caption(f":material/bolt: {text}")


def gain_texts(dataset: str) -> list[str]:
    """Say, for each causal checkpoint of a data set, what nested bands are predicted to gain on it."""
    texts = []
    for name in list_checkpoints():
        try:
            card = read_card(name)
        except LabError:
            continue
        gains = (card.get("localization") or {}).get("gains", []) if card["dataset"] == dataset else []
        for gain in gains[:1]:
            ratio = (
                f"about {gain['whole'] / gain['nested']:.1f} times less work" if gain["nested"] else "no work"
            )
            texts.append(
                f"On **{plain_text(name)}**, nested bands are predicted to need {ratio} than whole refreshes, at an "
                f"error of {gain['error']:g} standard deviations."
            )
    return texts


def windows_panel(data: Dataset) -> None:
    """Draw small plots of real windows of one channel, on one scale."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.markdown("##### Real windows")
        channel = 0
        if len(data.channels) > 1:
            channel = st.selectbox(
                "Channel",
                range(len(data.channels)),
                format_func=lambda m: channel_title(data, m),
                key=f"channel.{data.name}",
                label_visibility="collapsed",
                width=260,
            )
        draw = st.session_state.setdefault("data.draw", 0)
        if st.button("Show others", icon=":material/shuffle:", help="Draw other windows"):
            draw = st.session_state["data.draw"] = draw + 1
    rng = np.random.default_rng(draw)
    pick = np.sort(rng.choice(len(data.x), size=min(SHOWN, len(data.x)), replace=False))
    time = time_axis(data)
    st.plotly_chart(
        series_grid(
            [(channel_title(data, channel), data.x[pick, :, channel], palette()[channel % 10])],
            step=time["step"],
            x_title=time["title"],
            y_title=data.units[channel] or "value",
        ),
        key=f"windows.{data.name}",
        alt=f"{len(pick)} real windows of {channel_title(data, channel)}",
    )


def facts(data: Dataset) -> dict[str, str]:
    """Return the contents of a data set's card as safe Markdown."""
    card = data.card
    texts = {
        "About": card.get("about", ""),
        "Origin": card.get("origin", data.source),
        "Sampling": card.get("sampling", {}).get("text", ""),
        "Window": card.get("window", {}).get("text", ""),
        "Split": card.get("split", {}).get("text", ""),
        "Groups": f"{len(np.unique(data.group))}" if len(np.unique(data.group)) > 1 else "",
        "Gaps": gaps_text(card.get("gaps", {})),
        "Notes": "; ".join(card.get("notes", [])),
        "Good to know": " ".join(card.get("traps", [])),
        "License": data.license,
        "Attribution": " ".join(card.get("attribution", [])),
    }
    return {key: plain_text(value) for key, value in texts.items() if value}


def gaps_text(gaps: dict[str, Any]) -> str:
    """Return a card's statement about gaps."""
    if gaps.get("by_channel") is None:
        return str(gaps.get("text", ""))
    return (
        f"{sum(gaps['by_channel'].values()):,} empty cells, {gaps['filled_cells']:,} filled, "
        f"{gaps['dropped_windows']:,} windows dropped"
    )


def cutoff_table(data: Dataset) -> pd.DataFrame:
    """Return the energy share in the lowest 1, 5, 10, 25 and 50 percent of the frequencies, channels as rows."""
    n = len(data.localization)
    counts = [max(1, round(share * n)) for share in CUTOFFS]
    columns = {
        f"{share:.0%}: {count}": [f"{value:.1%}" for value in data.localization[count - 1]]
        for share, count in zip(CUTOFFS, counts, strict=True)
    }
    return pd.DataFrame(columns, index=pd.Index(data.channels, name="frequencies kept"))


def use_link(name: str) -> None:
    """Draw the link to where a data set is used."""
    st.page_link(
        "training.py", label="Train on it", icon=":material/model_training:", query_params={"data": name}
    )
