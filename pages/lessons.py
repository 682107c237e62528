"""The Lessons page: seven short lessons, from a spectrum to the choice between a cache and fewer steps."""

import streamlit as st

from e2crf_core.errors import LabError
from pages.ui.common.messages import say
from pages.ui.lessons.interactive import change_lesson, events_lesson, series_lesson
from pages.ui.lessons.lesson_texts import TEXTS
from pages.ui.lessons.measured import feedback_lesson, fewer_lesson

DRAW = {
    "spectrum": series_lesson,
    "mirror": series_lesson,
    "noise": series_lesson,
    "change": change_lesson,
    "events": events_lesson,
    "feedback": feedback_lesson,
    "fewer": fewer_lesson,
}


def go(place: int) -> None:
    """Open another lesson; the address keeps the data set and the checkpoint only."""
    kept = {key: st.query_params[key] for key in ("dataset", "checkpoint") if key in st.query_params}
    st.query_params.clear()
    st.query_params.update({"lesson": str(place + 1), **kept})


def linked_lesson() -> int:
    """Return the index of the lesson in the address."""
    text = st.query_params.get("lesson", "1")
    place = int(text) - 1 if text.isdecimal() and len(text) < 3 else 0
    return min(max(0, place), len(TEXTS) - 1)


def menu(place: int) -> None:
    """Draw the list of lessons."""
    with st.sidebar:
        st.markdown("**Lessons**, two to five minutes each")
        for i, text in enumerate(TEXTS):
            st.button(
                f"{i + 1}. {text.title}",
                key=f"lesson.{i}",
                on_click=go,
                args=(i,),
                type="primary" if i == place else "tertiary",
            )


def neighbors(place: int) -> None:
    """Draw the buttons to the previous and the next lesson."""
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        if place:
            st.button(f"← {TEXTS[place - 1].title}", on_click=go, args=(place - 1,))
        if place < len(TEXTS) - 1:
            st.button(f"{TEXTS[place + 1].title} →", on_click=go, args=(place + 1,), type="primary")


def page() -> None:
    """Lay out the page."""
    place = linked_lesson()
    text = TEXTS[place]
    menu(place)
    st.title(f"{place + 1}. {text.title}", anchor=False)
    left, right = st.columns([10, 10], gap="medium")
    with left:
        st.markdown(text.idea)
        st.markdown(f":material/touch_app: {text.attempt}")
    with right:
        lines = text.formula.replace(r",\qquad", r",\\[6pt]")
        st.latex(rf"\begin{{gathered}}{lines}\end{{gathered}}")
        st.caption(text.letters)
    try:
        DRAW[text.key](text)
    except LabError as fault:
        st.error(say(fault))
    with st.container(border=True):
        st.markdown(f":material/help: **{text.question}**")
        with st.expander("Show the answer"):
            st.markdown(text.answer)
    neighbors(place)


page()
