"""Format the server's answers: samples as JSON or npz, steps as events, faults with JSON pointers."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel

from e2crf_core.caching.events import StepEvent
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.serving.batching import Delivery


class FieldFault(BaseModel):
    """A fault in one field; `pointer` is a JSON pointer into the body."""

    pointer: str
    problem: str


class Fault(BaseModel):
    """The reason why a request was rejected: one line, and one entry for each field at fault."""

    detail: str
    faults: list[FieldFault] = []


def pointer(place: Sequence[str | int]) -> str:
    """Return the JSON pointer (RFC 6901) of a place in the body."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in place)


def fault_of(fault: LabError) -> Fault:
    """Convert an error of the core to an answer."""
    field = [] if fault.field is None else [FieldFault(pointer=pointer([fault.field]), problem=fault.problem)]
    return Fault(detail=str(fault), faults=field)


class Health(BaseModel):
    """What the server serves and how busy it is."""

    status: Literal["ok"]
    checkpoint: str
    digest: str
    dataset: str
    length: int
    channels: list[str]
    device: str
    backend: str
    queue: int
    queue_limit: int
    version: str


class State(BaseModel):
    """The result of a probe."""

    status: Literal["live", "ready"]


class SamplesAnswer(BaseModel):
    """Series in data units, indexed by sample, step and channel."""

    samples: list[list[list[float]]]
    channels: list[str]
    queue_seconds: float
    seconds: float
    token_share: float


def as_json(answer: Delivery, model: ScoreModel) -> tuple[bytes, str]:
    content = {
        "samples": answer.series.tolist(),
        "channels": list(model.channels),
        "queue_seconds": answer.queue_seconds,
        "seconds": answer.seconds,
        "token_share": answer.token_share,
    }
    return json.dumps(content).encode(), "application/json"


def as_npz(answer: Delivery, model: ScoreModel) -> tuple[bytes, str]:
    file = io.BytesIO()
    np.savez_compressed(file, samples=answer.series, channels=np.array(model.channels))
    return file.getvalue(), "application/octet-stream"


def event_values(event: StepEvent) -> dict[str, Any]:
    scalars = (
        "step",
        "t",
        "log_snr",
        "share",
        "tokens",
        "flops",
        "flops_full",
        "seconds",
    )
    values: dict[str, Any] = {name: getattr(event, name) for name in scalars}
    for name in ("tau", "r"):
        value = float(getattr(event, name))
        values[name] = value if np.isfinite(value) else None
    return values | {"reasons": event.reasons.tolist()}


def sse(name: str, content: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(content)}\n\n"
