"""What a question is about: a held-out window with a hidden part, or a file of the visitor's own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from e2crf_core.data.axes import channel_title, time_axis
from e2crf_core.data.datasets import Dataset
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.questions.files import Recording

SPIKE, SHIFT, DROPOUT = "spike", "shift", "stuck"


@dataclass(frozen=True)
class Subject:
    """A series to ask about: `values` (T, M) in data units, NaN where an answer is needed.

    `truth` (T, M) holds the values that were hidden, NaN elsewhere; None if nothing is known about them.
    `x` (T,) are places on the axis `x_title`; `rows` are the cells of the column `row_name` in downloads.
    """

    values: np.ndarray
    truth: np.ndarray | None
    x: np.ndarray
    x_title: str
    row_name: str
    rows: list[object]
    titles: tuple[str, ...]

    @property
    def missing(self) -> np.ndarray:
        """Return which values (T, M) are missing."""
        return np.isnan(self.values)

    def part(self, first: int, last: int) -> Subject:
        """Return the steps from `first` up to `last`."""
        span = slice(first, last)
        truth = None if self.truth is None else self.truth[span]
        return replace(self, values=self.values[span], truth=truth, x=self.x[span], rows=self.rows[span])


def window_subject(data: Dataset, index: int, hidden: np.ndarray) -> Subject:
    """Return window `index` of a data set without its values at `hidden` (N, M)."""
    whole = data.x[index].astype(np.float64)
    axis = time_axis(data)
    return Subject(
        values=np.where(hidden, np.nan, whole),
        truth=np.where(hidden, whole, np.nan),
        x=np.arange(data.length) * axis["step"],
        x_title=axis["title"],
        row_name="step",
        rows=list(range(data.length)),
        titles=tuple(channel_title(data, channel) for channel in range(len(data.channels))),
    )


def planted(subject: Subject, fault: str, size: np.ndarray) -> Subject:
    """Return a subject with a fault of `size` (M,) in its middle: a spike, a shift of level, or a stuck sensor."""
    values, half = subject.values.copy(), len(subject.values) // 2
    last = half + len(values) // 4
    if fault == SPIKE:
        values[half] += size
    elif fault == SHIFT:
        values[half:last] += size
    else:
        values[half:last] = values[half - 1]
    return replace(subject, values=values, truth=None)


def whole_subject(recording: Recording) -> Subject:
    """Return a whole recording as it is."""
    return _of(recording, recording.values, recording.stamps)


def gaps_subject(recording: Recording) -> Subject:
    """Return a whole recording with its gaps. Raises LabError if it has none."""
    if not np.isnan(recording.values).any():
        raise LabError(
            "no value is missing in this file",
            remedy="leave the cells to be filled empty, or ask what comes next",
        )
    return _of(recording, recording.values, recording.stamps)


def next_subject(model: ScoreModel, recording: Recording, horizon: int, *, held_back: bool) -> Subject:
    """Return the end of a recording, followed by `horizon` steps to forecast: one window of the model.

    With `held_back`, those steps are the last ones of the recording, and their values are the truth.
    """
    values, stamps = recording.values, recording.stamps
    room = model.length - horizon
    truth = None
    if held_back:
        if len(values) <= horizon:
            raise LabError(f"the file has {len(values)} rows", remedy="choose a shorter horizon")
        truth = np.full((min(len(values) - horizon, room) + horizon, values.shape[1]), np.nan)
        truth[-horizon:] = values[-horizon:]
        values, stamps = values[:-horizon], None if stamps is None else stamps[:-horizon]
    history = values[-room:]
    ahead = np.full((horizon, values.shape[1]), np.nan)
    if stamps is not None:
        step = int(np.median(np.diff(stamps))) if len(stamps) > 1 else 0
        stamps = np.concatenate([stamps[-room:], stamps[-1] + step * np.arange(1, horizon + 1)])
    return replace(_of(recording, np.concatenate([history, ahead]), stamps), truth=truth)


def _of(recording: Recording, values: np.ndarray, stamps: np.ndarray | None) -> Subject:
    row_name, rows = replace(recording, values=values, stamps=stamps).rows()
    x = np.arange(len(values)) if stamps is None else stamps.astype("datetime64[us]")
    title = "row" if stamps is None else recording.time or "time"
    return Subject(values, None, x, title, row_name, rows, recording.names)


def stretches(missing: np.ndarray) -> list[tuple[int, int]]:
    """Return the runs (first, last + 1) of steps at which some channel of (T, M) is missing."""
    steps = np.concatenate([[False], missing.any(1), [False]])
    edges = np.flatnonzero(steps[1:] != steps[:-1])
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def heldout_mask(model: ScoreModel, subject: Subject) -> np.ndarray:
    """Return which values (N, M) are known when the same question is put to a held-out window.

    A subject of the model's length keeps its own gaps. Of a longer one, the longest gap is moved to the
    middle of a window, at most half of it.
    """
    missing = subject.missing
    if len(missing) == model.length:
        return ~missing
    first, last = max(stretches(missing), key=lambda part: part[1] - part[0])
    size = min(last - first, model.length // 2)
    known = np.ones((model.length, missing.shape[1]), dtype=bool)
    begin = model.length - size if last == len(missing) else (model.length - size) // 2
    known[begin : begin + size, missing[first:last].any(0)] = False
    return known
