"""About the method: what is computed, the source that computes it, and what ships with the lab."""

import inspect
from typing import Any

import streamlit as st

from e2crf_core import e2crf
from e2crf_core.data.datasets import Dataset, load_dataset, shipped_datasets
from e2crf_core.models.checkpoints import read_card, shipped_checkpoints

TAGS = {
    "E1": (
        "Tokens",
        "A real series of N steps has N/2 + 1 frequencies that say everything; each is one token.",
    ),
    "E2": (
        "Noise",
        "The forward process mixes data and white noise; its log signal-to-noise ratio is the clock.",
    ),
    "E3": ("Preconditioning", "The network predicts only what a linear (Wiener) denoiser cannot."),
    "E4": ("Event intensity r", "How much the network's last features changed since the step before."),
    "E5": (
        "Events",
        "The rule that decides which frequencies are recomputed now: the trigger and its threshold.",
    ),
    "E6": ("Selective forward", "Only those frequencies run; the others lend their stored keys and values."),
    "E7": (
        "Error feedback",
        "A recompute shows the true error of reusing; it corrects features and threshold.",
    ),
    "E8": ("Step", "One step of the reverse process, from the denoised estimate and fresh noise."),
}


@st.cache_data(show_spinner="Reading the data sets")
def dataset_facts() -> list[tuple[str, dict[str, str]]]:
    """Title and facts of each shipped data set."""
    return [(name, facts(load_dataset(name))) for name in shipped_datasets()]


def facts(data: Dataset) -> dict[str, str]:
    """What people ask of a data set first, in words."""
    windows, length, _ = data.x.shape
    card = data.card
    units = [
        f"{name} ({unit})" if unit else name for name, unit in zip(data.channels, data.units, strict=True)
    ]
    said = {
        "title": data.title,
        "About": card.get("about", ""),
        "Size": f"{windows} windows of {length} steps; {len(data.train)} to train, {len(data.heldout)} held out",
        "Channels": ", ".join(units),
        "Sampling": card.get("sampling", {}).get("text", ""),
        "Split": card.get("split", {}).get("text", ""),
        "Origin": card.get("origin", data.source),
        "License": data.license,
        "Attribution": " ".join(card.get("attribution", [])),
    }
    return {key: value for key, value in said.items() if value}


def checkpoint_facts(card: dict[str, Any]) -> dict[str, str]:
    """The figures of a model card that are plain numbers or words, nested ones by their path."""
    found: dict[str, str] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{prefix} {key}".strip(), inner)
        elif isinstance(value, str | int | float):
            found[prefix.replace("_", " ")] = f"{value:.4g}" if isinstance(value, float) else str(value)

    walk("", card)
    return found


def page() -> None:
    """Lay the page out."""
    st.title("The method", anchor=False)
    st.markdown(
        "A diffusion model turns noise into a series in hundreds of small steps, and each step asks a large "
        "network for advice. From one step to the next most of that advice hardly changes. **E²-CRF** keeps the "
        "network's features for every frequency and computes anew only those that an *event* singles out, while "
        "*error feedback* learns from each recompute how wrong the reused features had become. The letters below "
        "are the same on the axes of the live page, in the code and in its docstrings."
    )
    left, right = st.columns([1, 2], gap="large")
    with left:
        for tag, (name, text) in TAGS.items():
            st.markdown(f"**{tag} · {name}** — {text}")
    with right:
        st.markdown("##### The algorithm, as it runs in this process")
        st.caption("`e2crf_core/e2crf.py`, read from the running program.")
        with st.container(key="source"):
            st.code(inspect.getsource(e2crf), language="python", line_numbers=True, height=600)
    st.subheader("Checkpoints", anchor=False)
    names = shipped_checkpoints()
    if not names:
        st.info("No checkpoint ships with this copy. `python -m e2crf_core train` makes one.")
    for name in names:
        card = read_card(name)
        with st.expander(f"**{name}**, trained on {card['dataset']}", icon=":material/neurology:"):
            st.table(checkpoint_facts(card), border="horizontal")
    st.subheader("Data sets", anchor=False)
    for name, said in dataset_facts():
        title = said.pop("title")
        with st.expander(f"**{name}**: {title}", icon=":material/dataset:"):
            for key, value in said.items():
                st.markdown(f"**{key}.** {value}")


page()
