"""Colors of the theme that the visitor sees, for figures that must tell more than one thing apart."""

import streamlit as st


def palette() -> list[str]:
    """Categorical colors of the light or dark theme, in the order of the canvas."""
    kind = st.context.theme.type or "light"
    return list(st.get_option(f"theme.{kind}.chartCategoricalColors"))
