"""The view of the trigger study: all families on the same axes, results at a budget, and predictability."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import streamlit as st

from e2crf_core.quality.interval import Interval
from pages.ui.common.downloads import chart
from pages.ui.common.messages import plain_text, unlinked
from pages.ui.common.query_params import choice, note
from pages.ui.common.theme import palette
from pages.ui.evidence.controls import (
    chosen_file,
    missing,
    provenance,
    quick_warning,
    several,
    values_table,
)
from pages.ui.evidence.files import result_files
from pages.ui.evidence.gains import (
    SHARES,
    Budget,
    best_at,
    foresight,
    foresight_sentence,
    measure_title,
    measures,
    verdict,
)
from pages.ui.evidence.plots import REAL, DataPanel, Dot, Family, families_chart, foresight_chart
from pages.ui.evidence.trigger_study import (
    BANDS,
    COMMAND,
    DISTANCE,
    KINDS,
    TOKENS,
    StudySetting,
    TriggerStudy,
    read_studies,
    study_frame,
)

COSTS: dict[str, tuple[str, Callable[[StudySetting], float]]] = {
    "tokens": ("share of tokens recomputed (%)", lambda s: 100 * s.token_share),
    "flops": ("operations per sample (GFLOP)", lambda s: s.flops / 1e9),
}
COST_NAMES = {"tokens": "Share of tokens", "flops": "FLOPs"}
NETWORKS = {"causal": "Spectrally causal", "full": "Full attention"}
ERRORS = {"l2": "Relative L2 to the uncached twin", "mw": "Marginal Wasserstein to real data"}
SHARE_NAMES = {f"{100 * share:g}%": share for share in SHARES}
MOST_HIGHLIGHTED = 8
INTRO = (
    "Every rule that decides what is recomputed, combined with every way to predict the rest, on the same "
    "noise. **Lower and further left is better.** Rules in parentheses are experiments that are not part of "
    "the core."
)
VERDICT = (
    "Distance to the uncached twins at this share of the uncached work, as a ratio to that of the best "
    "family that refreshes everything at once: **under 1, events pay**. In parentheses: the 95% interval "
    "over seeds, paired on common noise. Between two settings of a family its front is interpolated. Less work does "
    "not always take less time: the view *Nested bands* has times."
)


def leading(studies: list[TriggerStudy], budget: Budget) -> list[str]:
    """Return the families to highlight at first: the best of each kind on any data set."""
    best = [best_at(study, budget, kind) for kind in KINDS for study in studies]
    return list(dict.fromkeys(b.family for b in best if b is not None))[:MOST_HIGHLIGHTED]


def panel(study: TriggerStudy, cost: str, error: str) -> DataPanel:
    """Return a data set as a panel of the chart."""
    price = COSTS[cost][1]
    families = []
    for name, settings in study.families.items():
        ordered = sorted(settings, key=price)
        x, names = tuple(map(price, ordered)), tuple(s.name for s in ordered)
        if error == "mw":
            value, low, high = zip(
                *((s.distance.value, s.distance.low, s.distance.high) for s in ordered), strict=True
            )
            families.append(Family(name, x, value, low, high, names))
        else:
            seeds = [s.l2 for s in ordered]
            spans = seeds if all(len(l2) > 1 for l2 in seeds) else []
            y = tuple(s.relative_l2 for s in ordered)
            families.append(Family(name, x, y, tuple(map(min, spans)), tuple(map(max, spans)), names))
    levels: tuple[tuple[str, Interval], ...] = ()
    if error == "mw":
        levels = ((REAL, study.floor), ("no cache", study.plain.distance))
    return DataPanel(study.dataset, tuple(families), levels)


def highlight(studies: list[TriggerStudy], budget: Budget) -> list[str]:
    """Draw the choice of highlighted families; the address holds it."""
    families = list(dict.fromkeys(f for study in studies for f in study.families))
    default = leading(studies, budget)
    if "families" not in st.session_state:
        linked = [f for f in st.query_params.get("families", "").split(";") if f in families]
        st.session_state["families"] = linked or default
    st.session_state["families"] = [f for f in st.session_state["families"] if f in families]
    highlighted = st.multiselect(
        "Highlighted families (trigger, predictor)",
        families,
        key="families",
        help="At first: the best of each kind at the chosen work, on any data set. The others are gray; "
        "hover over them for their names.",
    )
    note("families", ";".join(highlighted), ";".join(default))
    return highlighted


def triggers_view() -> None:
    """Draw the trigger study."""
    files = result_files("trigger_study")
    if not files:
        missing(
            "trigger study",
            COMMAND,
            "15 to 25 minutes per network",
            f"{COMMAND} --quick",
            "about 2 minutes per network",
        )
        return
    path = chosen_file("trigger_study", files)
    found = read_studies(path).values()
    kinds = {
        kind: title for kind, title in NETWORKS.items() if any(s.causal == (kind == "causal") for s in found)
    }
    kind = choice("Networks", kinds, "networks")
    studies = {study.dataset: study for study in found if study.causal == (kind == "causal")}
    first = next(iter(studies.values()))
    repeats = f"{first.repeats} repeat{'' if first.repeats == 1 else 's'}"
    quick_warning(path, f"{first.steps} steps, {first.num} samples, {repeats}")
    st.markdown(INTRO)
    with st.container(horizontal=True):
        cost = choice("Work (horizontal axis)", COST_NAMES, "cost")
        error = choice("Error (vertical axis)", ERRORS, "error")
        share = choice("Compare at this share of the work", {n: n for n in SHARE_NAMES}, "share", "5%")
    budget = Budget(SHARE_NAMES[share], cost)
    shown = [studies[name] for name in several("Data sets", list(studies), "sets", list(studies))]
    frame = study_frame(shown)
    main_chart(shown, highlight(list(studies.values()), budget), cost, error, frame)
    source(path, first, error)
    verdicts(shown, budget)
    st.subheader("Can it be predicted?", anchor=False)
    foresight_section(list(studies.values()), budget)
    values_table("All settings", frame, "trigger-study")


def main_chart(
    shown: list[TriggerStudy], highlighted: list[str], cost: str, error: str, frame: pd.DataFrame
) -> None:
    """Draw work against error for all families."""
    plot = families_chart(
        [panel(study, cost, error) for study in shown],
        highlighted,
        palette(),
        x_title=COSTS[cost][0],
        y_title="relative L2" if error == "l2" else f"{DISTANCE} (std)",
        log_y=error == "l2",
        percent=cost == "tokens",
    )
    chart(plot, "triggers", frame)


def source(path: Path, study: TriggerStudy, error: str) -> None:
    """State what the bars mean and where the values come from."""
    bars = (
        "Bars are 95% intervals. Dotted line: real data against real data, with its range; dashed line: no "
        "cache, with its interval."
        if error == "mw"
        else "Bars span the seeds."
    )
    provenance(COMMAND, path, study.machine, f"{study.steps} Euler-Maruyama steps. {bars} ")


def verdicts(shown: list[TriggerStudy], budget: Budget) -> None:
    """Draw the study's results for each data set."""
    st.subheader(f"Results at {budget}", anchor=False)
    st.markdown(VERDICT)
    for place in range(0, len(shown), 2):
        columns = st.columns(2)
        for column, study in zip(columns, shown[place : place + 2], strict=False):
            with column.container(border=True, height="stretch"):
                st.markdown(f"##### {plain_text(study.dataset)}")
                st.markdown("\n".join(f"- {unlinked(line)}" for line in verdict(study, budget)))
    st.caption(
        "Each family was chosen as the best of its kind on these same runs, which exaggerates small gains: "
        "trust gains that other seeds confirm."
    )


def foresight_section(studies: list[TriggerStudy], budget: Budget) -> None:
    """Draw the localization of the data against the gain of events."""
    known = measures(studies)
    if not known:
        st.info("This file holds no measure of localization.")
        return
    left, right = st.columns([3, 2], gap="large")
    with left:
        labels = {m: measure_title(m) for m in known}
        measure = choice("Measure of the training data", labels, "localized")
        groups, rows = [], []
        for kind in (BANDS, TOKENS):
            dots, table = foresight_points(studies, budget, measure, kind)
            groups.append((kind, dots))
            rows += table
        if rows:
            plot = foresight_chart(groups, palette(), x_title=measure_title(measure))
            chart(plot, "foresight", pd.DataFrame(rows))
        else:
            st.info("No data set was measured for both kinds at this budget. Choose another one.")
    with right:
        st.markdown(
            f"The ratio of distances to the uncached twins at {budget}: the best family that refreshes band "
            "by band (or token by token), over the best that refreshes everything. **Under 1, events pay.**"
        )
        for kind in (BANDS, TOKENS):
            st.markdown(f"- {unlinked(foresight_sentence(studies, budget, kind))}")


def foresight_points(
    studies: list[TriggerStudy], budget: Budget, measure: str, kind: str
) -> tuple[list[Dot], list[dict[str, object]]]:
    """Return the points of one kind of event, and their rows in the table behind the chart."""
    f = foresight(studies, budget, measure, kind)
    dots, rows = [], []
    for data, x, gain in zip(f.names, f.x, f.gains, strict=True):
        text = f"{data}, {kind}: {gain.events.family} against {gain.whole.family}, ratio {gain.ratio:.3f}"
        dots.append(Dot(data, 100 * x, gain.ratio, gain.low, gain.high, text))
        rows.append(
            {
                "data set": data,
                measure: x,
                "events": kind,
                "ratio": gain.ratio,
                "low": gain.low,
                "high": gain.high,
                "family": gain.events.family,
                "whole family": gain.whole.family,
            }
        )
    return dots, rows
