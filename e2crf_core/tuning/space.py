"""Define what a study searches: solver, grid, steps, and policy fields, read from the policy's metadata.

Metadata ranges define valid values; a search needs the much smaller part in which a value can matter for this
model. `measure_ranges` finds it: thresholds between the scores that a short run actually shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Protocol

import numpy as np

from e2crf_core.caching.policy import PRESETS, CachePolicy
from e2crf_core.caching.triggers import TRIGGERS, deciding
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.diffusion.solvers import GRIDS, MAX_STEPS, fewest_steps, find_solver
from e2crf_core.errors import LabError
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.sampler import Sampler

FEWEST_CALLS = 3
"""Network calls below which samples are close to those of the model without its network."""
NONE = "none"
"""The search's name for no cache: the plain solver."""

FIELDS = {f.name: f for f in fields(CachePolicy)}
SEARCHABLE = tuple(name for name in FIELDS if name != "trigger")
MAIN_FIELDS = (
    "tau",
    "bands",
    "clock",
    "start",
    "refresh_every",
    "k_low",
    "predictor",
    "adapt",
    "error_budget",
)
LAST_BAND = 100_000

# A field's value when its feature is off, and the range searched when it is on.
OFF: dict[str, float] = {
    "start": 0.0,
    "refresh_every": 0,
    "probe_share": 0.0,
    "tau_safe": 0.0,
    "tau_warn": 0.0,
    "predictor_split": 0,
}
_ON_RANGES = {
    "start": (0.3, 5.0),
    "probe_share": (0.002, 0.2),
    "tau_safe": (1e-3, 1.0),
    "tau_warn": (1e-2, 10.0),
}
# Fields that matter only if another one is set.
NEEDS = {
    "alpha": "correct",
    "error_budget": "adapt",
    "energy_eps": "energy_weighting",
    "predictor_above": "predictor_split",
}
_NARROW = {"error_budget": (1e-2, 1.0), "energy_eps": (1e-8, 1e-2)}


class Suggest(Protocol):
    """The source of a search's values; an optuna trial satisfies it."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...
    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...
    def suggest_categorical(self, name: str, choices: Any) -> Any: ...


@dataclass(frozen=True)
class SearchSpace:
    """The triggers, policy fields, solvers, grids, and step range from which a study may choose.

    `ranges` maps (trigger, field) to the part of a field's valid range in which it can matter, `tokens` is n.
    Fields that are not searched keep the value of the trigger's preset, or their default. A single solver,
    grid, or steps range of one value is not searched. Triggers that need a calibration for each plan are searched
    only when they are named.
    """

    tokens: int
    triggers: tuple[str, ...] = (NONE, *(name for name in deciding() if not TRIGGERS[name].calibrated))
    fields: tuple[str, ...] = MAIN_FIELDS
    solvers: tuple[str, ...] = ("euler_maruyama", "dpmpp_2m", "sde_dpmpp_2m", "ddim", "unipc_2", "etd_ab2")
    grids: tuple[str, ...] = ("linear", "log_snr", "profile")
    steps: tuple[int, int] = (4, 1000)
    ranges: Mapping[tuple[str, str], tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Reject unknown names; list the valid ones."""
        for what, given, known in (
            ("trigger", self.triggers, (NONE, *deciding())),
            ("policy field", self.fields, SEARCHABLE),
            ("time grid", self.grids, tuple(GRIDS)),
        ):
            unknown = [name for name in given if name not in known]
            if unknown:
                raise LabError(f"unknown {what} {unknown[0]!r}: use one of {', '.join(known)}")
            if not given and what != "policy field":
                raise LabError(f"a search needs at least one {what}")
        if not self.solvers:
            raise LabError("a search needs at least one solver")
        for name in self.solvers:
            find_solver(name)
        low, high = self.steps
        if not 3 <= low <= high <= MAX_STEPS:
            raise LabError(f"steps {low} to {high}: a range within 3 to {MAX_STEPS} is expected")

    @property
    def one_plan(self) -> bool:
        """Return whether solver, grid, and steps are fixed, so that all trials share an uncached twin."""
        return len(self.solvers) == len(self.grids) == 1 and self.steps[0] == self.steps[1]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        ranges = {f"{trigger}.{name}": list(r) for (trigger, name), r in self.ranges.items()}
        return {**asdict(self), "ranges": ranges}

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> SearchSpace:
        """Invert `to_json`."""
        ranges = {tuple(key.split(".")): (r[0], r[1]) for key, r in stored["ranges"].items()}
        lists = {name: tuple(stored[name]) for name in ("triggers", "fields", "solvers", "grids", "steps")}
        return SearchSpace(tokens=int(stored["tokens"]), ranges=ranges, **lists)

    def suggest(self, trial: Suggest) -> SamplerConfig:
        """Return a setting from a trial's values, named `field`, or `trigger.field` for dependent ranges."""
        solver = trial.suggest_categorical("solver", list(self.solvers))
        grid = trial.suggest_categorical("grid", list(self.grids))
        steps = trial.suggest_int("steps", *self.steps, log=True)
        trigger = trial.suggest_categorical("trigger", list(self.triggers))
        steps = fit_steps(solver, steps)
        policy = None if trigger == NONE else self._policy(trial, trigger, steps)
        return SamplerConfig(policy, steps, solver, grid)

    def params(self, setting: SamplerConfig) -> dict[str, Any] | None:
        """Return the values from which `suggest` makes this setting, or None if it is outside the space."""
        recorder = _Reader(self, setting)
        try:
            made = self.suggest(recorder)
        except _Outside:
            return None
        return recorder.values if made == setting else None

    def _policy(self, trial: Suggest, trigger: str, steps: int) -> CachePolicy:
        base = base_policy(trigger)
        values: dict[str, Any] = {}
        for name in SEARCHABLE:
            meta = FIELDS[name].metadata
            if name not in self.fields or trigger not in meta["triggers"]:
                continue
            switch = NEEDS.get(name)
            if switch and not values.get(switch, getattr(base, switch)):
                continue
            values[name] = self._field(trial, trigger, name)
        if values.get("tau_warn") and values.get("tau_safe", base.tau_safe) >= values["tau_warn"]:
            values["tau_warn"] = OFF["tau_warn"]
        return fit_policy(base.replace(**values), steps)

    def _field(self, trial: Suggest, trigger: str, name: str) -> Any:
        meta, kind, full = FIELDS[name].metadata, FIELDS[name].type, f"{trigger}.{name}"
        if name == "bands":
            low, high = self.range(trigger, "bands")
            edge = trial.suggest_int(f"{full}.edge", 1, max(1, self.tokens - 1), log=True)
            first = trial.suggest_float(f"{full}.low", low, high, log=True)
            return (edge, first), (LAST_BAND, trial.suggest_float(f"{full}.high", low, high, log=True))
        if kind == "bool":
            return trial.suggest_categorical(full, [False, True])
        if meta["choices"]:
            return trial.suggest_categorical(full, list(meta["choices"]))
        low, high = self.range(trigger, name)
        if name in OFF and name not in TRIGGERS[trigger].needs:
            if not trial.suggest_categorical(f"{full}.on", [False, True]):
                return OFF[name]
            log = True
        else:
            log = bool(meta["log"]) or name == "refresh_every"
        if kind == "int":
            return trial.suggest_int(full, int(low), int(high), log=log)
        return trial.suggest_float(full, low, high, log=log)

    def range(self, trigger: str, name: str) -> tuple[float, float]:
        """Return the searched range of a numeric field for a trigger."""
        if (trigger, name) in self.ranges:
            return self.ranges[trigger, name]
        meta = FIELDS[name].metadata
        if name == "refresh_every":
            return 2, max(4, self.steps[1])
        if name == "predictor_split":
            return 1, max(2, self.tokens - 1)
        if name == "k_low":
            return -1, max(1, self.tokens // 2)
        return _ON_RANGES.get(name) or _NARROW.get(name) or (meta["low"], meta["high"])


class _Outside(Exception):
    """A setting has a value outside the space."""


class _Reader:
    """A trial that answers with the values of a setting, and remembers what was requested."""

    def __init__(self, space: SearchSpace, setting: SamplerConfig) -> None:
        self.space, self.setting = space, setting
        self.values: dict[str, Any] = {}

    def _of(self, name: str) -> Any:
        setting = self.setting
        if name in ("solver", "grid", "steps"):
            return getattr(setting, name)
        if name == "trigger":
            return NONE if setting.policy is None else setting.policy.trigger
        _, key, *part = name.split(".")
        value = getattr(setting.policy, key)
        if not part:
            return value
        if part[0] == "on":
            return value != OFF[key]
        if len(value) != 2:
            raise _Outside
        return {"edge": value[0][0], "low": value[0][1], "high": value[1][1]}[part[0]]

    def _keep(self, name: str, inside: bool, value: Any) -> Any:
        if not inside:
            raise _Outside
        self.values[name] = value
        return value

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        value = float(self._of(name))
        return self._keep(name, low <= value <= high, value)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        value = self._of(name)
        return self._keep(name, low <= value <= high, value)

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        value = self._of(name)
        return self._keep(name, value in choices, value)


def base_policy(trigger: str) -> CachePolicy:
    """Return the values of fields that are not searched: the trigger's preset if it differs beyond tau."""
    return CachePolicy.of(trigger)


def unfit(config: SamplerConfig) -> str | None:
    """Why a configuration cannot be what its policy says: its refresh interval exceeds its steps. None if it can."""
    policy = config.policy
    if policy is None or policy.refresh_every <= config.steps:
        return None
    return f"it refreshes every {policy.refresh_every} steps, but has only {config.steps}"


def idle(config: SamplerConfig, token_share: float) -> list[tuple[str, str]]:
    """Return (kind, text) of what a measured share of tokens shows: no reuse, hardly any call, a refresh too late."""
    notes, calls = [], token_share * config.steps
    if config.policy is not None and token_share > 0.999:
        notes.append(
            (
                "no_reuse",
                f"this policy reuses nothing at {config.steps} steps: take more steps, a larger threshold, or no cache",
            )
        )
    if calls < FEWEST_CALLS:
        notes.append(
            (
                "few_calls",
                f"the network runs only {calls:.3g} times: with fewer than {FEWEST_CALLS} calls a cache never engages,"
                " and samples are close to those of a Gaussian",
            )
        )
    reason = unfit(config)
    return (
        notes
        if reason is None
        else [*notes, ("idle_refresh", f"the policy cannot do what it says: {reason}")]
    )


def fit_policy(policy: CachePolicy, steps: int) -> CachePolicy:
    """The policy, its refresh interval cut to a third of the run where the run would end before the first refresh."""
    return policy if policy.refresh_every <= steps else policy.replace(refresh_every=max(2, steps // 3))


def fit_steps(solver: str, steps: int) -> int:
    """Return the nearest number of network calls that the solver can make: Heun needs an odd one."""
    steps = max(fewest_steps(solver), steps)
    return steps - 1 + steps % 2 if solver == "heun" else steps


def measure_ranges(
    model: ScoreModel, *, steps: int = 60, num: int = 2, seed: int = 0
) -> dict[tuple[str, str], tuple[float, float]]:
    """Measure the ranges of tau and bands in which a threshold matters for this model.

    Below the smallest score everything is an event at once; above the largest nothing ever is. Scores come
    from a short run that refreshes periodically. Triggers on the clock need no run: their scores are
    stretches of log(a/s), from a small part of the whole way up to a quarter of it. Presets are kept inside.
    """
    schedule = model.schedule
    way = schedule.log_snr(schedule.t_min) - schedule.log_snr(1.0)
    limits = FIELDS["tau"].metadata
    ranges: dict[tuple[str, str], tuple[float, float]] = {}
    for trigger in deciding():
        known = TRIGGERS[trigger].search_range(way)
        if known is not None:
            ranges[trigger, known[0]] = known[1:]
        if known is not None or "tau" not in TRIGGERS[trigger].reads:
            continue
        # So high that only the interval decides, while the trigger scores every token.
        probe = CachePolicy(trigger=trigger, tau=limits["high"], refresh_every=max(2, steps // 6))
        scores = _scores(Sampler(model, probe, steps=steps), num, seed)
        low, high = np.quantile(scores, [0.1, 0.999]) if len(scores) else (1e-3, 1.0)
        low = min(max(float(low), limits["low"]), limits["high"] / 10)
        ranges[trigger, "tau"] = low, min(max(float(high), 10 * low), limits["high"])
    for preset in PRESETS.values():
        key = preset.trigger, "tau"
        if key in ranges:
            low, high = ranges[key]
            ranges[key] = min(low, preset.tau), max(high, preset.tau)
    return ranges


def _scores(sampler: Sampler, num: int, seed: int) -> np.ndarray:
    """Return all positive finite event scores of a run."""
    scores = np.concatenate([step.info.score.numpy().ravel() for step in sampler.steps(num, seed)])
    return scores[np.isfinite(scores) & (scores > 0)]


def starting_points(space: SearchSpace, reference: SamplerConfig) -> list[tuple[str, SamplerConfig]]:
    """Return (origin, setting) of what is tried first, as far as the space contains it.

    Every preset with the reference's solver and steps, the multistep one with its own too; then the solvers
    alone, the rivals of any cache.
    """
    found = [
        (f"preset {name}", replace(reference, policy=fit_policy(policy, reference.steps)))
        for name, policy in PRESETS.items()
        if policy.trigger != "always"
    ]
    found.append(("preset multistep", SamplerConfig(PRESETS["multistep"], 40, "dpmpp_2m", "profile")))
    for solver in space.solvers:
        grid = "linear" if solver == "euler_maruyama" and "linear" in space.grids else space.grids[-1]
        found += [
            ("solver alone", SamplerConfig(None, fit_steps(solver, steps), solver, grid)) for steps in (8, 20)
        ]
    found.append(("trigger nested", replace(reference, policy=CachePolicy.of("nested"))))
    points: list[tuple[str, SamplerConfig]] = []
    for origin, setting in found:
        if space.params(setting) is not None and all(setting != known for _, known in points):
            points.append((origin, setting))
    return points
