"""Define a policy card: what to deploy, how it was measured, and the range in which it counts as unchanged.

Three lines run it anywhere:

    card = load_policy("card.json")
    sampler = Sampler(card.model(), card.policy, **card.settings)
    series = sampler.sample(num=16, seed=0).series
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from e2crf_core.caching.policy import CachePolicy
from e2crf_core.caching.policy_json import PolicyJson, policy_value
from e2crf_core.diffusion.noise import NOISES
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.diffusion.solvers import MAX_STEPS
from e2crf_core.errors import LabError
from e2crf_core.io.json_files import faults_text, parse_json, read_json
from e2crf_core.io.sets import read_set
from e2crf_core.models.checkpoints import list_checkpoints, load_checkpoint
from e2crf_core.network.backends import BACKENDS
from e2crf_core.quality.interval import Interval
from e2crf_core.quality.protocol import SPECTRAL_MARGIN, Equivalence, Judgment, TwinError
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.sampler import MAX_NUM

CARD_SCHEMA: Literal[2] = 2
KIND: Literal["e2crf-policy"] = "e2crf-policy"
MAX_CARD_BYTES = 1_000_000
MAX_BATCH = 1 << 16

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def _interval_fields(stored: Any) -> Any:
    if isinstance(stored, dict) and (unknown := stored.keys() - {"value", "low", "high"}):
        raise ValueError(f"unknown fields {', '.join(sorted(map(str, unknown)))}")
    return stored


Range = Annotated[Interval, BeforeValidator(_interval_fields)]
Name = Annotated[str, Field(max_length=200)]


@dataclass(frozen=True)
class Measured:
    """The effect of a policy on `num` samples of `seed`, against its uncached twin on the same noise.

    Seconds are per sample: the median over batches that alternate with uncached ones, between the fastest and
    the slowest batch; `seconds_alone` are those of one sample run by itself. `relative_l2` is pooled over all
    samples, `twin` tells what it hides. `distance` is the primary distance to held-out data with its `floor`,
    `change` its change by the cache as a share, `spectral_change` that of the log-spectral distance in dB.
    Intervals of quality are 95% bootstrap intervals. None: not measured, as without the data set, or in cards
    of schema 1.
    """

    __pydantic_config__ = _STRICT

    num: Annotated[int, Field(ge=2, le=MAX_NUM)]
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    seconds: Range
    seconds_uncached: Range
    speedup_wall: Range
    speedup_flops: float
    token_share: float
    relative_l2: Range
    heldout: int | None
    seconds_alone: Range | None = None
    twin: TwinError | None = None
    distance: Range | None = None
    floor: float | None = None
    change: Range | None = None
    spectral_change: Range | None = None

    @property
    def judgment(self) -> Judgment | None:
        """Return the protocol's judgment against the uncached twin."""
        if self.change is None or self.spectral_change is None:
            return None
        spectral = Equivalence(self.spectral_change, self.num, SPECTRAL_MARGIN, "dB")
        return Judgment(Equivalence(self.change, self.num), spectral)


@dataclass(frozen=True)
class Validity:
    """The bounds that a remeasurement must meet for the card to hold."""

    __pydantic_config__ = _STRICT

    relative_l2_max: float
    speedup_wall_min: float
    speedup_flops_min: float
    median_l2_max: float | None = None
    change_max: float | None = None
    spectral_change_max: float | None = None


class CheckpointChanged(LabError):
    """The weights on disk are not those with which a card was measured."""


@dataclass(frozen=True)
class PolicyCard:
    """A deployable policy with its provenance. `checkpoint` is a shipped name or a folder.

    `folder` is the base of a relative `checkpoint` path; it is not part of the card.
    """

    checkpoint: str
    digest: str
    profile: str
    dataset: str
    config: SamplerConfig
    device: str
    measured: Measured
    valid: Validity
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    folder: Path = field(default=Path("."), compare=False)

    @property
    def policy(self) -> CachePolicy:
        """Return the policy; a card without one cannot be read or made."""
        assert self.config.policy is not None
        return self.config.policy

    @property
    def settings(self) -> dict[str, Any]:
        """Return the keyword arguments of Sampler other than model and policy."""
        config = self.config
        return {
            name: getattr(config, name) for name in ("steps", "solver", "grid", "batch", "backend", "noise")
        }

    def model(self, device: str = "auto") -> ScoreModel:
        """Load the card's checkpoint. Raises LabError if missing, CheckpointChanged for other weights."""
        name: str | Path = self.checkpoint
        if name not in list_checkpoints() and not Path(name).is_absolute():
            name = self.folder / name
        model = load_checkpoint(name, device)
        if model.has_digest(self.digest) and profile_digest(model) == self.profile:
            return model
        profile = " and another profile" if profile_digest(model) != self.profile else ""
        raise CheckpointChanged(
            f"checkpoint {self.checkpoint} has digest {model.digest()[:12]}{profile}, the card was measured on"
            f" {self.digest[:12]}",
            field="checkpoint",
            remedy="measure the policy again",
        )

    def to_json(self) -> str:
        """Return JSON text; `from_json` restores an equal card."""
        config = self.config
        value = {
            "schema": CARD_SCHEMA,
            "kind": KIND,
            "checkpoint": self.checkpoint,
            "digest": self.digest,
            "profile": self.profile,
            "dataset": self.dataset,
            "policy": policy_value(self.policy),
            "solver": config.solver,
            "grid": config.grid,
            "steps": config.steps,
            "batch": config.batch,
            "backend": config.backend,
            "noise": config.noise,
            "device": self.device,
            "measured": asdict(self.measured),
            "valid": asdict(self.valid),
            "machine": dict(self.machine),
            "versions": dict(self.versions),
        }
        return json.dumps(value, indent=1, allow_nan=False)

    @staticmethod
    def from_json(text: str | bytes, folder: Path = Path(".")) -> PolicyCard:
        """Read a card. Raises one LabError that lists all its faults."""
        return _card(parse_json(text, "policy card", limit=MAX_CARD_BYTES), folder, "policy card")


class _CardJson(BaseModel):
    """The schema of card.json."""

    model_config = _STRICT

    schema_: Literal[2] = Field(alias="schema")
    kind: Literal["e2crf-policy"]
    checkpoint: Annotated[str, Field(max_length=4096)]
    digest: Name
    profile: Name
    dataset: Name
    policy: PolicyJson
    solver: Name
    grid: Name
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)]
    batch: Annotated[int, Field(ge=1, le=MAX_BATCH)]
    backend: Literal[tuple(BACKENDS)] = "eager"  # type: ignore[valid-type]
    noise: Literal[tuple(NOISES)] = "numpy"  # type: ignore[valid-type]
    device: Name
    measured: Measured
    valid: Validity
    machine: dict[str, str | int | float | bool | None]
    versions: dict[str, str]


def _card(stored: Any, folder: Path, label: str) -> PolicyCard:
    if not isinstance(stored, dict) or stored.get("kind") != KIND:
        raise LabError(f"{label}: this JSON is not a policy card")
    if stored.get("schema") == 1:
        stored = _upgraded(stored)
    if stored.get("schema") != CARD_SCHEMA:
        raise LabError(f"{label}: schema {stored.get('schema')!r}, this version reads {CARD_SCHEMA}")
    try:
        # In JSON text, strict validation still accepts objects for dataclasses and lists for tuples.
        part = _CardJson.model_validate_json(json.dumps(stored))
    except ValidationError as fault:
        raise LabError(f"{label}: {faults_text(fault)}") from None
    return PolicyCard(
        checkpoint=part.checkpoint,
        digest=part.digest,
        profile=part.profile,
        dataset=part.dataset,
        config=SamplerConfig(
            part.policy, part.steps, part.solver, part.grid, part.batch, part.backend, part.noise
        ),
        device=part.device,
        measured=part.measured,
        valid=part.valid,
        machine=part.machine,
        versions=part.versions,
        folder=folder,
    )


def _upgraded(stored: dict[str, Any]) -> dict[str, Any]:
    """Return a card of schema 1 without the sliced Wasserstein distance, which no longer decides anything."""
    parts = {
        name: {key: value for key, value in stored[name].items() if not key.startswith("sliced_wasserstein")}
        for name in ("measured", "valid")
        if isinstance(stored.get(name), dict)
    }
    return {**stored, **parts, "schema": CARD_SCHEMA}


def load_policy(path: str | Path) -> PolicyCard:
    """Read a policy card: `.policy`, `.settings` and `.model()` are what a Sampler needs. Raises LabError."""
    path = Path(path)
    label = f"policy card {path}"
    stored = read_set(path.parent, [path.name], lambda: read_json(path, limit=MAX_CARD_BYTES))
    return _card(stored, path.resolve().parent, label)


def profile_digest(model: ScoreModel) -> str:
    """Return a SHA-256 of the model's profile, which the clock of a policy may follow."""
    return hashlib.sha256(json.dumps(asdict(model.profile)).encode()).hexdigest()


def usage(path: str) -> str:
    """Return the three lines that run a card, with their imports."""
    return (
        "from e2crf_core import Sampler, load_policy\n"
        f"card = load_policy({path!r})\n"
        "sampler = Sampler(card.model(), card.policy, **card.settings)\n"
        "series = sampler.sample(num=16, seed=0).series\n"
    )
