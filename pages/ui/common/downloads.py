"""Downloads of a chart and its data: a picture (PNG, SVG), a web page (HTML), and the data (CSV, Parquet)."""

import io
import zlib
from collections.abc import Callable

import pandas as pd
import plotly.graph_objects as go
import pyarrow as pa
import streamlit as st
from pyarrow import csv, parquet

from e2crf_core.errors import LabError

FORMATS = ("png", "svg")
CSV_BYTES = 256 * 2**20
"""Largest table that is turned into Parquet, as CSV text."""
CANVAS_COLUMNS = {
    "panel": pa.string(),
    "series": pa.string(),
    "x": pa.float64(),
    "k": pa.float64(),
    "value": pa.float64(),
}


def parquet_of_csv(compressed: bytes) -> bytes:
    """Convert the table behind a canvas from CSV, compressed with gzip, to Parquet; no value is changed.

    Raises `LabError` if the bytes are not such a table, or one larger than `CSV_BYTES`.
    """
    unpacker = zlib.decompressobj(wbits=31)
    options = csv.ConvertOptions(
        column_types=CANVAS_COLUMNS, null_values=[""], include_columns=[*CANVAS_COLUMNS]
    )
    try:
        text = unpacker.decompress(compressed, CSV_BYTES)
        if unpacker.unconsumed_tail:
            raise LabError("the table is too large")
        table = csv.read_csv(io.BytesIO(text), convert_options=options)
    except (zlib.error, pa.ArrowException) as fault:
        raise LabError("the table of the canvas cannot be read") from fault
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    return buffer.getvalue()


def parquet_of(frame: pd.DataFrame) -> bytes:
    """A table as the bytes of a Parquet file."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def data_buttons(frame: pd.DataFrame | Callable[[], pd.DataFrame], name: str) -> None:
    """Show download buttons for a table, or for a function that makes it when one is clicked."""

    def table() -> pd.DataFrame:
        return frame() if callable(frame) else frame

    def as_parquet() -> bytes:
        return parquet_of(table())

    def as_csv() -> bytes:
        return table().to_csv(index=False, float_format="%.9g").encode()

    icon = ":material/download:"
    st.download_button(
        "CSV", as_csv, f"{name}.csv", "text/csv", on_click="ignore", icon=icon, key=f"{name}.csv"
    )
    st.download_button(
        "Parquet", as_parquet, f"{name}.parquet", on_click="ignore", icon=icon, key=f"{name}.parquet"
    )


def chart(figure: go.Figure, name: str, frame: pd.DataFrame) -> None:
    """Draw a figure; offer it and the data behind it for download. `name` is unique on the page."""
    picture = st.session_state.get(f"{name}.picture") or FORMATS[0]
    st.plotly_chart(
        figure,
        key=f"{name}.chart",
        config={
            "displaylogo": False,
            "toImageButtonOptions": {"format": picture, "filename": name, "scale": 2},
        },
    )
    with st.popover("Save", icon=":material/download:"):
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
