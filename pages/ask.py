"""The Ask page: questions about a series, answered by a trained model with bands, and how good the answers are."""

import streamlit as st

from e2crf_core.data.datasets import Dataset
from e2crf_core.errors import LabError
from e2crf_core.models.checkpoints import list_checkpoints
from pages.ui.ask.answers import answer_panel
from pages.ui.ask.choosing import choosing_panel, tuned_way
from pages.ui.ask.form import (
    GAPS,
    LABELS,
    NEXT,
    NORMAL,
    drawing_form,
    file_question,
    model_choice,
    own_data,
    source_choice,
    window_question,
)
from pages.ui.ask.judging import judging_panel
from pages.ui.ask.normal import normal_panel
from pages.ui.ask.subject import Subject, heldout_mask
from pages.ui.common import library
from pages.ui.common.messages import NO_NETWORK, say
from pages.ui.common.query_params import choice

KINDS = {GAPS: "Fill the gaps", NEXT: "What comes next?", NORMAL: "Is this normal?"}
INTRO = (
    "A model that was trained to draw whole series also answers questions about **one**, without retraining: "
    "it draws many series that agree with everything you know, and tells how improbable a series is."
)


def page() -> None:
    """Lay out the page."""
    st.title("Ask", anchor=False)
    st.markdown(INTRO)
    names = list_checkpoints()
    if not names:
        st.warning(NO_NETWORK)
        return
    kind = choice("Question", KINDS, "ask", bare=True)
    left, right = st.columns(2, gap="large")
    with left:
        checkpoint = model_choice(names)
    with right:
        source = source_choice()
    subject: Subject | None
    data: Dataset | None
    try:
        model = library.model(checkpoint)
        if source == "window":
            subject, data = window_question(model, kind)
        else:
            subject, data = file_question(model, checkpoint, kind), own_data(model)
    except LabError as fault:
        st.error(say(fault, LABELS))
        return
    if subject is None:
        return
    if kind == NORMAL:
        normal_panel(checkpoint, model, data, subject)
        return
    known = heldout_mask(model, subject)
    with st.expander("Draws, network calls and cache", icon=":material/tune:"):
        try:
            drawing = drawing_form(tuned_way(checkpoint, known))
        except LabError as fault:
            st.error(say(fault, LABELS))
            return
    answer_panel(checkpoint, model, subject, drawing)
    judging_panel(checkpoint, model, data, known, drawing)
    choosing_panel(checkpoint, model, data, known, drawing)


page()
