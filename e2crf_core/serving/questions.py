"""Answer questions over HTTP: what is missing, what comes next, is this normal."""

# No postponed annotations here: the request models are made for each application and contain its limits.

import threading
from dataclasses import asdict
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field, create_model

from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import Cancelled, LabError
from e2crf_core.questions.anomaly import Detector
from e2crf_core.questions.answers import ASKING, check_series, forecast_window
from e2crf_core.questions.recordings import interval_levels
from e2crf_core.questions.watching import heldout_windows, score_recording
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.serving.batching import Delivery, SampleJob
from e2crf_core.serving.drawing import drawn
from e2crf_core.serving.guards import MAX_BODY
from e2crf_core.serving.queue import QueueFull, SampleQueue, Stopping
from e2crf_core.serving.requests import (
    MAX_SEED,
    SECONDS,
    STRICT,
    Limits,
    policy_field,
    policy_of,
    whole_number,
)

MOST_WINDOWS = 8
"""The longest recording that one request may hold, in windows of the model."""
_BYTES = 16
"""Bytes of JSON for one value; longer ones only lower how many fit."""
_LARGEST = 1e30


class QuestionAnswer(BaseModel):
    """Median and central interval of the draws, step by step, channel by channel; known values equal all three."""

    channels: list[str]
    median: list[list[float]]
    low: list[list[float]]
    high: list[list[float]]
    queue_seconds: float
    seconds: float
    token_share: float


class Range(BaseModel):
    """A value with its 95% interval."""

    value: float
    low: float
    high: float


class ScoreAnswer(BaseModel):
    """The windows of a recording: first steps, scores in nats, and whether each is above the threshold.

    `per_step` is each value's contribution. A score is null where too little is known, a contribution where the
    value is missing. `false_alarms` is the share of normal windows above the threshold.
    """

    channels: list[str]
    starts: list[int]
    scores: list[float | None]
    flags: list[bool]
    threshold: float
    false_alarms: Range
    per_step: list[list[float | None]]


class Scorer:
    """Detector of one model, calibrated at the first request. At most `limit` requests wait, one is scored."""

    def __init__(self, model: ScoreModel, limit: int) -> None:
        self.model = model
        self._places = threading.BoundedSemaphore(limit)
        self._lock = threading.Lock()
        self._detector: Detector | None = None
        self._closed = threading.Event()

    def close(self) -> None:
        """End the running request at the next batch of windows, and accept no more."""
        self._closed.set()

    def score(self, recording: np.ndarray, hop: int | None, false_alarms: float) -> ScoreAnswer:
        """Score a recording (T, M). Raises QueueFull, Stopping, or LabError for what cannot be scored."""
        if not self._places.acquire(blocking=False):
            raise QueueFull(1)
        try:
            with self._lock:
                return self._scored(recording, hop, false_alarms)
        except Cancelled:
            raise Stopping from None
        finally:
            self._places.release()

    def _scored(self, recording: np.ndarray, hop: int | None, false_alarms: float) -> ScoreAnswer:
        detector = self._detector = self._detector or self._calibrated()
        threshold = detector.threshold(false_alarms)
        scores = score_recording(detector, recording, hop, cancelled=self._closed.is_set)
        return ScoreAnswer(
            channels=list(self.model.channels),
            starts=scores.starts.tolist(),
            scores=_nullable(scores.totals),
            flags=(scores.totals > threshold.value).tolist(),
            threshold=threshold.value,
            false_alarms=Range(**asdict(threshold.rate)),
            per_step=[_nullable(row) for row in scores.per_step],
        )

    def _calibrated(self) -> Detector:
        try:
            windows, blocks = heldout_windows(self.model)
        except LabError as fault:
            remedy = "serve a checkpoint whose data set is on the server's machine"
            raise LabError(fault.problem, remedy=remedy) from None
        return Detector.fit(self.model, windows, blocks=blocks, cancelled=self._closed.is_set)


def body_limit(model: ScoreModel) -> int:
    """Return how many bytes a request may have, so that the longest recording fits."""
    return max(MAX_BODY, MOST_WINDOWS * model.length * len(model.channels) * _BYTES)


def add_questions(
    app: FastAPI,
    model: ScoreModel,
    queue: SampleQueue,
    scorer: Scorer,
    limits: Limits,
    settings: dict[str, Any],
) -> None:
    """Add the routes. `settings` holds what they share with other routes: dependencies and responses."""

    def route(path: str, answer: Any) -> Any:
        return app.post(path, response_model=answer, **settings)

    async def answered(request: Request, body: Any, window: np.ndarray, last: int) -> Any:
        answer = await drawn(queue, job_about(model, body, window), request)
        if answer is None:
            return Response(status_code=499)
        return await run_in_threadpool(summary, answer, model, window, body.level, last)

    def add(impute_model: Any, forecast_model: Any, score_model: Any) -> None:
        @route("/impute", QuestionAnswer)
        async def impute(request: Request, body: impute_model) -> Any:
            """Fill the missing values (null) of one window: median and interval of the draws."""
            window, _ = check_series(model, _array(body.series))
            return await answered(request, body, window, model.length)

        @route("/forecast", QuestionAnswer)
        async def forecast(request: Request, body: forecast_model) -> Any:
            """Continue a series by `horizon` steps; missing values (null) are allowed."""
            window, _ = check_series(model, forecast_window(model, _array(body.history), body.horizon))
            return await answered(request, body, window, body.horizon)

        @route("/score", ScoreAnswer)
        async def score(body: score_model) -> Any:
            """Score how improbable a recording is, in windows and values; the first request calibrates."""
            return await run_in_threadpool(scorer.score, _array(body.series), body.hop, body.false_alarms)

    add(*_bodies(model, limits))


def job_about(model: ScoreModel, body: Any, window: np.ndarray) -> SampleJob:
    """Return the job that draws series given the known values of `window` (N, M), in data units."""
    config = SamplerConfig(policy_of(body.policy), body.steps, ASKING.solver, ASKING.grid)
    observed = (window - model.mean) / model.std
    return SampleJob(config, body.num, body.seed, deadline=body.deadline_s, given=observed[None])


def summary(
    answer: Delivery, model: ScoreModel, window: np.ndarray, level: float, last: int
) -> QuestionAnswer:
    """Return median and interval of the draws for the `last` steps of `window` (N, M)."""
    draws = np.where(np.isnan(window), answer.series, window)[:, model.length - last :]
    low, median, high = np.quantile(draws, interval_levels(level), axis=0)
    return QuestionAnswer(
        channels=list(model.channels),
        median=median.tolist(),
        low=low.tolist(),
        high=high.tolist(),
        queue_seconds=answer.queue_seconds,
        seconds=answer.seconds,
        token_share=answer.token_share,
    )


def _bodies(model: ScoreModel, limits: Limits) -> tuple[Any, Any, Any]:
    length, draws = model.length, min(64, limits.num)
    shared: dict[str, Any] = {
        "num": (whole_number(1, limits.num, "draws; intervals of few are rough"), draws),
        "level": (_number(0.01, 0.99, "share of the draws inside the interval"), 0.9),
        "seed": (whole_number(0, MAX_SEED, "answers of equal seeds are equal"), 0),
        "policy": (policy_field(), "exact"),
        "steps": (
            whole_number(2, limits.steps, "network calls of the solver"),
            min(ASKING.steps, limits.steps),
        ),
        "deadline_s": (SECONDS, None),
    }
    width = len(model.channels)
    ahead = whole_number(1, length - 1, "steps to forecast")
    hop = whole_number(1, length, "steps between windows; by default one window after the other") | None
    scored: dict[str, Any] = {
        "series": (_table(width, 1, MOST_WINDOWS * length), ...),
        "hop": (hop, None),
        "false_alarms": (_number(0.001, 0.5, "share of normal windows that may be flagged"), 0.05),
    }
    about: dict[str, Any] = {"__config__": STRICT}
    return (
        create_model("ImputeRequest", **about, series=(_table(width, length, length), ...), **shared),
        create_model(
            "ForecastRequest",
            **about,
            history=(_table(width, 1, length), ...),
            horizon=(ahead, ...),
            **shared,
        ),
        create_model("ScoreRequest", **about, **scored),
    )


def _number(low: float, high: float, help: str) -> Any:
    return Annotated[float, Field(strict=True, ge=low, le=high, description=help)]


def _table(width: int, least: int, most: int) -> Any:
    """Return the type of a series: `least` to `most` rows of one value, or null, for each channel."""
    value: Any = _number(-_LARGEST, _LARGEST, "") | None
    row: Any = Annotated[list.__class_getitem__(value), Field(min_length=width, max_length=width)]
    help = "one row for each step, with a value for each channel in data units; null is missing"
    table: Any = Annotated[
        list.__class_getitem__(row), Field(min_length=least, max_length=most, description=help)
    ]
    return table


def _array(rows: list[list[float | None]]) -> np.ndarray:
    return np.array(rows, dtype=np.float64)


def _nullable(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else value for value in values.tolist()]
