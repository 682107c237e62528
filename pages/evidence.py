"""Measured evidence that comes with the lab: triggers on the same axes, solvers with and without the cache, tables."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from e2crf_core.errors import LabError
from pages.ui.common.downloads import chart, data_buttons
from pages.ui.common.query_params import note, recall
from pages.ui.common.theme import palette
from pages.ui.evidence import results as ev
from pages.ui.evidence.plots import (
    REAL,
    Dot,
    Family,
    Mark,
    Panel,
    families_chart,
    foresight_chart,
    solvers_chart,
)

TRIGGERS, SOLVERS, TABLES = "triggers", "solvers", "tables"
VIEWS = {SOLVERS: "Solvers and caches", TRIGGERS: "Triggers", TABLES: "Published tables"}

COSTS: dict[str, tuple[str, Callable[[ev.Setting], float]]] = {
    "tokens": ("share of tokens recomputed (%)", lambda s: 100 * s.token_share),
    "flops": ("operations of one sample (GFLOP)", lambda s: s.flops / 1e9),
    "seconds": ("wall clock of the batch (s)", lambda s: s.seconds),
}
COST_NAMES = {"tokens": "Share of tokens", "flops": "FLOPs", "seconds": "Wall clock"}
ERRORS = {"l2": "Relative L2 to the uncached twin", "sw": "Sliced Wasserstein to real data"}
SHARE_NAMES = {f"{100 * share:g}%": share for share in ev.SHARES}
WORK = {"seconds": "Wall clock", "calls": "Network-call equivalents"}

STUDY = "python -m benchmarks.trigger_study"
SOLVER_STUDY = "python -m benchmarks.solver_study"
PAPER = "make paper-tables"


def missing(what: str, command: str, takes: str, quick: str, quick_takes: str) -> None:
    """An empty state that says what would fill it."""
    st.info(
        f"No {what} in `{ev.results_folder()}`. This makes it, and goes on where it was stopped (2 cores: {takes}):"
    )
    st.code(command, language="sh")
    st.markdown(f"To see that everything works, in {quick_takes}; its figures are no basis for conclusions:")
    st.code(quick, language="sh")


def chosen_file(stem: str, files: Sequence[Path]) -> Path:
    """The file to show; visitors choose where there are several."""
    if len(files) == 1:
        return files[0]
    names = {path.name: ev.label(path, stem) for path in files}
    name = choice("Measurement", names, f"{stem}_file")
    return next(path for path in files if path.name == name)


def quick_warning(path: Path, detail: str) -> None:
    """Say so when a file holds a quick form."""
    if ev.QUICK in path.stem:
        st.warning(
            f"**Quick form**: {detail}. It shows that everything works; do not draw conclusions from it."
        )


def provenance(command: str, path: Path, machine: dict[str, object], extra: str = "") -> None:
    """Where figures come from."""
    about = ", ".join(f"{key} {value}" for key, value in machine.items() if value is not None)
    st.caption(f"{extra}Measured by `{command}`, kept in `{path.name}`. {about}.")


def several(label: str, options: Sequence[str], key: str, default: Sequence[str]) -> list[str]:
    """Pills for any number of options; all of them when none is chosen. The choice stands in the address."""
    if key not in st.session_state:
        asked = [name for name in st.query_params.get(key, "").split(",") if name in options]
        st.session_state[key] = asked or [name for name in default if name in options]
    st.session_state[key] = [name for name in st.session_state[key] if name in options]
    picked = st.pills(label, options, selection_mode="multi", key=key)
    note(key, ",".join(picked), ",".join(default))
    return picked or list(options)


def choice(
    label: str, names: dict[str, str], key: str, default: str | None = None, bare: bool = False
) -> str:
    """One of a few, by name, the first unless told otherwise; the choice stands in the address."""
    default = default or next(iter(names))
    recall(key, list(names), default)
    picked = st.segmented_control(
        label,
        list(names),
        key=key,
        required=True,
        format_func=names.__getitem__,
        label_visibility="collapsed" if bare else "visible",
    )
    note(key, picked, default)
    return picked or default


def leading(studies: Sequence[ev.Study], budget: ev.Budget) -> list[str]:
    """Families worth a color at first: the best of each kind on any of the data sets."""
    found = [ev.best_at(study, budget, kind) for kind in ev.KINDS for study in studies]
    return list(dict.fromkeys(best.family for best in found if best is not None))[:8]


def panel(study: ev.Study, cost: str, error: str) -> Panel:
    """A data set as a panel of the chart."""
    price = COSTS[cost][1]
    families = []
    for name, settings in study.families.items():
        ordered = sorted(settings, key=price)
        x, names = tuple(map(price, ordered)), tuple(s.name for s in ordered)
        if error == "sw":
            value, low, high = zip(*(s.quality for s in ordered), strict=True)
            families.append(Family(name, x, value, low, high, names))
        else:
            y = tuple(s.relative_l2 for s in ordered)
            spans = [s.l2 for s in ordered if len(s.l2) > 1]
            ends = spans if len(spans) == len(ordered) else []
            families.append(Family(name, x, y, tuple(map(min, ends)), tuple(map(max, ends)), names))
    levels: tuple[tuple[str, tuple[float, float, float]], ...] = ()
    if error == "sw":
        without, lowest, highest = study.plain.quality
        levels = ((REAL, study.floor), ("no cache", (lowest, without, highest)))
    return Panel(study.dataset, tuple(families), levels)


def triggers_view() -> None:
    """The trigger study."""
    files = ev.result_files("trigger_study")
    if not files:
        missing(
            "trigger study",
            STUDY,
            "about 15 minutes a data set",
            f"{STUDY} --quick",
            "about 2 minutes a data set",
        )
        return
    path = chosen_file("trigger_study", files)
    found = {study.dataset: study for study in ev.read_studies(path).values()}
    first = next(iter(found.values()))
    quick_warning(
        path, f"{first.steps} steps, {first.num} samples, {first.repeats} repeat{'s' * (first.repeats > 1)}"
    )
    st.markdown(
        "Every rule that decides what is recomputed, with every way to continue what is not, on the same noise. "
        "**Lower and further left is better.** Rules in brackets are experiments that are not in the core."
    )
    with st.container(horizontal=True):
        cost = choice("Work, across", COST_NAMES, "cost")
        error = choice("What it did, upwards", ERRORS, "error")
        name = choice("Compare at this share of it", {n: n for n in SHARE_NAMES}, "share", "5%")
    budget = ev.Budget(SHARE_NAMES[name], cost)
    shown = [found[name] for name in several("Data sets", list(found), "sets", list(found))]
    families = list(dict.fromkeys(f for study in found.values() for f in study.families))
    default = leading(list(found.values()), budget)
    if "families" not in st.session_state:
        asked = [f for f in st.query_params.get("families", "").split(";") if f in families]
        st.session_state["families"] = asked or default
    st.session_state["families"] = [f for f in st.session_state["families"] if f in families]
    highlighted = st.multiselect(
        "Highlighted families (trigger, predictor)",
        families,
        key="families",
        help="At first the best of each kind at the chosen work, on any data set. The others are drawn in gray; "
        "hover for their names.",
    )
    note("families", ";".join(highlighted), ";".join(default))
    figure = families_chart(
        [panel(study, cost, error) for study in shown],
        highlighted,
        palette(),
        x_title=COSTS[cost][0],
        y_title="relative L2" if error == "l2" else "sliced Wasserstein (std)",
        log_y=error == "l2",
        percent=cost == "tokens",
    )
    frame = ev.study_frame(shown)
    chart(figure, "triggers", frame)
    bars = (
        "Bars are 95% intervals; dotted: real data against real data, with its range; dashed: no cache, with its "
        "interval."
        if error == "sw"
        else "Bars span the seeds."
    )
    provenance(STUDY, path, first.machine, f"{first.steps} Euler-Maruyama steps. {bars} ")
    st.subheader(f"What it says at {budget}", anchor=False)
    st.markdown(
        "Distance to the uncached twins at this share of the uncached work, as a ratio to that of the best family that "
        "refreshes everything at once: **under 1 events pay**. In brackets the 95% interval over seeds, paired on "
        "common noise. Fewer tokens need not take less time: choose the work above."
    )
    for first_of_row in range(0, len(shown), 2):
        columns = st.columns(2)
        for column, study in zip(columns, shown[first_of_row : first_of_row + 2], strict=False):
            with column.container(border=True, height="stretch"):
                st.markdown(f"##### {study.dataset}")
                st.markdown("\n".join(f"- {line}" for line in ev.verdict(study, budget)))
    st.caption(
        "Families are the best of their kind on these very runs, so small gains are flattered: believe what other "
        "seeds repeat."
    )
    st.subheader("Can one tell beforehand?", anchor=False)
    foresight_section(list(found.values()), budget)
    with st.expander("All settings", icon=":material/table:"):
        st.dataframe(frame, hide_index=True, column_config=formats(frame))
        with st.container(horizontal=True):
            data_buttons(frame, "trigger-study")


def formats(frame: pd.DataFrame) -> dict[str, Any]:
    """Number formats of a table of figures."""
    digits = {
        "%": "%.2f",
        "GFLOP a sample": "%.3g",
        "seconds": "%.2f",
        "worth of calls": "%.1f",
        "speed": "%.1f×",
    }
    return {
        name: st.column_config.NumberColumn(
            format=next((f for end, f in digits.items() if name.endswith(end)), "%.4f")
        )
        for name in frame.columns
        if frame[name].dtype.kind == "f"
    }


def foresight_section(studies: list[ev.Study], budget: ev.Budget) -> None:
    """How localized the data are against what band and token events gain."""
    known = ev.measures(studies)
    if not known:
        st.info("This file holds no measure of localization.")
        return
    left, right = st.columns([3, 2], gap="large")
    with left:
        measure = choice("Measure of the training data", {m: ev.measure_title(m) for m in known}, "localized")
        groups, rows = [], []
        for kind in (ev.BANDS, ev.TOKENS):
            f = ev.foresight(studies, budget, measure, kind)
            dots = []
            for data, x, gain in zip(f.names, f.x, f.gains, strict=True):
                text = (
                    f"{data}, {kind}: {gain.mine.family} against {gain.whole.family}, ratio {gain.ratio:.3f}"
                )
                dots.append(Dot(data, 100 * x, gain.ratio, gain.low, gain.high, text))
                rows.append(
                    {
                        "data set": data,
                        measure: x,
                        "events": kind,
                        "ratio": gain.ratio,
                        "low": gain.low,
                        "high": gain.high,
                        "family": gain.mine.family,
                        "whole family": gain.whole.family,
                    }
                )
            groups.append((kind, dots))
        if rows:
            figure = foresight_chart(groups, palette(), x_title=ev.measure_title(measure))
            chart(figure, "foresight", pd.DataFrame(rows))
        else:
            st.info("No data set was measured for both kinds at this budget: choose another one.")
    with right:
        st.markdown(
            f"The ratio of distances to the uncached twins at {budget}: the best band-wise (or "
            "token-wise) family over the best that refreshes everything. **Under 1 events pay.**"
        )
        for kind in (ev.BANDS, ev.TOKENS):
            st.markdown(f"- {ev.foresight_sentence(studies, budget, kind)}")


def solvers_view() -> None:
    """Solvers with and without the cache."""
    files = ev.result_files("solver_study")
    if not files:
        missing(
            "solver study",
            SOLVER_STUDY,
            "about half an hour",
            f"{SOLVER_STUDY} --checkpoints wind --num 8 --repeats 3",
            "a few minutes",
        )
        return
    path = chosen_file("solver_study", files)
    found = {table.dataset: table for table in ev.read_tables(path, SOLVER_STUDY).values()}
    quick_warning(path, "few steps and samples")
    st.markdown(
        "A cache for a thousand steps is worth nothing if twenty steps of a better solver do the same. Here both are "
        "measured, against real series that the network never saw or against the converged solution of the same "
        "noise. **Lower and further left is better.**"
    )
    with st.container(horizontal=True):
        data = choice("Data set", {name: name for name in found}, "solved")
        work = choice("Work, across", WORK, "work")
        table = found[data]
        metric = (
            choice("Distance, upwards", table.titles, "metric")
            if len(table.titles) < 3
            else metric_box(table)
        )
    price: Callable[[ev.Rated], float] = table.calls if work == "calls" else lambda row: row.seconds[0]
    front = table.front(price, metric)
    missing_rows = len(table.rated(metric)) < len(table.rows)
    marks = []
    for row in table.rated(metric):
        value, low, high = row.figures[metric]
        text = (
            f"{row.steps} calls on the {row.grid} grid, {100 * row.token_share:.1f}% of tokens, "
            f"{row.speedup[0]:.1f}× the speed of {table.reference}"
        )
        cached = row.trigger != "none"
        marks.append(
            Mark(row.name, row.solver, cached, price(row), (low, value, high), row.name in front, text)
        )
    figure = solvers_chart(
        marks,
        palette(),
        x_title=f"wall clock of {table.num} samples (s)" if work == "seconds" else "worth of network calls",
        y_title=f"{table.titles[metric]} ({table.units[metric]})",
        floor=table.floors.get(metric),
    )
    frame = ev.table_frame(table)
    chart(figure, "solvers", frame)
    provenance(
        SOLVER_STUDY,
        path,
        table.machine,
        f"{table.repeats} repeats of {table.num} samples; bars are 95% intervals"
        + ("; the band is real data against real data" if metric in table.floors else "")
        + ". Filled marks use the cache. "
        + (
            "Rows that add noise at every step converge to no one solution and are left out. "
            if missing_rows
            else ""
        ),
    )
    st.subheader(f"What it says for {data}", anchor=False)
    st.markdown("\n".join(f"- {line}" for line in table.reading))
    with st.expander("All rows", icon=":material/table:"):
        st.dataframe(frame, hide_index=True, column_config=formats(frame))
        with st.container(horizontal=True):
            data_buttons(frame, "solver-study")


def metric_box(table: ev.Table) -> str:
    """A distance out of many."""
    recall("metric", list(table.titles))
    metric = st.selectbox(
        "Distance, upwards", list(table.titles), key="metric", format_func=table.titles.__getitem__, width=320
    )
    note("metric", metric, next(iter(table.titles)))
    return metric


def tables_view() -> None:
    """The published tables beside ours."""
    files = ev.result_files("paper_tables", ".md")
    if not files:
        missing("paper tables", PAPER, "under an hour", "make paper-tables-quick", "under 5 minutes")
        return
    path = chosen_file("paper_tables", files)
    text = ev.read_text(path)
    quick_warning(path, "a tenth of the steps")
    with st.container(key="tables"):
        st.markdown(ev.demoted(text))
    st.download_button(
        "Markdown", text, path.name, "text/markdown", on_click="ignore", icon=":material/download:"
    )


DRAW = {TRIGGERS: triggers_view, SOLVERS: solvers_view, TABLES: tables_view}


def page() -> None:
    """Lay the page out."""
    st.title("Evidence", anchor=False)
    view = choice("View", VIEWS, "view", bare=True)
    try:
        DRAW[view]()
    except LabError as fault:
        st.error(str(fault))


page()
