"""The sections of the speed view that show other ways to run the network."""

import streamlit as st

from pages.ui.common.messages import plain_text
from pages.ui.common.query_params import choice
from pages.ui.evidence.controls import opened, provenance, values_table
from pages.ui.evidence.files import result_files
from pages.ui.evidence.gpu import GPU_COMMAND, gpu_frame, gpu_sentences, read_gpu
from pages.ui.evidence.ways import (
    BACKENDS_COMMAND,
    EAGER,
    OUTSIDE_COMMAND,
    combinations_frame,
    nested_sentence,
    outside_frame,
    outside_sentence,
    read_combinations,
    read_outside,
    together_sentence,
)

INTERVALS = "Ranges are 95% intervals. "


def precision_section() -> None:
    """Draw what backends and precisions cost and save, alone and together with the cache, if it was measured."""
    files = result_files("backends")
    if not files:
        return
    st.subheader("Precision and the cache together", anchor=False)
    path, measured = opened("backends", files, read_combinations, "few samples")
    name = choice("Checkpoint", {name: name for name in measured.data}, "precision_data")
    data = measured.data[name]
    backends = dict.fromkeys(row.backend for row in data.errors if row.backend != EAGER)
    told = (together_sentence(data.errors, backend) for backend in backends)
    faster = (nested_sentence(data.nested, backend) for backend in backends)
    sentences = filter(None, (*told, *faster))
    st.markdown("\n".join(f"- {plain_text(sentence)}" for sentence in sentences))
    for missing, reason in data.missing.items():
        st.caption(plain_text(f"{missing} was left out: {reason}"))
    values_table("All combinations", combinations_frame(data.errors), "precision-cache")
    about = "Errors are relative L2 to the float32 run without a cache on the same noise, speed is beside that run. "
    provenance(BACKENDS_COMMAND, path, measured.machine, about + INTERVALS)


def gpu_section() -> None:
    """Draw how fast the lab is on a GPU, if it was measured."""
    files = result_files("gpu")
    if not files:
        return
    path, measured = opened("gpu", files, read_gpu, "few rounds")
    st.subheader(f"On a GPU ({plain_text(str(measured.machine.get('gpu')))})", anchor=False)
    name = choice("Checkpoint", {name: name for name in measured.speed}, "gpu_data")
    batches = measured.speed[name]
    st.markdown(
        "\n".join(f"- {plain_text(sentence)}" for sentence in gpu_sentences(batches, measured.plan.steps))
    )
    for one in batches:
        for missing, reason in one.missing.items():
            st.caption(plain_text(f"{one.batch} samples, {missing}: {reason}"))
    values_table("All ways on the GPU", gpu_frame(batches), "gpu")
    worst = max(measured.samples[name].values(), default=0.0)
    about = f"Samples differ from the CPU's by a relative L2 of at most {worst:.1g}. "
    provenance(GPU_COMMAND, path, measured.machine, about + INTERVALS)


def outside_section() -> None:
    """Draw how fast the lab is outside Python, if it was measured."""
    files = result_files("outside")
    if not files:
        return
    st.subheader("Outside Python", anchor=False)
    path, measured = opened("outside", files, read_outside, "few rounds")
    st.markdown(plain_text(outside_sentence(measured)))
    values_table("All ways", outside_frame(measured), "outside-python")
    plan = measured.plan
    about = f"{plan.checkpoint}, {plan.policy}, {plan.steps} steps, {plan.threads} threads for every way."
    provenance(OUTSIDE_COMMAND, path, measured.machine, f"{plain_text(about)} {INTERVALS}")
