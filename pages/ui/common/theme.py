"""Colors of the visitor's theme, for plots that show several things."""

import streamlit as st


def palette() -> list[str]:
    """Return the categorical colors of the light or dark theme, in the order of the canvas."""
    kind = st.context.theme.type or "light"
    return list(st.get_option(f"theme.{kind}.chartCategoricalColors"))
