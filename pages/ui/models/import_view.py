"""Import a checkpoint of the FourierDiffusion library."""

from typing import Any

import streamlit as st

from e2crf_core.data.datasets import list_datasets
from e2crf_core.errors import LabError
from e2crf_core.io.userfiles import check_name, free_name, user_folder
from e2crf_core.models.checkpoints import list_checkpoints
from e2crf_core.models.fourierdiffusion import check_golden, import_fourierdiffusion
from pages.ui.common.messages import plain_text, say
from pages.ui.common.uploads import keep

GOLDEN_BAR = 1e-5
LABELS = {"name": "Name", "data": "Data set it was trained on", "stats": "Mean and standard deviation"}


def import_view() -> None:
    """Draw the import of a FourierDiffusion checkpoint; no code in the file is run."""
    st.markdown(
        "Upload a Lightning checkpoint of the FourierDiffusion library (a transformer score model), and an "
        "NPZ file with the `mean` and `std`, of shape (steps, channels), used to standardize its data. "
        "The checkpoint is read without running pickled code: anything but tensors and the library's noise "
        "scheduler is rejected by name."
    )
    left, right = st.columns(2, gap="large")
    with left:
        weights = st.file_uploader("Checkpoint", type=["ckpt", "pt"], key="import.weights")
        stats = st.file_uploader("Mean and standard deviation", type=["npz"], key="import.stats")
    with right:
        data = st.selectbox(
            "Data set it was trained on",
            list_datasets(),
            index=None,
            key="import.data",
            placeholder="not here",
            help="Needed to draw the model next to real series and to measure its quality. If the data are "
            "not here, import them first.",
        )
        proposed = weights.name.removesuffix(".ckpt") if weights else "fourierdiffusion"
        name = st.text_input(
            "Name", value=free_name(proposed, list_checkpoints()), key=f"import.name.{proposed}"
        ).strip()
        golden = st.file_uploader(
            "Golden data (optional)",
            type=["npz"],
            key="import.golden",
            help="Inputs, noise and outputs that the library itself computed. The import is checked against "
            "them.",
        )
    ready = weights is not None and stats is not None
    if st.button(
        "Import", type="primary", icon=":material/download_done:", disabled=not ready, key="import.run"
    ):
        st.session_state.pop("import.done", None)
        try:
            if check_name(name) in list_checkpoints():
                raise LabError(
                    f"there is already a checkpoint {name!r}",
                    field="name",
                    remedy="choose another name, or remove that checkpoint",
                )
            with st.spinner("Reading the checkpoint"):
                import_fourierdiffusion(
                    keep(weights), keep(stats), user_folder("checkpoints", name), dataset=data or ""
                )
            st.session_state["import.done"] = name
        except LabError as fault:
            st.error(say(fault, LABELS))
    done = st.session_state.get("import.done")
    if done not in list_checkpoints():
        return
    with st.container(border=True):
        st.markdown(f"##### :material/check_circle: {plain_text(done)} is now a checkpoint")
        if golden is not None:
            golden_panel(done, golden)
        st.button("Show it", icon=":material/visibility:", on_click=show_model, args=(done,))


def golden_panel(name: str, golden: Any) -> None:
    """Draw the imported model's differences from the library's results."""
    try:
        with st.spinner("Computing what the library computed"):
            errors = check_golden(user_folder("checkpoints", name), keep(golden))
    except LabError as fault:
        st.error(say(fault, LABELS))
        return
    with st.container(horizontal=True):
        st.metric("Score, relative error", f"{errors['score_rel']:.1e}", width="content")
        st.metric("Whole sampling run, relative error", f"{errors['x_final_rel']:.1e}", width="content")
    if max(errors.values()) < GOLDEN_BAR:
        st.success("The model computes what the library computes, to single precision.")
    else:
        st.warning(
            f"The model differs by more than {GOLDEN_BAR:g}: these golden data belong to another model, or "
            "to other sizes."
        )


def show_model(name: str) -> None:
    """Open the card of a checkpoint."""
    st.session_state.update({"part": "models", "checkpoint": name})
