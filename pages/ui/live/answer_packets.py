"""What the instrument asks and is answered: requests as checked values, answers as packets."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from e2crf_core.caching.policy import POLICY_SCHEMA, CachePolicy
from e2crf_core.caching.triggers import TRIGGERS
from e2crf_core.data.axes import time_axis
from e2crf_core.diffusion.solvers import MAX_STEPS, find_grid, find_solver
from e2crf_core.errors import LabError
from e2crf_core.io.packet import pack
from e2crf_core.io.userfiles import check_name
from e2crf_core.quality.interval import Interval
from e2crf_core.runs.answer import Reply
from e2crf_core.sampling.config import SamplerConfig
from pages.ui.common.messages import sentence
from pages.ui.common.reference import Reference
from pages.ui.live.pins import pin_text, pin_values, pins_of

QUICK_NUM, SETTLED_NUM = 4, 16
"""Samples while the hand moves, and once it rests."""
KNOBS = ("k_low", "detail", "start", "refresh_every", "predictor", "bands")
"""Fields beside the threshold that the instrument lets people turn, where the trigger reads them."""
BAND_RANGE = (0.02, 8.0)
MEANINGS = {
    "nested": "Error, in standard deviations of the data, that reuse may cost a finished sample.",
    "nested_live": "The same, times what the residuals measured in each sample say of it.",
    "log_snr": "How far log(a/s) may move before all frequencies are computed again.",
    "bands": "How far log(a/s) may move before a band is computed again, for all bands at once.",
    "paper": "How far a frequency may drift, weighted by its energy, before it is computed again.",
    "gain": "Expected squared error of a step above which a frequency is computed again.",
    "rate": "Expected change of the network's output above which all frequencies are computed again.",
    "fixed": "Steps after which all frequencies are computed again.",
}
"""What the threshold tolerates, by trigger."""


@dataclass(frozen=True)
class Request:
    """A question of the instrument: `serial` names it, `settle` asks for more samples and for what surrounds it.

    `pins` are pinned settings that nothing is known of yet.
    """

    serial: int
    checkpoint: str
    config: SamplerConfig
    seed: int
    settle: bool
    pins: tuple[str, ...] = ()


def read_request(message: Mapping[str, Any]) -> Request:
    """Read a message of type `ask`. Raises LabError that names what is wrong with it."""
    serial, seed, steps = (message.get(name) for name in ("serial", "seed", "steps"))
    for name, value, high in (
        ("serial", serial, 2**53),
        ("seed", seed, 2**31 - 1),
        ("steps", steps, MAX_STEPS),
    ):
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= high:
            raise LabError(f"{name} must be a whole number from 0 to {high}, not {value!r:.40}", field=name)
    solver, grid, policy = (message.get(name) for name in ("solver", "grid", "policy"))
    if not isinstance(solver, str) or not isinstance(grid, str) or not isinstance(policy, dict):
        raise LabError("a question needs a solver, a grid, and a policy")
    find_solver(solver), find_grid(grid)
    cached = CachePolicy.from_json(json.dumps({**policy, "schema": POLICY_SCHEMA}))
    pins, wrong = pins_of(str(message.get("pins", "")))
    if wrong:
        raise LabError(wrong[0])
    assert isinstance(serial, int) and isinstance(seed, int) and isinstance(steps, int)
    return Request(
        serial=serial,
        checkpoint=check_name(str(message.get("checkpoint", ""))),
        config=SamplerConfig(cached, steps=steps, solver=solver, grid=grid),
        seed=seed,
        settle=message.get("settle") is True,
        pins=pins,
    )


def policy_values(policy: CachePolicy) -> dict[str, Any]:
    """Return a policy's fields as plain JSON values."""
    return json.loads(policy.to_json())


def _triple(interval: Interval) -> list[float]:
    return [interval.value, interval.low, interval.high]


def answer_packet(request: Request, reply: Reply) -> bytes:
    """Pack an answer with the policy and plan that it belongs to, so that no picture mixes two policies."""
    config, error = reply.config, reply.error
    assert config.policy is not None
    steps, n = reply.reasons.shape
    header = {
        "kind": "answer",
        "serial": request.serial,
        "text": pin_text(config),
        "settled": request.settle,
        "num": len(reply.series),
        "seed": reply.seed,
        "policy": policy_values(config.policy),
        "solver": config.solver,
        "grid": config.grid,
        "steps": steps,
        "n": n,
        "error": {name: _triple(getattr(error, name)) for name in ("pooled", "median", "q90", "flips")},
        "bands": [
            [first, last, _triple(white), _triple(units)]
            for (first, last, white), units in zip(error.bands, reply.band_units, strict=True)
        ],
        "cost": reply.cost,
        "ms": 1000 * reply.seconds,
        "tokens": reply.tokens,
        "full": {"cost": steps, "ms": 1000 * reply.twin.seconds, "tokens": steps * n},
    }
    arrays = {
        "series": reply.series[0],
        "twin": reply.twin.series[0],
        "reasons": reply.reasons,
        "share": reply.share.astype(np.float32),
    }
    return pack(header, arrays)


def pin_packet(request: Request, pin: str, reply: Reply | str) -> bytes:
    """Pack what is known of a pin: error and cost, or why it was not measured."""
    header: dict[str, Any] = {"kind": "pin", "serial": request.serial, "text": pin}
    if isinstance(reply, str):
        return pack({**header, "why": reply}, {})
    values = {
        "error": reply.error.pooled.value,
        "cost": reply.cost,
        "ms": 1000 * reply.seconds,
        "tokens": reply.tokens,
    }
    return pack({**header, **values}, {})


def threshold_range(trigger: str, way: float, steps: int) -> list[float] | None:
    """Return the range of tau worth turning for a trigger; None where tau does nothing.

    `way` is how far log(a/s) moves during a run of `steps` steps: below one step, every step computes everything.
    """
    rule = TRIGGERS[trigger]
    if "tau" not in rule.reads:
        return None
    ranges = rule.search_range(way)
    if ranges is not None:
        shortest = 0.8 * way / steps if trigger == "log_snr" else 0.0
        return [max(ranges[1], min(shortest, ranges[2] / 4)), ranges[2]]
    usual = CachePolicy.of(trigger).tau
    return [usual / 100, usual * 100]


def knob(name: str, n: int) -> dict[str, Any]:
    """Return what the browser needs to draw the control of a policy field."""
    meta = next(f.metadata for f in fields(CachePolicy) if f.name == name)
    high = meta["high"]
    if meta["unit"] == "frequency index":
        high = n - 1
    low, high = BAND_RANGE if name == "bands" else (meta["low"], high)
    shown = {key: meta[key] for key in ("label", "help", "unit", "choices", "triggers")}
    return {**shown, "low": low, "high": high}


def instrument_hello(
    reference: Reference,
    checkpoint: str,
    config: SamplerConfig,
    seed: int,
    *,
    way: float,
    solvers: Mapping[str, str],
    socket: str | None,
    pins: Sequence[str] = (),
    spotlight: str | None = None,
) -> bytes:
    """Pack what opens the instrument: the setting, its controls, and real series to draw behind the sample."""
    data, n = reference.dataset, reference.frequencies
    known = {f.name for f in fields(CachePolicy)}
    assert config.policy is not None
    header = {
        "kind": "instrument",
        "socket": socket,
        "spotlight": spotlight,
        "checkpoint": checkpoint,
        "seed": seed,
        "pins": [pin_values(pin) for pin in pins],
        "policy": policy_values(config.policy),
        "solver": config.solver,
        "grid": config.grid,
        "steps": config.steps,
        "n": n,
        "N": data.x.shape[1],
        "M": data.x.shape[2],
        "time": time_axis(data),
        "channels": list(data.channels),
        "units": list(data.units),
        "solvers": dict(solvers),
        "triggers": {
            name: {
                "help": rule.help,
                "meaning": MEANINGS.get(name, sentence(rule.help)),
                "range": threshold_range(name, way, config.steps),
                "base": policy_values(CachePolicy.of(name)),
                "constant": rule.verdict is not None,
            }
            for name, rule in TRIGGERS.items()
        },
        "knobs": {name: knob(name, n) for name in KNOBS if name in known},
    }
    return pack(header, {"fan": reference.fan})
