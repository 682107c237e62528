"""Results of a comparison: cost and quality of every setting with intervals, and its charts."""

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from e2crf_core.data.axes import channel_title, time_axis
from e2crf_core.models.heldout import heldout_blocks
from e2crf_core.quality.interval import Interval
from e2crf_core.quality.intervals import measure
from e2crf_core.quality.protocol import PRIMARY_METRIC, judge, twin_error
from e2crf_core.runs.archive import archive_name
from e2crf_core.runs.quality import FEWEST_JUDGED
from e2crf_core.runs.run import RunHandle
from pages.ui.common.charts import Line, lines_frame, pair_chart
from pages.ui.common.downloads import chart, data_buttons
from pages.ui.common.messages import plain_text
from pages.ui.common.query_params import choice
from pages.ui.common.reference import Reference
from pages.ui.common.theme import palette
from pages.ui.compare.job import ComparisonJob
from pages.ui.compare.learned_panel import learned_panel
from pages.ui.compare.plots import COSTS, ERRORS, decisions_chart, plane_chart

RESAMPLES = 400
HELP = {
    "Relative L2 to row 1": "Distance of a sample from its twin in the first row, relative to the twin's "
    "size: the median sample and its 95% bootstrap interval. Two unrelated series of equal size are about 1.4 "
    "apart.",
    "Worst tenth": "The same for the sample at the 90% quantile, and the share of samples that ended elsewhere "
    "(relative L2 above 0.5).",
    "Marginal Wasserstein to real": "Distance to real series that the network never saw, in standard "
    "deviations, with a 95% bootstrap interval. The floor is the distance between real series.",
    "Compared with row 1": "As good: certain to be at most 5% and 0.5 dB farther from real data than row 1, with "
    "the upper ends of paired 95% intervals. Worse: certain to be farther than that. Undecided: use more samples.",
    "Compute time (s)": "Compute time of the whole batch. The runs follow one another; the interval resamples the "
    "steps.",
    "Times faster": "Compute time of row 1 over that of this row. Exact only while the machine is otherwise idle.",
    "Times fewer calls": "Network calls of all tokens in row 1 over those in this row: the same on every machine.",
}


def mean_interval(values: np.ndarray) -> Interval:
    """Return the mean of values (S,) with its 95% bootstrap interval."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(0, len(values), (RESAMPLES, len(values)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def speedup(first: np.ndarray, other: np.ndarray) -> Interval:
    """Return how many times faster a run is than the first, from the seconds of their steps, with a 95% interval."""
    rng = np.random.default_rng(0)
    sums = [x[rng.integers(0, len(x), (RESAMPLES, len(x)))].sum(1) for x in (first, other)]
    low, high = np.quantile(sums[0] / sums[1], [0.025, 0.975])
    return Interval(float(first.sum() / other.sum()), float(low), float(high))


def standardized(run: RunHandle) -> np.ndarray:
    """Return the samples (B, N, M) of a finished run as the network sees them."""
    assert run.result is not None and run.model is not None
    return (run.result.samples - run.model.mean) / run.model.std


def summary(comparison: ComparisonJob, reference: Reference) -> pd.DataFrame:
    """Return cost and quality of every setting with intervals."""
    held = reference.dataset.standardize(reference.dataset.x[reference.dataset.heldout])
    blocks = heldout_blocks(reference.dataset)
    first = standardized(comparison.runs[0])
    rows: list[dict[str, Any]] = []
    recorder, result = comparison.runs[0].recorder, comparison.runs[0].result
    assert recorder is not None and result is not None
    timing, calls = recorder.column("seconds"), result.token_share * comparison.specs[0].config.steps
    for name, run in zip(comparison.names, comparison.runs, strict=True):
        assert run.result is not None and run.recorder is not None
        samples, steps = standardized(run), run.spec.config.steps
        seconds = mean_interval(run.recorder.column("seconds"))
        faster = speedup(timing, run.recorder.column("seconds"))
        error = twin_error(samples, first, held)
        distance = measure(samples, held, PRIMARY_METRIC, resamples=60, floor_repeats=8, blocks=blocks)
        judgment = (
            judge(samples, first, held, blocks=blocks, resamples=100)
            if len(samples) >= FEWEST_JUDGED
            else None
        )
        spectral = None if judgment is None else judgment.spectral
        rows.append(
            {
                "setting": name,
                "tokens computed %": 100 * run.result.token_share,
                "full calls": run.result.token_share * steps,
                "times fewer calls": calls / max(run.result.token_share * steps, 1e-12),
                **_spanned("times faster", faster),
                "seconds": seconds.value * steps,
                "seconds low": seconds.low * steps,
                "seconds high": seconds.high * steps,
                **_spanned("relative L2", error.median),
                **_spanned("relative L2 of the 90% quantile", error.q90),
                "flips %": 100 * error.flips.value,
                **_spanned("marginal Wasserstein", distance),
                "real floor": distance.floor,
                **_spanned("change %", None if judgment is None else judgment.primary.change, 100),
                **_spanned("spectral change dB", None if spectral is None else spectral.change),
                "verdict": "too few samples" if judgment is None else judgment.verdict,
                "reading": "" if judgment is None else judgment.describe(),
            }
        )
    return pd.DataFrame(rows)


def _spanned(name: str, interval: Interval | None, scale: float = 1.0) -> dict[str, float]:
    """Return three columns of a value with its interval; NaN without one."""
    ends = (np.nan,) * 3 if interval is None else (interval.value, interval.low, interval.high)
    return {f"{name}{end}": scale * value for end, value in zip(("", " low", " high"), ends, strict=True)}


def readable(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the summary with intervals in parentheses."""

    def spans(name: str, digits: int) -> list[str]:
        cells = zip(frame[name], frame[f"{name} low"], frame[f"{name} high"], strict=True)
        return [f"{v:.{digits}f}  ({a:.{digits}f} to {b:.{digits}f})" for v, a, b in cells]

    return pd.DataFrame(
        {
            "Setting": frame["setting"],
            "Tokens computed": [f"{v:.1f}%" for v in frame["tokens computed %"]],
            "Equivalent full calls": [f"{v:.1f}" for v in frame["full calls"]],
            "Compute time (s)": spans("seconds", 2),
            "Times faster": ["reference", *spans("times faster", 2)[1:]],
            "Times fewer calls": ["reference", *(f"{v:.2f}" for v in frame["times fewer calls"][1:])],
            "Relative L2 to row 1": ["reference", *spans("relative L2", 3)[1:]],
            "Worst tenth": [
                "",
                *(
                    f"{q:.3f}, {flips:.0f}% flipped"
                    for q, flips in zip(
                        frame["relative L2 of the 90% quantile"][1:], frame["flips %"][1:], strict=True
                    )
                ),
            ],
            "Marginal Wasserstein to real": spans("marginal Wasserstein", 3),
            "Compared with row 1": ["reference", *(_verdict(row) for _, row in frame[1:].iterrows())],
        }
    )


def _verdict(row: pd.Series) -> str:
    """Return the verdict on a row with both changes."""
    if not row["reading"]:
        return str(row["verdict"])
    return f"{row['verdict']}: {row['change %']:+.1f}%, spectrum {row['spectral change dB']:+.2f} dB"


def results(comparison: ComparisonJob, reference: Reference) -> None:
    """Draw the table and the charts of a finished comparison."""
    key = tuple(run.id for run in comparison.runs)
    kept = st.session_state.get("compare.summary")
    if kept is None or kept[0] != key:
        with st.spinner("Measuring quality"):
            kept = (key, summary(comparison, reference))
        st.session_state["compare.summary"] = kept
    frame = kept[1]
    columns = {name: st.column_config.TextColumn(help=text) for name, text in HELP.items()}
    st.dataframe(readable(frame), hide_index=True, column_config=columns)
    st.caption(
        f"In parentheses: 95% intervals. Real series are {frame['real floor'].iloc[0]:.3f} from other real "
        "series; no distance below that can be expected. Rank rows by the last column: its changes are paired on "
        "common noise and far better known than the distances. Solvers "
        "with other steps or grids meet the noise at other times, so their samples need not be twins of row "
        "1 even if they are as good."
    )
    plane(frame)
    with st.container(horizontal=True):
        data_buttons(frame, "comparison")
        for name, run in zip(comparison.names, comparison.runs, strict=True):
            st.page_link(
                "anatomy.py",
                label=f"Anatomy: {plain_text(name)}",
                icon=":material/biotech:",
                query_params={"run": archive_name(run)},
            )
    learned_panel(key, comparison.names, [standardized(run) for run in comparison.runs], reference.dataset)
    charts(comparison, reference)


def plane(frame: pd.DataFrame) -> None:
    """Draw error against cost of all rows."""
    st.markdown(
        "##### Error against cost", help="Down and left is better. The numbers are those of the rows."
    )
    with st.container(horizontal=True):
        cost = choice("Cost", COSTS, "plane_cost")
        error = choice("Error", ERRORS, "plane_error")
    if error == "real" and not frame["reading"].any():
        st.info(f"A change in distance needs {FEWEST_JUDGED} samples or more.")
        return
    chart(plane_chart(frame, palette(), cost=cost, error=error), "plane", frame)


def charts(comparison: ComparisonJob, reference: Reference) -> None:
    """Draw all charts of a finished comparison."""
    data, count = reference.dataset, comparison.specs[0].num
    left, right = st.columns(2)
    sample = (
        left.slider("Sample", 0, count - 1, key="compare.sample", bind="query-params") if count > 1 else 0
    )
    channel = 0
    if len(data.channels) > 1:
        channel = list(data.channels).index(right.selectbox("Channel", data.channels, key="compare.channel"))
    drawn = list(zip(comparison.names, comparison.runs, palette(), strict=False))
    step = time_axis(data)["step"]
    series = []
    for name, run, color in drawn:
        assert run.result is not None
        y = run.result.samples[sample, :, channel]
        series.append(Line(name, np.arange(len(y)) * step, y, color))
    one, two = st.columns(2)
    with one:
        samples_chart(series, reference, channel)
        residuals_chart(drawn)
    with two:
        spectra_chart(series, reference, channel)
        decisions_panel(drawn)


def samples_chart(series: list[Line], reference: Reference, channel: int) -> None:
    """Draw the series of one sample, and their differences from the first."""
    st.markdown("##### Samples, and their difference from row 1")
    below = [Line(line.name, line.x, line.y - series[0].y, line.color) for line in series[1:]]
    titles = (channel_title(reference.dataset, channel), "difference")
    plot = pair_chart(series, below, x_title=time_axis(reference.dataset)["title"], y_titles=titles)
    chart(plot, "samples", lines_frame(series, below, ("time", "value", "difference")))


def spectra_chart(series: list[Line], reference: Reference, channel: int) -> None:
    """Draw the spectra of one sample, and the amplitudes of their differences from the first."""
    st.markdown("##### Spectra, and the amplitude of the difference")
    data = reference.dataset
    spectra = [
        np.fft.rfft((line.y - data.mean[channel]) / data.std[channel], norm="ortho") for line in series
    ]
    k = np.arange(len(spectra[0]))
    above, below = [], []
    for line, spectrum in zip(series, spectra, strict=True):
        above.append(Line(line.name, k, np.abs(spectrum), line.color))
        below.append(Line(line.name, k, np.abs(spectrum - spectra[0]), line.color))
    plot = pair_chart(
        above,
        below[1:],
        x_title="frequency k",
        y_titles=("|X_k|", "|difference|"),
        log_upper=True,
        log_lower=True,
    )
    chart(plot, "spectra", lines_frame(above, below[1:], ("k", "amplitude", "difference")))


def residuals_chart(drawn: list[tuple[str, RunHandle, str]]) -> None:
    """Draw the event intensity of every run, and the work done so far."""
    st.markdown("##### Event intensity r, and tokens computed so far")
    residual, work = [], []
    for name, run, color in drawn:
        assert run.recorder is not None
        x, r, share = (
            run.recorder.column(column).astype(np.float64) for column in ("log_snr", "r_mean", "share")
        )
        residual.append(Line(name, x, np.where(r > 0, r, np.nan), color))
        work.append(Line(name, x, np.cumsum(share), color))
    plot = pair_chart(
        residual,
        work,
        x_title="log(a/s): from noise (left) to data (right)",
        y_titles=("r, mean of the batch", "full calls so far"),
        log_upper=True,
        log_lower=True,
    )
    chart(plot, "residuals", lines_frame(residual, work, ("log_snr", "r", "full_calls")))


def decisions_panel(drawn: list[tuple[str, RunHandle, str]]) -> None:
    """Draw the share of tokens computed at every step, for every sample."""
    st.markdown("##### Decisions, sample by sample")
    panels, parts = [], []
    for name, run, _ in drawn:
        assert run.recorder is not None
        if run.recorder.keeps_batch:
            share = (run.recorder.column("batch_reasons") > 0).mean(2)
            panels.append((name, share))
            table = pd.DataFrame(share, columns=[f"sample {b}" for b in range(share.shape[1])])
            table.insert(0, "step", np.arange(len(share)) + 1)
            table.insert(0, "setting", name)
            parts.append(table)
    if not panels:
        st.info("These runs are too large to keep the decisions of every sample.")
        return
    plot = decisions_chart(panels, ("rgba(128,128,128,.15)", palette()[0]))
    chart(plot, "decisions", pd.concat(parts, ignore_index=True))
