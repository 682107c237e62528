"""The models page: what each checkpoint is, how good it was measured to be, and what it draws beside real series."""

import json
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from e2crf_core.data.datasets import Dataset, list_datasets
from e2crf_core.errors import LabError
from e2crf_core.io.userfiles import check_name, free_name, user_folder
from e2crf_core.models.checkpoints import list_checkpoints, read_card, shipped_checkpoints
from e2crf_core.models.fourierdiffusion import KIND, check_golden, import_fourierdiffusion
from e2crf_core.models.quality_card import measure_card
from e2crf_core.sampling.sampler import Sampler
from pages.ui.common import library
from pages.ui.common.charts import history_chart, profile_chart, protocol_chart, series_grid
from pages.ui.common.messages import for_page, remove_button
from pages.ui.common.query_params import note, recall, views
from pages.ui.common.theme import palette
from pages.ui.common.uploads import keep
from pages.ui.live.live_packets import time_axis

LOOK, IMPORT = "models", "import"
VIEWS = {LOOK: "Models", IMPORT: "Import a model"}
COUNT = 16
DRAWING: dict[str, Any] = {"solver": "dpmpp_2m", "grid": "log_snr", "steps": 25}
MEASURING = "Drawing series to compare with held-out ones"
GOLDEN_BAR = 1e-5


def label(name: str) -> str:
    """A checkpoint with what it draws."""
    try:
        card = read_card(name)
    except LabError:
        return f"{name} (damaged)"
    source = card["dataset"] or "data not known"
    kind = "FourierDiffusion, " if card["kind"] == KIND else ""
    return f"{name}: {kind}{source}" if kind or name != source else name


def known_data(card: dict[str, Any]) -> Dataset | None:
    """The data set that a model was trained on, where it is here."""
    try:
        return library.dataset(card["dataset"]) if card["dataset"] else None
    except LabError:
        return None


# ---- cards


def card_view() -> None:
    """One checkpoint."""
    names = list_checkpoints()
    if not names:
        st.info(
            "There is no trained network yet. Train one on the Training page, or import a FourierDiffusion checkpoint."
        )
        st.page_link("training.py", label="Train one", icon=":material/model_training:")
        return
    missing = recall("model", names)
    if missing:
        st.info(f"There is no checkpoint {missing!r} here any more.")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.selectbox("Checkpoint", names, key="model", format_func=label, width=480)
        note("model", name, names[0])
        own_actions(name)
    try:
        card = read_card(name)
    except LabError as fault:
        st.error(str(fault))
        return
    headline(card)
    samples_panel(name, card)
    left, right = st.columns(2, gap="medium")
    with left:
        quality_panel(name, card)
    with right:
        if card.get("history"):
            st.markdown(
                "##### Training", help="Weighted squared error; the held-out one is always on the same noise."
            )
            st.plotly_chart(
                history_chart(card["history"], palette()),
                key=f"history.{name}",
                alt="Training and held-out loss against steps",
            )
        profile_panel(name, card)
    facts_panel(name, card)


def headline(card: dict[str, Any]) -> None:
    """The figures people ask for first."""
    sliced = card.get("measured", {}).get("figures", {}).get("sliced_wasserstein_time")
    parameters = card.get("parameters") or card.get("training", {}).get("parameters")
    with st.container(horizontal=True):
        if parameters:
            st.metric("Weights", f"{parameters / 1e6:.2f} M", width="content")
        st.metric("Layers", card["network"]["layers"], width="content")
        st.metric("Steps", card["length"], width="content", help="Length of the series it draws.")
        st.metric("Channels", len(card["channels"]), width="content")
        if "heldout_loss" in card:
            st.metric("Held-out loss", f"{card['heldout_loss']:.4f}", width="content")
        if sliced:
            st.metric(
                "Sliced Wasserstein over floor",
                f"{sliced['ratio']:.2f}×",
                width="content",
                help="Distance of generated to held-out series over that of real to real ones at equal sizes. 1 is as "
                "good as real data.",
            )


@st.cache_data(show_spinner="Drawing 16 series with 25 network calls", max_entries=24)
def drawn(name: str, seed: int, _stamp: library.Stamp) -> np.ndarray:
    """(COUNT, N, M) series in data units, without a cache: they show the model alone."""
    return Sampler(library.model(name), cached=False, **DRAWING).sample(COUNT, seed).series


def samples_panel(name: str, card: dict[str, Any]) -> None:
    """Real and generated series, side by side on one scale."""
    data = known_data(card)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.markdown(
            "##### Real and generated",
            help="Held-out series beside new ones of this model, drawn now by DPM-Solver++ 2M in 25 network calls, "
            "without a cache.",
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
        if st.button("Draw others", icon=":material/shuffle:", help="New noise, and other real series"):
            seed = st.session_state["model.seed"] = seed + 1
    try:
        made = drawn(name, seed, library.model_stamp(name))
    except LabError as fault:
        st.error(str(fault))
        return
    colors = palette()
    panels = [("Generated", made[:, :, channel], colors[0])]
    time: dict[str, Any] = {"step": 1.0, "title": "time (steps)"}
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
            ":material/info: The data it was trained on are not here, so there is nothing real to compare with."
        )


def quality_panel(name: str, card: dict[str, Any]) -> None:
    """The held-out protocol as figures over their floors, and in numbers."""
    st.markdown(
        "##### Quality, measured",
        help="One protocol for all models: distances between generated and held-out series at equal sizes, with 95% "
        "ranges over draws, beside the same distances between two halves of the held-out series (the floor).",
    )
    measured = card.get("measured")
    if not measured:
        st.info(f"Not measured yet: `python -m e2crf_core card --checkpoint {name}` measures it.")
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
        pd.DataFrame(rows, columns=["distance", "over floor", "generated (95%)", "real floor (95%)"]),
        hide_index=True,
        alt="Distances of the held-out protocol with intervals and floors",
    )
    loss = measured.get("loss")
    if loss:
        st.caption(
            f"Held-out loss {loss['value']:.4f} ({loss['low']:.4f} to {loss['high']:.4f}); the Gaussian denoiser"
            " has about 1."
        )
    st.caption(
        f"{measured['size']} against {measured['size']} series, {measured['draws']} draws, {measured['solver']} with "
        f"{measured['steps']} calls, seed {measured['seed']}."
    )


def measure_button(name: str) -> None:
    """Measure one of the user's own models now, as the command does."""
    if not st.button("Measure it now", icon=":material/straighten:", key="measure"):
        return
    bar = st.progress(0.0, text=MEASURING)

    def show(done: int, total: int) -> None:
        bar.progress(done / total, text=MEASURING)

    try:
        measure_card(name, progress=show)
    except LabError as fault:
        st.error(str(fault))
        return
    st.rerun()


def profile_panel(name: str, card: dict[str, Any]) -> None:
    """Where in the noise the model's estimate changes: what the clock 'profile' spends refreshes by."""
    profile = card.get("profile") or {}
    if not profile.get("levels"):
        return
    st.markdown(
        "##### Where its estimate changes",
        help="How much the denoised estimate changes at each noise level, relative to its mean, measured when the card "
        "was made. The cache's clock 'profile' refreshes most where this is high.",
    )
    st.plotly_chart(
        profile_chart(profile["levels"], profile["weights"], palette()[3]),
        key=f"profile.{name}",
        alt="Change of the denoised estimate against the noise level",
    )


def facts_panel(name: str, card: dict[str, Any]) -> None:
    """The whole card for whoever wants it."""
    with st.expander("The whole card", icon=":material/description:"):
        shown = {k: v for k, v in card.items() if k not in ("history", "profile")}
        st.json(shown, expanded=1)
    st.download_button(
        "Card (json)",
        json.dumps(card, indent=1),
        f"{name}-card.json",
        mime="application/json",
        on_click="ignore",
        icon=":material/download:",
    )


def own_actions(name: str) -> None:
    """Where to go from here."""
    st.page_link(
        "live.py", label="Run it live", icon=":material/play_circle:", query_params={"checkpoint": name}
    )
    if name not in shipped_checkpoints():
        remove_button("checkpoint", name, partial(library.remove, "checkpoints", name))


# ---- import


def import_view() -> None:
    """A FourierDiffusion checkpoint becomes one of ours, without running anything that is in it."""
    st.markdown(
        "A Lightning checkpoint of the FourierDiffusion library (a transformer score model), and an NPZ file with the "
        "`mean` and `std` of shape (steps, channels) that its data were standardized with. The checkpoint is read "
        "without unpickling code: anything in it but tensors and the library's noise scheduler is refused by name."
    )
    left, right = st.columns(2, gap="large")
    with left:
        weights = st.file_uploader("Checkpoint", type=["ckpt", "pt"], key="peer.ckpt")
        stats = st.file_uploader("Mean and standard deviation", type=["npz"], key="peer.stats")
    with right:
        data = st.selectbox(
            "Data set it was trained on",
            list_datasets(),
            index=None,
            key="peer.data",
            placeholder="not here",
            help="To draw it beside real series and to measure its quality. Data that are not here: import them first.",
        )
        wanted = weights.name.removesuffix(".ckpt") if weights else "fourierdiffusion"
        name = st.text_input(
            "Name", value=free_name(wanted, list_checkpoints()), key=f"peer.name.{wanted}"
        ).strip()
        golden = st.file_uploader(
            "Golden data (optional)",
            type=["npz"],
            key="peer.golden",
            help="Inputs, noise and outputs that the library itself computed: the import is checked against them.",
        )
    ready = weights is not None and stats is not None
    if st.button(
        "Import", type="primary", icon=":material/download_done:", disabled=not ready, key="peer.import"
    ):
        st.session_state.pop("peer.done", None)
        try:
            if check_name(name) in list_checkpoints():
                raise LabError(
                    f"there is a checkpoint {name!r} already: choose another name, or remove that one"
                )
            with st.spinner("Reading the checkpoint"):
                import_fourierdiffusion(
                    keep(weights), keep(stats), user_folder("checkpoints", name), dataset=data or ""
                )
            st.session_state["peer.done"] = name
        except LabError as fault:
            st.error(for_page(fault))
    done = st.session_state.get("peer.done")
    if done not in list_checkpoints():
        return
    with st.container(border=True):
        st.markdown(f"##### :material/check_circle: {done} is a checkpoint now")
        if golden is not None:
            golden_panel(done, golden)
        st.button("Look at it", icon=":material/visibility:", on_click=show_model, args=(done,))


def golden_panel(name: str, golden: Any) -> None:
    """How far the imported model is from what the library computed."""
    try:
        with st.spinner("Computing what the library computed"):
            found = check_golden(user_folder("checkpoints", name), keep(golden))
    except LabError as fault:
        st.error(for_page(fault))
        return
    with st.container(horizontal=True):
        st.metric("Score, relative error", f"{found['score_rel']:.1e}", width="content")
        st.metric("Whole sampling run, relative error", f"{found['x_final_rel']:.1e}", width="content")
    if max(found.values()) < GOLDEN_BAR:
        st.success("It computes what the library computes, to single precision.")
    else:
        st.warning(
            f"It differs by more than {GOLDEN_BAR:g}: these golden data are of another model, or of other sizes."
        )


def show_model(name: str) -> None:
    """Turn to the card of a checkpoint."""
    st.session_state.update({"part": LOOK, "model": name})


def page() -> None:
    """Lay the page out."""
    st.title("Models", anchor=False)
    (import_view if views("part", VIEWS) == IMPORT else card_view)()


page()
