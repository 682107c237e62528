"""The view of speed: what each idea saves, where a step goes, the machine's floor, and where caching stops paying."""

import streamlit as st

from pages.ui.common.downloads import chart
from pages.ui.common.messages import plain_text
from pages.ui.common.query_params import choice
from pages.ui.common.theme import palette
from pages.ui.evidence.controls import missing, opened, provenance, values_table
from pages.ui.evidence.files import result_files
from pages.ui.evidence.speed import (
    AXES,
    CHAINS,
    COMMAND,
    BatchSpeed,
    Curves,
    DataSpeed,
    curve_frame,
    parts_frame,
    read_speed,
    waterfall_frame,
    waterfall_sentence,
)
from pages.ui.evidence.speed_plots import curves_chart, parts_chart, waterfall_chart
from pages.ui.evidence.ways_view import gpu_section, outside_section, precision_section

INTRO = (
    "From the public network of frequency diffusion, a token for every position, to the lab's fastest way, one "
    "idea after another: **shorter bars are better**. These are times; what an idea does to samples stands in "
    "*Solvers and caches*."
)


def speed_view() -> None:
    """Draw the measurements of speed, and of other ways to run the network."""
    measured_view()
    gpu_section()
    precision_section()
    outside_section()


def measured_view() -> None:
    """Draw the measurements of speed, or say how to make them."""
    files = result_files("speed")
    if not files:
        missing("measurement of speed", "make bench", "about 20 minutes", f"{COMMAND} --tiny", "2 minutes")
        return
    path, speed = opened("speed", files, read_speed, "every part once")
    with st.container(horizontal=True):
        name = choice("Data set", {name: name for name in speed.data}, "speed_data")
        data = speed.data[name]
        batches = {str(one.batch): one for one in data.batches}
        batch = choice("Samples run together", {key: key for key in batches}, "speed_batch")
        chain = choice("Plan", CHAINS, "speed_plan")
    waterfall_section(batches[batch], chain)
    parts_section(batches[batch])
    floor_section(data, speed.peak)
    if speed.curves is not None:
        curves_section(speed.curves)
    provenance(
        COMMAND,
        path,
        speed.machine,
        "Bars and ranges are 95% intervals over rounds in which all take turns. ",
    )


def waterfall_section(measured: BatchSpeed, chain: str) -> None:
    """Draw what each idea saves."""
    waterfall = measured.waterfall
    rows = () if waterfall is None else waterfall.chains.get(chain, ())
    if waterfall is None or not rows:
        st.info("This file holds no waterfall for this choice.")
        return
    st.markdown(INTRO)
    frame = waterfall_frame(rows)
    chart(waterfall_chart(rows, palette()), "waterfall", frame)
    bar = waterfall.bar if chain == "balanced" else None
    st.markdown(plain_text(waterfall_sentence(rows, bar)))
    for name, reason in waterfall.missing.items():
        st.caption(plain_text(f"{name} was left out: {reason}"))
    values_table("All rows", frame, "speed-waterfall")


def parts_section(measured: BatchSpeed) -> None:
    """Draw where a step goes."""
    if not measured.parts:
        return
    st.subheader("Where a step goes", anchor=False)
    chart(parts_chart(measured.parts, palette()), "step-parts", parts_frame(measured.parts))
    each = [f"a {kind} takes {1e6 * step.seconds.value:,.0f} µs" for kind, step in measured.parts.items()]
    st.caption(plain_text(f"Preset balanced, single steps: {', '.join(each)}. Parts are measured alone."))


def floor_section(data: DataSpeed, peak: dict[str, float]) -> None:
    """State how far a call is from what the machine can do."""
    floors = [(one.batch, one.floor) for one in data.batches if one.floor is not None]
    if not floors:
        return
    st.subheader("Distance to the machine's floor", anchor=False)
    for column, (batch, floor) in zip(st.columns(len(floors)), floors, strict=True):
        column.metric(
            f"Batch {batch}",
            f"{floor.over_floor.value:.2f}×",
            help=f"A call takes {1e3 * floor.call.value:.2f} ms, {floor.over_floor.low:.2f} to "
            f"{floor.over_floor.high:.2f} times the least time of its operations and bytes.",
        )
    best = ", ".join(f"{value / 1e9:.0f} G {plain_text(name)}" for name, value in peak.items())
    st.caption(
        f"1× is the floor: all operations of a whole call at the measured peak of this machine ({best})."
    )


def curves_section(curves: Curves) -> None:
    """Draw how time, memory, and the gain of reuse change with the size."""
    known = {axis: AXES[axis] for axis, points in curves.axes.items() if axis in AXES and points}
    if not known:
        return
    st.subheader("Where caching stops paying", anchor=False)
    axis = choice("Along", known, "speed_axis")
    points = curves.axes[axis]
    chart(
        curves_chart(points, curves.every, palette(), x_title=known[axis]),
        "speed-curves",
        curve_frame(points, axis),
    )
    losing = [str(p.value) for p in points if p.speedup.high < 1]
    st.markdown(
        f"Reuse costs more than it saves at {', '.join(losing)}."
        if losing
        else f"Reuse pays at every size here; with one call in {curves.every}, {curves.every} times is the most."
    )
