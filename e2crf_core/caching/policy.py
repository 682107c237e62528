"""Define CachePolicy, which decides which tokens are recomputed: frozen, validated, one object per change.

Each field's metadata (label, help, unit, range, whether it may change during a run, choices, triggers that
read it) is the single source for validation, widgets, documentation, and the tuner's search space.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, create_model

from e2crf_core.caching import published as _published  # noqa: F401 (registers its triggers)
from e2crf_core.caching.triggers import TRIGGERS, Trigger
from e2crf_core.errors import LabError

POLICY_SCHEMA = 1
PREDICTORS = ("hold", "linear", "quadratic", "hermite")
CLOCKS = ("log_snr", "profile")


class PolicyError(LabError):
    """A policy that cannot run; `faults` lists every problem with it."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("policy: " + "; ".join(faults))


class FieldInfo(Mapping[str, Any]):
    """The metadata of one policy field. `triggers` and the choices of `trigger` follow the registry."""

    def __init__(self, name: str, **values: Any) -> None:
        self._name, self._values = name, values

    def __getitem__(self, key: str) -> Any:
        """Return one entry; `triggers` lists the names of the rules that read the field."""
        if key == "triggers":
            return tuple(
                t for t, rule in TRIGGERS.items() if self._name == "trigger" or self._name in rule.reads
            )
        if key == "choices" and self._name == "trigger":
            return tuple(TRIGGERS)
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the entries."""
        return iter((*self._values, "triggers"))

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._values) + 1


def _field(
    name: str,
    default: Any,
    label: str,
    help: str,
    low: float | None = None,
    high: float | None = None,
    *,
    unit: str = "",
    log: bool = False,
    live: bool = True,
    choices: tuple[str, ...] = (),
) -> Any:
    """Return a dataclass field that carries its own metadata."""
    info = FieldInfo(
        name, label=label, help=help, low=low, high=high, unit=unit, log=log, live=live, choices=choices
    )
    return field(default=default, metadata=info)


@dataclass(frozen=True)
class CachePolicy:
    """A policy for when to recompute which token (E5) and how to use what a recompute shows (E7).

    Raises PolicyError that lists every fault when a value is out of range.
    """

    trigger: str = _field("trigger", "log_snr", "Trigger", "rule that decides what is recomputed")
    tau: float = _field(
        "tau",
        0.2,
        "Threshold tau",
        "an event happens where the trigger's score exceeds tau; larger means fewer recomputes",
        1e-8,
        1e4,
        log=True,
    )
    detail: float = _field(
        "detail",
        0.0,
        "Detail",
        "how errors count: 0 in units of the data, 1 relative to each frequency's own strength, so that weak high"
        " frequencies count like strong low ones",
        0.0,
        1.0,
    )
    bands: tuple[tuple[int, float], ...] = _field(
        "bands",
        ((16, 0.15), (100000, 0.6)),
        "Bands",
        "pairs (first token above the band, interval in log(a/s)), low frequencies first",
        1e-4,
        100.0,
        unit="log SNR",
        log=True,
    )
    clock: str = _field(
        "clock",
        "log_snr",
        "Clock",
        "what intervals are measured and outputs are predicted on: log(a/s), or log(a/s) stretched where this"
        " checkpoint's output was measured to change fast",
        choices=CLOCKS,
    )
    start: float = _field(
        "start",
        0.0,
        "Late start",
        "no network call before log(a/s) has moved this far from the beginning of the run; until then F = 0, which is"
        " exact for Gaussian data; 0 starts at once",
        0.0,
        20.0,
        unit="log SNR",
    )
    k_low: int = _field(
        "k_low",
        -1,
        "Cutoff K",
        "tokens 0..K are recomputed at every step; -1 for none",
        -1,
        4096,
        unit="frequency index",
    )
    refresh_every: int = _field(
        "refresh_every",
        0,
        "Refresh interval R",
        "refresh all tokens after R steps; 0 for never",
        0,
        2000,
        unit="steps",
    )
    probe_share: float = _field(
        "probe_share",
        0.0,
        "Random probes",
        "share of the tokens above K recomputed at random each step",
        0.0,
        1.0,
    )
    energy_weighting: bool = _field(
        "energy_weighting", True, "Energy weighting", "weigh a token's drift by its energy"
    )
    energy_eps: float = _field(
        "energy_eps", 1e-6, "Energy floor eps", "added to a token's energy", 1e-12, 1.0, log=True
    )
    tau_safe: float = _field(
        "tau_safe",
        0.0,
        "Safe level tau_safe",
        "event intensity r below it buys one step without work; 0 is off",
        0,
        10,
    )
    tau_warn: float = _field(
        "tau_warn",
        0.0,
        "Warning level tau_warn",
        "event intensity r above it refreshes all tokens; 0 is off",
        0,
        10,
    )
    alpha: float = _field(
        "alpha",
        0.1,
        "Feedback gain alpha",
        "upper bound of min(alpha, r/2), the gain of error feedback",
        0.0,
        1.0,
    )
    correct: bool = _field(
        "correct", False, "Correct", "error feedback: correct reused features by measured residuals"
    )
    adapt: bool = _field(
        "adapt", False, "Adapt tau", "error feedback: move tau until the measured residual meets the budget"
    )
    error_budget: float = _field(
        "error_budget",
        0.1,
        "Error budget",
        "error of the denoised estimate found at a recompute, relative to the data's scale, that adaptation aims for",
        1e-4,
        10.0,
        log=True,
    )
    predictor: str = _field(
        "predictor",
        "hold",
        "Predictor",
        "how a reused output continues between recomputes, on the clock: hermite is a damped quadratic",
        choices=PREDICTORS,
    )
    predictor_split: int = _field(
        "predictor_split",
        0,
        "Predictor split",
        "tokens from this one on follow the predictor of high frequencies; 0: all follow the same",
        0,
        4096,
        unit="frequency index",
    )
    predictor_above: str = _field(
        "predictor_above",
        "hold",
        "Predictor of high frequencies",
        "how reused outputs from the split on continue between recomputes",
        choices=PREDICTORS,
    )

    def __post_init__(self) -> None:
        """Validate every field against its metadata, then the fields in combination."""
        faults = _faults_of(lambda schema: schema.model_validate({"schema": POLICY_SCHEMA, **vars(self)}))
        if not faults:
            faults = self.rule.faults(self)
            if 0 < self.tau_warn <= self.tau_safe:
                faults = [*faults, f"tau_warn {self.tau_warn} must exceed tau_safe {self.tau_safe}"]
        if faults:
            raise PolicyError(faults)

    @property
    def rule(self) -> Trigger:
        """Return the trigger object that `trigger` names."""
        return TRIGGERS[self.trigger]

    @property
    def scheduled(self) -> bool:
        """Return whether the clock alone decides, so that all network calls are known before a run."""
        adapts = self.adapt and "adapt" in self.rule.reads
        shown = self.probe_share or self.tau_safe or self.tau_warn or adapts
        return self.rule.depends == "clock" and (self.rule.verdict is not None or not shown)

    @property
    def predicts(self) -> bool:
        """Return whether any reused output is extrapolated rather than held."""
        return self.predictor != "hold" or (self.predictor_split > 0 and self.predictor_above != "hold")

    def replace(self, **changes: Any) -> CachePolicy:
        """Return a new policy with some fields changed."""
        unknown = changes.keys() - {f.name for f in fields(self)}
        if unknown:
            raise PolicyError([f"unknown field {name!r}" for name in sorted(unknown)])
        return replace(self, **changes)

    @staticmethod
    def of(trigger: str) -> CachePolicy:
        """Return a sensible policy for a trigger in `TRIGGERS`. Raises PolicyError for an unknown name."""
        return CachePolicy(trigger=trigger, **(TRIGGERS[trigger].base if trigger in TRIGGERS else {}))

    @staticmethod
    def preset(name: str) -> CachePolicy:
        """Return one of the named policies. Raises LabError for an unknown name."""
        return find_preset(name, PRESETS)

    def to_json(self) -> str:
        """Return JSON text with a schema version; `from_json` restores an equal policy."""
        return json.dumps({"schema": POLICY_SCHEMA, **asdict(self)}, indent=1)

    @staticmethod
    def from_json(text: str | bytes) -> CachePolicy:
        """Read the output of `to_json`; missing fields take their defaults.

        Raises PolicyError that lists all unknown, mistyped and out-of-range fields.
        """
        stored: list[BaseModel] = []
        faults = _faults_of(lambda schema: stored.append(schema.model_validate_json(text)))
        if faults:
            raise PolicyError(faults)
        return CachePolicy(**stored[0].model_dump(exclude={"schema_"}))


def _known_trigger(name: str) -> str:
    if name not in TRIGGERS:
        raise ValueError(f"{name!r} is none of {', '.join(TRIGGERS)}")
    return name


def _increasing(bands: tuple[tuple[int, float], ...]) -> tuple[tuple[int, float], ...]:
    edges = [edge for edge, _ in bands]
    if edges != sorted(set(edges)):
        raise ValueError(f"edges {edges} must increase")
    return bands


@lru_cache(maxsize=1)
def policy_schema() -> type[BaseModel]:
    """Return the policy's fields as a strict pydantic model without extra fields, from their metadata."""
    shapes: dict[str, Any] = {"schema_": (Literal[1], Field(alias="schema"))}
    for f in fields(CachePolicy):
        limits = Field(ge=f.metadata["low"], le=f.metadata["high"])
        kind: Any
        if f.name == "trigger":
            kind = Annotated[str, AfterValidator(_known_trigger)]
        elif f.name == "bands":
            pair = tuple[Annotated[int, Field(ge=1)], Annotated[float, limits]]
            kind = Annotated[tuple[pair, ...], Field(min_length=1), AfterValidator(_increasing)]
        elif f.metadata["choices"]:
            kind = Literal[f.metadata["choices"]]
        else:
            kind = {"bool": bool, "int": Annotated[int, limits], "float": Annotated[float, limits]}[
                str(f.type)
            ]
        shapes[f.name] = (kind, f.default)
    config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)
    return create_model("Policy", __config__=config, **shapes)


def _faults_of(validate: Callable[[type[BaseModel]], object]) -> list[str]:
    """Return every fault that a validation finds, one short line each."""
    try:
        validate(policy_schema())
    except ValidationError as fault:
        return [_worded(each) for each in fault.errors(include_url=False)]
    return []


def _worded(fault: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"unknown field {where!r} (known: {', '.join(f.name for f in fields(CachePolicy))})"
    message = " ".join(fault["msg"].removeprefix("Value error, ").split())
    if not where:
        return message
    shown = fault["type"] != "value_error" and not isinstance(fault["input"], dict)
    return f"{where}: {message}" + (f", not {fault['input']!r:.60}" if shown else "")


PRESETS: dict[str, CachePolicy] = {
    "exact": CachePolicy(trigger="always"),
    "quality": CachePolicy(trigger="log_snr", tau=0.06, clock="profile", predictor="linear"),
    "balanced": CachePolicy(trigger="log_snr", tau=0.2, clock="profile", predictor="linear"),
    "fast": CachePolicy(trigger="log_snr", tau=0.45, clock="profile", predictor="linear"),
    # For dpmpp_2m on the profile grid with 40 steps: 5 network calls, with predictions for the steps between
    # them.
    "multistep": CachePolicy(trigger="log_snr", tau=1.8, clock="profile", predictor="linear"),
    "paper": CachePolicy.of("paper"),
    "paper_literal": CachePolicy.of("paper_literal"),
}


def find_preset(name: str, presets: Mapping[str, CachePolicy]) -> CachePolicy:
    """Return one of some presets by name. Raises LabError for an unknown name."""
    if name not in presets:
        raise LabError(
            f"unknown policy {name!r}",
            field="policy",
            remedy=f"use one of {', '.join(presets)}, or a JSON file",
        )
    return presets[name]
