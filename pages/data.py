"""The Data page: the data sets as real series and in numbers, and the import of files."""

import streamlit as st

from pages.ui.common.query_params import choice
from pages.ui.data.cards import card_view
from pages.ui.data.import_view import import_view

VIEWS = {"sets": "Data sets", "import": "Import a file"}
DRAW = {"sets": card_view, "import": import_view}


def page() -> None:
    """Lay out the page."""
    st.title("Data", anchor=False)
    DRAW[choice("View", VIEWS, "view", bare=True)]()


page()
