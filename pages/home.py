"""The landing page: what the lab is, a recorded run in motion, and three doors."""

import streamlit as st

from pages.ui.home.film import film

DOORS = {
    "Learn": (
        "Why spectra let a network rest, in short lessons: guess, then look.",
        (
            ("lessons.py", "Start the lessons", ":material/school:"),
            ("method.py", "The method and its equations", ":material/menu_book:"),
            ("evidence.py", "What was measured", ":material/fact_check:"),
        ),
    ),
    "Explore": (
        "Turn one threshold; the samples, their error, and the price answer at once.",
        (
            ("live.py", "Open the live page", ":material/play_circle:"),
            ("anatomy.py", "One run, step by step", ":material/biotech:"),
            ("ask.py", "Fill gaps, forecast, find anomalies", ":material/help_center:"),
        ),
    ),
    "Tune and deploy": (
        "Find the best setting for a budget of time or quality, and take it into your program.",
        (
            ("tune.py", "Search for a setting", ":material/tune:"),
            ("compare.py", "Compare settings on equal noise", ":material/compare:"),
            ("data.py", "Bring your own data", ":material/dataset:"),
        ),
    ),
}


def door(name: str) -> None:
    """Draw one of the doors."""
    words, links = DOORS[name]
    with st.container(border=True, key=f"door-{name.split()[0].lower()}", height="stretch"):
        st.header(name, anchor=False)
        st.markdown(words)
        for page, label, icon in links:
            st.page_link(page, label=label, icon=icon)


def page() -> None:
    """Lay out the page; an address of the first release, which opened Live, still does."""
    if st.query_params:
        st.switch_page("live.py", query_params=st.query_params.to_dict())
    st.title("E²-CRF Lab", anchor=False)
    st.markdown(
        "See how a diffusion model draws time series from noise, and what it costs and saves "
        "to reuse its work frequency by frequency."
    )
    film()
    for place, name in zip(st.columns(3), DOORS, strict=True):
        with place:
            door(name)
    st.page_link(
        "live.py",
        label="New here? Take the tour: five stops on the live page",
        icon=":material/signpost:",
        query_params={"tour": "1"},
    )


page()
