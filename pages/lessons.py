"""The Lessons page: short lessons from a spectrum to the choice between a cache and a solver; guess, then look."""

from pathlib import Path

import streamlit as st

from e2crf_core.errors import LabError
from e2crf_core.lessons.texts import TEXTS, Text
from pages.ui.common.messages import say
from pages.ui.lessons.guess import guess_card, your_turn
from pages.ui.lessons.interactive import change_lesson, events_lesson, series_lesson
from pages.ui.lessons.measured import AXES, measured_lesson

PRESENT = "present"
PRESENT_CSS = Path(__file__).parent / "ui" / "front" / "present.css"
CANVAS = {
    "spectrum": series_lesson,
    "mirror": series_lesson,
    "noise": series_lesson,
    "change": change_lesson,
    "events": events_lesson,
}


def go(place: int) -> None:
    """Open another lesson; the address keeps the data set and presenter mode only.

    The address changes at once and as a whole, so that Back goes back one lesson.
    """
    kept = {key: st.query_params[key] for key in ("dataset", PRESENT) if key in st.query_params}
    st.query_params.from_dict({"lesson": str(place + 1), **kept})


def present(on: bool) -> None:
    """Switch presenter mode, which the address holds."""
    if on:
        st.query_params[PRESENT] = "1"
    else:
        st.query_params.pop(PRESENT, None)


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
        st.button(
            "Presenter mode",
            icon=":material/slideshow:",
            on_click=present,
            args=(True,),
            help="Large type, without this list. N and P turn the pages, 1, 2, 3 choose an answer.",
        )


def neighbors(place: int, presenting: bool) -> None:
    """Draw the buttons to the previous and the next lesson."""
    with st.container(horizontal=True, horizontal_alignment="distribute", key="neighbors"):
        if place:
            st.button(f"← {TEXTS[place - 1].title}", on_click=go, args=(place - 1,), shortcut="p")
        if presenting:
            st.button(
                "Leave presenter mode",
                icon=":material/close:",
                on_click=present,
                args=(False,),
                shortcut="Esc",
            )
        if place < len(TEXTS) - 1:
            st.button(
                f"{TEXTS[place + 1].title} →", on_click=go, args=(place + 1,), type="primary", shortcut="n"
            )


def figure(text: Text, revealed: bool) -> None:
    """Draw what a lesson shows: a measurement once the guess is made, and a canvas to play with."""
    if text.key in AXES:
        measured_lesson(text.key, revealed)
    if text.key in CANVAS:
        CANVAS[text.key](text)


def page() -> None:
    """Lay out the page."""
    place = linked_lesson()
    text, presenting = TEXTS[place], st.query_params.get(PRESENT) == "1"
    if presenting:
        st.html(PRESENT_CSS)
    menu(place)
    st.title(f"{place + 1}. {text.title}", anchor=False)
    left, right = st.columns([10, 10], gap="medium")
    with left:
        st.markdown(text.idea)
        st.markdown(f":material/touch_app: {text.attempt}")
    with right:
        lines = text.formula.replace(r",\qquad", r",\\[6pt]")
        with st.container(key="formula"):
            st.latex(rf"\begin{{gathered}}{lines}\end{{gathered}}")
        st.caption(text.letters)
    revealed = guess_card(text)
    try:
        figure(text, revealed)
    except LabError as fault:
        st.error(say(fault))
    your_turn(text.turn)
    neighbors(place, presenting)


page()
