"""The session of a visitor, as far as fairness between visitors needs it."""

import secrets

import streamlit as st


def owner() -> str:
    """Return a name of this browser session that no other session has."""
    return st.session_state.setdefault("session.owner", secrets.token_hex(8))
