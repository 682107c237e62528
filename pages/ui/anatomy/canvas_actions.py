"""Actions of the Anatomy canvas: a real run that confirms a prediction, and the layer errors."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from e2crf_core.errors import LabError
from e2crf_core.quality.interval import Interval
from e2crf_core.runs.archive import Archive, archive_name
from e2crf_core.runs.quality import TwinQuality
from e2crf_core.runs.run import FINISHED, RunHandle
from e2crf_core.runs.whatif import predict, trace
from pages.ui.anatomy.layer_job import LAYER_JOBS
from pages.ui.anatomy.recording import confirmed_spec, foreseen_bands
from pages.ui.common.components import notify
from pages.ui.common.kept_runs import model_of
from pages.ui.common.messages import say, sentence
from pages.ui.common.registry import RUNS, line_text
from pages.ui.common.session import owner
from pages.ui.common.twin_quality import quality_of

KEY = "anatomy"
Bands = Sequence[tuple[int, int, float]]
FAULT, FORESEEN = "anatomy.fault", "anatomy.foreseen"
PLACE = ("step", "k", "channel", "map")
"""What a link to another run keeps of the address."""


def confirm(archive: Archive, name: str) -> None:
    """Start a real run of the predicted policy."""
    message = st.session_state[KEY].confirm
    if not message:
        return
    try:
        spec = confirmed_spec(archive, message["changes"])
        model = model_of(spec.checkpoint, archive.model["digest"])
        policy = spec.config.policy
        assert policy is not None
        prediction = predict(archive, trace(archive, model), policy)
        try:
            bands = foreseen_bands(archive, message["changes"])
        except LabError:
            bands = ()
        run = RUNS.start(spec, owner())
        st.session_state["confirm"] = {"of": name, "run": run.id, "prediction": prediction, "bands": bands}
    except (LabError, TypeError, KeyError) as fault:
        st.session_state[FAULT] = say(fault if isinstance(fault, LabError) else str(fault))


def foresee(archive: Archive, key: str) -> None:
    """Predict the error by band of the policy that is asked about."""
    message = st.session_state[KEY].foresee
    if not message:
        return
    head: dict[str, Any] = {"kind": "foreseen", "key": key, "n": message.get("n"), "bands": [], "why": ""}
    try:
        head["bands"] = [list(band) for band in foreseen_bands(archive, message["changes"])]
    except (LabError, TypeError, KeyError) as fault:
        head["why"] = sentence(str(fault))
    st.session_state[FORESEEN] = head


def tell_foreseen() -> None:
    """Send the newest prediction of errors to the canvas."""
    head = st.session_state.pop(FORESEEN, None)
    if head is not None:
        notify("foreseen", head)


def look_inside(archive: Archive, key: str) -> None:
    """Begin or end measuring the layer errors of a record."""
    message = st.session_state[KEY].inside
    if not message:
        return
    job = LAYER_JOBS.get(key)
    try:
        if message["act"] == "start":
            LAYER_JOBS.start(key, archive, model_of(archive.spec.checkpoint, archive.model["digest"]))
        elif job is not None:
            job.stop()
    except (LabError, TypeError, KeyError) as fault:
        st.session_state[FAULT] = say(fault if isinstance(fault, LabError) else str(fault))


@st.fragment(run_every=0.3)
def layer_progress(key: str) -> None:
    """Report the progress of the layer errors to the canvas; redraw the page at the end."""
    job = LAYER_JOBS.get(key)
    if job is None or job.status != "running":
        st.rerun()
    notify(
        "inside",
        {"kind": "inside", "key": key, "state": "running", "share": job.share, "left": job.seconds_left},
    )


@st.fragment(run_every=0.5)
def _run_progress(run_id: str) -> None:
    run = RUNS.get(run_id)
    if run is None or run.status in FINISHED:
        st.rerun()
    run.touch()
    st.progress(run.progress, line_text(run) or f"Running it for real: {run.progress:.0%}")


def truth_panel(name: str) -> None:
    """Draw a prediction next to the real run that was started to confirm it."""
    started = st.session_state.get("confirm")
    if not started or started["of"] != name:
        return
    run = RUNS.get(started["run"])
    if run is None:
        return
    policy = run.spec.config.policy
    with st.container(border=True, key="truth"):
        if policy is not None:
            st.markdown(f"##### Predicted and measured: `{policy.trigger}`, τ = {policy.tau:g}")
        if run.status not in FINISHED:
            _run_progress(run.id)
        elif run.result is None or run.recorder is None:
            st.error(say(run.error or "The run ended before it was done"))
        else:
            st.dataframe(truth_table(started["prediction"], run), hide_index=True)
            quality = quality_of(run)
            if quality is not None:
                st.dataframe(quality_table(quality, started["bands"]), hide_index=True, placeholder="–")
                st.caption(quality_words(quality))
            query = st.query_params
            query["confirmed"] = archive_name(run)
            place = {name: query[name] for name in PLACE if name in query}
            st.page_link(
                "anatomy.py",
                label="Open the real run here",
                icon=":material/open_in_new:",
                query_params={**place, "run": archive_name(run)},
            )


def quality_table(quality: TwinQuality, foreseen: Bands = ()) -> pd.DataFrame:
    """Return the error to the uncached twin, overall and by band, and the primary distance, a row each.

    `foreseen` are predicted errors of bands; the column is left out without any.
    """
    error, distance = quality.error, quality.distance
    predicted = {(a, b): value for a, b, value in foreseen}
    rows: list[tuple[str, float | None, Interval, float]] = [
        ("Relative L2 to the uncached twin, median sample", None, error.median, 1.0),
        ("Relative L2 of the sample at the 90% quantile", None, error.q90, 1.0),
        ("Samples that ended elsewhere, %", None, error.flips, 100.0),
    ]
    for a, b, span in error.bands:
        label = f"Error of k = {a}" if b - a == 1 else f"Error of k = {a} to {b - 1}"
        rows.append((f"{label}, in std of each frequency", predicted.get((a, b)), span, 1.0))
    if distance is not None:
        rows.append(("Marginal Wasserstein distance to held-out data, std", None, distance, 1.0))
    table = pd.DataFrame(
        {
            "Quality": [label for label, *_ in rows],
            "Predicted": [None if guess is None else f"{guess:.3g}" for _, guess, _, _ in rows],
            "Measured": [f"{scale * span.value:.3g}" for _, _, span, scale in rows],
            "95% interval": [
                f"{scale * span.low:.3g} to {scale * span.high:.3g}" for _, _, span, scale in rows
            ],
        }
    )
    return table if predicted else table.drop(columns="Predicted")


def quality_words(quality: TwinQuality) -> str:
    """Return the verdict on the distances to held-out data."""
    judgment, distance = quality.judgment, quality.distance
    if judgment is None or distance is None:
        return "Too few samples, or no data set at hand, to compare distances to real data."
    return (
        f"Compared with its uncached twin: {judgment.verdict} ({judgment.describe()}). The twin's distance is"
        f" {quality.uncached:.3g}, that of as many real series {distance.floor:.3g}."
    )


def truth_table(prediction: Any, run: RunHandle) -> pd.DataFrame:
    """Return the predicted and the measured values of a finished run, a row each."""
    assert run.result is not None and run.recorder is not None
    share, seconds = run.result.token_share, run.result.seconds
    agree = float((run.recorder.column("reasons") == prediction.reasons).mean())
    rows = [
        (
            "Tokens computed",
            f"{prediction.share:.2%}",
            "exact" if prediction.exact else f"{prediction.share_low:.2%} to {prediction.share_high:.2%}",
            f"{share:.2%}",
            f"{prediction.share / share - 1:+.1%}",
        ),
        (
            "Compute time (s)",
            f"{prediction.seconds:.2f}",
            f"{prediction.seconds_low:.2f} to {prediction.seconds_high:.2f}",
            f"{seconds:.2f}",
            f"{prediction.seconds / seconds - 1:+.1%}",
        ),
        ("Equal decisions, this sample", f"{agree:.1%}", "", "100%", ""),
    ]
    columns = ["", "Predicted", "Predicted range", "Real run", "Prediction off by"]
    return pd.DataFrame(rows, columns=columns)
