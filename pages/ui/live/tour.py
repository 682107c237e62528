"""A tour of the Live page in five stops: each sets the page as its words say; the address holds the stop."""

from collections.abc import Callable
from dataclasses import dataclass

import streamlit as st

from e2crf_core.caching.policy import PRESETS, CachePolicy
from pages.ui.common.query_params import linked_number, stage
from pages.ui.live.policy_form import use_policy, usual_policy
from pages.ui.live.run_form import DEFAULTS, EXPLORE, PLAN, WATCH

ADDRESS = "tour"
ARRIVED = "tour.arrived"


@dataclass(frozen=True)
class Stop:
    """A stop: what it says, the policy (from the usual one) and view that it sets, and the panel it points at."""

    title: str
    words: str
    policy: Callable[[CachePolicy], CachePolicy]
    view: str = EXPLORE
    panel: str | None = None


def _usual(policy: CachePolicy) -> CachePolicy:
    return policy


def _doubled(policy: CachePolicy) -> CachePolicy:
    return policy.replace(tau=2 * policy.tau)


def _published(_: CachePolicy) -> CachePolicy:
    return PRESETS["paper"]


STOPS = (
    Stop(
        "One setting, one dot",
        "Under *Error against cost*, the dot is a run of the whole sampler with this setting: right costs more, up is "
        "farther from the run without a cache. Diamonds are solvers that take fewer steps instead. A cache is worth "
        "having only below them.",
        _usual,
        panel="plane",
    ),
    Stop(
        "Turn the threshold",
        "The threshold is twice as large now: the network runs less often, so the dot moved. Drag the threshold "
        "yourself; at every move all samples are computed again on the same noise.",
        _doubled,
        panel="plane",
    ),
    Stop(
        "See what reuse changed",
        "Both lines began as the same noise: one run reused work, the other, its uncached twin, did not. The shaded "
        "gap is the error of this sample. Beside it, the error by frequency.",
        _doubled,
        panel="series",
    ),
    Stop(
        "Decide by frequency",
        "This is the published rule, which decides for each frequency alone. The map has a column for each step and a "
        "row for each frequency: gray cells were reused, colored ones computed, and the color says why.",
        _published,
        panel="map",
    ),
    Stop(
        "Watch one run",
        "Press **Start** to see a run step by step, and drag the lines with handles while it goes on. Every run is "
        "kept: **Anatomy** explains each decision, and **Tune** searches for the best setting for you.",
        _usual,
        view=WATCH,
    ),
)


def arrive() -> Stop | None:
    """Return the stop that the address names, and set the page as it says when the visitor has just come."""
    state = st.session_state
    number = linked_number(ADDRESS, 1, len(STOPS))
    if number is None:
        state.pop(ARRIVED, None)
        return None
    stop = STOPS[number - 1]
    if state.get(ARRIVED) != number:
        state[ARRIVED] = number
        state.update(view=stop.view, steps=DEFAULTS["steps"], solver=PLAN[0], grid=PLAN[1])
        use_policy(stop.policy(usual_policy(state.checkpoint)), None)
    return stop


def guide(stop: Stop) -> None:
    """Draw what a stop says, and the ways on from it."""
    number = STOPS.index(stop) + 1
    with st.container(border=True, key="tour", horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{number} of {len(STOPS)} · {stop.title}.** {stop.words}", width=640)
        _way("Back", number - 1, "b", disabled=number == 1)
        if number < len(STOPS):
            _way("Next", number + 1, "n", kind="primary")
        st.button("End the tour", key="tour.end", on_click=_go, args=(None,))


def _way(label: str, number: int, key: str, *, kind: str = "secondary", disabled: bool = False) -> None:
    st.button(
        label,
        key=f"tour.{label.lower()}",
        type=kind,  # type: ignore[arg-type]
        disabled=disabled,
        shortcut=key,
        on_click=_go,
        args=(number,),
    )


def _go(number: int | None) -> None:
    """Go to a stop, or end the tour; the settings stay."""
    stage(ADDRESS, None if number is None else str(number))
