"""A chart with what people take away from it: the picture (PNG, SVG), the page (HTML) and the data (CSV, Parquet)."""

import io
from collections.abc import Callable

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

FORMATS = ("png", "svg")


def data_buttons(frame: pd.DataFrame | Callable[[], pd.DataFrame], name: str) -> None:
    """Download buttons for a table, or for one that is made when somebody wants it."""

    def table() -> pd.DataFrame:
        return frame() if callable(frame) else frame

    def parquet() -> bytes:
        buffer = io.BytesIO()
        table().to_parquet(buffer, index=False)
        return buffer.getvalue()

    def csv() -> bytes:
        return table().to_csv(index=False, float_format="%.9g").encode()

    icon = ":material/download:"
    st.download_button("CSV", csv, f"{name}.csv", "text/csv", on_click="ignore", icon=icon, key=f"{name}.csv")
    st.download_button(
        "Parquet", parquet, f"{name}.parquet", on_click="ignore", icon=icon, key=f"{name}.parquet"
    )


def chart(figure: go.Figure, name: str, frame: pd.DataFrame) -> None:
    """Draw a figure and offer it, and the data behind it, for download; `name` is unique on the page."""
    picture = st.session_state.get(f"{name}.picture") or FORMATS[0]
    st.plotly_chart(
        figure,
        key=f"{name}.chart",
        config={
            "displaylogo": False,
            "toImageButtonOptions": {"format": picture, "filename": name, "scale": 2},
        },
    )
    with st.popover("Take away", icon=":material/download:"):
        st.segmented_control(
            "Camera button above the chart saves as", FORMATS, default=FORMATS[0], key=f"{name}.picture"
        )
        st.download_button(
            "HTML page",
            lambda: figure.to_html(include_plotlyjs=True),
            f"{name}.html",
            "text/html",
            on_click="ignore",
            icon=":material/download:",
            key=f"{name}.html",
        )
        data_buttons(frame, name)
