"""The Method page: the equations, the source that computes them, and what ships with the lab."""

import inspect
import re
from pathlib import Path
from typing import Any

import streamlit as st

from e2crf_core import e2crf
from e2crf_core.data.datasets import Dataset, shipped_datasets
from e2crf_core.errors import LabError
from e2crf_core.models.checkpoints import read_card, shipped_checkpoints
from pages.ui.common import library
from pages.ui.common.messages import plain_text, say

INTRO = (
    "A diffusion model turns noise into a series in hundreds of small steps, and each step calls a large "
    "network. From one step to the next, most of the network's output hardly changes. **E²-CRF** keeps the "
    "network's features for every frequency and recomputes only those that an *event* selects. *Error "
    "feedback* measures at each recompute how wrong the reused features had become. The symbols below are "
    "the same on the axes of the pages, in the code and in its docstrings."
)
DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "method.md"


def equations() -> str:
    """Return docs/method.md without its title; links into the repository become plain names."""
    text = DOCUMENT.read_text(encoding="utf-8").partition("\n")[2]
    return re.sub(r"\[([^\]]+)\]\((?!https?:)[^)]+\)", r"\1", text)


def dataset_facts(data: Dataset) -> dict[str, str]:
    """Return the most important facts about a data set, as safe Markdown."""
    windows, length, _ = data.x.shape
    card = data.card
    units = [
        f"{name} ({unit})" if unit else name for name, unit in zip(data.channels, data.units, strict=True)
    ]
    texts = {
        "About": card.get("about", ""),
        "Size": f"{windows} windows of {length} steps: {len(data.train)} to train, {len(data.heldout)} held "
        "out",
        "Channels": ", ".join(units),
        "Sampling": card.get("sampling", {}).get("text", ""),
        "Split": card.get("split", {}).get("text", ""),
        "Origin": card.get("origin", data.source),
        "License": data.license,
        "Attribution": " ".join(card.get("attribution", [])),
    }
    return {key: plain_text(value) for key, value in texts.items() if value}


def checkpoint_facts(card: dict[str, Any]) -> dict[str, str]:
    """Return the values of a model card that are plain numbers or words, nested ones by their path."""
    facts: dict[str, str] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{prefix} {key}".strip(), inner)
        elif isinstance(value, str | int | float):
            text = f"{value:.4g}" if isinstance(value, float) else plain_text(value)
            facts[plain_text(prefix.replace("_", " "))] = text

    walk("", card)
    return facts


def checkpoints() -> None:
    """Draw the cards of the shipped checkpoints."""
    st.subheader("Checkpoints", anchor=False)
    names = shipped_checkpoints()
    if not names:
        st.info("No checkpoint ships with this copy. Train one on the **Training** page.")
    for name in names:
        try:
            card = read_card(name)
        except LabError as fault:
            st.error(say(fault))
            continue
        title = f"**{plain_text(name)}**, trained on {plain_text(card['dataset'])}"
        with st.expander(title, icon=":material/neurology:"):
            st.table(checkpoint_facts(card), border="horizontal")


def datasets() -> None:
    """Draw the cards of the shipped data sets."""
    st.subheader("Data sets", anchor=False)
    for name in shipped_datasets():
        try:
            data = library.dataset(name)
        except LabError as fault:
            st.error(say(fault))
            continue
        title = f"**{plain_text(name)}**: {plain_text(data.title)}"
        with st.expander(title, icon=":material/dataset:"):
            for key, value in dataset_facts(data).items():
                st.markdown(f"**{key}.** {value}")


def page() -> None:
    """Lay out the page."""
    st.title("Method", anchor=False)
    st.markdown(INTRO)
    source, derivations = st.tabs(["The algorithm", "Equations and derivations"])
    with source:
        st.caption("`e2crf_core/e2crf.py`, read from the running program.")
        # The copy button in it gives keys a way into this scroll box.
        with st.container(key="source", height=600, border=False):
            st.code(inspect.getsource(e2crf), language="python", line_numbers=True, wrap_lines=True)
    with derivations:
        st.markdown(equations())
    checkpoints()
    datasets()


page()
