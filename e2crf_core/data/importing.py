"""Turn a user's file into a data set: read it, cut it into windows, split them, and record every decision.

Nothing is guessed silently: the report and the card state how each column was read and what was dropped,
filled, subtracted, or resampled, and they mark guesses as such.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from e2crf_core.data.datasets import moments
from e2crf_core.data.gaps import Cutting, GapChoice, filled_table, gap_choices, longest_clean_run
from e2crf_core.data.loading import Loaded, load, longest_group
from e2crf_core.data.plan import Decision, Reading, quoted
from e2crf_core.data.steps import parse_step, span_text
from e2crf_core.data.tables import Table, resampled
from e2crf_core.data.windows import Windows, cut_windows, split_windows
from e2crf_core.data.writing import check_out, write_dataset
from e2crf_core.errors import LabError


@dataclass(frozen=True)
class ImportReport:
    """The outcome of an import: `gaps` by channel, `dropped` windows, `filled` interpolated cells.

    `decisions` state how each column was read; `choices` state how many windows each way of handling gaps
    would leave.
    """

    out: str
    windows: int
    train: int
    heldout: int
    channels: tuple[str, ...]
    gaps: dict[str, int]
    dropped: int
    filled: int
    notes: tuple[str, ...]
    decisions: tuple[Decision, ...] = ()
    choices: tuple[GapChoice, ...] = ()


@dataclass(frozen=True)
class _Cut:
    """A file cut into windows, with a record of what was done."""

    loaded: Loaded
    windows: Windows
    split: np.ndarray
    gaps: dict[str, int]
    filled: int
    step: float
    step_text: str
    notes: tuple[str, ...]
    choices: tuple[GapChoice, ...]


def import_file(
    path: str | Path,
    *,
    window: int,
    out: str | Path,
    stride: int | None = None,
    gaps: str = "drop",
    max_gap: int = 3,
    resample: str | None = None,
    ignore_calendar: bool = False,
    title: str | None = None,
    **reading: Any,
) -> ImportReport:
    """Cut a CSV, TSV, Parquet, NPY, NPZ, or TS file into windows; write OUT/dataset.npz and OUT/card.json.

    `window` and `stride` are in rows (stride: window by default). `gaps`: 'drop' the windows with a gap, or
    'interpolate' runs of up to `max_gap` rows. `resample`: average over an even grid with that step
    ('10min', 'auto'). `ignore_calendar`: treat rows as steps, regardless of their time stamps. `reading`
    takes the arguments of `plan.Reading`: channels, group, time, missing, decimal, date_order, tz, skip,
    header, axes. Raises LabError: one line that names the fault, its row and column, and the argument that
    resolves it.
    """
    path, out = Path(path), Path(out)
    check_out(out)
    cutting = Cutting(window, window if stride is None else stride, gaps, max_gap, resample, ignore_calendar)
    asked = Reading.of(reading)
    loaded = load(path, asked, window)
    for question in loaded.questions:
        # Resampling averages rows with equal time stamps, so they leave no open question.
        if not (resample is not None and question.field == "group"):
            raise question
    cut = _cut(path, loaded, cutting)
    card = _card(path, cut, cutting, title)
    arrays = {
        "X": cut.windows.x,
        "channels": np.array(loaded.names),
        "group": cut.windows.group,
        "start": cut.windows.start,
        "split": cut.split,
        "mean": np.array(card["standardization"]["mean"], dtype=np.float32),
        "std": np.array(card["standardization"]["std"], dtype=np.float32),
        "license": np.array(card["license"]),
        "source": np.array(card["source"]),
    }
    write_dataset(out, arrays, card)
    return ImportReport(
        str(out), len(cut.windows.x), card["split"]["train"], card["split"]["heldout"], loaded.names, cut.gaps,
        cut.windows.dropped, cut.filled, cut.notes, loaded.decisions, cut.choices,
    )  # fmt: skip


def _cut(path: Path, loaded: Loaded, cutting: Cutting) -> _Cut:
    """Resample, fill, cut, and split. Raises LabError if fewer than two windows are left."""
    table, notes = (
        loaded.table,
        [_sentence(d) for d in loaded.decisions if d.reading != "numbers"],
    )
    if loaded.ready:
        if cutting.resample is not None:
            raise LabError(
                f"{path.name} holds ready windows: resample does not apply to it", field="resample"
            )
        cutting = replace(cutting, stride=cutting.window)
    gap_counts = {name: int(np.isnan(table.values[:, i]).sum()) for i, name in enumerate(loaded.names)}
    _check_length(path, table, loaded, cutting.window)
    choices = gap_choices(table, cutting)
    regular = table.regular
    step, step_text = regular.step, regular.text
    if cutting.resample is not None:
        if table.stamps is None:
            raise LabError(
                f"{path.name}: resampling needs a column of time stamps",
                field="time",
                remedy="name that column",
            )
        step = parse_step(cutting.resample, step)
        step_text = span_text(step)
        table = resampled(table, step)
        notes.append(f"resampled to {step_text} by means")
    table, filled = filled_table(table, cutting)
    windows = cut_windows(table, cutting, loaded.offsets)
    if len(windows.x) < 2:
        raise _too_few(path, table, len(windows.x), windows.dropped, cutting.window)
    if loaded.ready:
        windows = _placed(windows, loaded)
    split = split_windows(windows, calendar=table.stamps is not None)
    return _Cut(loaded, windows, split, gap_counts, filled, step, step_text, tuple(notes), choices)


def _sentence(decision: Decision) -> str:
    name = f"column {decision.column!r} " if decision.column else ""
    verb = {"left out": "was left out: ", "time": "is time: ", "channel": ": ", "group": "is the group: "}
    text = f"{name}{verb.get(decision.role, '') if name else ''}{decision.reading}"
    return text.replace(" : ", ": ") + ("" if decision.certain else " (a guess)")


def _placed(windows: Windows, loaded: Loaded) -> Windows:
    """Return ready windows in order, or placed in the recordings from which overlapping ones were cut."""
    index = np.array([int(name.removeprefix("window ")) - 1 for name in windows.group], dtype=np.int64)
    if loaded.recording is None or loaded.place is None:
        everything = np.full(len(index), "all")
        return replace(windows, group=everything, start=index, place=index.astype(float), span=1.0)
    recording, place = loaded.recording[index], loaded.place[index]
    for name in np.unique(recording):
        place[recording == name] -= place[recording == name].min()
    labels = {name: f"recording {i + 1}" for i, name in enumerate(np.unique(recording))}
    group = np.array([labels[name] for name in recording])
    return replace(
        windows, group=group, start=place, place=place.astype(float), span=float(windows.x.shape[1])
    )


def _card(path: Path, cut: _Cut, cutting: Cutting, title: str | None) -> dict[str, Any]:
    """Return the data card: what the data are, and every decision made."""
    loaded, windows, split = cut.loaded, cut.windows, cut.split
    mean, std = moments(windows.x, np.flatnonzero(split == 0))
    least = np.finfo(np.float32).eps * np.hypot(mean, std)
    flat = [name for name, s, floor in zip(loaded.names, std, least, strict=True) if s <= floor]
    notes = [*cut.notes, *([f"constant in the training windows: {quoted(flat)}"] if flat else [])]
    counts = {
        name: int((split == code).sum()) for name, code in (("train", 0), ("heldout", 1), ("left_out", 2))
    }
    steps = f"{cutting.window} rows"
    if cut.step:
        each = f"{cutting.window} steps of {cut.step_text}"
        steps += f" ({each if ' ' in cut.step_text else span_text(cutting.window * cut.step)})"
    return {
        "title": title or path.stem,
        "domain": "own data",
        "source": path.name,
        "license": "not stated",
        "units": list(loaded.units),
        "window": {"text": steps, "steps": cutting.window, "stride": cutting.stride},
        "sampling": {"text": cut.step_text if cut.step else "one row", "seconds": cut.step or None},
        "group": loaded.group,
        "time": loaded.time or None,
        "gaps": {"how": cutting.gaps, "max_gap": cutting.max_gap if cutting.gaps == "interpolate" else None,
                 "by_channel": cut.gaps, "filled_cells": cut.filled, "dropped_windows": windows.dropped,
                 "ignore_calendar": cutting.ignore_calendar},
        "split": {"text": "contiguous stretches of time are held out; windows on the border are left out", **counts},
        "standardization": {"mean": mean.tolist(), "std": std.tolist()},
        "offsets": {n: float(o) for n, o in zip(loaded.names, loaded.offsets, strict=True) if o},
        "decisions": [asdict(decision) for decision in loaded.decisions],
        "notes": notes,
    }  # fmt: skip


def _check_length(path: Path, table: Table, loaded: Loaded, window: int) -> None:
    longest = longest_group(table)
    if longest < window:
        of = "" if len(table.groups) == 1 else f", at most {longest} of one group"
        raise LabError(
            f"{path.name} has {len(table.values)} rows (columns {quoted(loaded.names, 4)}){of}: too few for one window "
            f"of {window}",
            field="window",
            remedy="choose a shorter window or bring more rows",
        )


def _too_few(path: Path, table: Table, kept: int, dropped: int, window: int) -> LabError:
    if not dropped:
        return LabError(
            f"{path.name} gives {kept} window of {window}, two are the least",
            field="window",
            remedy="choose a shorter window or stride",
        )
    if not np.isnan(table.values).any():
        return LabError(
            f"{path.name}: all windows of {window} run over jumps in time",
            field="ignore_calendar",
            remedy="choose a shorter window, resample, or ignore the calendar and take rows as steps",
        )
    first = f"the first gap is in {table.first_gap}" if table.first_gap else "resampling left empty bins"
    return LabError(
        f"{path.name}: gaps leave {kept} of {kept + dropped} windows ({first}; the longest run without one is "
        f"{longest_clean_run(table)} rows)",
        field="gaps",
        remedy="interpolate short gaps, choose a shorter window, or leave columns out",
    )
