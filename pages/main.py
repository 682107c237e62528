"""The script behind every page: page setup and navigation.

It is in `pages/` because a `pages` folder next to the main script would make Streamlit list the files a
second time and answer the first deep link after a start with "Page not found".
"""

import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[1])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

import streamlit as st  # noqa: E402

from pages.ui.common.query_params import turn_page, write_address  # noqa: E402

FRONT = Path(__file__).parent / "ui" / "front"
# A local icon: Streamlit would fetch a named one from the network.
st.set_page_config(page_icon=str(FRONT / "icon.svg"), layout="wide", initial_sidebar_state=290)

page = st.navigation(
    {
        "": [
            st.Page("home.py", title="Start", icon=":material/home:", default=True),
            st.Page("live.py", title="Live", icon=":material/play_circle:", url_path="live"),
        ],
        "Learn": [
            st.Page("lessons.py", title="Lessons", icon=":material/school:", url_path="lessons"),
            st.Page("method.py", title="Method", icon=":material/menu_book:", url_path="method"),
            st.Page("evidence.py", title="Evidence", icon=":material/fact_check:", url_path="evidence"),
        ],
        "Explore": [
            st.Page("anatomy.py", title="Anatomy", icon=":material/biotech:", url_path="anatomy"),
            st.Page("ask.py", title="Ask", icon=":material/help_center:", url_path="ask"),
            st.Page("runs.py", title="Runs", icon=":material/folder_open:", url_path="runs"),
        ],
        "Tune": [
            st.Page("tune.py", title="Tune", icon=":material/tune:", url_path="tune"),
            st.Page("compare.py", title="Compare", icon=":material/compare:", url_path="compare"),
        ],
        "Data": [
            st.Page("data.py", title="Data", icon=":material/dataset:", url_path="data"),
            st.Page("models.py", title="Models", icon=":material/neurology:", url_path="models"),
            st.Page("training.py", title="Training", icon=":material/model_training:", url_path="training"),
        ],
    },
    position="top",
)
st.set_page_config(page_title=f"{page.title} · E²-CRF Lab")
turn_page(page.url_path)
page.run()
write_address()
