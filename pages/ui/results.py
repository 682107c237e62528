"""The card at the end of a run: three speedups, what quality they cost, and the samples to take away."""

import io
import json

import numpy as np
import pandas as pd
import streamlit as st

from e2crf_core.run import RunHandle, RunResult
from pages.ui.reference import Reference

FEW_SAMPLES = 64
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


def times(value: float | None) -> str:
    """A speedup as people read it."""
    if value is None:
        return "not measured"
    return f"{value:.2f}×" if value < 10 else f"{value:.1f}×"


def notes(result: RunResult) -> list[str]:
    """What must be said with the figures so that nobody reads too much into them."""
    said = []
    count = len(result.samples)
    if result.speedup_wall is not None and result.speedup_wall < 1:
        said.append(
            f"**Slower than without a cache**: {result.seconds:.2f} s against {result.seconds_uncached:.2f} s. "
            "Deciding and book-keeping cost more here than the skipped tokens would have."
        )
    if result.speedup_wall is not None and 0.9 < result.speedup_tokens < 1.1:
        said.append("Nearly every token was computed, so there was nothing to gain; timing noise is all you see.")
    if result.sliced_wasserstein is not None and count < FEW_SAMPLES:
        said.append(
            f"With {count} sample{'s' if count > 1 else ''} the sliced Wasserstein distance is mostly noise: "
            f"compare settings with {FEW_SAMPLES} or more, or go by the relative L2."
        )
    if result.relative_l2 is None:
        said.append("The comparison was skipped, so wall clock and quality were not measured.")
    return said


def results_card(handle: RunHandle, reference: Reference) -> None:
    """Draw the card of a finished run."""
    result = handle.result
    if result is None:
        return
    with st.container(border=True, key="results"):
        st.subheader("What the cache did in this run", anchor=False)
        a, b, c, d, e = st.columns([1, 1, 1, 1, 1.6])
        a.metric("Tokens", times(result.speedup_tokens), help=HELP["tokens"])
        a.caption(f"{result.token_share:.1%} of all tokens computed")
        b.metric("FLOPs", times(result.speedup_flops), help=HELP["flops"])
        b.caption(f"{result.flop_share:.1%} of all operations done")
        c.metric("Wall clock", times(result.speedup_wall), help=HELP["wall"])
        if result.seconds_uncached is not None:
            c.caption(f"{result.seconds:.2f} s against {result.seconds_uncached:.2f} s")
        else:
            c.caption(f"{result.seconds:.2f} s of computing")
        l2 = result.relative_l2
        d.metric("Relative L2", "not measured" if l2 is None else f"{l2:.3f}", help=HELP["l2"])
        d.caption("to the uncached twin")
        with e:
            _distances(result)
        for note in notes(result):
            st.caption(f":material/info: {note}")
        _downloads(handle, reference)


def _distances(result: RunResult) -> None:
    if result.sliced_wasserstein is None:
        st.metric("Sliced Wasserstein", "not measured", help=HELP["sw"])
        return
    st.metric("Sliced Wasserstein to held-out data", f"{result.sliced_wasserstein:.3f}", help=HELP["sw"])
    uncached, floor = result.sliced_wasserstein_uncached, result.sliced_wasserstein_floor
    parts = [] if uncached is None else [f"uncached {uncached:.3f}"]
    if floor is not None:
        parts.append(f"real against real {floor:.3f}")
    st.caption(" · ".join(parts))


def _downloads(handle: RunHandle, reference: Reference) -> None:
    assert handle.result is not None
    samples, spec = handle.result.samples, handle.spec
    name = f"{spec.checkpoint}-{spec.steps}steps-seed{spec.seed}".replace("/", "_")

    def npz() -> bytes:
        buffer = io.BytesIO()
        about = {"checkpoint": spec.checkpoint, "steps": spec.steps, "seed": spec.seed}
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
        st.download_button(
            "Samples (npz)", npz, f"{name}.npz", on_click="ignore", icon=":material/download:"
        )
        st.download_button(
            "Samples (csv)", csv, f"{name}.csv", mime="text/csv", on_click="ignore", icon=":material/download:"
        )
