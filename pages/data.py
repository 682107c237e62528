"""The Data page: real series and statistics of the data sets, and the import of files."""

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
