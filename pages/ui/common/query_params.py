"""Choices that stand in the address of a page, so that a link opens what its sender saw."""

from collections.abc import Mapping, Sequence

import streamlit as st


def recall(key: str, options: Sequence[str], default: str | None = None) -> str | None:
    """Give widget `key` what the session chose, else what the address asks for, else `default`, of `options`.

    Returns what the address asked for in vain. To be called before the widget is drawn.
    """
    if st.session_state.get(key) in options:
        return None
    asked = st.query_params.get(key)
    found = asked if asked in options else default if default in options else None
    if found is None and options:
        found = options[0]
    st.session_state[key] = found
    return asked if asked and asked not in options else None


def note(key: str, value: str | None, default: str | None = None) -> None:
    """Write the choice of widget `key` into the address; a default is left out."""
    if value is None or value == default:
        st.query_params.pop(key, None)
    elif st.query_params.get(key) != value:
        st.query_params[key] = value


def views(key: str, labels: Mapping[str, str]) -> str:
    """The row of a page's views, `labels` by name; the one chosen stands in the address, the first is the default."""
    names = list(labels)
    recall(key, names)
    view = st.segmented_control(
        "View", names, required=True, key=key, format_func=labels.__getitem__, label_visibility="collapsed"
    )
    note(key, view, names[0])
    return view or names[0]
