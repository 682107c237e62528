"""The Models page: each checkpoint's card, its measured quality, and its samples next to real series."""

import streamlit as st

from pages.ui.common.query_params import choice
from pages.ui.models.cards import card_view
from pages.ui.models.import_view import import_view

VIEWS = {"models": "Models", "import": "Import a model"}
DRAW = {"models": card_view, "import": import_view}


def page() -> None:
    """Lay out the page."""
    st.title("Models", anchor=False)
    DRAW[choice("View", VIEWS, "part", bare=True)]()


page()
