"""The canvases of Anatomy, of the lessons and of Tune as Streamlit components: registered once, when first imported."""

import streamlit as st

from pages.ui.live.canvas import front_text

anatomy_canvas = st.components.v2.component(
    "e2crf_anatomy",
    html=front_text("anatomy.html"),
    css=front_text("live.css", "anatomy.css"),
    js=front_text("theme.js", "plot.js", "takeaway.js", "store.js", "whatif.js", "anatomy.js"),
)
lesson_canvas = st.components.v2.component(
    "e2crf_lesson",
    html=front_text("lesson.html"),
    css=front_text("live.css", "anatomy.css", "lesson.css"),
    js=front_text("theme.js", "plot.js", "takeaway.js", "store.js", "whatif.js", "lessons.js"),
)
tune_board = st.components.v2.component(
    "e2crf_tune",
    html=front_text("tune.html"),
    css=front_text("live.css", "tune.css"),
    js=front_text("theme.js", "plot.js", "store.js", "tune.js"),
)
