"""Serve samples over HTTP to programs: OpenAPI, request batching, live events, limits, and metrics."""

# No postponed annotations here: the request models are made for each application and contain its limits.

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from e2crf_core.caching.events import StepEvent
from e2crf_core.caching.policy import PRESETS
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.serving.answers import (
    Fault,
    FieldFault,
    Health,
    SamplesAnswer,
    State,
    as_json,
    as_npz,
    event_values,
    fault_of,
    pointer,
    sse,
)
from e2crf_core.serving.batching import SampleJob
from e2crf_core.serving.documentation import documentation
from e2crf_core.serving.drawing import drawn, status_of
from e2crf_core.serving.guards import INFERENCE, HostGuard, JsonBodies, Receive, Scope, SecurityHeaders, Send
from e2crf_core.serving.inference import V2Fault, inference_routes
from e2crf_core.serving.questions import Scorer, add_questions, body_limit
from e2crf_core.serving.queue import QueueFull, SampleQueue
from e2crf_core.serving.requests import Limits, job_of, request_model
from e2crf_core.serving.tensors import plain_request
from e2crf_core.version import __version__

EVENT_BUFFER = 512

FAULTS: dict[int | str, dict[str, Any]] = {
    400: {"model": Fault, "description": "The body cannot be read"},
    401: {"model": Fault, "description": "The token is missing or wrong"},
    403: {"model": Fault, "description": "The Host is a foreign name"},
    408: {"model": Fault, "description": "The body did not arrive in time"},
    409: {"model": Fault, "description": "The fields are valid one by one, but not together"},
    413: {"model": Fault, "description": "The body is too large"},
    422: {"model": Fault, "description": "The body is not JSON, or fields of it are wrong"},
    429: {
        "model": Fault,
        "description": "The queue is full",
        "headers": {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}},
    },
    500: {"model": Fault, "description": "Sampling failed"},
    503: {"model": Fault, "description": "The server is stopping"},
    504: {"model": Fault, "description": "The deadline of the request has passed"},
}


def default_config(most_steps: int) -> SamplerConfig:
    """Return the settings of a request that names none, where the server was given none either."""
    return SamplerConfig(PRESETS["balanced"], min(300, most_steps))


def make_app(
    model: ScoreModel,
    *,
    limits: Limits | None = None,
    token: str | None = None,
    default: SamplerConfig | None = None,
    hosts: Collection[str] = (),
) -> FastAPI:
    """Return the application. `default` gives the settings of a request that names none, and the backend of all.

    `hosts` are additional names under which it may be reached; `app.state.queue` is its queue.
    """
    limits = limits or Limits()
    default = default or default_config(limits.steps)
    if default.steps > limits.steps:
        raise LabError(f"the default of {default.steps} steps is over the limit of {limits.steps}")
    queue = SampleQueue(model, limit=limits.queue, batch=limits.batch, backend=default.backend)
    scorer = Scorer(model, limits.queue)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        scorer.close()
        await run_in_threadpool(queue.close)

    app = FastAPI(
        title="E²-CRF samples",
        version=__version__,
        description="Draw time series from a cached spectral diffusion model.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        exception_handlers={RequestValidationError: _invalid, HTTPException: _refused, LabError: _unfit},
    )
    app.state.queue = queue
    guard = [] if token is None else [Depends(_guard(token))]
    _add_health(app, model, queue)
    _add_metrics(app, queue, guard)
    body_model = request_model(limits, default)
    _add_samples(app, model, queue, body_model, guard)
    add_questions(app, model, queue, scorer, limits, {"dependencies": guard, "responses": FAULTS})
    app.include_router(inference_routes(model, queue, body_model, guard, FAULTS))
    # The middleware added last is reached first.
    app.add_middleware(JsonBodies, limit=body_limit(model), translate=plain_request)
    app.add_middleware(HostGuard, names=frozenset(hosts))
    app.add_middleware(SecurityHeaders)
    return app


# ---- faults


async def _invalid(request: Request, fault: Any) -> JSONResponse:
    """Report every invalid field with its JSON pointer; the values sent are not repeated."""
    faults = [
        FieldFault(pointer=pointer(error["loc"][1:]), problem=str(error["msg"])) for error in fault.errors()
    ]
    detail = "; ".join(f"{one.pointer}: {one.problem}" if one.pointer else one.problem for one in faults)
    return _answer(request, Fault(detail=detail[:4000], faults=faults), 422)


async def _refused(request: Request, fault: Any) -> JSONResponse:
    return _answer(request, Fault(detail=str(fault.detail)), fault.status_code, fault.headers)


async def _unfit(request: Request, fault: Any) -> JSONResponse:
    headers = {"Retry-After": str(fault.retry_after)} if isinstance(fault, QueueFull) else None
    return _answer(request, fault_of(fault), status_of(fault), headers)


def _answer(
    request: Request, fault: Fault, status: int, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return a fault in the form that clients of the route expect."""
    protocol = request.url.path.startswith(INFERENCE)
    content = V2Fault(error=fault.detail) if protocol else fault
    return JSONResponse(content.model_dump(), status, dict(headers or {}))


def _guard(token: str) -> Callable[..., None]:
    """Return a dependency that only admits requests with the token."""
    bearer = HTTPBearer(auto_error=False, description="The token that the server was started with")

    def allowed(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> None:
        given = credentials.credentials if credentials else ""
        if not hmac.compare_digest(given.encode(), token.encode()):
            raise HTTPException(401, "a valid token is required", headers={"WWW-Authenticate": "Bearer"})

    return allowed


# ---- routes


def _add_health(app: FastAPI, model: ScoreModel, queue: SampleQueue) -> None:
    digest = model.digest()
    refused: dict[int | str, dict[str, Any]] = {503: FAULTS[503], 403: FAULTS[403]}

    @app.get("/health", response_model=Health, responses=refused)
    async def health() -> Any:
        """Report what is served and how busy the server is; 503 if its worker has ended."""
        if not queue.alive:
            return JSONResponse(Fault(detail="the worker has ended").model_dump(), 503)
        return Health(
            status="ok",
            checkpoint=model.name,
            digest=digest,
            dataset=model.dataset,
            length=model.length,
            channels=list(model.channels),
            device=str(model.device),
            backend=queue.backend,
            queue=queue.depth,
            queue_limit=queue.limit,
            version=__version__,
        )

    @app.get("/health/live", response_model=State, responses={403: FAULTS[403]})
    async def live() -> State:
        """Confirm that the process responds; an orchestrator restarts it if it does not."""
        return State(status="live")

    @app.get("/health/ready", response_model=State, responses=refused)
    async def ready() -> Any:
        """Confirm that a request sent now would be accepted: the worker runs and the queue has room."""
        if not queue.alive or queue.depth >= queue.limit:
            detail = "the queue is full" if queue.alive else "the worker has ended"
            return JSONResponse(Fault(detail=detail).model_dump(), 503)
        return State(status="ready")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        """Return the API as one page that loads nothing from elsewhere."""
        return HTMLResponse(documentation(app.openapi()))


def _add_metrics(app: FastAPI, queue: SampleQueue, guard: list[Any]) -> None:
    @app.get(
        "/metrics",
        dependencies=guard,
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}, 401: FAULTS[401], 403: FAULTS[403]},
    )
    async def metrics() -> Response:
        """Return metrics for Prometheus, with histograms of queue time, run time and batch size."""
        return Response(generate_latest(queue.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _add_samples(
    app: FastAPI, model: ScoreModel, queue: SampleQueue, body_model: Any, guard: list[Any]
) -> None:
    def route(path: str, ok: dict[str, Any], **settings: Any) -> Any:
        return app.post(path, dependencies=guard, responses={**FAULTS, 200: ok}, **settings)

    @route("/samples", {"model": SamplesAnswer, "content": {"application/octet-stream": {}}})
    async def samples(request: Request, body: body_model) -> Response:
        """Draw samples; return JSON, or an npz file with `samples` (num, N, M) and `channels`."""
        answer = await drawn(queue, job_of(body), request)
        if answer is None:
            # Nobody reads this answer; the status is the customary one for a client that disconnected.
            return Response(status_code=499)
        render = as_npz if body.format == "npz" else as_json
        content, kind = await run_in_threadpool(render, answer, model)
        return Response(content, media_type=kind)

    @route("/events", {"content": {"text/event-stream": {}}}, response_class=StreamingResponse)
    async def events(body: body_model) -> Response:
        """Draw samples and stream the steps of the first: server-sent events `step`, then `samples` or `error`."""
        loop = asyncio.get_running_loop()
        steps = _Latest()
        job = job_of(body)
        job.done = lambda: loop.call_soon_threadsafe(steps.put, None)
        job.on_event = lambda event: loop.call_soon_threadsafe(steps.put, event)
        queue.submit(job)
        headers = {"Cache-Control": "no-store"}
        return _Stream(
            _event_texts(job, steps, queue, model), media_type="text/event-stream", headers=headers
        )


class _Latest:
    """A buffer of steps for a client; a slow client misses the oldest ones."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[StepEvent | None] = asyncio.Queue(EVENT_BUFFER)

    def put(self, event: StepEvent | None) -> None:
        """Add a step, or None for the end."""
        if self.queue.full():
            self.queue.get_nowait()
        self.queue.put_nowait(event)


async def _event_texts(
    job: SampleJob, steps: _Latest, queue: SampleQueue, model: ScoreModel
) -> AsyncIterator[str]:
    """Yield the events of a job as text, then its samples or the reason why there are none."""
    try:
        while (event := await steps.queue.get()) is not None:
            yield sse("step", event_values(event))
        if job.answer is None:
            yield sse("error", {"detail": str(job.error)})
        else:
            content, _ = await run_in_threadpool(as_json, job.answer, model)
            yield f"event: samples\ndata: {content.decode()}\n\n"
    finally:
        queue.release(job)


class _Stream(StreamingResponse):
    """A stream whose source is closed even if the client disconnected before the first chunk."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI call."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self.body_iterator.aclose()  # type: ignore[attr-defined]
