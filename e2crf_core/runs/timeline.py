"""Write a recorded run as a timeline in the Chrome trace event format, which Perfetto and browsers open.

The format is described in "Trace Event Format" (Google, 2016): complete events ("X") lie on threads, counters
("C") are graphs, metadata ("M") name them; `ts` and `dur` are in microseconds. Time is the compute time of the
steps, one after the other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from e2crf_core.caching.events import Reason
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.diffusion.spectral import band_edges
from e2crf_core.runs.archive import Archive
from e2crf_core.runs.twin import Twin, step_errors

PROCESS = 1
STEPS, CALLS, BANDS = 1, 2, 3
"""Threads: steps, network calls, and from BANDS on one thread for each band of frequencies."""

Event = dict[str, Any]


def timeline(archive: Archive, errors: Sequence[float] | np.ndarray | None = None) -> dict[str, Any]:
    """Return the timeline as a JSON object; `errors` is the relative L2 to the uncached twin at every step."""
    recorder = archive.recorder
    ends = np.cumsum(recorder.column("seconds")) * 1e6
    begins = np.concatenate([[0.0], ends[:-1]])
    spans = list(itertools.pairwise(band_edges(recorder.n).tolist()))
    events = [*_names(archive, spans)]
    for i, (begin, end) in enumerate(zip(begins.tolist(), ends.tolist(), strict=True)):
        events += _step(archive, i, begin, end - begin, spans)
        events += _counters(archive, i, begin, errors)
    return {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {
            "run": archive.name,
            "recorded": archive.created,
            "checkpoint": archive.spec.checkpoint,
            "weights": archive.model["digest"],
            "solver": archive.spec.config.solver,
            "policy": asdict(recorder.policies[-1][2]),
            **archive.versions,
        },
    }


def errors_to_twin(archive: Archive, model: ScoreModel, twin: Twin) -> np.ndarray | None:
    """Return (count,) relative L2 of the watched sample's estimate to its twin's; None if no twin is its own."""
    estimates = archive.recorder.column("x0")
    return None if archive.spec.watch else step_errors(model, estimates, twin.path[: len(estimates)])


def _names(archive: Archive, spans: Sequence[tuple[int, int]]) -> Iterator[Event]:
    """Yield the names of the process and its threads, in the order in which they are shown."""
    threads = {STEPS: "Steps", CALLS: "Network calls"}
    threads |= {BANDS + j: f"k = {low} to {high - 1}" for j, (low, high) in enumerate(spans)}
    yield _meta("process_name", 0, name=f"{archive.spec.checkpoint}, {archive.name}")
    for thread, name in threads.items():
        yield _meta("thread_name", thread, name=name)
        yield _meta("thread_sort_index", thread, sort_index=thread)


def _meta(kind: str, thread: int, **values: Any) -> Event:
    return {"name": kind, "ph": "M", "pid": PROCESS, "tid": thread, "ts": 0, "args": values}


def _span(name: str, kind: str, thread: int, begin: float, length: float, **values: Any) -> Event:
    place = {"pid": PROCESS, "tid": thread, "ts": begin, "dur": length}
    return {"name": name, "cat": kind, "ph": "X", **place, "args": values}


def _step(
    archive: Archive, i: int, begin: float, length: float, spans: Sequence[tuple[int, int]]
) -> Iterator[Event]:
    """Yield one step, its network call, and the bands in which it computed anything, with the reasons."""
    recorder = archive.recorder
    known = {
        name: _plain(recorder.column(name)[i]) for name in ("t", "log_snr", "share", "tau", "tokens", "flops")
    }
    yield _span(f"step {i + 1}", "step", STEPS, begin, length, **known, policy=archive.policy_at(i).trigger)
    reasons = recorder.column("reasons")[i]
    computed = int((reasons > 0).sum())
    if known["tokens"]:
        # The call is most of a step's time, but where in it, no record says.
        yield _span(
            "whole forward" if computed == recorder.n else f"{computed} of {recorder.n} tokens",
            "call",
            CALLS,
            begin,
            length,
            tokens=known["tokens"],
            flops=known["flops"],
        )
    for j, (low, high) in enumerate(spans):
        codes, counts = np.unique(reasons[low:high], return_counts=True)
        by_reason = {
            Reason(code).name.lower(): int(count)
            for code, count in zip(codes, counts, strict=True)
            if code != Reason.REUSED
        }
        if by_reason:
            name = max(by_reason, key=lambda reason: by_reason[reason])
            yield _span(name, "recompute", BANDS + j, begin, length, **by_reason)


def _counters(
    archive: Archive, i: int, begin: float, errors: Sequence[float] | np.ndarray | None
) -> Iterator[Event]:
    """Yield the graphs: tokens of the batch, event intensity r, and the error to the twin, where known."""
    recorder = archive.recorder
    graphs = {"tokens computed": recorder.column("tokens")[i], "event intensity r": recorder.column("r")[i]}
    if errors is not None:
        graphs["error to the uncached twin"] = errors[i]
    for name, value in graphs.items():
        number = _plain(value)
        if number is not None:
            yield {"name": name, "ph": "C", "pid": PROCESS, "ts": begin, "args": {"value": number}}


def _plain(value: Any) -> int | float | None:
    """Return a number that JSON can carry; None for one that is not finite."""
    number = value.item() if isinstance(value, np.generic) else value
    return number if math.isfinite(number) else None
