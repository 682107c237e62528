"""Read a user's file as a recording to ask about, and compare it with what a model was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from e2crf_core.data.loading import load
from e2crf_core.data.plan import Reading, quoted
from e2crf_core.data.series_files import ReadySeries, open_file
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.questions.recordings import on_grid

FAR = 4.0
"""Means this many standard deviations of the training data apart, or spreads this many times larger, are far."""


@dataclass(frozen=True)
class Recording:
    """A recording `values` (T, M) in data units, NaN for gaps, on an even grid.

    `names` are the file's columns in the order of the model's channels. `stamps` (T,), in microseconds since
    1970, belong to the column `time`; both are empty without time stamps. `step` is in seconds, 0 if unknown.
    """

    values: np.ndarray
    names: tuple[str, ...]
    stamps: np.ndarray | None = None
    time: str = ""
    step: float = 0.0

    def rows(self) -> tuple[str, list[Any]]:
        """Return name and cells of an answer's first column: time stamps, or row numbers from 0."""
        if self.stamps is None:
            return "step", list(range(len(self.values)))
        unit: Literal["us", "s"] = "us" if (self.stamps % 1_000_000).any() else "s"
        return self.time or "time", list(
            np.datetime_as_string(self.stamps.astype("datetime64[us]"), unit=unit)
        )


def read_recording(
    file: Path, model: ScoreModel, *, channels: Sequence[str] = (), **reading: Any
) -> Recording:
    """Read a file with a column for each channel of a model; rows that it omits become gaps.

    `channels` names its columns in the model's order: by default those with the model's names, or else all of
    them. `reading` takes the other arguments of `plan.Reading`. Raises LabError for open questions, for
    another number of channels, and for several recordings in one file.
    """
    asked = tuple(channels) or _own_channels(file, model)
    loaded = load(file, Reading.of({**reading, "channels": asked}), model.length)
    if loaded.questions:
        raise loaded.questions[0]
    if len(loaded.names) != len(model.channels):
        raise LabError(
            f"{file.name} has {len(loaded.names)} channels ({quoted(loaded.names)})",
            field="channels",
            remedy=f"name the columns for {', '.join(model.channels)}, in this order",
        )
    table = loaded.table
    if len(table.groups) > 1:
        raise LabError(
            f"{file.name} holds several recordings", field="file", remedy="ask about one at a time"
        )
    if table.stamps is None:
        return Recording(table.values, loaded.names)
    values, stamps = on_grid(table.values, table.stamps, table.regular.step)
    return Recording(values, loaded.names, stamps, loaded.time, table.regular.step)


def _own_channels(file: Path, model: ScoreModel) -> tuple[str, ...]:
    """Return the model's channel names if the file has a column for each; else none, to read all columns."""
    source = open_file(file)
    if isinstance(source, ReadySeries) or not set(model.channels) <= set(source.names):
        return ()
    return tuple(model.channels)


def mismatches(model: ScoreModel, recording: Recording, step: float | None = None) -> tuple[str, ...]:
    """Return a sentence for each way in which a recording does not resemble the model's training data.

    Means and spreads of channels are compared, and the time step with `step` in seconds, if both are known.
    """
    texts = []
    for channel, name in enumerate(model.channels):
        known = recording.values[:, channel]
        known = known[~np.isnan(known)]
        if not len(known):
            continue
        mean, std = float(model.mean[channel]), float(model.std[channel])
        ours, spread = float(known.mean()), float(known.std())
        if abs(ours - mean) > FAR * std or not std / FAR**2 < spread < FAR * std:
            texts.append(
                f"{recording.names[channel]} is {ours:.3g} ± {spread:.2g} here, but {name} was {mean:.3g} ± "
                f"{std:.2g} in training: is it the same quantity in the same unit?"
            )
    if step and recording.step and abs(recording.step / step - 1) > 0.01:
        texts.append(f"its rows are {recording.step:g} s apart, those of the training data {step:g} s")
    return tuple(texts)
