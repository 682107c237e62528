"""Define model cards: what `card.json` of a checkpoint must state, within sizes that a machine can build.

A card is read before anything is built from it, so a damaged or hostile one costs nothing: sizes are limited
here, and `check_weights` compares them with the bytes that are actually there.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from e2crf_core.diffusion.score_model import Profile
from e2crf_core.errors import LabError
from e2crf_core.io.json_files import read_json, validated
from e2crf_core.io.sets import read_set

SCHEMA = 1
MAX_LENGTH = 1 << 16
MAX_CHANNELS = 1 << 10
MAX_LAYERS = 1 << 8
MAX_WIDTH = 1 << 14
LEAST_BYTES = 1
"""The least number of bytes per stored number: weights may be stored in eight bits."""


_MEASURED = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class NetworkSizes(BaseModel):
    """The sizes of a network stated in a card; every kind has some of these and may have others."""

    model_config = ConfigDict(extra="allow", strict=True)

    tokens: int | None = Field(default=None, ge=1, le=MAX_LENGTH)
    length: int | None = Field(default=None, ge=1, le=MAX_LENGTH)
    channels: int | None = Field(default=None, ge=1, le=MAX_CHANNELS)
    width: int | None = Field(default=None, ge=1, le=MAX_WIDTH)
    layers: int | None = Field(default=None, ge=1, le=MAX_LAYERS)
    heads: int | None = Field(default=None, ge=1, le=MAX_WIDTH)
    hidden: int | None = Field(default=None, ge=1, le=4 * MAX_WIDTH)
    stem: int | None = Field(default=None, ge=1, le=MAX_WIDTH)

    @property
    def least_weights(self) -> int:
        """Return the fewest weights of a transformer of this size: attention and feed-forward matrices."""
        width, hidden, layers = self.width or 0, self.hidden or 0, self.layers or 0
        return layers * (4 * width * width + 2 * width * hidden)


class ProfileCard(BaseModel):
    """A calibrated profile: weights at increasing log(a/s)."""

    model_config = ConfigDict(strict=True)

    levels: list[float] = Field(max_length=100_000)
    weights: list[float] = Field(max_length=100_000)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.levels) != len(self.weights):
            raise ValueError(f"{len(self.levels)} levels do not fit {len(self.weights)} weights")
        if not all(map(math.isfinite, [*self.levels, *self.weights])) or min(self.weights, default=1.0) <= 0:
            raise ValueError("weights must be positive and levels finite")
        if any(b <= a for a, b in zip(self.levels, self.levels[1:], strict=False)):
            raise ValueError("levels must increase")
        return self


class Figure(BaseModel):
    """A measured distance: its value, its interval, its floor between real sets, and their ratio."""

    model_config = _MEASURED

    title: str = Field(max_length=200)
    unit: str = Field(default="", max_length=100)
    value: float
    low: float
    high: float
    floor: float
    floor_low: float
    floor_high: float
    ratio: float


class LossFigure(BaseModel):
    """A measured loss with its interval."""

    model_config = _MEASURED

    value: float
    low: float
    high: float


class MeasuredCard(BaseModel):
    """The measurements of `quality_card` and how they were made."""

    model_config = _MEASURED

    size: int
    draws: int
    seed: int
    solver: str = Field(max_length=200)
    steps: int
    figures: dict[str, Figure] = Field(max_length=100)
    loss: LossFigure | None = None


class GainCard(BaseModel):
    """The costs of the best whole and nested plans at one error, in whole forwards."""

    model_config = _MEASURED

    error: float = Field(gt=0)
    whole: float = Field(ge=0)
    nested: float = Field(ge=0)


class LocalizationCard(BaseModel):
    """The shares of energy and influence in each band, and what nested bands gain (sampling.localization)."""

    model_config = _MEASURED

    edges: list[int] = Field(min_length=1, max_length=MAX_LENGTH)
    energy: list[float] = Field(min_length=1, max_length=MAX_LENGTH)
    influence: list[float] = Field(min_length=1, max_length=MAX_LENGTH)
    gains: list[GainCard] = Field(max_length=20)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not len(self.edges) == len(self.energy) == len(self.influence):
            raise ValueError("energy and influence need one share for each band")
        return self


class LossReport(BaseModel):
    """The losses at one step of a training."""

    model_config = _MEASURED

    step: int
    loss: float
    heldout: float


class Trained(BaseModel):
    """The part of a training's record that is shown."""

    model_config = ConfigDict(extra="allow", strict=True)

    parameters: int | None = None


class ModelCard(BaseModel):
    """The part of a model card that loading and showing depend on; notes are stored beside it."""

    model_config = ConfigDict(extra="allow", strict=True)

    kind: str = Field(max_length=100)
    network: NetworkSizes
    schedule: dict[str, Any] = Field(max_length=32)
    length: int = Field(ge=1, le=MAX_LENGTH)
    channels: list[str] = Field(min_length=1, max_length=MAX_CHANNELS)
    dataset: str = Field(default="", max_length=4096)
    profile: ProfileCard | None = None
    parameters: int | None = None
    heldout_loss: float | None = Field(default=None, allow_inf_nan=False)
    history: list[LossReport] = Field(default_factory=list, max_length=100_000)
    training: Trained | None = None
    measured: MeasuredCard | None = None
    localization: LocalizationCard | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        for name, stated, value in (
            ("length", self.network.length, self.length),
            ("channels", self.network.channels, len(self.channels)),
        ):
            if stated is not None and stated != value:
                raise ValueError(f"the network's {name} {stated} does not fit the model's {value}")
        return self


def load_card(path: Path) -> dict[str, Any]:
    """Load and check the model card in a file, as a plain dict. Raises LabError."""
    try:
        card = read_set(path.parent, [path.name], lambda: read_json(path))
    except LabError as fault:
        raise LabError(f"model card {fault}") from None
    stated = card.get("schema") if isinstance(card, dict) else None
    if stated != SCHEMA:
        raise LabError(f"model card {path} has schema {stated!r}, this version reads {SCHEMA}")
    validated(ModelCard, card, f"model card {path}")
    return card


def check_weights(card: dict[str, Any], path: Path) -> None:
    """Reject a card that states more weights than its file can hold, before building. Raises LabError."""
    sizes = NetworkSizes.model_validate(card["network"])
    least, stored = LEAST_BYTES * sizes.least_weights, path.stat().st_size
    if least > stored:
        raise LabError(
            f"checkpoint {path.parent} does not fit its card: the network it states takes {least / 1e6:,.1f} MB "
            f"or more, the file of its weights has {stored / 1e6:,.1f} MB"
        )


def read_profile(card: dict[str, Any]) -> Profile:
    """Return a model card's profile, or the even one by default. Raises LabError for an invalid one."""
    stored = card.get("profile")
    if not stored:
        return Profile()
    profile = validated(ProfileCard, stored, "profile")
    return Profile(tuple(profile.levels), tuple(profile.weights))
