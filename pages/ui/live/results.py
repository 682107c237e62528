"""The card at the end of a run: three speedups, their cost in quality, and the samples to download."""

import io
import json

import numpy as np
import pandas as pd
import streamlit as st

from e2crf_core.runs.archive import archive_name
from e2crf_core.runs.run import RunHandle, RunResult
from pages.ui.common.reference import Reference

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
    "sw": "Sliced Wasserstein distance to real series that the network never saw; smaller is better. The "
    "floor is the distance between real series: no distance below it can be expected.",
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
            f"With {count} sample{'s' if count > 1 else ''} the sliced Wasserstein distance is mostly noise: "
            f"compare settings with {FEW_SAMPLES} or more, or use the relative L2."
        )
    return texts


def results_card(handle: RunHandle, reference: Reference) -> None:
    """Draw the results of a finished run."""
    result = handle.result
    if result is None or handle.status != "done":
        return
    twin = result.comparison
    with st.container(border=True, key="results"):
        st.markdown("##### What the cache did in this run")
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
                "to the uncached twin",
            )
        with e:
            if twin is None:
                _value("Sliced Wasserstein", UNKNOWN, "sw", "to held-out data")
            else:
                _value(
                    "Sliced Wasserstein to held-out data",
                    f"{twin.sliced_wasserstein:.3f}",
                    "sw",
                    f"uncached {twin.sliced_wasserstein_uncached:.3f} · "
                    f"real vs real {twin.sliced_wasserstein_floor:.3f}",
                )
        for note in notes(result):
            st.caption(f":material/info: {note}")
        _downloads(handle, reference)


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
