"""Texts that pages share: errors, safe text from files, remaining time, and confirmation of a removal."""

import re
from collections.abc import Callable, Mapping

import streamlit as st

from e2crf_core.errors import LabError

_SPECIAL = re.compile(r"([\\`*\[\]<>$#|~{}!])|(?<!\w)(_)|(_)(?!\w)")


def plain_text(text: object) -> str:
    """Return text from a file or an address so that Markdown shows it verbatim, on one line."""
    return _SPECIAL.sub(lambda found: "\\" + found[0], " ".join(str(text).split()))


def unlinked(markdown: str) -> str:
    """Return Markdown that holds text from files, without images and links: an image would call its server."""
    return markdown.replace("[", "\\[")


def sentence(text: str) -> str:
    """Return text as a sentence: with a capital first letter and a final period."""
    text = text.strip()
    if text and text[-1] not in ".!?:":
        text += "."
    first = text.partition(" ")[0].rstrip(":,;.")
    # Names of files and fields keep their spelling.
    return text[:1].upper() + text[1:] if first.isalpha() else text


def say(fault: LabError | str, labels: Mapping[str, str] | None = None) -> str:
    """Phrase an error for a page: the widget concerned (`labels` by field), the problem, then the remedy."""
    if isinstance(fault, str):
        return sentence(plain_text(fault))
    words = sentence(plain_text(fault.problem))
    label = (labels or {}).get(fault.field or "")
    if label:
        words = f"**{label}**: {words}"
    return words if fault.remedy is None else f"{words} {sentence(plain_text(fault.remedy))}"


def minutes_text(seconds: float) -> str:
    """Return a remaining time in words."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def remove_button(what: str, name: str, remove: Callable[[], None]) -> None:
    """Ask for confirmation, then delete one of the user's items."""
    with st.popover("Remove", icon=":material/delete:"):
        st.markdown(f"Delete the {what} **{plain_text(name)}** from your folder? This cannot be undone.")
        st.button("Delete it", key=f"remove.{name}", type="primary", on_click=remove)


NO_NETWORK = "There is no trained network yet. Train one on the **Training** page, then come back."
