"""The card at the end of a run: three speedups, their cost in quality, and the samples to download."""

import io
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import streamlit as st

from e2crf_core.runs.archive import archive_name
from e2crf_core.runs.run import RunHandle, RunResult
from e2crf_core.sampling.config import SamplerConfig
from pages.ui.common.kept_runs import is_kept, open_run
from pages.ui.common.messages import plain_text
from pages.ui.common.reference import Reference
from pages.ui.common.run_downloads import run_downloads
from pages.ui.common.twin_quality import quality_of
from pages.ui.live.pins import add_pin, pin_text, pins_kept

FEW_SAMPLES = 64
UNKNOWN = "–"
HELP = {
    "tokens": "Tokens (frequencies) that a run without a cache computes, divided by those of this run.",
    "flops": "Arithmetic operations of a run without a cache divided by those of this run, including all "
    "that a cache does not save.",
    "wall": "Compute time of the run without a cache divided by that of this run: same noise, same machine, "
    "one after the other. Waiting for the chosen pace does not count.",
    "l2": "Distance from the samples of the uncached run on the same noise, relative to their size; 0 is "
    "identical. This is the sharpest measure, because it sees only the effect of the cache.",
    "mw": "Marginal Wasserstein distance to real series that the network never saw, in standard deviations; "
    "smaller is better. As many real series are the stated distance away: no sampler can be expected below it.",
}


def times(speedup: float) -> str:
    """Format a speedup."""
    return f"{speedup:.2f}×" if speedup < 10 else f"{speedup:.1f}×"


def notes(result: RunResult) -> list[str]:
    """Return notes that warn against reading too much into the measured values."""
    twin, count = result.comparison, len(result.samples)
    if twin is None:
        return ["Not compared with an uncached run: wall clock and quality were not measured."]
    texts = []
    idle = result.token_share > 0.95
    if twin.speedup_wall < 1:
        reason = (
            "Nearly every token was computed, so there was nothing to gain."
            if idle
            else "Decisions and bookkeeping cost more here than the skipped tokens would have."
        )
        seconds = f"{result.seconds:.2f} s compared with {twin.seconds_uncached:.2f} s"
        texts.append(f"**Slower than without a cache**: {seconds}. {reason}")
    elif idle:
        texts.append(
            "Nearly every token was computed, so there was nothing to gain; the rest is timing noise."
        )
    if count < FEW_SAMPLES:
        texts.append(
            f"With {count} sample{'s' if count > 1 else ''}, distances to real data are mostly noise: compare "
            f"settings with {FEW_SAMPLES} or more, or use the relative L2."
        )
    return texts


def results_card(handle: RunHandle, reference: Reference) -> None:
    """Draw the results of a finished run."""
    result = handle.result
    if result is None or handle.status != "done":
        return
    twin, quality = result.comparison, quality_of(handle)
    with st.container(border=True, key="results"):
        config = replace(handle.spec.config, policy=handle.policy)
        st.markdown("##### What the cache did in this run")
        changed = " Its policy was changed on the way." if handle.policy_version else ""
        st.caption(f"{plain_text(config.describe())}.{changed}")
        a, b, c, d, e = st.columns([1, 1, 1, 1, 1.6])
        with a:
            _value("Tokens", times(result.speedup_tokens), "tokens", f"{result.token_share:.1%} computed")
        with b:
            _value("FLOPs", times(result.speedup_flops), "flops", f"{result.flop_share:.1%} done")
        with c:
            seconds = f"{result.seconds:.2f} s"
            if twin is None:
                _value("Wall clock", UNKNOWN, "wall", f"{seconds} of computing")
            else:
                against = f"{seconds} vs {twin.seconds_uncached:.2f} s"
                _value("Wall clock", times(twin.speedup_wall), "wall", against)
        with d:
            _value(
                "Relative L2",
                UNKNOWN if twin is None else f"{twin.relative_l2:.3f}",
                "l2",
                "to the uncached twin"
                if quality is None
                else f"median sample {quality.error.median.value:.3f} · "
                f"90% quantile {quality.error.q90.value:.3f} · {quality.error.flips.value:.0%} ended elsewhere",
            )
        with e:
            distance = None if quality is None else quality.distance
            if quality is None or distance is None or quality.judgment is None:
                _value(
                    "Distance to held-out data", UNKNOWN, "mw", "needs 8 samples or more and an uncached twin"
                )
            else:
                _value(
                    "Marginal Wasserstein to held-out data",
                    f"{distance.value:.3f}",
                    "mw",
                    f"uncached {quality.uncached:.3f} · real vs real {distance.floor:.3f}",
                )
        if quality is not None and quality.judgment is not None:
            judgment = quality.judgment
            st.caption(
                f":material/balance: Compared with no cache: **{judgment.verdict}** ({judgment.describe()})."
            )
        for note in notes(result):
            st.caption(f":material/info: {note}")
        _pin(handle, config)
        _downloads(handle, reference)


def _pin(handle: RunHandle, config: SamplerConfig) -> None:
    """Offer to keep the setting as a pin, where runs are compared on the plane."""
    pin, spec = pin_text(config), handle.spec
    if pin is None:
        return
    st.button(
        "Pin this setting",
        icon=":material/keep:",
        key="results.pin",
        on_click=add_pin,
        args=(spec.checkpoint, spec.seed, pin),
        disabled=pin in pins_kept(spec.checkpoint, spec.seed),
        help="Keeps it on the plane of *Explore settings*, to compare others with it.",
    )


def _value(label: str, value: str, help: str, below: str) -> None:
    st.metric(label, value, help=HELP[help])
    st.caption(below)


def _downloads(handle: RunHandle, reference: Reference) -> None:
    assert handle.result is not None
    samples, spec = handle.result.samples, handle.spec
    name = f"{spec.checkpoint}-{spec.config.steps}steps-seed{spec.seed}".replace("/", "_")

    def npz() -> bytes:
        buffer = io.BytesIO()
        about = {"checkpoint": spec.checkpoint, "steps": spec.config.steps, "seed": spec.seed}
        recorder = handle.recorder
        assert recorder is not None
        history = [{"step": step, "policy": json.loads(p.to_json())} for step, _, p in recorder.policies]
        np.savez_compressed(buffer, samples=samples, spec=json.dumps(about), policies=json.dumps(history))
        return buffer.getvalue()

    def csv() -> bytes:
        count, length, _ = samples.shape
        frame = pd.DataFrame(samples.reshape(count * length, -1), columns=list(reference.dataset.channels))
        frame.insert(0, "time_index", np.tile(np.arange(length), count))
        frame.insert(0, "sample", np.repeat(np.arange(count), length))
        return frame.to_csv(index=False, float_format="%.6g").encode()

    with st.container(horizontal=True):
        st.download_button("Samples (npz)", npz, f"{name}.npz", on_click="ignore", icon=":material/download:")
        st.download_button(
            "Samples (csv)",
            csv,
            f"{name}.csv",
            mime="text/csv",
            on_click="ignore",
            icon=":material/download:",
        )
        st.page_link(
            "anatomy.py",
            label="See every step in Anatomy",
            icon=":material/biotech:",
            query_params={"run": archive_name(handle)},
        )
        if is_kept(archive_name(handle)):
            run_downloads(archive_name(handle), open_run(archive_name(handle)))
