"""Answer the Open Inference Protocol (v2), so that stock clients of inference servers can draw samples."""

# No postponed annotations here: the request models are made for each application and contain its limits.

import json
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, HTTPException, Path, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field, create_model

from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.io.json_files import parse_json
from e2crf_core.serving.batching import Delivery
from e2crf_core.serving.drawing import drawn
from e2crf_core.serving.guards import INFERENCE
from e2crf_core.serving.queue import SampleQueue
from e2crf_core.serving.requests import LEAST_DEADLINE_S, MAX_DEADLINE_S, job_of, whole_number
from e2crf_core.serving.tensors import LENGTH, tensor
from e2crf_core.version import __version__

INTEGERS = ("INT64", "INT32", "UINT64", "UINT32")
OUTPUTS = ("samples", "channels", "token_share")
_FORBID = ConfigDict(extra="forbid")

Faults = dict[int | str, dict[str, Any]]
"""What the OpenAPI schema says of the answers that are faults, by status."""


class V2Fault(BaseModel):
    """Why a request of the protocol was not answered, in one line."""

    error: str


class Server(BaseModel):
    """The server and the extensions of the protocol that it knows."""

    name: str
    version: str
    extensions: list[str]


class TensorInfo(BaseModel):
    """The name, type and shape of a tensor; -1 stands for any length."""

    name: str
    datatype: str
    shape: list[int]


class ModelInfo(BaseModel):
    """The model that is served, its inputs, all of which may be left out, and its outputs."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]


class Live(BaseModel):
    """The answer to a probe of the server."""

    live: bool


class Ready(BaseModel):
    """The answer to a probe of the server or a model."""

    ready: bool


class Output(BaseModel):
    """A tensor that the client wants."""

    model_config = _FORBID

    name: Literal["samples", "channels", "token_share"]
    parameters: dict[str, bool | int | float | str] = {}


_Microseconds: Any = whole_number(
    round(1e6 * LEAST_DEADLINE_S),
    round(1e6 * MAX_DEADLINE_S),
    "microseconds after which the samples are of no use",
)


class Parameters(BaseModel):
    """Parameters of a request; others than these are ignored."""

    timeout: _Microseconds | None = None
    binary_data_output: bool = False


def infer_model(body_model: type[BaseModel]) -> type[BaseModel]:
    """Return the model of an inference request: each field of a request for samples is a tensor of one element."""
    inputs: list[Any] = []
    for name in ("num", "seed", "steps", "policy", "solver", "grid"):
        field = body_model.model_fields[name]
        whole = isinstance(field.default, int)
        # A policy is named, or stated as a JSON object in a string.
        kind: Any = field.rebuild_annotation() if name != "policy" else Annotated[str, Field(max_length=8192)]
        settings: dict[str, Any] = {
            "name": (Literal.__getitem__((name,)), ...),
            "datatype": (Literal.__getitem__(INTEGERS if whole else ("BYTES",)), ...),
            "shape": (Annotated[list[Literal[1]], Field(min_length=1, max_length=2)], ...),
            "data": (Annotated[list[kind], Field(min_length=1, max_length=1)], ...),
            "parameters": (dict[str, bool | int | float | str], {}),
        }
        inputs.append(create_model(f"Input_{name}", __config__=_FORBID, **settings))
    one: Any = Annotated[reduce(or_, inputs), Field(discriminator="name")]
    several: Any = Annotated[list[one], Field(max_length=len(inputs))]
    return create_model(
        "InferRequest",
        __config__=_FORBID,
        __doc__="What to draw; inputs that are left out take the server's defaults.",
        id=(Annotated[str, Field(max_length=200)], ""),
        parameters=(Parameters, Field(default_factory=Parameters)),
        inputs=(several, []),
        outputs=(Annotated[list[Output], Field(max_length=len(OUTPUTS))], []),
    )


def request_of(body: Any, body_model: type[BaseModel]) -> Any:
    """Return the request for samples that an inference request states. Raises LabError."""
    values: dict[str, Any] = {one.name: one.data[0] for one in body.inputs}
    if len(values) < len(body.inputs):
        raise LabError("an input is stated twice")
    if body.parameters.timeout is not None:
        values["deadline_s"] = body.parameters.timeout / 1e6
    if values.get("policy", "").startswith("{"):
        values["policy"] = parse_json(values["policy"], "the policy")
    try:
        return body_model.model_validate(values)
    except ValueError as fault:
        raise LabError(" ".join(str(fault).split())[:400], field="policy") from None


def answer_of(answer: Delivery, model: ScoreModel, body: Any) -> tuple[bytes, dict[str, str]]:
    """Return the body and the headers of an answer: JSON, followed by the tensors that are wanted as bytes."""
    values = {
        "samples": answer.series.astype(np.float32),
        "channels": np.array(model.channels),
        "token_share": np.array([answer.token_share]),
    }
    default = body.parameters.binary_data_output
    choices = {one.name: one.parameters.get("binary_data", default) for one in body.outputs}
    choices = choices or dict.fromkeys(OUTPUTS, default)
    tensors = [tensor(name, values[name], bool(binary)) for name, binary in choices.items()]
    head = {"model_name": model.name, "id": body.id, "outputs": [described for described, _ in tensors]}
    text, data = json.dumps(head).encode(), b"".join(data for _, data in tensors)
    if not data:
        return text, {"content-type": "application/json"}
    return text + data, {"content-type": "application/octet-stream", LENGTH: str(len(text))}


def inference_routes(
    model: ScoreModel, queue: SampleQueue, body_model: type[BaseModel], guard: list[Any], faults: Faults
) -> APIRouter:
    """Return the routes of the protocol. `faults` documents the answers of routes that draw samples."""
    router = APIRouter(prefix=INFERENCE.rstrip("/"))
    answers: Faults = {status: {**fault, "model": V2Fault} for status, fault in faults.items()}
    answers[404] = {"model": V2Fault, "description": "Another model is served"}
    _describe(router, model, queue, answers)
    request_body: Any = infer_model(body_model)

    @router.post(
        "/models/{name}/infer",
        dependencies=guard,
        response_class=Response,
        responses={
            **answers,
            200: {"content": {"application/json": {}, "application/octet-stream": {}}},
        },
    )
    async def infer(
        request: Request, name: Annotated[str, Path(max_length=200)], body: request_body
    ) -> Response:
        """Draw samples: JSON, or JSON followed by binary tensors if the client wants them."""
        _check(name, model)
        answer = await drawn(queue, job_of(request_of(body, body_model)), request)
        if answer is None:
            return Response(status_code=499)
        content, headers = await run_in_threadpool(answer_of, answer, model, body)
        return Response(content, headers=headers)

    return router


def _check(name: str, model: ScoreModel) -> None:
    if name != model.name:
        raise HTTPException(404, f"the model served here is {model.name!r}, not {name[:60]!r}")


def _describe(router: APIRouter, model: ScoreModel, queue: SampleQueue, faults: Faults) -> None:
    """Add the routes that describe server and model, and tell whether they are ready."""
    host: Faults = {403: faults[403]}
    unknown: Faults = {**host, 404: faults[404], 422: faults[422]}
    busy: Faults = {**host, 503: {"model": Ready, "description": "Requests would be refused"}}

    def readiness() -> Response:
        ready = queue.alive and queue.depth < queue.limit
        content = Ready(ready=ready).model_dump_json()
        return Response(content, 200 if ready else 503, media_type="application/json")

    @router.get("", responses=host)
    async def server() -> Server:
        """Name the server and the extensions of the protocol that it knows."""
        return Server(name="e2crf", version=__version__, extensions=["binary_tensor_data"])

    @router.get("/health/live", responses=host)
    async def v2_live() -> Live:
        """Tell whether the server responds."""
        return Live(live=True)

    @router.get("/health/ready", responses=busy, response_model=Ready)
    async def v2_ready() -> Response:
        """Tell whether a request would be accepted now."""
        return readiness()

    @router.get("/models/{name}", responses=unknown)
    async def model_info(name: Annotated[str, Path(max_length=200)]) -> ModelInfo:
        """Describe the model with its inputs and outputs."""
        _check(name, model)
        whole, text = ("num", "seed", "steps"), ("policy", "solver", "grid")
        return ModelInfo(
            name=model.name,
            versions=[],
            platform="e2crf",
            inputs=[TensorInfo(name=one, datatype="INT64", shape=[1]) for one in whole]
            + [TensorInfo(name=one, datatype="BYTES", shape=[1]) for one in text],
            outputs=[
                TensorInfo(name="samples", datatype="FP32", shape=[-1, model.length, len(model.channels)]),
                TensorInfo(name="channels", datatype="BYTES", shape=[len(model.channels)]),
                TensorInfo(name="token_share", datatype="FP64", shape=[1]),
            ],
        )

    @router.get("/models/{name}/ready", responses={**unknown, **busy}, response_model=Ready)
    async def model_ready(name: Annotated[str, Path(max_length=200)]) -> Response:
        """Tell whether a request for this model would be accepted now."""
        _check(name, model)
        return readiness()
