"""CachePolicy: what decides which tokens are recomputed. Frozen, validated, one object per change.

Each field's metadata (label, unit, range, whether it may change during a run, the triggers it acts in) is the
single source for widgets, documentation and the tuner's search space.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from e2crf_core.errors import LabError

POLICY_SCHEMA = 1
TRIGGERS = ("paper", "gain", "log_snr", "bands", "rate", "fixed", "always", "never")
DECIDING = TRIGGERS[:6]
PREDICTORS = ("hold", "linear", "quadratic", "hermite")
CLOCKS = ("log_snr", "profile")

TRIGGER_HELP = {
    "paper": "published rule: drift of a token against tau_0 / (eps + |X|²), refresh every R, warnings on r",
    "gain": "drift of a token times its measured gain and its influence on the step",
    "log_snr": "refresh all tokens when log(a/s) has moved by tau since the last refresh",
    "bands": "each frequency band has its own log(a/s) interval",
    "rate": "refresh a sample when its measured rate of change times the log(a/s) moved exceeds tau",
    "fixed": "refresh all tokens every R steps",
    "always": "recompute everything at every step (no cache)",
    "never": "compute once, then reuse to the end",
}


class PolicyError(LabError):
    """A policy that cannot run; `faults` lists everything that is wrong with it."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("policy: " + "; ".join(faults))


def _meta(
    label: str,
    help: str,
    low: float | None = None,
    high: float | None = None,
    *,
    unit: str = "",
    log: bool = False,
    live: bool = True,
    choices: tuple[str, ...] = (),
    triggers: tuple[str, ...] = DECIDING,
) -> dict[str, Any]:
    return {
        "label": label,
        "help": help,
        "low": low,
        "high": high,
        "unit": unit,
        "log": log,
        "live": live,
        "choices": choices,
        "triggers": triggers,
    }


@dataclass(frozen=True)
class CachePolicy:
    """When to recompute which token (E5) and what to do with what a recompute teaches (E7).

    Raises PolicyError with every fault listed when a value is out of its range.
    """

    trigger: str = field(
        default="log_snr",
        metadata=_meta(
            "Trigger", "rule that decides what is recomputed", choices=TRIGGERS, triggers=TRIGGERS
        ),
    )
    tau: float = field(
        default=0.2,
        metadata=_meta(
            "Threshold tau",
            "an event happens where the trigger's score exceeds tau; larger means fewer recomputes",
            1e-8,
            1e4,
            log=True,
            triggers=("paper", "gain", "log_snr", "rate"),
        ),
    )
    bands: tuple[tuple[int, float], ...] = field(
        default=((16, 0.15), (100000, 0.6)),
        metadata=_meta(
            "Bands",
            "pairs (first token above the band, interval in log(a/s)), low frequencies first",
            1e-4,
            100.0,
            unit="log SNR",
            log=True,
            triggers=("bands",),
        ),
    )
    clock: str = field(
        default="log_snr",
        metadata=_meta(
            "Clock",
            "what intervals are measured and outputs are predicted on: log(a/s), or log(a/s) stretched where this"
            " checkpoint's output was measured to change fast",
            choices=CLOCKS,
        ),
    )
    k_low: int = field(
        default=-1,
        metadata=_meta(
            "Cutoff K",
            "tokens 0..K are recomputed at every step; -1 for none",
            -1,
            4096,
            unit="frequency index",
        ),
    )
    refresh_every: int = field(
        default=0,
        metadata=_meta(
            "Refresh interval R", "refresh all tokens after R steps; 0 for never", 0, 2000, unit="steps"
        ),
    )
    probe_share: float = field(
        default=0.0,
        metadata=_meta(
            "Random probes", "share of the tokens above K recomputed at random each step", 0.0, 1.0
        ),
    )
    energy_weighting: bool = field(
        default=True,
        metadata=_meta("Energy weighting", "weigh a token's drift by its energy", triggers=("paper",)),
    )
    energy_eps: float = field(
        default=1e-6,
        metadata=_meta(
            "Energy floor eps", "added to a token's energy", 1e-12, 1.0, log=True, triggers=("paper",)
        ),
    )
    tau_safe: float = field(
        default=0.0,
        metadata=_meta(
            "Safe level tau_safe", "event intensity r below it buys one step without work; 0 is off", 0, 10
        ),
    )
    tau_warn: float = field(
        default=0.0,
        metadata=_meta(
            "Warning level tau_warn", "event intensity r above it refreshes all tokens; 0 is off", 0, 10
        ),
    )
    alpha: float = field(
        default=0.1,
        metadata=_meta(
            "Feedback gain alpha", "upper bound of min(alpha, r/2), the gain of error feedback", 0.0, 1.0
        ),
    )
    correct: bool = field(
        default=False,
        metadata=_meta("Correct", "error feedback: correct reused features by measured residuals"),
    )
    adapt: bool = field(
        default=False,
        metadata=_meta(
            "Adapt tau",
            "error feedback: move tau until the measured residual meets the budget",
            triggers=("paper", "gain", "log_snr", "bands", "rate"),
        ),
    )
    error_budget: float = field(
        default=0.1,
        metadata=_meta(
            "Error budget",
            "error of the denoised estimate found at a recompute, relative to the data's scale,"
            " that adaptation aims for",
            1e-4,
            10.0,
            log=True,
            triggers=("paper", "gain", "log_snr", "bands", "rate"),
        ),
    )
    predictor: str = field(
        default="hold",
        metadata=_meta(
            "Predictor",
            "how a reused output continues between recomputes, on the clock: hermite is a damped quadratic",
            choices=PREDICTORS,
        ),
    )
    predictor_split: int = field(
        default=0,
        metadata=_meta(
            "Predictor split",
            "tokens from this one on follow the predictor of high frequencies; 0: all follow the same",
            0,
            4096,
            unit="frequency index",
        ),
    )
    predictor_above: str = field(
        default="hold",
        metadata=_meta(
            "Predictor of high frequencies",
            "how reused outputs from the split on continue between recomputes",
            choices=PREDICTORS,
        ),
    )

    def __post_init__(self) -> None:
        """Validate every field against its metadata, then what the fields mean together."""
        faults = []
        for f in fields(self):
            faults += _faults(f.name, getattr(self, f.name), f.type, f.metadata)
        if not faults:
            if self.trigger == "fixed" and self.refresh_every < 1:
                faults.append("refresh_every: trigger 'fixed' needs an interval R of at least 1 step")
            if 0 < self.tau_warn <= self.tau_safe:
                faults.append(f"tau_warn {self.tau_warn} must exceed tau_safe {self.tau_safe}")
        if faults:
            raise PolicyError(faults)

    @property
    def predicts(self) -> bool:
        """Whether any reused output is continued rather than held."""
        return self.predictor != "hold" or (self.predictor_split > 0 and self.predictor_above != "hold")

    def replace(self, **changes: Any) -> CachePolicy:
        """A whole new policy with some fields changed."""
        unknown = changes.keys() - {f.name for f in fields(self)}
        if unknown:
            raise PolicyError([f"unknown field {name!r}" for name in sorted(unknown)])
        return replace(self, **changes)

    @staticmethod
    def preset(name: str) -> CachePolicy:
        """One of the named policies. Raises LabError for an unknown name."""
        if name not in PRESETS:
            raise LabError(f"unknown policy preset {name!r}: use one of {', '.join(PRESETS)}, or a JSON file")
        return PRESETS[name]

    def to_json(self) -> str:
        """JSON text with a schema version; `from_json` restores an equal policy."""
        return json.dumps({"schema": POLICY_SCHEMA, **asdict(self)}, indent=1)

    @staticmethod
    def from_json(text: str) -> CachePolicy:
        """Read `to_json`'s output. Raises PolicyError that lists unknown, mistyped and out-of-range fields."""
        try:
            stored = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as fault:
            raise PolicyError([f"not JSON: {fault}"]) from None
        if not isinstance(stored, dict):
            raise PolicyError([f"a JSON object is expected, not {type(stored).__name__}"])
        faults = []
        schema = stored.pop("schema", None)
        if schema != POLICY_SCHEMA:
            faults.append(f"schema {schema!r}: this version reads {POLICY_SCHEMA}")
        known = {f.name: f for f in fields(CachePolicy)}
        values: dict[str, Any] = {}
        for name, value in stored.items():
            if name not in known:
                faults.append(f"unknown field {name!r} (known: {', '.join(known)})")
                continue
            if name == "bands" and isinstance(value, list):
                value = tuple(tuple(pair) if isinstance(pair, list) else pair for pair in value)
            found = _faults(name, value, known[name].type, known[name].metadata)
            faults += found
            if not found:
                values[name] = float(value) if known[name].type == "float" else value
        if faults:
            try:
                CachePolicy(**values)
            except PolicyError as also:
                faults += also.faults
            raise PolicyError(faults)
        return CachePolicy(**values)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _faults(name: str, value: Any, kind: Any, meta: Any) -> list[str]:
    """What is wrong with one field's value, one line each."""
    low, high = meta["low"], meta["high"]
    if name == "bands":
        return _band_faults(value, low, high)
    if kind == "bool":
        return [] if isinstance(value, bool) else [f"{name}: true or false expected, not {value!r}"]
    if kind == "str":
        return (
            [] if value in meta["choices"] else [f"{name}: {value!r} is none of {', '.join(meta['choices'])}"]
        )
    if not _is_number(value) or (kind == "int" and not isinstance(value, int)):
        return [f"{name}: a {'whole ' if kind == 'int' else ''}number expected, not {value!r}"]
    if not low <= value <= high:
        return [f"{name}: {value!r} is outside [{low:g}, {high:g}]"]
    return []


def _band_faults(value: Any, low: float, high: float) -> list[str]:
    pairs = isinstance(value, tuple) and all(isinstance(p, tuple) and len(p) == 2 for p in value)
    if not pairs or not value:
        return ["bands: a list of pairs [first token above the band, interval] expected"]
    faults = []
    for edge, tau in value:
        if not isinstance(edge, int) or isinstance(edge, bool) or edge < 1:
            faults.append(f"bands: edge {edge!r} must be a whole number of at least 1")
        if not _is_number(tau) or not low <= tau <= high:
            faults.append(f"bands: interval {tau!r} is outside [{low:g}, {high:g}]")
    edges = [edge for edge, _ in value]
    if not faults and edges != sorted(set(edges)):
        faults.append(f"bands: edges {edges} must increase")
    return faults


PRESETS: dict[str, CachePolicy] = {
    "exact": CachePolicy(trigger="always"),
    "quality": CachePolicy(trigger="log_snr", tau=0.06, clock="profile", predictor="linear"),
    "balanced": CachePolicy(trigger="log_snr", tau=0.2, clock="profile", predictor="linear"),
    "fast": CachePolicy(trigger="log_snr", tau=0.45, clock="profile", predictor="linear"),
    # For dpmpp_2m on the profile grid with 40 steps: 5 network calls, each step between them a prediction.
    "multistep": CachePolicy(trigger="log_snr", tau=1.8, clock="profile", predictor="linear"),
    "paper": CachePolicy(
        trigger="paper",
        tau=0.01,
        k_low=1,
        refresh_every=150,
        probe_share=0.01,
        tau_safe=0.1,
        tau_warn=0.5,
        alpha=0.1,
        correct=True,
    ),
}
