"""Answer questions about recordings of any length: windows that see a gap from both sides, and CSV tables."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np

from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.io.files import replace_file
from e2crf_core.progress import silent
from e2crf_core.questions.answers import DrawOptions, impute

MEDIAN = (0.5,)


@dataclass(frozen=True)
class Filled:
    """A gapless recording in data units: the quantiles (Q, T, M) of the draws at `levels`.

    Known values (`known`, (T, M)) equal all of them. `windows` counts the runs.
    """

    levels: tuple[float, ...]
    quantiles: np.ndarray
    known: np.ndarray
    windows: int

    def at(self, level: float) -> np.ndarray:
        """Return the quantile (T, M) at one of `levels`."""
        return self.quantiles[self.levels.index(level)]


def interval_levels(share: float) -> tuple[float, float, float]:
    """Return the levels of a median and of the ends of the central interval that holds `share` of the draws.

    Raises LabError if `share` is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise LabError(f"level {share}", field="level", remedy="choose a share between 0 and 1")
    return (1 - share) / 2, 0.5, (1 + share) / 2


def window_starts(missing: np.ndarray, length: int) -> np.ndarray:
    """Return first steps of the windows of `length` that answer for a recording's missing steps (T,).

    Windows lie half a length apart, the last one at the end. A missing step is answered by the window with
    the nearest center, so that it sees known values on both sides if there are any.
    """
    total = len(missing)
    starts = np.unique(
        np.append(np.arange(0, max(1, total - length + 1), max(1, length // 2)), max(0, total - length))
    )
    nearest = nearest_window(np.flatnonzero(missing), starts, length)
    return starts[np.unique(nearest)]


def nearest_window(steps: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """Return the index into `starts` of the window whose center is nearest to each step."""
    return np.abs(steps[:, None] - (starts + (length - 1) / 2)[None]).argmin(1)


def fill(
    model: ScoreModel,
    recording: np.ndarray,
    *,
    levels: Sequence[float] = MEDIAN,
    **drawing: Unpack[DrawOptions],
) -> Filled:
    """Impute every missing value (NaN) of a recording (T, M), in data units, of any number of steps T.

    `progress` counts sampler steps. Raises LabError if nothing is missing, a window holds no known value, or the
    channels are not the model's.
    """
    if recording.ndim != 2 or recording.shape[1] != len(model.channels):
        raise LabError(
            f"the recording has shape {recording.shape}, the model has {len(model.channels)} channels",
            field="channels",
            remedy=f"give a column for each of {', '.join(model.channels)}",
        )
    known = ~np.isnan(recording)
    missing = ~known.all(1)
    if not missing.any():
        raise LabError("no value is missing", field="file", remedy="leave the values to be filled empty")
    quantiles = np.repeat(recording[None].astype(np.float64), len(levels), axis=0)
    starts = window_starts(missing, model.length)
    steps = np.flatnonzero(missing)
    nearest = nearest_window(steps, starts, model.length)
    progress = drawing.pop("progress", silent)
    for index, start in enumerate(starts):
        window = np.full((model.length, recording.shape[1]), np.nan)
        part = recording[start : start + model.length]
        window[: len(part)] = part

        def report(done: int, total: int, place: int = index) -> None:
            progress(place * total + done, len(starts) * total)

        drawing["progress"] = report
        answer = impute(model, window, **drawing)
        rows = steps[nearest == index]
        drawn = np.quantile(answer.draws[:, rows - start], levels, axis=0)
        quantiles[:, rows] = np.where(known[rows], recording[rows], drawn)
    return Filled(tuple(levels), quantiles, known, len(starts))


def on_grid(values: np.ndarray, stamps: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Return values (T, M) and stamps (T,), in microseconds, with missing values in each omitted row.

    `step` is the usual distance between rows in seconds. Rows within half a step of it, such as months, are
    left as they are. Raises LabError if a longer distance is not a whole number of steps.
    """
    apart = np.diff(stamps) / (step * 1e6)
    if not len(apart) or (apart < 1.5).all():
        return values, stamps
    places = np.concatenate([[0], np.cumsum(np.maximum(1, np.round(apart)))]).astype(int)
    off = np.abs(apart - np.round(apart))
    if (off > 0.1).any():
        row = int(off.argmax()) + 2
        raise LabError(
            f"the time stamps before and after row {row} are {apart[row - 2]:.2f} usual steps apart",
            field="time",
            remedy="bring the recording to an even grid first, or leave its time column out",
            row=row,
        )
    filled = np.full((places[-1] + 1, values.shape[1]), np.nan)
    filled[places] = values
    times = np.interp(np.arange(len(filled)), places, stamps.astype(np.float64)).round().astype(np.int64)
    return filled, times


def write_table(
    path: Path,
    names: Sequence[str],
    rows: Sequence[object],
    row_name: str,
    columns: Mapping[str, np.ndarray],
) -> None:
    """Write a CSV table: `row_name`, then per channel one column for each entry of `columns` (T, M).

    An entry with an empty name uses the channel's name.
    """
    flat = [
        (f"{name}_{kind}" if kind else name, values[:, channel])
        for channel, name in enumerate(names)
        for kind, values in columns.items()
    ]
    write_columns(path, rows, row_name, flat)


def write_columns(
    path: Path, rows: Sequence[object], row_name: str, columns: Sequence[tuple[str, np.ndarray]]
) -> None:
    """Write a CSV table: `row_name`, then the named columns (T,). NaN gives an empty cell."""

    def write(target: Path) -> None:
        with target.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([row_name, *(name for name, _ in columns)])
            cells = [_cells(values) for _, values in columns]
            writer.writerows(zip(rows, *cells, strict=True))

    replace_file(path, write)


def _cells(values: np.ndarray) -> Iterator[str]:
    whole = values.dtype.kind in "iub"
    for value in values.tolist():
        yield str(value) if whole else "" if np.isnan(value) else f"{value:.7g}"
