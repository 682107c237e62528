"""Updates of a run as packets, and messages to it, shared by the socket and the polling fragment."""

import json
from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from typing import Any

import numpy as np

from e2crf_core.caching.policy import CachePolicy
from e2crf_core.data.axes import time_axis
from e2crf_core.errors import LabError
from e2crf_core.io.json_files import parse_json
from e2crf_core.io.packet import finite, pack
from e2crf_core.runs.run import FINISHED, RunHandle
from pages.ui.common.reference import Reference
from pages.ui.common.registry import line_text
from pages.ui.live.twin_errors import errors_of

CHUNK = 512
"""Most steps in one streamed packet, so that a late viewer of a long run catches up in pieces, without a pause."""

COLUMNS = (
    "share",
    "tau",
    "r",
    "r_mean",
    "seconds",
    "tokens",
    "flops",
    "flops_full",
    "log_snr",
    "policy_version",
)
PANEL_FIELDS = ("k_low", "tau", "tau_safe", "tau_warn")
PACES = (0.0, 500.0, 200.0, 100.0, 50.0, 20.0, 10.0, 5.0)


@lru_cache(maxsize=64)
def display_bands(n: int) -> np.ndarray:
    """Return the edges (b+1,) of the bands in the energy panel: 0-3, then octaves, wide enough for a steady mean."""
    return np.array([0, *(4 << i for i in range(n.bit_length()) if 4 << i < n), n])


def band_energy(spectrum: np.ndarray) -> np.ndarray:
    """Return the mean |X_k|² per frequency and channel in each display band: (steps, n, M) -> (steps, bands)."""
    n, channels = spectrum.shape[1:]
    edges = display_bands(n)
    power = np.einsum("knm,knm->kn", spectrum, spectrum)
    return np.add.reduceat(power, edges[:-1], axis=1) / (np.diff(edges).astype(np.float32) * channels)


def phase_of(handle: RunHandle) -> str:
    """Return the phase of a run: live (the policy acts), comparing, or ended."""
    if handle.status in FINISHED:
        return "ended"
    return "comparing" if handle.status == "comparing" else "live"


def _values(policy: CachePolicy) -> dict[str, Any]:
    return json.loads(policy.to_json())


def hello(
    reference: Reference,
    policy: CachePolicy,
    *,
    steps: int,
    num: int,
    pace: float,
    run: str | None = None,
    phase: str = "live",
    socket: str | None = None,
) -> bytes:
    """Pack what opens a view: the shape of a run, its policy, and the reference to draw it against.

    Without `run` the panels show the reference alone, for the run to come. `phase` is what the page around
    the canvas was drawn for: the canvas asks for a rerun when the run has moved on.
    """
    data = reference.dataset
    meta = {f.name: f.metadata for f in fields(CachePolicy) if f.name in PANEL_FIELDS}
    header = {
        "kind": "hello",
        "run": run,
        "phase": phase,
        "socket": socket,
        "steps": steps,
        "num": num,
        "n": reference.frequencies,
        "N": data.x.shape[1],
        "M": data.x.shape[2],
        "time": time_axis(data),
        "channels": list(data.channels),
        "units": list(data.units),
        "columns": list(COLUMNS),
        "edges": display_bands(reference.frequencies).tolist(),
        "paces": list(PACES),
        "pace": pace,
        "policy": _values(policy),
        "fields": {
            name: {"label": m["label"], "low": m["low"], "high": m["high"], "triggers": list(m["triggers"])}
            for name, m in meta.items()
        },
    }
    return pack(header, {"fan": reference.fan, "real": reference.spectrum})


def picture(
    handle: RunHandle,
    reference: Reference,
    start: int,
    *,
    with_policy: bool = True,
    limit: int = CHUNK,
) -> tuple[bytes, int]:
    """Pack what was published since step `start`, at most `limit` steps; returns it with the step to continue from.

    Per-step columns come for all new steps, series and spectra only for the newest one, and errors to the twin,
    once it is known, for all steps.
    """
    recorder = handle.recorder
    count = recorder.count if recorder is not None else 0
    start = min(max(0, start), count)
    stop = min(count, start + limit)
    header: dict[str, Any] = {
        "kind": "picture",
        "run": handle.id,
        "from": start,
        "count": stop - start,
        "behind": count - stop,
        "status": handle.status,
        "error": handle.error,
        "progress": finite(handle.progress),
        "eta": finite(handle.eta_s),
        "pace": handle.pace,
        "line": line_text(handle),
    }
    if with_policy:
        header["policy"] = _values(handle.policy)
        header["version"] = handle.policy_version
    arrays: dict[str, np.ndarray] = {}
    if recorder is not None and stop > start:
        fresh = slice(start, stop)
        arrays["table"] = np.stack([recorder.column(c)[fresh] for c in COLUMNS], axis=1).astype(np.float32)
        arrays["reasons"] = recorder.column("reasons")[fresh]
        arrays["e"] = recorder.column("e")[fresh]
        arrays["bands"] = band_energy(recorder.column("spectrum")[fresh])
        arrays["spectrum"] = recorder.column("spectrum")[stop - 1]
        arrays["series"] = recorder.column("series")[stop - 1]
        arrays["x0"] = recorder.column("x0")[stop - 1]
        arrays["x0_spectrum"] = reference.amplitude(arrays["x0"])
    errors = errors_of(handle, stop)
    if errors is not None:
        arrays["errors"] = errors
    return pack(header, arrays), stop


def live_fields() -> frozenset[str]:
    """Return the policy fields that may change during a run."""
    return frozenset(f.name for f in fields(CachePolicy) if f.metadata["live"])


def read_message(text: str) -> dict[str, Any]:
    """Read a message of a viewer. Raises LabError for anything but a JSON object."""
    message = parse_json(text, "a message", depth=8)
    if not isinstance(message, dict):
        raise LabError("a message must be a JSON object")
    return message


def obey(handle: RunHandle, message: Mapping[str, Any]) -> None:
    """Carry out one message of a viewer. Raises LabError for an invalid message."""
    kind = message.get("type")
    if kind == "policy":
        _change_policy(handle, message.get("changes"))
    elif kind == "pace":
        pace = message.get("value")
        if isinstance(pace, bool) or not isinstance(pace, int | float) or not 0 <= pace <= 1e6:
            raise LabError(f"pace must be a number of steps per second, 0 for no limit, not {pace!r}")
        handle.set_pace(float(pace))
    elif isinstance(kind, str) and kind in _ACTIONS:
        getattr(handle, _ACTIONS[kind])()
    else:
        raise LabError(f"unknown message type {kind!r}", remedy=f"use policy, pace or {', '.join(_ACTIONS)}")


_ACTIONS = {
    "pause": "pause",
    "resume": "resume",
    "step": "step_once",
    "stop": "stop",
    "skip_compare": "skip_compare",
}


def _change_policy(handle: RunHandle, changes: Any) -> None:
    if not isinstance(changes, dict) or not changes:
        raise LabError("a policy message needs `changes`, an object with field names and values")
    fixed = sorted(set(changes) - live_fields())
    if fixed:
        raise LabError(f"these fields cannot change during a run: {', '.join(map(str, fixed))}")
    changed = CachePolicy.from_json(json.dumps({**_values(handle.policy), **changes}))
    if changed != handle.policy:
        handle.set_policy(changed)
