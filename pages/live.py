"""The live page: start a sampler, watch its cache decide, turn it while it runs, read what it gained and cost."""

import json
from collections.abc import Callable

import streamlit as st

from e2crf_core.caching.policy import POLICY_SCHEMA, PRESETS, CachePolicy, PolicyError
from e2crf_core.cluster.remote_run import RemoteRun
from e2crf_core.errors import LabError
from e2crf_core.models.checkpoints import list_checkpoints, read_card
from e2crf_core.runs.archive import archive_mark
from e2crf_core.runs.run import FINISHED, RunHandle, RunSpec
from e2crf_core.sampling.config import SamplerConfig
from pages.ui.common.query_params import note
from pages.ui.common.reference import Reference, reference_of
from pages.ui.common.registry import CLUSTER, RUNS, STORE, cluster_address
from pages.ui.live.canvas import KEY, live_canvas, polled_feed, whole_feed
from pages.ui.live.live_packets import hello, obey, phase_of
from pages.ui.live.policy_form import current_policy, policy_form, use_policy
from pages.ui.live.results import results_card
from pages.ui.live.socket import live_path

STEPS, NUM, SEED, PACE = 500, 8, 0, 100.0
BOUNDS = {"steps": (10, 2000), "num": (1, 256), "seed": (0, 2**31 - 1)}
DEVICES = ("auto", "cpu", "cuda")


def adopted_run() -> RunHandle | None:
    """The run of this session, or after a reload the one that the address names."""
    asked = st.session_state.get("run") or st.query_params.get("run")
    handle = RUNS.get(asked)
    if handle is None:
        if asked:
            st.session_state.pop("run", None)
            st.query_params.pop("run", None)
            st.info("The run in this address is no longer on the server. Press **Start** for a new one.")
            kept = next((e.name for e in STORE.list() if e.name.endswith(archive_mark(asked))), None)
            if kept is not None:
                st.page_link(
                    "anatomy.py",
                    label="Its record is kept: look at every step in Anatomy",
                    icon=":material/biotech:",
                    query_params={"run": kept},
                )
        return None
    if st.session_state.get("run") != handle.id:
        adopt(handle)
    if st.query_params.get("run") != handle.id:
        st.query_params["run"] = handle.id
    if phase_of(handle) == "live":
        # Another window, or a handle on the canvas, may have changed it.
        st.session_state["policy"] = handle.policy
    handle.touch()
    return handle


def adopt(handle: RunHandle) -> None:
    """Make `handle` this session's run, and its settings those of the widgets."""
    spec = handle.spec
    st.session_state.update(
        run=handle.id,
        policy=handle.policy,
        pace=handle.pace,
        checkpoint=spec.checkpoint,
        steps=spec.config.steps,
        num=spec.num,
        seed=spec.seed,
        device=CLUSTER if isinstance(handle, RemoteRun) else spec.device,
    )


def recall_settings(checkpoints: list[str]) -> None:
    """Take what a link says of the settings, once a session; what makes no sense is said or left out."""
    state, query = st.session_state, st.query_params
    if "live.recalled" in state:
        return
    state["live.recalled"] = True
    if query.get("net") in checkpoints:
        state["checkpoint"] = query["net"]
    for name, (low, high) in BOUNDS.items():
        asked = query.get(name, "")
        if asked.isdecimal() and low <= int(asked[:12]) <= high:
            state[name] = int(asked)
    if "policy" in query:
        try:
            changes = json.loads(query["policy"][:4000])
            state["policy"] = CachePolicy.from_json(json.dumps({"schema": POLICY_SCHEMA, **changes}))
        except (ValueError, TypeError, RecursionError, PolicyError) as fault:
            st.warning(f"The policy in this address cannot be used and is left out: {fault}")


def note_settings(checkpoints: list[str]) -> None:
    """Write the settings into the address, so that a link begins the same run; defaults are left out."""
    state, policy = st.session_state, current_policy()
    note("net", state.checkpoint, checkpoints[0])
    for name, default in (("steps", STEPS), ("num", NUM), ("seed", SEED)):
        note(name, str(state[name]), str(default))
    told = json.loads(policy.to_json())
    plain = json.loads(CachePolicy().to_json())
    text = json.dumps({k: v for k, v in told.items() if v != plain[k]}, separators=(",", ":"))
    note("policy", None if policy == PRESETS["balanced"] else text)


def choose_checkpoint(checkpoints: list[str]) -> None:
    """A link that names a checkpoint begins anew with it; one that was removed is chosen no longer."""
    asked = st.query_params.get("checkpoint")
    if asked is not None:
        st.query_params.pop("checkpoint")
        if asked in checkpoints:
            st.session_state.pop("run", None)
            st.session_state["checkpoint"] = asked
    if st.session_state.get("checkpoint") not in checkpoints:
        st.session_state["checkpoint"] = checkpoints[0]


def settings(checkpoints: list[str]) -> None:
    """Widgets of what a run is given at its start."""
    for name, default in (
        ("steps", STEPS),
        ("num", NUM),
        ("seed", SEED),
        ("device", DEVICES[0]),
        ("compare", True),
    ):
        st.session_state.setdefault(name, default)
    st.selectbox(
        "Checkpoint",
        checkpoints,
        key="checkpoint",
        persist_state="session",
        format_func=checkpoint_label,
        help="A trained network; it draws series like those of the data set it was trained on.",
    )
    left, right = st.columns(2)
    left.number_input(
        "Steps",
        *BOUNDS["steps"],
        step=50,
        key="steps",
        persist_state="session",
        help="Network calls of an uncached run, from noise to series.",
    )
    right.number_input(
        "Batch",
        *BOUNDS["num"],
        key="num",
        persist_state="session",
        help="Series drawn at once. The panels show the first.",
    )
    left.number_input(
        "Seed",
        *BOUNDS["seed"],
        key="seed",
        persist_state="session",
        help="The same seed gives the same noise, so runs can be compared.",
    )
    address = cluster_address()
    right.selectbox(
        "Device",
        (*DEVICES, CLUSTER) if address else DEVICES,
        key="device",
        persist_state="session",
        help="auto: CUDA where there is one."
        + (
            f" cluster: a node of the Ray cluster at {address}, with a GPU where it has one."
            if address
            else ""
        ),
    )
    st.toggle(
        "Compare with no cache",
        key="compare",
        persist_state="session",
        help="After the run, repeat it on the same noise without a cache, to measure time and quality.",
    )


def checkpoint_label(name: str) -> str:
    """A checkpoint with the data set it was trained on."""
    try:
        dataset = read_card(name)["dataset"]
    except LabError:
        return f"{name} (damaged)"
    return name if name == dataset else f"{name} ({dataset})"


def start() -> None:
    """Begin a run with what the widgets say; a run of this session that still goes on ends."""
    old = RUNS.get(st.session_state.get("run"))
    if old is not None and old.status not in FINISHED:
        old.stop()
    state = st.session_state
    spec = RunSpec(
        checkpoint=state.checkpoint,
        num=state.num,
        seed=state.seed,
        config=SamplerConfig(current_policy(), steps=state.steps),
        device=state.device,
        pace=state.get("pace", PACE),
        compare=state.compare,
    )
    try:
        state["run"] = RUNS.start(spec).id
    except LabError as fault:
        state["start.fault"] = str(fault)


def listener(handle: RunHandle | None) -> Callable[[str], Callable[[], None]]:
    """Callbacks for what the canvas says."""

    def on(name: str) -> Callable[[], None]:
        def call() -> None:
            said = getattr(st.session_state[KEY], name)
            if not said:
                return
            try:
                if name == "policy":
                    if handle is not None and phase_of(handle) == "live":
                        obey(handle, {"type": "policy", "changes": said["changes"]})
                        use_policy(handle.policy, handle)
                    else:
                        use_policy(current_policy().replace(**said["changes"]), None)
                elif name == "pace":
                    st.session_state["pace"] = float(said["value"])
                elif name == "feed":
                    st.session_state["feed"] = "poll"
                elif name == "control" and handle is not None:
                    if said["type"] == "resync":
                        st.session_state[f"cursor.{handle.id}"] = 0
                    else:
                        obey(handle, said)
            except LabError as fault:
                st.session_state["start.fault"] = str(fault)

        return call

    return on


def view(handle: RunHandle | None, reference: Reference) -> None:
    """The canvas, fed by the socket, or by polling where the browser found no socket."""
    polled = st.session_state.get("feed") == "poll"
    if handle is None:
        state = st.session_state
        packet = hello(
            reference,
            current_policy(),
            steps=state.steps,
            num=state.num,
            pace=state.get("pace", PACE),
        )
    else:
        base = st.get_option("server.baseUrlPath")
        packet = hello(
            reference,
            handle.policy,
            steps=handle.spec.config.steps,
            num=handle.spec.num,
            pace=handle.pace,
            run=handle.id,
            phase=phase_of(handle),
            socket=None if polled else live_path(handle.id, base),
        )
    live_canvas(packet, listener(handle))
    if polled and handle is not None:
        (whole_feed if handle.status in FINISHED else polled_feed)(handle, reference)


GUIDE = """
- **Sample in time**: the noisy series (thin) and what the network now takes it for (thick), before real ones (faint).
- **Spectrum**: how strong each frequency is. Frequencies up to the cutoff **K**, the shaded part, are computed anew
  at every step.
- **Decisions**: a column for each step, a row for each frequency. Gray is reused; a color says why it was computed.
  Move the pointer over it, or focus it and use the arrow keys, to read single decisions.
- **Event score eₖ**: what the trigger makes of each frequency at this step. Above the threshold **τ** it is computed.
- **Event intensity r**: how much the network's features changed since the step before. Below **τ safe** a step may
  pass without any work, above **τ warn** everything is computed.
- **Band energy**: noise has the same energy at all frequencies; watch the series' own spectrum come out of it.
"""


def page() -> None:
    """Lay the page out."""
    checkpoints = list_checkpoints()
    if not checkpoints:
        st.title("Live", anchor=False)
        st.warning(
            "There is no trained network yet. Train one with "
            "`python -m e2crf_core train --data ecg --out assets/checkpoints/ecg`, or on the Training page."
        )
        return
    recall_settings(checkpoints)
    choose_checkpoint(checkpoints)
    handle = adopted_run()
    with st.sidebar:
        st.markdown("**Run**")
        settings(checkpoints)
    shown = handle.spec.checkpoint if handle is not None else st.session_state.checkpoint
    try:
        reference = reference_of(shown)
    except LabError as unknown:
        st.error(str(unknown))
        return
    with st.sidebar:
        st.markdown("**Cache policy**", help="Acts at once on a running sampler.")
        policy_form(handle, reference.frequencies)
    note_settings(checkpoints)
    with st.container(horizontal=True, vertical_alignment="center", key="head"):
        st.button(
            "Start again" if handle is not None else "Start",
            type="primary",
            icon=":material/restart_alt:" if handle is not None else ":material/play_arrow:",
            on_click=start,
            key="start",
        )
        st.markdown(advice(handle, reference))
    fault = st.session_state.pop("start.fault", None)
    if fault:
        st.error(fault)
    if handle is not None:
        results_card(handle, reference)
    view(handle, reference)
    with st.expander("How to read the panels", icon=":material/help:"):
        st.markdown(GUIDE)


def advice(handle: RunHandle | None, reference: Reference) -> str:
    """One sentence on what to do now."""
    title = reference.dataset.title
    if handle is None:
        return (
            f"Press **Start**: a network draws new series like those of *{title}* out of noise, and you see which "
            "frequencies it computes and which it reuses."
        )
    phase = phase_of(handle)
    if phase == "comparing":
        return "The run is done. Now the same noise without a cache, to measure what caching gained and what it cost."
    if phase == "live":
        return "Drag a line with a handle, K or τ, and watch what is computed change from the next step on."
    if handle.status == "done":
        return "Change the policy and press **Start again**: the same seed gives the same noise, so runs compare."
    return "This run ended early. Press **Start again** for a new one."


page()
