"""What pages say alike about the user's own data sets, checkpoints and studies, and about work that takes minutes."""

import re
from collections.abc import Callable

import streamlit as st

from e2crf_core.errors import LabError


def for_page(fault: LabError) -> str:
    """A refusal as a page says it: options of the command line are fields here."""
    return re.sub(r"--([a-z][a-z-]*)", lambda m: m[1].replace("-", " "), str(fault))


def minutes_text(seconds: float) -> str:
    """Time left as people say it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def remove_button(what: str, name: str, remove: Callable[[], None]) -> None:
    """Ask once more, then delete one of the user's own."""
    with st.popover("Remove", icon=":material/delete:"):
        st.markdown(f"Delete {what} **{name}** from your own folder? This cannot be undone.")
        st.button("Delete it", key=f"remove.{name}", type="primary", on_click=remove)
