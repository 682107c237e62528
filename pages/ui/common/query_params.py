"""Choices that the page address holds, so that a link opens the view its sender saw.

The address wins over the session where a link has put a value there, and the session over what a page itself has noted:
a widget may have moved on since. What a page notes is written at its end, all at once: each change of the address is a
step of the browser's Back.
"""

from collections.abc import Mapping, Sequence

import streamlit as st
from streamlit.errors import StreamlitAPIException

from pages.ui.common.messages import plain_text

NOTED, PAGE, STAGED = "address.noted", "address.page", "address.staged"


def turn_page(page: str) -> None:
    """Remember which page is shown; what the address of another one holds was put there by a link."""
    if st.session_state.get(PAGE) != page:
        st.session_state[PAGE] = page
        st.session_state[NOTED] = {}
        st.session_state.pop(STAGED, None)


def stage(name: str, value: str | None) -> None:
    """Have a value, or its absence, written into the address at the end of the page."""
    st.session_state.setdefault(STAGED, {})[name] = value


def written(name: str) -> str | None:
    """Return the value under `name` that the address holds, or will hold at the end of the page."""
    staged: dict[str, str | None] = st.session_state.get(STAGED, {})
    return staged[name] if name in staged else st.query_params.get(name)


def write_address() -> None:
    """Write what was staged. Called once, at the end of a page."""
    now = st.query_params.to_dict()
    staged: dict[str, str | None] = st.session_state.pop(STAGED, {})
    changes = {name: value for name, value in staged.items() if value != now.get(name)}
    if not changes:
        return
    then = {name: value for name, value in (now | changes).items() if value is not None}
    try:
        st.query_params.from_dict(then)
    except StreamlitAPIException:
        # Streamlit writes some of the page's parameters itself, and refuses to replace the whole.
        for name, value in changes.items():
            if value is None:
                st.query_params.pop(name)
            else:
                st.query_params[name] = value


def linked(name: str) -> str | None:
    """Return the value under `name` in the address if a link has put it there, else None."""
    value = written(name)
    return None if value == st.session_state.setdefault(NOTED, {}).get(name) else value


def recall(key: str, options: Sequence[str], default: str | None = None) -> str | None:
    """Set widget `key` to a link's choice, the session's, or `default`: the first that is in `options`.

    Returns an unknown value that the link asked for, else None. Call it before the widget is drawn.
    """
    wish, kept = linked(key), st.session_state.get(key)
    if written(key) is None and st.session_state[NOTED].get(key) is not None:
        kept = None  # Back led to where it had not been chosen yet
    choices = (wish, kept, written(key), default, *options[:1])
    value = next((choice for choice in choices if choice in options), None)
    if value != kept or key not in st.session_state:
        st.session_state[key] = value
    return wish if wish and wish not in options else None


def unknown_words(what: str, name: str) -> str:
    """Return what to say of a value that a link asked for and that does not exist."""
    return f"The {what} '{plain_text(name[:60])}' of this address is not in this lab; another one is shown."


def linked_number(name: str, low: int, high: int) -> int | None:
    """Return the whole number that the address holds under `name`; None for any other text.

    A number outside of `low`..`high` is moved to the nearer end.
    """
    text = written(name) or ""
    return min(max(low, int(text[:12])), high) if text.isdecimal() and text.isascii() else None


def recall_number(key: str, name: str, default: int, low: int, high: int) -> None:
    """Give widget `key` a link's number under `name`, else the session's, else `default`."""
    number = linked_number(name, low, high)
    if number is not None and linked(name) is not None:
        st.session_state[key] = number
    st.session_state.setdefault(key, default if number is None else number)


def note(key: str, value: str | None, default: str | None = None) -> None:
    """Have a choice written into the address at the end of the page; a default is left out."""
    value = None if value == default else value
    stage(key, value)
    st.session_state.setdefault(NOTED, {})[key] = value


def choice(
    label: str, names: Mapping[str, str], key: str, default: str | None = None, *, bare: bool = False
) -> str:
    """Draw a choice among a few `names` (labels by value), the first one by default; the address holds it."""
    default = default or next(iter(names))
    recall(key, list(names), default)
    picked = st.segmented_control(
        label,
        list(names),
        key=key,
        required=True,
        format_func=lambda value: plain_text(names[value]),
        label_visibility="collapsed" if bare else "visible",
    )
    note(key, picked, default)
    return picked or default
