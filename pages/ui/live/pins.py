"""Pinned settings of this session and of the address: the text forms of Compare's rows, joined by semicolons."""

import json
from typing import Any

import streamlit as st

from e2crf_core.errors import LabError
from e2crf_core.sampling.config import SamplerConfig
from pages.ui.common.compared import config_of, text_of
from pages.ui.common.messages import plain_text, say
from pages.ui.common.query_params import linked, note

MOST = 8
LENGTH = 3000
"""Most characters of all pins in an address."""
ADDRESS = "pins"
Pins = tuple[str, ...]


def pins_of(text: str) -> tuple[Pins, list[str]]:
    """Return the settings that a text names, at most MOST, and what is wrong with the others."""
    if len(text) > LENGTH:
        return (), [f"they take more than {LENGTH} characters"]
    pins: dict[str, None] = {}
    wrong = []
    for number, part in enumerate(filter(None, text.split(";")), 1):
        try:
            pins[text_of(config_of(part))] = None
        except LabError as fault:
            wrong.append(f"pin {number}: {say(fault)}")
    if len(pins) > MOST:
        wrong.append(f"there are {len(pins)}, of which the first {MOST} are shown")
    return tuple(pins)[:MOST], wrong


def _kept() -> dict[tuple[str, int], Pins]:
    """Return this session's pins by checkpoint and seed: pins of other noise do not compare."""
    return st.session_state.setdefault("pins", {})


def pins_kept(checkpoint: str, seed: int) -> Pins:
    """Return this session's pins of a network and seed."""
    return _kept().get((checkpoint, seed), ())


def recall_pins(checkpoint: str, seed: int) -> Pins:
    """Return the pins of a network and seed: a link's, else those of this session. Damaged ones are reported."""
    text = linked(ADDRESS)
    if text is not None:
        pins, wrong = pins_of(text)
        _kept()[checkpoint, seed] = pins
        if wrong:
            parts = "".join(f"\n- {plain_text(part)}" for part in wrong)
            st.warning(f"Pins of this address are left out:\n{parts}")
    pins = pins_kept(checkpoint, seed)
    note(ADDRESS, ";".join(pins) or None)
    return pins


def keep_pins(checkpoint: str, seed: int, text: str) -> None:
    """Take over the pins that the canvas reports. Raises LabError for one that cannot run."""
    pins, wrong = pins_of(text)
    if wrong:
        raise LabError(f"a pin was not kept: {wrong[0]}")
    _kept()[checkpoint, seed] = pins


def add_pin(checkpoint: str, seed: int, pin: str) -> None:
    """Pin a setting of a network and seed; the oldest of too many goes."""
    others = [other for other in pins_kept(checkpoint, seed) if other != pin]
    _kept()[checkpoint, seed] = tuple([*others, pin][-MOST:])


def pin_text(config: SamplerConfig) -> str | None:
    """Return the text that stands for a setting in an address; None if it has none."""
    try:
        return text_of(config)
    except LabError:
        return None


def pin_values(pin: str) -> dict[str, Any]:
    """Return what the canvas needs to restore a pin, as plain JSON values."""
    config = config_of(pin)
    assert config.policy is not None
    policy = json.loads(config.policy.to_json())
    return {
        "text": pin,
        "policy": policy,
        "solver": config.solver,
        "grid": config.grid,
        "steps": config.steps,
    }
