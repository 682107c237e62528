"""Draw the samples of one request: wait for the worker, give up when the client is gone, word the refusal."""

from __future__ import annotations

import asyncio

from fastapi import Request

from e2crf_core.errors import LabError
from e2crf_core.serving.batching import Delivery, SampleJob
from e2crf_core.serving.queue import DeadlinePassed, QueueFull, SampleQueue, SamplingFailed, Stopping

POLL = 0.2
"""Seconds between checks whether the client is still there."""

STATUS: dict[type[LabError], int] = {
    QueueFull: 429,
    SamplingFailed: 500,
    Stopping: 503,
    DeadlinePassed: 504,
}


def status_of(fault: LabError) -> int:
    """Return the HTTP status of a fault; 409 means that the settings do not go together."""
    return STATUS.get(type(fault), 409)


async def drawn(queue: SampleQueue, job: SampleJob, request: Request) -> Delivery | None:
    """Return the samples of a job; None if the client disconnected. Raises LabError without samples."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    job.done = lambda: loop.call_soon_threadsafe(ready.set)
    queue.submit(job)
    try:
        while not await _within(ready, POLL):
            if await request.is_disconnected():
                return None
        if job.error is not None:
            raise job.error
        return job.answer
    finally:
        queue.release(job)


async def _within(ready: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(ready.wait(), seconds)
    except TimeoutError:
        return False
    return True
