"""The card at the end of a run: three speedups, what quality they cost, and the samples to take away."""

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
    "tokens": "How many times fewer tokens (frequencies) the network computed than a run without a cache.",
    "flops": "How many times fewer arithmetic operations, counted, including what a cache does not save.",
    "wall": "Compute time of the run without a cache divided by that of this run: same noise, same machine, measured "
    "one after the other. Waiting for the chosen pace is left out.",
    "l2": "Distance to the samples of the uncached run on the same noise, relative to their size. 0 is identical. "
    "This is the sharpest tool: it sees only what the cache did.",
    "sw": "Sliced Wasserstein distance to real series that the network never saw; smaller is better. The floor is the "
    "distance of real series to other real series: nothing can be expected below it.",
}


def times(speedup: float) -> str:
    """A speedup as people read it."""
    return f"{speedup:.2f}×" if speedup < 10 else f"{speedup:.1f}×"


def notes(result: RunResult) -> list[str]:
    """What must be said with the figures so that nobody reads too much into them."""
    twin, count = result.comparison, len(result.samples)
    if twin is None:
        return ["Not compared with an uncached run, so wall clock and quality were not measured."]
    said = []
    idle = result.token_share > 0.95
    if twin.speedup_wall < 1:
        reason = (
            "Nearly every token was computed, so there was nothing to gain."
            if idle
            else "Deciding and book-keeping cost more here than the skipped tokens would have."
        )
        seconds = f"{result.seconds:.2f} s against {twin.seconds_uncached:.2f} s"
        said.append(f"**Slower than without a cache**: {seconds}. {reason}")
    elif idle:
        said.append(
            "Nearly every token was computed, so there was nothing to gain: the rest is timing noise."
        )
    if count < FEW_SAMPLES:
        said.append(
            f"With {count} sample{'s' if count > 1 else ''} the sliced Wasserstein distance is mostly noise: "
            f"compare settings with {FEW_SAMPLES} or more, or go by the relative L2."
        )
    return said


def results_card(handle: RunHandle, reference: Reference) -> None:
    """Draw the card of a finished run."""
    result = handle.result
    if result is None or handle.status != "done":
        return
    twin = result.comparison
    with st.container(border=True, key="results"):
        st.markdown("##### What the cache did in this run")
        a, b, c, d, e = st.columns([1, 1, 1, 1, 1.6])
        with a:
            _figure("Tokens", times(result.speedup_tokens), "tokens", f"{result.token_share:.1%} computed")
        with b:
            _figure("FLOPs", times(result.speedup_flops), "flops", f"{result.flop_share:.1%} done")
        with c:
            seconds = f"{result.seconds:.2f} s"
            if twin is None:
                _figure("Wall clock", UNKNOWN, "wall", f"{seconds} of computing")
            else:
                against = f"{seconds} against {twin.seconds_uncached:.2f} s"
                _figure("Wall clock", times(twin.speedup_wall), "wall", against)
        with d:
            _figure(
                "Relative L2",
                UNKNOWN if twin is None else f"{twin.relative_l2:.3f}",
                "l2",
                "to the uncached twin",
            )
        with e:
            if twin is None:
                _figure("Sliced Wasserstein", UNKNOWN, "sw", "to held-out data")
            else:
                _figure(
                    "Sliced Wasserstein to held-out data",
                    f"{twin.sliced_wasserstein:.3f}",
                    "sw",
                    f"uncached {twin.sliced_wasserstein_uncached:.3f} · "
                    f"real against real {twin.sliced_wasserstein_floor:.3f}",
                )
        for note in notes(result):
            st.caption(f":material/info: {note}")
        _downloads(handle, reference)


def _figure(label: str, value: str, help: str, below: str) -> None:
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
            label="Look at every step in Anatomy",
            icon=":material/biotech:",
            query_params={"run": archive_name(handle)},
        )
