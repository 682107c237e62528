"""Define data cards: what `card.json` beside a data set may state. Every entry is optional."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

MAX_CHANNELS = 1 << 12


class SplitRule(BaseModel):
    """The rule that split windows; `span`, `share`, and `blocks` are arguments of `datasets.block_split`."""

    model_config = ConfigDict(extra="allow")

    text: str = ""
    span: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    share: float = Field(default=0.2, gt=0, lt=1)
    blocks: int = Field(default=5, ge=1, le=10_000)


class Described(BaseModel):
    """A card entry in words, with values beside them."""

    model_config = ConfigDict(extra="allow")

    text: str = ""


class Sampling(Described):
    """The step between rows: `seconds` apart, None if that is unknown."""

    seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class Gaps(Described):
    """How gaps were handled; an import counts them."""

    by_channel: dict[str, int] | None = None
    filled_cells: int | None = None
    dropped_windows: int | None = None

    @model_validator(mode="after")
    def _counted(self) -> Self:
        if self.by_channel is not None and None in (self.filled_cells, self.dropped_windows):
            raise ValueError("gaps by channel come with filled cells and dropped windows")
        return self


class DataCard(BaseModel):
    """A data card. Unknown entries are kept, so that older and newer cards can be read."""

    model_config = ConfigDict(extra="allow")

    title: str = ""
    domain: str = "own data"
    source: str = "not stated"
    license: str = "not stated"
    units: list[str] = Field(default_factory=list, max_length=MAX_CHANNELS)
    window: Described = Described()
    sampling: Sampling = Sampling()
    split: SplitRule = SplitRule()
    gaps: Gaps = Gaps()
    notes: list[str] = Field(default_factory=list, max_length=10_000)
    traps: list[str] = Field(default_factory=list, max_length=1000)
    attribution: list[str] = Field(default_factory=list, max_length=1000)
    decisions: list[dict[str, Any]] = Field(default_factory=list, max_length=MAX_CHANNELS + 100)

    @field_validator("window", "sampling", "gaps", mode="before")
    @classmethod
    def _null_is_empty(cls, value: Any) -> Any:
        return {} if value is None else value
