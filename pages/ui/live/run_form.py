"""The settings of a live run: their widgets, and their values in the address."""

import json
from collections.abc import Callable

import streamlit as st

from e2crf_core.caching.policy import POLICY_SCHEMA, CachePolicy, PolicyError
from e2crf_core.cluster.remote_run import RemoteRun
from e2crf_core.errors import LabError
from e2crf_core.models.checkpoints import read_card
from e2crf_core.runs.run import FINISHED, RunHandle, RunSpec
from e2crf_core.sampling.config import SamplerConfig
from pages.ui.common.messages import plain_text, say
from pages.ui.common.query_params import linked, linked_number, note
from pages.ui.common.registry import CLUSTER, RUNS, cluster_address
from pages.ui.common.session import owner
from pages.ui.live.policy_form import checkpoint_chosen, current_policy, usual_policy

OPENS_ON = "wind-causal"
"""The checkpoint that shows best what bands save."""
PACE = 20.0
DEFAULTS = {"steps": 40, "num": 16, "seed": 0}
PLAN = ("dpmpp_2m", "profile")
BOUNDS = {"steps": (2, 2000), "num": (1, 256), "seed": (0, 2**31 - 1)}
SOLVER_LABELS = {
    "dpmpp_2m": "DPM-Solver++ 2M",
    "unipc_2": "UniPC 2",
    "etd_ab2": "Exponential AB 2",
    "etd_ab3": "Exponential AB 3",
    "dpmpp_2m_lower_finish": "DPM-Solver++ 2M, lower finish",
    "ddim": "DDIM",
    "heun": "Heun",
    "sde_dpmpp_2m": "SDE-DPM-Solver++ 2M",
    "ancestral": "Ancestral",
    "euler_maruyama": "Euler-Maruyama",
}
GRID_LABELS = {"profile": "Profile", "log_snr": "log(a/s)", "karras": "Karras", "linear": "Linear"}
LABELS = {
    "solver": "Solver",
    "grid": "Time grid",
    "steps": "Steps",
    "num": "Batch",
    "seed": "Seed",
    "device": "Device",
    "checkpoint": "Checkpoint",
}
DEVICES = ("auto", "cpu", "cuda")
FAULT = "start.fault"
EXPLORE, WATCH = "explore", "watch"
LINK_LENGTH = 4000


def adopt(handle: RunHandle) -> None:
    """Make a run this session's run, and its settings those of the widgets."""
    spec = handle.spec
    st.session_state.update(
        run=handle.id,
        policy=handle.policy,
        pace=handle.pace,
        checkpoint=spec.checkpoint,
        steps=spec.config.steps,
        solver=spec.config.solver,
        grid=spec.config.grid,
        num=spec.num,
        seed=spec.seed,
        device=CLUSTER if isinstance(handle, RemoteRun) else spec.device,
    )


def recall_settings(checkpoints: list[str]) -> None:
    """Take over what a link says; what is unknown or damaged is reported and left out."""
    state = st.session_state
    wrong: list[str] = []
    _recall_checkpoint(checkpoints, wrong)
    for name, (low, high) in BOUNDS.items():
        text = linked(name)
        number = None if text is None else linked_number(name, low, high)
        if number is not None and str(number) == text:
            state[name] = number
        elif text is not None:
            wrong.append(f"{LABELS[name]} {text[:40]!r}: use a whole number from {low} to {high}")
    for name, labels in (("solver", SOLVER_LABELS), ("grid", GRID_LABELS)):
        text = linked(name)
        if text in labels:
            state[name] = text
        elif text is not None:
            wrong.append(f"{LABELS[name]} {text[:40]!r}: use one of {', '.join(labels)}")
    text = linked("policy")
    if text is not None:
        try:
            changes = json.loads(text[:LINK_LENGTH])
            state["policy"] = CachePolicy.from_json(json.dumps({"schema": POLICY_SCHEMA, **changes}))
        except PolicyError as fault:
            wrong.append(f"policy: {say(fault)}")
        except (ValueError, TypeError, RecursionError):
            wrong.append("policy: it is not a JSON object")
    if wrong:
        parts = "".join(f"\n- {plain_text(part)}" for part in wrong)
        st.warning(f"Parts of this address are left out:\n{parts}")


def usual_checkpoint(checkpoints: list[str]) -> str:
    """Return the checkpoint with which the page opens."""
    return OPENS_ON if OPENS_ON in checkpoints else checkpoints[0]


def _recall_checkpoint(checkpoints: list[str], wrong: list[str]) -> None:
    """Switch to the checkpoint that a link names, and leave the old run; drop a removed checkpoint."""
    state, query = st.session_state, st.query_params
    # Links of the first releases call it `net`.
    named = query.pop("net") if "net" in query else linked("checkpoint")
    if named in checkpoints:
        state["checkpoint"] = named
        if "run" not in query:
            state.pop("run", None)
    elif named is not None:
        wrong.append(f"{LABELS['checkpoint']} {named[:60]!r}: it is not in this lab")
    if state.get("checkpoint") not in checkpoints:
        state["checkpoint"] = usual_checkpoint(checkpoints)


def note_settings(checkpoints: list[str]) -> None:
    """Write the settings into the address, so that a link starts the same run; defaults are left out."""
    state, policy = st.session_state, current_policy()
    note("checkpoint", state.checkpoint, usual_checkpoint(checkpoints))
    for name, default in DEFAULTS.items():
        note(name, str(state[name]), str(default))
    for name, usual in zip(("solver", "grid"), PLAN, strict=True):
        note(name, state[name], usual)
    values, plain = (json.loads(p.to_json()) for p in (policy, CachePolicy()))
    changes = {name: value for name, value in values.items() if value != plain[name]}
    text = json.dumps(changes, separators=(",", ":"))
    note("policy", None if policy == usual_policy(state.checkpoint) else text)


def checkpoint_label(name: str) -> str:
    """Return a checkpoint with the data set it was trained on."""
    try:
        dataset = read_card(name)["dataset"]
    except LabError:
        return f"{name} (damaged)"
    return name if name == dataset else f"{name} ({dataset or 'unknown data'})"


def _number(place: st.delta_generator.DeltaGenerator, name: str, help: str, step: int = 1) -> None:
    low, high = BOUNDS[name]
    place.number_input(LABELS[name], low, high, step=step, key=name, persist_state="session", help=help)


def _named(
    place: st.delta_generator.DeltaGenerator,
    name: str,
    labels: dict[str, str],
    help: str,
    changed: Callable[[], None] | None = None,
) -> None:
    options = list(dict.fromkeys((*labels, st.session_state[name])))
    place.selectbox(
        LABELS[name],
        options,
        key=name,
        persist_state="session",
        format_func=lambda value: labels.get(value, value),
        help=help,
        on_change=changed,
    )


def _solver_chosen() -> None:
    """Give a solver the grid that it is usually run on; the published sampler walks evenly in time."""
    st.session_state["grid"] = "linear" if st.session_state["solver"] == "euler_maruyama" else PLAN[1]


def sampler_config() -> SamplerConfig:
    """Return what the widgets describe."""
    state = st.session_state
    return SamplerConfig(current_policy(), steps=state.steps, solver=state.solver, grid=state.grid)


def settings(checkpoints: list[str]) -> None:
    """Draw the widgets."""
    for name, default in {
        **DEFAULTS,
        "solver": PLAN[0],
        "grid": PLAN[1],
        "device": DEVICES[0],
        "compare": True,
    }.items():
        st.session_state.setdefault(name, default)
    st.selectbox(
        LABELS["checkpoint"],
        checkpoints,
        key="checkpoint",
        persist_state="session",
        format_func=checkpoint_label,
        help="A trained network. It draws series like those of the data set it was trained on.",
        on_change=checkpoint_chosen,
    )
    whole = st.container()
    _named(whole, "solver", SOLVER_LABELS, "How steps from noise to series are taken.", _solver_chosen)
    left, right = st.columns(2)
    _named(
        left,
        "grid",
        GRID_LABELS,
        "Where on the noise scale the steps lie. Profile: dense where series form.",
    )
    _number(right, "steps", "Steps from noise to series: the network calls of an uncached run.", 10)
    _number(left, "num", "Series drawn at once. The panels show the first.")
    _number(right, "seed", "The same seed gives the same noise, so runs can be compared.")
    address = cluster_address()
    cluster_help = f" cluster: a node of the Ray cluster at {address}, with a GPU if it has one."
    st.selectbox(
        LABELS["device"],
        (*DEVICES, CLUSTER) if address else DEVICES,
        key="device",
        persist_state="session",
        help="auto: CUDA if it is available." + (cluster_help if address else ""),
    )
    st.toggle(
        "Compare with no cache",
        key="compare",
        persist_state="session",
        help="After the run, repeat it on the same noise without a cache, to measure time and quality.",
    )


def start() -> None:
    """Start a run with the values of the widgets; an unfinished run of this session ends."""
    old = RUNS.get(st.session_state.get("run"))
    if old is not None and old.status not in FINISHED:
        old.stop()
    state = st.session_state
    try:
        spec = RunSpec(
            checkpoint=state.checkpoint,
            num=state.num,
            seed=state.seed,
            config=sampler_config(),
            device=state.device,
            pace=state.get("pace", PACE),
            compare=state.compare,
        )
        state["run"] = RUNS.start(spec, owner()).id
    except LabError as fault:
        state[FAULT] = say(fault, LABELS)
