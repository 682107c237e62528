"""The choice of one item of a kind, a data set or a checkpoint, with what can be done with it."""

from collections.abc import Callable, Collection, Sequence
from functools import partial

import streamlit as st

from e2crf_core.io.userfiles import Kind
from pages.ui.common import library
from pages.ui.common.messages import plain_text, remove_button
from pages.ui.common.query_params import note, recall


def item_choice(
    what: str,
    names: Sequence[str],
    key: str,
    label: Callable[[str], str],
    link: Callable[[str], None],
    *,
    kind: Kind,
    shipped: Collection[str],
) -> str:
    """Draw the choice among `names` and the actions for the chosen one; return its name.

    `what` names the kind in messages. The address holds the choice under `key`. `link` draws a link for an item.
    Only items that are not `shipped` can be removed.
    """
    unknown = recall(key, names)
    if unknown:
        st.info(f"The {what} '{plain_text(unknown)}' is no longer here.")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.selectbox(what.capitalize(), names, key=key, format_func=label, width=480)
        note(key, name, names[0])
        link(name)
        if name not in shipped:
            remove_button(what, name, partial(library.remove, kind, name))
    return name
