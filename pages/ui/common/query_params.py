"""Choices that the page address holds, so that a link opens the view its sender saw."""

from collections.abc import Mapping, Sequence

import streamlit as st

from pages.ui.common.messages import plain_text


def recall(key: str, options: Sequence[str], default: str | None = None) -> str | None:
    """Set widget `key` to the session's choice, the address's, or `default`: the first that is in `options`.

    Returns an unknown value that the address asked for, else None. Call it before the widget is drawn.
    """
    if st.session_state.get(key) in options:
        return None
    linked = st.query_params.get(key)
    value = linked if linked in options else default if default in options else None
    if value is None and options:
        value = options[0]
    st.session_state[key] = value
    return linked if linked and linked not in options else None


def linked_number(name: str, low: int, high: int) -> int | None:
    """Return the whole number that the address holds under `name`; None for any other text.

    A number outside of `low`..`high` is moved to the nearer end.
    """
    text = st.query_params.get(name, "")
    return min(max(low, int(text[:12])), high) if text.isdecimal() and text.isascii() else None


def recall_number(key: str, name: str, default: int, low: int, high: int) -> None:
    """Give widget `key` the session's number, else the address's under `name`, else `default`."""
    linked = linked_number(name, low, high)
    st.session_state.setdefault(key, default if linked is None else linked)


def note(key: str, value: str | None, default: str | None = None) -> None:
    """Write a choice into the address; a default is left out."""
    if value is None or value == default:
        st.query_params.pop(key, None)
    elif st.query_params.get(key) != value:
        st.query_params[key] = value


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
