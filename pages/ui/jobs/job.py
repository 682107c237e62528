"""The pages' job type: what a worker process reports in `progress.json`, and how a page reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from e2crf_core.errors import LabError
from e2crf_core.io.json_files import read_model, write_json

Status = Literal[
    "starting",
    "preparing",
    "training",
    "reference",
    "searching",
    "advising",
    "measuring",
    "done",
    "stopped",
    "interrupted",
    "failed",
]
ENDED = frozenset({"done", "stopped", "interrupted", "failed"})
LIMIT_BYTES = 16_000_000
Model = TypeVar("Model", bound=BaseModel)


class JobState(BaseModel):
    """Progress of a job.

    `share` is the finished part of the current phase, which began `seconds` ago and ends in about
    `seconds_left` (None while nothing is known). A training counts `step` of `steps` and keeps its `history`
    of losses; a search has `spent` seconds of its budget of `minutes`.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    status: Status = "starting"
    error: str = ""
    note: str = ""
    share: float = Field(default=0.0, ge=0, le=1)
    seconds: float = Field(default=0.0, ge=0)
    seconds_left: float | None = None
    spent: float = 0.0
    minutes: float = 0.0
    step: int = Field(default=0, ge=0)
    steps: int = Field(default=0, ge=0)
    history: tuple[dict[str, float], ...] = ()

    @property
    def running(self) -> bool:
        """Whether a process is working on the job."""
        return self.status not in ENDED

    @property
    def resumable(self) -> bool:
        """Whether a training has steps left."""
        return not self.running and (not self.steps or self.step < self.steps)


def read_file(path: Path, kind: type[Model]) -> Model | None:
    """Read a JSON file as `kind`; None when it is missing or damaged."""
    try:
        return read_model(kind, path, limit=LIMIT_BYTES)
    except LabError:
        return None


def write_file(path: Path, value: BaseModel) -> None:
    """Write a JSON file whole or not at all."""
    write_json(path, value.model_dump(mode="json"), indent=None)
