"""Compare policies and solvers on the same noise: samples, spectra, residuals, cost and quality, with intervals."""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from e2crf_core.diffusion.solvers import GRIDS
from e2crf_core.errors import LabError
from e2crf_core.models.checkpoints import list_checkpoints
from e2crf_core.quality.distances import relative_l2_per_sample, sliced_wasserstein_metric
from e2crf_core.quality.intervals import measure
from e2crf_core.runs.archive import archive_name
from e2crf_core.runs.run import RunHandle
from pages.ui.common import query_params as address
from pages.ui.common.downloads import chart, data_buttons
from pages.ui.common.reference import Reference, reference_of
from pages.ui.common.registry import RUNS
from pages.ui.common.series_charts import Line, decisions_chart, lines_frame, pair_chart
from pages.ui.common.theme import palette
from pages.ui.compare.learned_panel import learned_panel
from pages.ui.compare.variants import CHOICES, DEFAULT, MOST, POLICIES, Job, Variant, read, write
from pages.ui.live.live_packets import time_axis

NUM, SEED = 16, 0
RESAMPLES = 400

HELP = {
    "l2": "Distance of each sample to its twin of the first row, relative to the twin's size; the mean "
    "over the batch and "
    "its 95% bootstrap interval. Two unrelated series of equal size are about 1.4 apart.",
    "sw": "Sliced Wasserstein distance to real series that the network never saw, with a 95% bootstrap "
    "interval; the floor "
    "is that of real series to one another. With few samples it is mostly noise.",
    "seconds": "Compute time of the whole batch, runs one after the other; the interval resamples the steps.",
}


def asked_variants() -> tuple[Variant, ...]:
    """Variants of the address, else the default ones."""
    text = st.query_params.get("v")
    if not text:
        return DEFAULT
    try:
        return read(text)
    except LabError as fault:
        st.warning(f"{fault}. The default ones are shown instead.")
        return DEFAULT


def editor() -> tuple[Variant, ...]:
    """The table of variants. Raises LabError for a row that cannot run."""
    if "compare.start" not in st.session_state:
        rows = [dataclasses.asdict(v) for v in asked_variants()]
        frame = pd.DataFrame(rows).astype({"tau": "Float64", "R": "Int64", "steps": "Int64"})
        st.session_state["compare.start"] = frame
    column = st.column_config
    edited = st.data_editor(
        st.session_state["compare.start"],
        key="compare.rows",
        num_rows="dynamic",
        hide_index=True,
        column_config={
            "policy": column.SelectboxColumn("Policy", options=list(POLICIES), required=True, width="medium"),
            "tau": column.NumberColumn("τ (own if empty)", min_value=1e-8, format="%.4g"),
            "R": column.NumberColumn("R (own if empty)", min_value=0, max_value=2000, step=1),
            "solver": column.SelectboxColumn(
                "Solver", options=list(CHOICES), required=True, default="euler_maruyama"
            ),
            "grid": column.SelectboxColumn("Time grid", options=list(GRIDS), required=True, default="linear"),
            "steps": column.NumberColumn(
                "Network calls", min_value=2, max_value=2000, step=1, required=True, default=300
            ),
        },
    )
    variants = []
    for row in edited.to_dict("records"):
        cells = {key: None if pd.isna(value) else value for key, value in row.items()}
        if cells["policy"] is None:
            continue
        variants.append(
            Variant(
                str(cells["policy"]),
                None if cells["tau"] is None else float(cells["tau"]),
                None if cells["R"] is None else int(cells["R"]),
                cells["solver"] or "euler_maruyama",
                cells["grid"] or "linear",
                int(cells["steps"] or 300),
            )
        )
    if not 2 <= len(variants) <= MOST:
        raise LabError(f"compare two to {MOST} rows; there are {len(variants)}")
    if len(set(variants)) < len(variants):
        raise LabError("two rows are the same: change one")
    return tuple(variants)


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean of values (S,) with a 95% bootstrap interval."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(0, len(values), (RESAMPLES, len(values)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def standardized(run: RunHandle) -> np.ndarray:
    """Samples (B, N, M) of a finished run as the network sees them."""
    assert run.result is not None and run.model is not None
    return (run.result.samples - run.model.mean) / run.model.std


def summary(job: Job, reference: Reference) -> pd.DataFrame:
    """Cost and quality of every variant with intervals."""
    held = reference.dataset.standardize(reference.dataset.x[reference.dataset.heldout])
    metric = sliced_wasserstein_metric(directions=200)
    first = standardized(job.runs[0])
    rows: list[dict[str, Any]] = []
    for variant, run in zip(job.variants, job.runs, strict=True):
        assert run.result is not None and run.recorder is not None
        samples = standardized(run)
        seconds, low, high = (v * run.spec.config.steps for v in interval(run.recorder.column("seconds")))
        l2, l2_low, l2_high = interval(relative_l2_per_sample(samples, first))
        sw = measure(samples, held, metric, resamples=60, floor_repeats=8)
        rows.append(
            {
                "variant": variant.name,
                "tokens computed %": 100 * run.result.token_share,
                "full calls": run.result.token_share * run.spec.config.steps,
                "seconds": seconds,
                "seconds low": low,
                "seconds high": high,
                "relative L2": l2,
                "relative L2 low": l2_low,
                "relative L2 high": l2_high,
                "sliced Wasserstein": sw.value,
                "sliced Wasserstein low": sw.low,
                "sliced Wasserstein high": sw.high,
                "real floor": sw.floor,
            }
        )
    return pd.DataFrame(rows)


def readable(frame: pd.DataFrame) -> pd.DataFrame:
    """The summary with intervals in brackets."""

    def band(name: str, digits: int) -> list[str]:
        cells = zip(frame[name], frame[f"{name} low"], frame[f"{name} high"], strict=True)
        return [f"{v:.{digits}f}  ({a:.{digits}f} to {b:.{digits}f})" for v, a, b in cells]

    return pd.DataFrame(
        {
            "Variant": frame["variant"],
            "Tokens computed": [f"{v:.1f} %" for v in frame["tokens computed %"]],
            "Worth of full calls": [f"{v:.1f}" for v in frame["full calls"]],
            "Compute time (s)": band("seconds", 2),
            "Relative L2 to row 1": ["reference", *band("relative L2", 3)[1:]],
            "Sliced Wasserstein to real": band("sliced Wasserstein", 3),
        }
    )


@st.fragment(run_every=0.4)
def progress(job: Job) -> None:
    """Drive the runs and say how far they are."""
    try:
        job.advance(RUNS)
    except LabError as fault:
        st.error(str(fault))
        return
    if job.over:
        st.rerun()
    now = job.variants[max(0, len(job.runs) - 1)].name
    st.progress(min(1.0, job.progress), f"Running {len(job.runs)} of {len(job.specs)}: {now}")


def pictures(job: Job, reference: Reference) -> None:
    """All charts of a finished comparison."""
    colors = palette()
    data = reference.dataset
    count = job.specs[0].num
    left, right = st.columns(2)
    sample = (
        left.slider("Sample", 0, count - 1, key="compare.sample", bind="query-params") if count > 1 else 0
    )
    channel = 0
    if len(data.channels) > 1:
        channel = list(data.channels).index(right.selectbox("Channel", data.channels, key="compare.channel"))
    axis = time_axis(data)
    named = list(zip(job.variants, job.runs, colors[: len(job.runs)], strict=True))

    def series(run: RunHandle) -> np.ndarray:
        assert run.result is not None
        return run.result.samples[sample, :, channel]

    first = series(job.runs[0])
    x = np.arange(len(first)) * axis["step"]
    unit = data.units[channel]
    value = data.channels[channel] + (f" ({unit})" if unit else "")
    upper = [Line(v.name, x, series(run), c) for v, run, c in named]
    lower = [Line(line.name, x, line.y - first, line.color) for line in upper[1:]]
    one, two = st.columns(2)
    with one:
        st.markdown("##### Samples, and their difference to row 1")
        titles = (value, "difference")
        figure = pair_chart(upper, lower, x_title=axis["title"], y_titles=titles)
        chart(figure, "samples", lines_frame(upper, lower, ("time", "value", "difference")))
    with two:
        st.markdown("##### Spectra, and the amplitude of the difference")
        scale = data.std[channel]
        spectra = [np.fft.rfft((line.y - data.mean[channel]) / scale, norm="ortho") for line in upper]
        k = np.arange(len(spectra[0]))
        above = [Line(line.name, k, np.abs(s), line.color) for line, s in zip(upper, spectra, strict=True)]
        below = [
            Line(line.name, k, np.abs(s - spectra[0]), line.color)
            for line, s in zip(upper[1:], spectra[1:], strict=True)
        ]
        titles = ("|X_k|", "|difference|")
        figure = pair_chart(
            above, below, x_title="frequency k", y_titles=titles, log_upper=True, log_lower=True
        )
        chart(figure, "spectra", lines_frame(above, below, ("k", "amplitude", "difference")))
    with one:
        st.markdown("##### Event intensity r, and tokens computed so far")

        def column(run: RunHandle, name: str) -> np.ndarray:
            assert run.recorder is not None
            return run.recorder.column(name).astype(np.float64)

        residual = [
            Line(
                v.name,
                column(run, "log_snr"),
                np.where(column(run, "r_mean") > 0, column(run, "r_mean"), np.nan),
                c,
            )
            for v, run, c in named
        ]
        work = [
            Line(v.name, column(run, "log_snr"), np.cumsum(column(run, "share")), c) for v, run, c in named
        ]
        titles = ("r, mean of the batch", "full calls so far")
        figure = pair_chart(
            residual,
            work,
            x_title="log(a/s): noise to the left, data to the right",
            y_titles=titles,
            log_upper=True,
            log_lower=True,
        )
        chart(figure, "residuals", lines_frame(residual, work, ("log_snr", "r", "full_calls")))
    with two:
        st.markdown("##### Decisions, sample by sample")
        panels, parts = [], []
        for variant, run, _ in named:
            assert run.recorder is not None
            if run.recorder.keeps_batch:
                share = (run.recorder.column("batch_reasons") > 0).mean(2)
                panels.append((variant.name, share))
                table = pd.DataFrame(share, columns=[f"sample {b}" for b in range(share.shape[1])])
                table.insert(0, "step", np.arange(len(share)) + 1)
                table.insert(0, "variant", variant.name)
                parts.append(table)
        figure = decisions_chart(panels, ("rgba(128,128,128,.15)", colors[0]))
        chart(figure, "decisions", pd.concat(parts, ignore_index=True))


def page() -> None:
    """Lay the page out."""
    st.title("Compare", anchor=False)
    st.markdown(
        "Two or more policies or solvers draw **the same samples from the same noise**. What differs is "
        "what they did to them, "
        "and what they cost. Add, change or delete rows, then run. Differences are taken to **row 1**."
    )
    checkpoints = list_checkpoints()
    if not checkpoints:
        st.warning("There is no trained network yet: train one, then reload this page.")
        return
    for key, default, most in (("num", NUM, 256), ("seed", SEED, 2**31 - 1)):
        asked = st.query_params.get(key, "")
        fits = asked.isdecimal() and int(asked[:12]) <= most
        st.session_state.setdefault(
            f"compare.{key}", max(1 if key == "num" else 0, int(asked)) if fits else default
        )
    address.recall("checkpoint", checkpoints)
    a, b, c, d = st.columns([2, 1, 1, 1.4], vertical_alignment="bottom")
    checkpoint = a.selectbox("Checkpoint", checkpoints, key="checkpoint")
    num = b.number_input(
        "Samples", 1, 256, key="compare.num", help="64 or more for a sliced Wasserstein that means something."
    )
    seed = c.number_input("Seed", 0, 2**31 - 1, key="compare.seed")
    fault: LabError | None = None
    variants: tuple[Variant, ...] = ()
    try:
        variants = editor()
        planned = Job.of(variants, checkpoint, num, seed)
        st.query_params.update(
            {"v": write(variants), "num": str(num), "seed": str(seed), "checkpoint": checkpoint}
        )
    except LabError as found:
        fault, planned = found, None
    if fault is not None:
        st.error(str(fault))
    running: Job | None = st.session_state.get("compare.job")
    busy = running is not None and not running.over
    if d.button(
        "Run on the same noise",
        type="primary",
        icon=":material/play_arrow:",
        disabled=planned is None or busy,
        width="stretch",
    ):
        st.session_state["compare.job"] = running = planned
    if running is None:
        st.info(
            "Press **Run on the same noise**. The rows run one after the other; with the shipped "
            "networks that is seconds."
        )
        return
    if not running.over:
        progress(running)
        return
    failed = next((run for run in running.runs if run.status != "done"), None)
    if failed is not None:
        st.error(failed.error or "A run was stopped before its end.")
        return
    if planned is not None and planned.specs != running.specs:
        st.caption(
            ":material/info: The rows were changed: run again to see the change. Below is the last "
            "comparison."
        )
    try:
        reference = reference_of(running.specs[0].checkpoint)
    except LabError as found:
        st.error(str(found))
        return
    results(running, reference)


def results(job: Job, reference: Reference) -> None:
    """The table and the charts of a finished comparison."""
    key = tuple(run.id for run in job.runs)
    kept = st.session_state.get("compare.summary")
    if kept is None or kept[0] != key:
        with st.spinner("Measuring quality"):
            kept = (key, summary(job, reference))
        st.session_state["compare.summary"] = kept
    frame = kept[1]
    st.dataframe(
        readable(frame),
        hide_index=True,
        column_config={
            "Compute time (s)": st.column_config.TextColumn(help=HELP["seconds"]),
            "Relative L2 to row 1": st.column_config.TextColumn(help=HELP["l2"]),
            "Sliced Wasserstein to real": st.column_config.TextColumn(help=HELP["sw"]),
        },
    )
    floor = frame["real floor"].iloc[0]
    st.caption(
        f"In brackets: 95% intervals. Real series are {floor:.3f} from other real series: nothing can be "
        f"expected below that. "
        "Overlapping intervals must not be ranked. Solvers with other steps or grids meet the noise at "
        "other times, so their "
        "samples need not be twins of row 1 even when they are as good."
    )
    with st.container(horizontal=True):
        data_buttons(frame, "comparison")
        for variant, run in zip(job.variants, job.runs, strict=True):
            st.page_link(
                "anatomy.py",
                label=f"Anatomy: {variant.name}",
                icon=":material/biotech:",
                query_params={"run": archive_name(run)},
            )
    learned_panel(
        key, [v.name for v in job.variants], [standardized(run) for run in job.runs], reference.dataset
    )
    pictures(job, reference)


page()
