"""Samples over HTTP: OpenAPI, request batching, events as they happen, limits, metrics. For programs, not pages."""

# No postponed annotations here: the request models are made for each application, with its limits in them.

import asyncio
import hmac
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

from e2crf_core.caching.events import StepEvent
from e2crf_core.caching.policy import PRESETS, CachePolicy
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.diffusion.solvers import ETA, GRIDS, MAX_STEPS, SOLVERS
from e2crf_core.errors import LabError
from e2crf_core.serving.queue import Answer, Job, QueueFull, SampleQueue, Settings
from e2crf_core.version import __version__

MAX_BODY = 65_536
# The largest whole number that every reader of JSON keeps exact.
MAX_SEED = 2**53 - 1
EVENT_BUFFER = 512
POLL = 0.2

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True)
class Limits:
    """What a server allows: samples and steps of a request, requests at a time, samples of a batch."""

    num: int = 256
    steps: int = 1000
    queue: int = 64
    batch: int = 64

    def __post_init__(self) -> None:
        """Refuse limits that let nothing through."""
        if min(self.num, self.queue, self.batch) < 1 or not 10 <= self.steps <= MAX_STEPS:
            raise LabError(
                f"limits: num, queue and batch must be at least 1, steps between 10 and {MAX_STEPS}"
            )


class BodyLimit:
    """Refuses bodies over MAX_BODY before they are read into memory."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        stated = dict(scope["headers"]).get(b"content-length", b"0")
        seen = 0

        async def counted() -> MutableMapping[str, Any]:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > MAX_BODY:
                raise HTTPException(413, f"a body of at most {MAX_BODY} bytes is expected")
            return message

        if not stated.isdigit() or int(stated) > MAX_BODY:
            refused = JSONResponse({"detail": f"a body of at most {MAX_BODY} bytes is expected"}, 413)
            await refused(scope, receive, send)
            return
        await self.app(scope, counted, send)


class Fault(BaseModel):
    """Why a request was not answered."""

    detail: str


class Health(BaseModel):
    """What is served, and how busy it is."""

    status: Literal["ok"]
    checkpoint: str
    digest: str
    dataset: str
    length: int
    channels: list[str]
    device: str
    queue: int
    queue_limit: int
    version: str


class SamplesAnswer(BaseModel):
    """Series in data units, sample by sample, step by step, channel by channel."""

    samples: list[list[list[float]]]
    channels: list[str]
    queue_seconds: float
    seconds: float
    token_share: float


def _whole(value: Any) -> Any:
    """JSON knows one kind of number: 3.0 is the whole number 3."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _choice(names: Any) -> Any:
    return Literal.__getitem__(tuple(names))


def _int(low: int, high: int, help: str = "") -> Any:
    return Annotated[int, Field(strict=True, ge=low, le=high, description=help), BeforeValidator(_whole)]


def policy_model() -> type[BaseModel]:
    """The fields of a policy as a request model, with ranges and help from the policy's own metadata."""
    members: dict[str, Any] = {}
    for f in fields(CachePolicy):
        meta = f.metadata
        low, high, help = meta["low"], meta["high"], meta["help"]
        kind: Any
        if f.name == "bands":
            pair: Any = tuple.__class_getitem__(
                (_int(1, 1_000_000), Annotated[float, Field(strict=True, ge=low, le=high)])
            )
            kind = Annotated[list[pair], Field(min_length=1, max_length=64, description=help)]
        elif meta["choices"]:
            kind = Annotated[_choice(meta["choices"]), Field(description=help)]
        elif f.type == "bool":
            kind = Annotated[bool, Field(strict=True, description=help)]
        elif f.type == "int":
            kind = _int(low, high, help)
        else:
            kind = Annotated[float, Field(strict=True, ge=low, le=high, description=help)]
        default: Any = f.default
        members[f.name] = (kind, list(default) if f.name == "bands" else default)
    return create_model("Policy", __config__=_STRICT, __doc__="When to recompute which token.", **members)


# One of the named solvers, or DDIM with a share of ancestral noise.
_SOLVER = (
    _choice(SOLVERS)
    | Annotated[
        str,
        Field(
            strict=True,
            pattern=rf"^{ETA}(0(\.[0-9]{{1,6}})?|1(\.0{{1,6}})?)$",
            description=f"{ETA}ETA is DDIM with that share, 0 to 1, of ancestral noise",
        ),
    ]
)
_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


def request_model(limits: Limits, default: Settings) -> type[BaseModel]:
    """The body of a request, with the server's limits in its schema."""
    named = next((name for name, policy in PRESETS.items() if policy == default.policy), None)
    policy = policy_model()
    stated = named or policy(**_policy_values(default.policy))
    return create_model(
        "SamplesRequest",
        __config__=_STRICT,
        __doc__="What to draw. A sample depends on seed, its number and the settings, not on other requests.",
        num=(_int(1, limits.num, "number of samples"), 1),
        seed=(_int(0, MAX_SEED, "samples of equal seeds are equal"), 0),
        policy=(_choice(PRESETS) | policy, stated),
        steps=(_int(2, limits.steps, "network calls of the solver"), default.steps),
        solver=(_SOLVER, default.solver),
        grid=(_choice(GRIDS), default.grid),
        format=(_choice(("json", "npz")), "json"),
    )


def _policy_values(policy: CachePolicy) -> dict[str, Any]:
    values = {f.name: getattr(policy, f.name) for f in fields(policy)}
    return values | {"bands": [list(pair) for pair in policy.bands]}


def _settings(body: Any) -> Settings:
    """The settings of a request. Raises LabError for fields that are valid one by one but not together."""
    policy = body.policy
    if isinstance(policy, str):
        policy = PRESETS[policy]
    else:
        values = policy.model_dump()
        policy = CachePolicy(**values | {"bands": tuple(tuple(pair) for pair in values["bands"])})
    return Settings(policy, body.solver, body.grid, body.steps)


_FAULTS: dict[int | str, dict[str, Any]] = {
    400: {"model": Fault, "description": "The body cannot be read"},
    401: {"model": Fault, "description": "The token is missing or wrong"},
    409: {"model": Fault, "description": "The fields are valid one by one, but not together"},
    413: {"model": Fault, "description": "The body is too large"},
    429: {
        "model": Fault,
        "description": "The queue is full",
        "headers": {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}},
    },
    500: {"model": Fault, "description": "Sampling failed"},
    503: {"model": Fault, "description": "The server is stopping"},
}


def make_app(
    model: ScoreModel,
    *,
    limits: Limits = Limits(),
    token: str | None = None,
    default: Settings | None = None,
) -> FastAPI:
    """The application. `default` is what a request means that names no settings; `app.state.queue` is its queue."""

    default = default or Settings(PRESETS["balanced"], "euler_maruyama", "linear", min(300, limits.steps))
    if default.steps > limits.steps:
        raise LabError(f"the default of {default.steps} steps is over the limit of {limits.steps}")
    body_model = request_model(limits, default)
    digest = model.digest()
    queue = SampleQueue(model, limit=limits.queue, batch=limits.batch)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(queue.close)

    app = FastAPI(
        title="E²-CRF samples",
        version=__version__,
        description="Time series from a cached spectral diffusion model.",
        lifespan=lifespan,
    )
    app.state.queue = queue
    app.add_middleware(BodyLimit)
    guard = [] if token is None else [Depends(_guard(token))]

    def submit(
        body: Any, done: Callable[[], object], on_event: Callable[[StepEvent], None] | None = None
    ) -> Job:
        try:
            job = Job(_settings(body), body.num, body.seed, done=done, on_event=on_event)
            queue.submit(job)
        except QueueFull as fault:
            raise HTTPException(429, str(fault), headers={"Retry-After": str(fault.retry_after)}) from None
        except LabError as fault:
            raise HTTPException(503 if "stopping" in str(fault) else 409, str(fault)) from None
        return job

    @app.get("/health", response_model=Health)
    async def health() -> Any:
        """Whether samples can be had, and of what."""
        if not queue.alive:
            return JSONResponse({"detail": "the worker has ended"}, 503)
        return Health(
            status="ok",
            checkpoint=model.name,
            digest=digest,
            dataset=model.dataset,
            length=model.length,
            channels=list(model.channels),
            device=str(model.device),
            queue=queue.depth,
            queue_limit=queue.limit,
            version=__version__,
        )

    @app.get(
        "/metrics",
        dependencies=guard,
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}, 401: _FAULTS[401]},
    )
    async def metrics() -> Response:
        """Figures for Prometheus, with histograms of queue time, run time and batch size."""
        return Response(generate_latest(queue.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.post(
        "/samples",
        dependencies=guard,
        responses={
            **_FAULTS,
            200: {"model": SamplesAnswer, "content": {"application/octet-stream": {}}},
        },
    )
    async def samples(request: Request, body: body_model) -> Response:  # type: ignore[valid-type]
        """Draw samples: JSON, or an npz file with `samples` (num, N, M) and `channels`."""
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        job = submit(body, lambda: loop.call_soon_threadsafe(ready.set))
        try:
            while not await _within(ready, POLL):
                if await request.is_disconnected():
                    # Nobody reads this answer; the status is the customary one for a client that went away.
                    return Response(status_code=499)
            if job.answer is None:
                raise HTTPException(503 if "stopping" in (job.error or "") else 500, job.error or "failed")
            render = _npz if body.format == "npz" else _json  # type: ignore[attr-defined]
            content, kind = await run_in_threadpool(render, job.answer, model)
            return Response(content, media_type=kind)
        finally:
            queue.release(job)

    @app.post(
        "/events",
        dependencies=guard,
        response_class=StreamingResponse,
        responses={**_FAULTS, 200: {"content": {"text/event-stream": {}}}},
    )
    async def events(body: body_model) -> Response:  # type: ignore[valid-type]
        """Draw samples and tell every step of the first one: server-sent events `step`, then `samples` or `error`."""
        loop = asyncio.get_running_loop()
        steps: asyncio.Queue[StepEvent | None] = asyncio.Queue(EVENT_BUFFER)

        def put(event: StepEvent | None) -> None:
            if steps.full():
                steps.get_nowait()
            steps.put_nowait(event)

        job = submit(
            body,
            lambda: loop.call_soon_threadsafe(put, None),
            lambda event: _post(loop, put, event),
        )

        async def stream() -> AsyncIterator[str]:
            try:
                while (event := await steps.get()) is not None:
                    yield _sse("step", _event(event))
                if job.answer is None:
                    yield _sse("error", {"detail": job.error})
                else:
                    content, _ = await run_in_threadpool(_json, job.answer, model)
                    yield f"event: samples\ndata: {content.decode()}\n\n"
            finally:
                queue.release(job)

        return _Stream(stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    return app


def _guard(token: str) -> Callable[..., None]:
    """A dependency that lets only requests with the token through."""
    bearer = HTTPBearer(auto_error=False, description="The token the server was started with")

    def allowed(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> None:
        given = credentials.credentials if credentials else ""
        if not hmac.compare_digest(given.encode(), token.encode()):
            raise HTTPException(401, "a valid token is needed", headers={"WWW-Authenticate": "Bearer"})

    return allowed


class _Stream(StreamingResponse):
    """A stream whose source is closed also when the client has gone before the first piece was sent."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self.body_iterator.aclose()  # type: ignore[attr-defined]


def _post(loop: asyncio.AbstractEventLoop, put: Callable[[StepEvent], None], event: StepEvent) -> None:
    loop.call_soon_threadsafe(put, event)


async def _within(ready: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(ready.wait(), seconds)
    except TimeoutError:
        return False
    return True


def _json(answer: Answer, model: ScoreModel) -> tuple[bytes, str]:
    content = {
        "samples": answer.series.tolist(),
        "channels": list(model.channels),
        "queue_seconds": answer.queue_seconds,
        "seconds": answer.seconds,
        "token_share": answer.token_share,
    }
    return json.dumps(content).encode(), "application/json"


def _npz(answer: Answer, model: ScoreModel) -> tuple[bytes, str]:
    file = io.BytesIO()
    np.savez_compressed(file, samples=answer.series, channels=np.array(model.channels))
    return file.getvalue(), "application/octet-stream"


def _event(event: StepEvent) -> dict[str, Any]:
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
    told: dict[str, Any] = {name: getattr(event, name) for name in scalars}
    for name in ("tau", "r"):
        value = float(getattr(event, name))
        told[name] = value if np.isfinite(value) else None
    return told | {"reasons": event.reasons.tolist()}


def _sse(name: str, content: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(content)}\n\n"
