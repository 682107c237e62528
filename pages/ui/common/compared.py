"""Settings to compare: sampler configurations as short texts for tables and addresses.

The text form of a setting is `policy,tau,R,solver,grid,steps`. The policy is a preset, or `trigger NAME` with further
fields, as in `trigger bands bands=16:0.2/100000:0.6 correct=true`; an empty tau or R leaves the policy's own value. An
address joins settings by semicolons.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from e2crf_core.caching.policy import POLICY_SCHEMA, PRESETS, CachePolicy
from e2crf_core.caching.triggers import deciding
from e2crf_core.diffusion.solvers import ETA, GRIDS, SOLVERS, find_solver
from e2crf_core.errors import LabError
from e2crf_core.sampling.config import SamplerConfig

MOST = 6
STEPS = (2, 2000)
TRIGGER = "trigger "
POLICIES = (*PRESETS, *(TRIGGER + name for name in deciding()))
SOLVER_CHOICES = (*SOLVERS, *(f"{ETA}{eta:g}" for eta in (0.25, 0.5, 0.75)))
"""Solvers offered in the table; the address accepts any eta."""
COLUMNS = ("policy", "tau", "R", "solver", "grid", "steps")
BASE: dict[str, Any] = {
    "policy": "balanced",
    "tau": None,
    "R": None,
    "solver": "euler_maruyama",
    "grid": "linear",
    "steps": 300,
}
DEFAULT = (
    "exact,,,euler_maruyama,linear,300",
    "balanced,,,euler_maruyama,linear,300",
    "paper,,,euler_maruyama,linear,300",
    "exact,,,dpmpp_2m,log_snr,20",
)


def setting_of(cells: Sequence[object]) -> str:
    """Return the text form of table cells in the order of COLUMNS; None is an empty cell."""
    return ",".join("" if v is None else _number(v) if isinstance(v, float) else str(v) for v in cells)


def _number(value: float) -> str:
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def cells_of(setting: str) -> dict[str, str | float | int | None]:
    """Return the table cells of a text form. Raises LabError for any other text."""
    try:
        policy, tau, interval, solver, grid, steps = setting.split(",")
        return {
            "policy": policy,
            "tau": float(tau) if tau else None,
            "R": int(interval) if interval else None,
            "solver": solver,
            "grid": grid,
            "steps": int(steps),
        }
    except ValueError:
        raise LabError(
            f"{setting[:60]!r} is not a setting", remedy=f"write it as {','.join(COLUMNS)}"
        ) from None


def policy_of(name: str, tau: float | None, interval: int | None) -> CachePolicy:
    """Return the policy of a cell with tau and R replaced. Raises LabError."""
    known = name if name in PRESETS else " ".join(name.split()[:2])
    if known not in POLICIES:
        raise LabError(f"unknown policy {name[:60]!r}", remedy=f"use one of {', '.join(POLICIES)}")
    base = PRESETS.get(known) or CachePolicy.of(known.removeprefix(TRIGGER))
    pairs = (part.partition("=") for part in name.removeprefix(known).split())
    changes = {field: _value(text) for field, _, text in pairs}
    changes |= {"tau": tau, "refresh_every": interval}
    fields = asdict(base) | {field: value for field, value in changes.items() if value is not None}
    return CachePolicy.from_json(json.dumps({"schema": POLICY_SCHEMA, **fields}))


def _value(text: str) -> Any:
    """Read the value of a policy's field: bands, a JSON value, or a word."""
    try:
        if ":" in text:
            return [[json.loads(number) for number in band.split(":")] for band in text.split("/")]
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def text_of(config: SamplerConfig) -> str:
    """Return the text form of a configuration. Raises LabError for one that has none, such as one without a cache."""
    policy = config.policy
    if policy is None:
        raise LabError("a setting without a policy has no text", remedy="use the preset exact")
    name = next((name for name, preset in PRESETS.items() if preset == policy), None)
    tau = interval = None
    if name is None:
        base = CachePolicy.of(policy.trigger)
        changes = {f: value for f, value in asdict(policy).items() if value != asdict(base)[f]}
        tau, interval = changes.pop("tau", None), changes.pop("refresh_every", None)
        changes.pop("trigger", None)
        name = " ".join([TRIGGER + policy.trigger, *(f"{f}={_text(value)}" for f, value in changes.items())])
    text = setting_of((name, tau, interval, config.solver, config.grid, config.steps))
    if config_of(text).policy != policy:
        raise LabError("this setting cannot be written as a row of the table")
    return text


def _text(value: Any) -> str:
    """Write the value of a policy's field as `_value` reads it."""
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return "/".join(f"{edge}:{tau!r}" for edge, tau in value)
    return json.dumps(value)


def config_of(setting: str) -> SamplerConfig:
    """Return the sampler configuration of a text form. Raises LabError when it cannot run."""
    cells = cells_of(setting)
    solver, grid, steps = str(cells["solver"]), str(cells["grid"]), int(cells["steps"] or 0)
    policy = policy_of(str(cells["policy"]), cells["tau"], cells["R"])  # type: ignore[arg-type]
    find_solver(solver)
    if grid not in GRIDS:
        raise LabError(f"unknown time grid {grid!r}", remedy=f"use one of {', '.join(GRIDS)}")
    if not STEPS[0] <= steps <= STEPS[1]:
        raise LabError(f"{steps} steps are out of range", remedy=f"use {STEPS[0]} to {STEPS[1]}")
    return SamplerConfig(policy, steps, solver, grid)


def settings_of(text: str) -> tuple[str, ...]:
    """Return the settings in an address. Raises LabError for one that cannot run."""
    settings = tuple(text.split(";")[:MOST])
    for setting in settings:
        config_of(setting)
    return settings


def name_of(setting: str) -> str:
    """Return the name of a setting in legends."""
    cells = cells_of(setting)
    changes = "".join(
        f" {letter}={cells[c]:g}" for letter, c in (("τ", "tau"), ("R", "R")) if cells[c] is not None
    )
    grid = "" if cells["grid"] == "linear" else f" {cells['grid']}"
    policy = str(cells["policy"]).removeprefix(TRIGGER)
    return f"{policy}{changes}, {cells['solver']}{grid}, {cells['steps']}"
