"""Widgets of a cache policy, made from its fields' metadata; the widgets mirror the policy."""

import math
from collections.abc import Mapping
from dataclasses import Field, asdict, fields
from typing import Any

import streamlit as st

from e2crf_core.caching.policy import PRESETS, CachePolicy, PolicyError
from e2crf_core.caching.presets import preset_name, presets_for, presets_of
from e2crf_core.caching.triggers import TRIGGERS
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.models.folders import is_causal
from e2crf_core.runs.run import RunHandle
from pages.ui.common.messages import say
from pages.ui.live.live_packets import phase_of

MAIN = ("trigger", "tau", "bands", "k_low", "refresh_every")
CUSTOM = "custom"
USUAL, USUAL_CAUSAL = "multistep", "balanced"
"""The presets with which the page opens: on a spectrally causal network, nested bands (E6)."""
REST = 100_000

PRESET_HELP = (
    "exact: no cache. quality, balanced, fast: more and more reuse. On a spectrally causal network they plan each "
    "frequency band for a tolerated error; with full attention, as the ones named clock, they refresh everything on a "
    "schedule of the noise level. multistep: for DPM-Solver++ on the profile grid with 40 steps, 5 of them network "
    "calls. paper: the published rule. Changing a field makes the policy custom."
)


def usual_policy(checkpoint: str) -> CachePolicy:
    """Return the policy with which the page opens a checkpoint."""
    try:
        causal = is_causal(checkpoint)
    except LabError:
        causal = False
    return presets_for(causal)[USUAL_CAUSAL if causal else USUAL]


def current_policy() -> CachePolicy:
    """Return the policy of this session's running sampler or, without one, of its next sampler."""
    state = st.session_state
    return state.setdefault("policy", usual_policy(state.checkpoint))


def checkpoint_chosen() -> None:
    """Open another checkpoint with its own usual policy, unless the visitor has set one."""
    usual = (PRESETS[USUAL], presets_for(True)[USUAL_CAUSAL])
    if st.session_state.get("policy") in usual:
        st.session_state["policy"] = usual_policy(st.session_state.checkpoint)


def use_policy(policy: CachePolicy, handle: RunHandle | None) -> None:
    """Make `policy` the session's policy, and that of its run if one is still active."""
    st.session_state["policy"] = policy
    if handle is not None and phase_of(handle) == "live" and handle.policy != policy:
        handle.set_policy(policy)


def bands_text(bands: tuple[tuple[int, float], ...]) -> str:
    """Write `((16, 0.15), (100000, 0.6))` as `16: 0.15, rest: 0.6`."""
    return ", ".join(f"{'rest' if edge >= REST else edge}: {tau:g}" for edge, tau in bands)


def read_bands(text: str) -> tuple[tuple[int, float], ...]:
    """Read the text of `bands_text`. Raises PolicyError for a part that is not `edge: interval`."""
    pairs = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        edge, _, tau = (s.strip() for s in part.partition(":"))
        try:
            pairs.append((REST if edge == "rest" else int(edge), float(tau)))
        except ValueError:
            raise PolicyError([f"bands: {part!r} is not like `16: 0.15` or `rest: 0.6`"]) from None
    return tuple(pairs)


def policy_form(handle: RunHandle | None, n: int, model: ScoreModel) -> None:
    """Draw the preset, the main fields, and the others in an expander; `n` is the number of frequencies."""
    policy = current_policy()
    presets = {
        name: preset for name, preset in presets_of(model).items() if preset_name(preset, model) == name
    }
    name = preset_name(policy, model) or CUSTOM
    st.session_state["preset"] = name
    st.selectbox(
        "Preset",
        [*presets, CUSTOM],
        key="preset",
        help=PRESET_HELP,
        on_change=_preset_chosen,
        args=(handle, presets),
    )
    shown = [f for f in fields(CachePolicy) if policy.trigger in f.metadata["triggers"]]
    for field in shown:
        if field.name in MAIN:
            _widget(field, policy, handle, n)
    others = [f for f in shown if f.name not in MAIN]
    if others:
        with st.expander("Expert fields", icon=":material/tune:"):
            for field in others:
                _widget(field, policy, handle, n)
    fault = st.session_state.pop("policy.fault", None)
    if fault:
        st.error(fault)


def _preset_chosen(handle: RunHandle | None, presets: Mapping[str, CachePolicy]) -> None:
    name = st.session_state["preset"]
    if name in presets:
        use_policy(presets[name], handle)


def _changed(field: str, handle: RunHandle | None) -> None:
    value = st.session_state[f"policy.{field}"]
    changes: dict[str, Any] = {field: value}
    policy = current_policy()
    try:
        if field == "bands":
            changes = {field: read_bands(value)}
        if field == "trigger":
            # A field that the rule requires must not be "off".
            rule = TRIGGERS[value]
            changes |= {name: rule.base[name] for name in rule.needs if not getattr(policy, name)}
        use_policy(policy.replace(**changes), handle)
    except PolicyError as fault:
        st.session_state["policy.fault"] = say(fault)


def _widget(field: Field, policy: CachePolicy, handle: RunHandle | None, n: int) -> None:
    meta, name = field.metadata, field.name
    key = f"policy.{name}"
    value = asdict(policy)[name]
    label = f"{meta['label']} ({meta['unit']})" if meta["unit"] else meta["label"]
    common: dict[str, Any] = {
        "key": key,
        "help": meta["help"],
        "on_change": _changed,
        "args": (name, handle),
        "disabled": not meta["live"] and handle is not None and phase_of(handle) == "live",
    }
    if name == "bands":
        st.session_state[key] = bands_text(policy.bands)
        st.text_input(label, **common)
    elif field.type == "bool":
        st.session_state[key] = value
        st.toggle(label, **common)
    elif field.type == "str":
        st.session_state[key] = value
        st.selectbox(label, meta["choices"], **common)
        if name == "trigger":
            st.caption(TRIGGERS[value].help)
    elif field.type == "int":
        low, high = int(meta["low"]), int(meta["high"])
        st.session_state[key] = value
        st.number_input(
            label,
            low,
            min(high, n - 1) if meta["unit"] == "frequency index" and value < n else high,
            step=1,
            **common,
        )
    elif meta["log"] or meta["high"] > 1:
        st.session_state[key] = float(value)
        usual = getattr(CachePolicy(), name)
        step = 10.0 ** math.floor(math.log10(usual)) / 10 if usual else 0.01
        st.number_input(label, float(meta["low"]), float(meta["high"]), step=step, format="%.3g", **common)
    else:
        st.session_state[key] = float(value)
        st.slider(label, float(meta["low"]), float(meta["high"]), step=0.01, **common)
