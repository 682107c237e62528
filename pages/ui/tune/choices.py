"""A visitor's choices for a study: the trial, the axes and the budgets. The address holds all of them."""

from dataclasses import dataclass

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from e2crf_core.tuning.choice import Choice, pick, within_budgets
from e2crf_core.tuning.measure import Point
from e2crf_core.tuning.record import Record
from pages.ui.common.query_params import choice, linked, note
from pages.ui.tune.study_values import COSTS, qualities


@dataclass(frozen=True)
class Options:
    """Axes and budgets: `latency` and `alone` in ms, `budget` as a share of the reference's distance or an L2.

    `hide` leaves out trials that miss the budgets.
    """

    cost: str
    quality: str
    latency: float | None
    alone: float | None
    budget: float | None
    hide: bool = False

    @property
    def budgets(self) -> dict[str, float | None]:
        """The budgets in the units of `tuning.choice`: seconds, and a share or an L2."""
        seconds = {
            name: None if ms is None else ms / 1e3
            for name, ms in (("latency", self.latency), ("alone", self.alone))
        }
        return {**seconds, "budget": self.budget}


def selected_trial(name: str, record: Record) -> int | None:
    """Return the trial chosen in this session or in the address; None without a valid choice."""
    text = linked("trial") or ""
    number = int(text[:9]) if text.removeprefix("-").isdecimal() else None
    if number is not None and record.point(number) is not None:
        st.session_state["tune.trial"] = (name, number)
    study, chosen = st.session_state.get("tune.trial", (name, None))
    return chosen if study == name and record.point(chosen) is not None else None


def select(name: str, number: int | None) -> None:
    """Choose a trial; None leaves the choice to the budgets."""
    st.session_state["tune.trial"] = (name, number)
    note("trial", None if number is None else str(number))


def clicked(name: str, key: str) -> None:
    """Select the trial that was chosen on a chart."""
    picked = getattr(st.session_state[key], "pick", None)
    if picked:
        select(name, int(picked["number"]))


def budget_input(label: str, key: str, help: str, low: float) -> float | None:
    """Draw an optional budget; the address holds it."""
    return st.number_input(
        label,
        low,
        1e6,
        value=None,
        format="%g",
        key=key,
        bind="query-params",
        placeholder="none",
        help=help,
    )


def options_row(record: Record, head: DeltaGenerator) -> Options:
    """Draw the axes and budgets, and in the row `head` whether to hide what misses them."""
    relative = record.spec.quality == "relative_l2"
    a, b, c, alone, d = st.columns([1.3, 1.4, 1, 1, 1.1], vertical_alignment="bottom")
    with a:
        cost = choice("Cost", COSTS, "cost", record.spec.cost)
    with b:
        shown = qualities(record.spec.quality)
        quality = choice("Quality, smaller is better", shown, "quality")
    with c:
        latency = budget_input(
            "Latency budget (ms)",
            "latency",
            f"Per sample, in batches of {record.spec.batch}. The page picks the best quality within this time.",
            1e-3,
        )
    with alone:
        single = budget_input(
            "Latency alone (ms)",
            "alone",
            "For a lone sample, as for a single request: several times the share of a sample in a batch.",
            1e-3,
        )
    with d:
        limit = (
            "Largest relative L2 to the uncached twin."
            if relative
            else "How far the distance may rise above the uncached one."
        )
        budget = budget_input(
            "Quality budget (L2)" if relative else "Quality budget (%)",
            "budget",
            f"{limit} The page picks the cheapest setting whose whole 95% interval stays within it.",
            1e-4,
        )
    with head:
        hide = st.toggle(
            "Hide trials that miss the budgets",
            key="hide",
            bind="query-params",
            help="Leaves out trials that ended early or are not certain to be within the budgets; without "
            "budgets, those that are not certain to be as good as the reference.",
        )
    share = budget if relative or budget is None else budget / 100
    return Options(cost, quality, latency, single, share, hide)


def choose(record: Record, options: Options) -> Choice | None:
    """Pick the point for the budgets; None before any has finished."""
    if record.reference is None:
        return None
    return pick(
        record.known,
        record.reference,
        cost=options.cost,
        quality=record.spec.quality,
        **options.budgets,
    )


def shown_points(record: Record, options: Options, selected: int | None = None) -> list[Point]:
    """Return the points to show: all, or those within the budgets, the reference and the selected one."""
    if not options.hide or record.reference is None:
        return list(record.known)
    able = within_budgets(record.known, record.reference, quality=record.spec.quality, **options.budgets)
    return [p for p in record.known if p.number in able or p.number == selected]
