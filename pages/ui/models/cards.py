"""The card of a checkpoint: its samples next to real series, its quality, and its training."""

import json
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from e2crf_core.data.axes import STEPS_AXIS, time_axis
from e2crf_core.data.datasets import Dataset
from e2crf_core.errors import LabError
from e2crf_core.models.checkpoints import list_checkpoints, read_card, shipped_checkpoints
from e2crf_core.models.fourierdiffusion import KIND
from e2crf_core.models.quality_card import measure_card
from e2crf_core.sampling.sampler import Sampler
from pages.ui.common import library
from pages.ui.common.charts import history_chart, series_grid
from pages.ui.common.items import item_choice
from pages.ui.common.messages import plain_text, say
from pages.ui.common.theme import palette
from pages.ui.models.plots import profile_chart, protocol_chart

COUNT = 16
DRAWING: dict[str, Any] = {"solver": "dpmpp_2m", "grid": "log_snr", "steps": 25}
MEASURING = "Drawing series to compare with held-out ones"


def checkpoint_label(name: str) -> str:
    """Return a checkpoint with the data set that it was trained on."""
    try:
        card = read_card(name)
    except LabError:
        return f"{name} (damaged)"
    source = card["dataset"] or "unknown data"
    kind = "FourierDiffusion, " if card["kind"] == KIND else ""
    return f"{name}: {kind}{source}" if kind or name != source else name


def known_data(card: dict[str, Any]) -> Dataset | None:
    """Return the data set that a model was trained on, if it is here."""
    try:
        return library.dataset(card["dataset"]) if card["dataset"] else None
    except LabError:
        return None


def card_view() -> None:
    """Draw one checkpoint."""
    names = list_checkpoints()
    if not names:
        st.info("There is no trained network yet. Train one, or import a FourierDiffusion checkpoint.")
        st.page_link("training.py", label="Train a network", icon=":material/model_training:")
        return
    if "model" in st.query_params:  # the name of earlier links
        st.query_params["checkpoint"] = st.query_params.pop("model")
    name = item_choice(
        "checkpoint",
        names,
        "checkpoint",
        checkpoint_label,
        use_link,
        kind="checkpoints",
        shipped=shipped_checkpoints(),
    )
    try:
        card = read_card(name)
    except LabError as fault:
        st.error(say(fault))
        return
    headline(card)
    # Drawing takes a second or two: the rest of the card does not wait for it.
    samples = st.container(key="samples")
    with samples:
        channel, seed = samples_head(name, card)
    left, right = st.columns(2, gap="medium")
    with left:
        quality_panel(name, card)
    with right:
        if card.get("history"):
            st.markdown(
                "##### Training", help="Weighted squared error. The held-out loss always uses the same noise."
            )
            st.plotly_chart(
                history_chart(card["history"], palette()),
                key=f"history.{name}",
                alt="Training and held-out loss against steps",
            )
        profile_panel(name, card)
        localization_panel(card)
    facts_panel(name, card)
    with samples:
        samples_panel(name, card, channel, seed)


def headline(card: dict[str, Any]) -> None:
    """Draw the most important values."""
    sliced = (card.get("measured") or {}).get("figures", {}).get("sliced_wasserstein_time")
    parameters = card.get("parameters") or card.get("training", {}).get("parameters")
    with st.container(horizontal=True, key="headline"):
        if parameters:
            st.metric("Weights", f"{parameters / 1e6:.2f} M", width="content")
        st.metric("Layers", card["network"]["layers"], width="content")
        st.metric("Steps", card["length"], width="content", help="Length of the series that it draws.")
        st.metric("Channels", len(card["channels"]), width="content")
        if card.get("heldout_loss") is not None:
            st.metric("Held-out loss", f"{card['heldout_loss']:.4f}", width="content")
        if sliced:
            st.metric(
                "Sliced Wasserstein over floor",
                f"{sliced['ratio']:.2f}×",
                width="content",
                help="Distance between generated and held-out series, divided by that between real sets of "
                "equal size. 1 is as good as real data.",
            )


@st.cache_data(show_spinner="Drawing 16 series with 25 network calls", max_entries=24)
def drawn(name: str, seed: int, stamp: library.Stamp) -> np.ndarray:
    """Draw series (COUNT, N, M) in data units without a cache, which shows the model alone."""
    return Sampler(library.model(name), policy=None, **DRAWING).sample(COUNT, seed).series


def samples_head(name: str, card: dict[str, Any]) -> tuple[int, int]:
    """Draw the heading of the samples; return the channel and the seed to show."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.markdown(
            "##### Real and generated",
            help="Held-out series next to new ones of this model, drawn now by DPM-Solver++ 2M in 25 network "
            "calls without a cache.",
        )
        channel = 0
        if len(card["channels"]) > 1:
            channel = st.selectbox(
                "Channel",
                range(len(card["channels"])),
                format_func=card["channels"].__getitem__,
                key=f"model.channel.{name}",
                label_visibility="collapsed",
                width=220,
            )
        seed = st.session_state.setdefault("model.seed", 0)
        if st.button("Show others", icon=":material/shuffle:", help="New noise, and other real series"):
            seed = st.session_state["model.seed"] = seed + 1
    return channel, seed


def samples_panel(name: str, card: dict[str, Any], channel: int, seed: int) -> None:
    """Draw real and generated series side by side on one scale."""
    data = known_data(card)
    try:
        made = drawn(name, seed, library.model_stamp(name))
    except LabError as fault:
        st.error(say(fault))
        return
    colors = palette()
    panels = [("Generated", made[:, :, channel], colors[0])]
    time = dict(STEPS_AXIS)
    unit = ""
    if data is not None:
        rng = np.random.default_rng(seed)
        pick = rng.choice(data.heldout, size=min(COUNT, len(data.heldout)), replace=False)
        panels.insert(0, ("Real, held out", data.x[np.sort(pick), :, channel], colors[1]))
        time, unit = time_axis(data), data.units[channel]
    st.plotly_chart(
        series_grid(panels, step=time["step"], x_title=time["title"], y_title=unit or "value", height=460),
        key=f"samples.{name}",
        alt=f"{COUNT} real and {COUNT} generated series of {card['channels'][channel]}",
    )
    if data is None:
        st.caption(
            ":material/info: The data set that it was trained on is not here, so there are no real series to "
            "compare."
        )


def quality_panel(name: str, card: dict[str, Any]) -> None:
    """Draw the held-out protocol: distances over their floors, as a plot and in numbers."""
    st.markdown(
        "##### Quality, measured",
        help="One protocol for all models: distances between generated and held-out series of equal size, "
        "with 95% ranges over draws, next to the same distances between two halves of the held-out series "
        "(the floor).",
    )
    measured = card.get("measured")
    if not measured:
        st.info("Not measured yet. This command measures it:")
        st.code(f"python -m e2crf_core card --checkpoint {name}", language="sh")
        if name not in shipped_checkpoints() and known_data(card) is not None:
            measure_button(name)
        return
    st.plotly_chart(
        protocol_chart(measured["figures"], palette()[0]),
        key=f"protocol.{name}",
        alt="Distances of generated series over their real-against-real floors",
    )
    rows = [
        (
            f["title"],
            f"{f['ratio']:.2f}×",
            f"{f['value']:.4g} ({f['low']:.4g} to {f['high']:.4g})",
            f"{f['floor']:.4g} ({f['floor_low']:.4g} to {f['floor_high']:.4g})",
        )
        for f in measured["figures"].values()
    ]
    st.dataframe(
        pd.DataFrame(rows, columns=["Distance", "Over floor", "Generated (95%)", "Real floor (95%)"]),
        hide_index=True,
        alt="Distances of the held-out protocol with intervals and floors",
    )
    loss = measured.get("loss")
    if loss:
        st.caption(
            f"Held-out loss {loss['value']:.4f} ({loss['low']:.4f} to {loss['high']:.4f}); the Gaussian "
            "denoiser has about 1."
        )
    st.caption(
        f"{measured['size']} against {measured['size']} series, {measured['draws']} draws, "
        f"{plain_text(measured['solver'])} with {measured['steps']} calls, seed {measured['seed']}."
    )


def measure_button(name: str) -> None:
    """Offer to measure one of the user's models, as the command does."""
    if not st.button("Measure it now", icon=":material/straighten:", key="measure"):
        return
    bar = st.progress(0.0, text=MEASURING)

    def show(done: int, total: int) -> None:
        bar.progress(done / total, text=MEASURING)

    try:
        measure_card(name, progress=show)
    except LabError as fault:
        st.error(say(fault))
        return
    st.rerun()


def profile_panel(name: str, card: dict[str, Any]) -> None:
    """Draw at which noise levels the model's estimate changes: the basis of the clock 'profile'."""
    profile = card.get("profile") or {}
    if not profile.get("levels"):
        return
    st.markdown(
        "##### Where its estimate changes",
        help="How much the denoised estimate changes at each noise level, relative to its mean, measured "
        "when the card was made. The clock 'profile' of a policy refreshes most often where this is high.",
    )
    st.plotly_chart(
        profile_chart(profile["levels"], profile["weights"], palette()[3]),
        key=f"profile.{name}",
        alt="Change of the denoised estimate against the noise level",
    )


def localization_panel(card: dict[str, Any]) -> None:
    """Draw where energy and influence are, and what nested bands gain; nothing for a card without them."""
    stated = card.get("localization")
    if not stated:
        return
    st.markdown(
        "##### What nested bands gain",
        help="Influence is the squared error of finished samples if the network never runs on a band, as a share of "
        "all. Costs are those of the best plans for a tolerated error, in network calls of all tokens, predicted from "
        "a calibration.",
    )
    lows = [0, *stated["edges"]]
    shares = zip(lows, stated["edges"], stated["energy"], stated["influence"], strict=False)
    st.dataframe(
        pd.DataFrame(
            [
                (f"{low} to {high - 1}", f"{energy:.1%}", f"{influence:.1%}")
                for low, high, energy, influence in shares
            ],
            columns=["Tokens", "Share of energy", "Share of influence"],
        ),
        hide_index=True,
        alt="Share of energy and of influence in each band",
    )
    gains = [
        f"{gain['nested']:.1f} instead of {gain['whole']:.1f} at an error of {gain['error']:g}"
        for gain in stated["gains"]
    ]
    st.caption(f"Nested bands cost {', '.join(gains)}: {plain_text(stated.get('plan', ''))}.")


def facts_panel(name: str, card: dict[str, Any]) -> None:
    """Offer the whole card."""
    with st.expander("The whole card", icon=":material/description:"):
        shown = {k: v for k, v in card.items() if k not in ("history", "profile")}
        st.json(shown, expanded=1)
    st.download_button(
        "Card (JSON)",
        json.dumps(card, indent=1),
        f"{name}-card.json",
        mime="application/json",
        on_click="ignore",
        icon=":material/download:",
    )


def use_link(name: str) -> None:
    """Draw the link to where a checkpoint is used."""
    st.page_link(
        "live.py", label="Run it live", icon=":material/play_circle:", query_params={"checkpoint": name}
    )
