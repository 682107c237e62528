"""Guess first: the question of a lesson with its choices, then the answer; and where a visitor goes on."""

import streamlit as st

from e2crf_core.lessons.texts import Text, Turn
from e2crf_core.models.checkpoints import list_checkpoints

GUESSES = "lessons.guesses"
SKIPPED = -1


def guess_of(text: Text) -> int | None:
    """Return the number of this visitor's guess, SKIPPED for the answer without one, None before either."""
    return st.session_state.setdefault(GUESSES, {}).get(text.key)


def _guess(key: str, number: int | None) -> None:
    """Take a guess, or take it back with None. Each lesson has its own: one answer never opens another."""
    guesses = dict(st.session_state.setdefault(GUESSES, {}))
    guesses.pop(key, None)
    if number is not None:
        guesses[key] = number
    st.session_state[GUESSES] = guesses


def guess_card(text: Text) -> bool:
    """Draw the question with its choices, or its answer; return whether the answer is open."""
    number = guess_of(text)
    with st.container(border=True, key="guess"):
        st.markdown(f":material/help: **{text.question}**")
        if number is None:
            with st.container(horizontal=True):
                for place, choice in enumerate(text.choices):
                    st.button(
                        choice,
                        key=f"guess.{text.key}.{place}",
                        on_click=_guess,
                        args=(text.key, place),
                        shortcut=str(place + 1),
                    )
                st.button(
                    "Show me",
                    key=f"guess.{text.key}.skip",
                    type="tertiary",
                    on_click=_guess,
                    args=(text.key, SKIPPED),
                )
            return False
        right = text.choices[text.right]
        if number == text.right:
            st.success(f"**Right: {right}.**", icon=":material/check_circle:")
        elif number == SKIPPED:
            st.info(f"**{right}.**", icon=":material/lightbulb:")
        else:
            guessed = text.choices[number]
            st.warning(f"**Not “{guessed}”, but: {right}.**", icon=":material/cancel:")
        st.markdown(text.answer)
        st.button(
            "Guess again",
            key=f"guess.{text.key}.again",
            type="tertiary",
            icon=":material/undo:",
            on_click=_guess,
            args=(text.key, None),
        )
    return True


def your_turn(turn: Turn) -> None:
    """Draw what to try next, with links to the Live and Tune pages that carry the settings."""
    if turn.checkpoint not in list_checkpoints():
        return
    with st.container(border=True, horizontal=True, vertical_alignment="center", key="turn"):
        st.markdown(f":material/touch_app: **Your turn.** {turn.task}")
        st.page_link("live.py", label="Try it live", icon=":material/play_circle:", query_params=turn.query)
        st.page_link(
            "tune.py",
            label="Tune it",
            icon=":material/tune:",
            query_params={"study": "~new", "checkpoint": turn.checkpoint},
        )
