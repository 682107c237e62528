"""What pages say alike about the user's own data sets and checkpoints."""

import re
from collections.abc import Callable

import streamlit as st

from e2crf_core.errors import LabError


def for_page(fault: LabError) -> str:
    """A refusal as a page says it: options of the command line are fields here."""
    return re.sub(r"--([a-z][a-z-]*)", lambda m: m[1].replace("-", " "), str(fault))


def remove_button(what: str, name: str, remove: Callable[[], None]) -> None:
    """Ask once more, then delete one of the user's own."""
    with st.popover("Remove", icon=":material/delete:"):
        st.markdown(f"Delete {what} **{name}** from your own folder? This cannot be undone.")
        st.button("Delete it", key=f"remove.{name}", type="primary", on_click=remove)
