"""Survey a file before import: how each column would be read, what is open, and what would be left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from e2crf_core.data.gaps import Cutting, GapChoice, gap_choices
from e2crf_core.data.loading import Loaded, load_table, longest_group, open_planned, ready_series
from e2crf_core.data.numbers import cell_text
from e2crf_core.data.plan import Decision, Reading, TablePlan
from e2crf_core.data.profiles import TableProfile
from e2crf_core.data.series_files import ReadySeries
from e2crf_core.data.sources import CsvSource, Source
from e2crf_core.data.tables import group_slices
from e2crf_core.errors import LabError

STRETCH = 400


@dataclass(frozen=True)
class SurveyedColumn:
    """The content of one column: `gaps` empty cells, `texts` non-numeric cells, first at row `first_text`."""

    name: str
    kind: str
    gaps: int
    texts: int = 0
    first_text: int = 0


@dataclass(frozen=True)
class FileSurvey:
    """What a file is and how it would be imported. Rows are numbered as in the file; `step` is in seconds.

    `decisions` state how each column is read, including guesses. `questions` must be answered before an
    import; each is a LabError whose `field` names the argument of `import_file` that answers it. `choices`
    state how many windows each way of handling gaps leaves, with one recommended; they are empty while a
    question is open. `stretch` (T, M) holds the first rows of the channels `stretch_names` in order of time, of
    one group, for a plot, and `stretch_stamps` (T,) their time stamps in microseconds, None without any.
    `ready_steps` is the length of the series in a file of whole series, else None.
    """

    path: str
    form: str
    columns: tuple[SurveyedColumn, ...]
    rows: tuple[tuple[str, ...], ...]
    first_row: int
    n_rows: int
    delimiter: str
    decimal: str
    encoding: str
    time: str
    step: float
    uneven: float
    decisions: tuple[Decision, ...]
    questions: tuple[LabError, ...]
    choices: tuple[GapChoice, ...]
    stretch: np.ndarray
    stretch_names: tuple[str, ...]
    stretch_stamps: np.ndarray | None = None
    ready_steps: int | None = None

    @property
    def recommended(self) -> GapChoice | None:
        """Return the recommended way of handling gaps."""
        return next((choice for choice in self.choices if choice.recommended), None)


def usual_window(rows: int, step: float) -> int:
    """Suggest a window: a day if it fits, else a length that leaves a few dozen windows."""
    most = max(4, rows // 8)
    day = round(86400 / step) if step else 0
    return day if 16 <= day <= min(512, most) else min(128, most)


def survey_file(
    path: str | Path, *, window: int | None = None, stride: int | None = None, rows: int = 8, **reading: Any
) -> FileSurvey:
    """Survey a file as `import_file` would read it, without writing anything.

    `window` and `stride` are in rows (detected from the file if None); `reading` takes the arguments of
    `plan.Reading`: channels, group, time, missing, decimal, date_order, tz, skip, header, axes. Reads the
    whole file. Raises LabError if the file cannot be read as a table at all.
    """
    path = Path(path)
    asked = Reading.of(reading)
    opened = open_planned(path, asked)
    if isinstance(opened.source, ReadySeries):
        return _of_series(opened.source, asked, window, stride, rows)
    assert opened.profile is not None and opened.plan is not None
    loaded, questions = None, opened.plan.questions
    try:
        loaded = load_table(opened.source, _texts_as_gaps(opened.plan, opened.profile), asked)
        texts = [q for q in questions if q.field == "missing"]
        questions = (*texts, *loaded.questions)
    except LabError as fault:
        questions = (*questions, fault) if fault not in questions else questions
    return _of_table(opened.source, opened.profile, opened.plan, loaded, questions, window, stride, rows)


def _texts_as_gaps(plan: TablePlan, profile: TableProfile) -> TablePlan:
    """Return the plan that treats texts among numbers as gaps, to predict what would be left."""
    styles = {}
    for name, style in plan.styles.items():
        words = tuple(word.lower() for word in profile.columns[name].evidence.words)
        styles[name] = replace(style, missing=(*style.missing, *words))
    return replace(plan, styles=styles, questions=tuple(q for q in plan.questions if q.field != "missing"))


def _choices(loaded: Loaded | None, window: int | None, stride: int | None) -> tuple[GapChoice, ...]:
    if loaded is None:
        return ()
    table = loaded.table
    if window is None:
        window = usual_window(longest_group(table), table.regular.step)
    if window < 4 or (stride is not None and stride < 1):
        return ()
    return gap_choices(table, Cutting(window, stride or window))


def _of_table(
    source: Source,
    profile: TableProfile,
    plan: TablePlan,
    loaded: Loaded | None,
    questions: Sequence[LabError],
    window: int | None,
    stride: int | None,
    rows: int,
) -> FileSurvey:
    head = next(source.batches(source.names), [])
    cells = [[cell_text(a, i) if a[i].is_valid else "" for i in range(min(rows, len(a)))] for a in head]
    dialect = source.dialect if isinstance(source, CsvSource) else None
    decimals = [style.decimal for style in plan.styles.values()]
    regular = loaded.table.regular if loaded else None
    shown = slice(min(STRETCH, group_slices(loaded.table.codes)[0].stop) if loaded else 0)
    columns = []
    for name, column in profile.columns.items():
        seen = column.evidence
        kind = "time" if plan.clock and name in plan.clock.columns else column.kind
        texts = seen.texts if kind in ("number", "text") else 0
        row = source.row(seen.first_text) if texts and kind == "number" else 0
        columns.append(SurveyedColumn(name, kind, seen.gaps, texts, row))
    return FileSurvey(
        path=str(source.path),
        form=source.path.suffix.lower().lstrip("."),
        columns=tuple(columns),
        rows=tuple(zip(*cells, strict=True)),
        first_row=source.row(0),
        n_rows=profile.rows,
        delimiter=dialect.delimiter if dialect else "",
        decimal=max(set(decimals), key=decimals.count) if decimals else ".",
        encoding=dialect.encoding if dialect else "",
        time=" + ".join(plan.clock.columns) if plan.clock else "",
        step=regular.step if regular else 0.0,
        uneven=regular.uneven if regular else 0.0,
        decisions=loaded.decisions if loaded else plan.decisions,
        questions=tuple(questions),
        choices=_choices(loaded, window, stride),
        stretch=loaded.table.values[shown] if loaded else np.zeros((0, 0)),
        stretch_names=loaded.names if loaded else (),
        stretch_stamps=loaded.table.stamps[shown] if loaded and loaded.table.stamps is not None else None,
    )


def _of_series(
    series: ReadySeries, reading: Reading, window: int | None, stride: int | None, rows: int
) -> FileSurvey:
    count, length, width = series.x.shape
    loaded: Loaded | None = None
    questions: tuple[LabError, ...] = ()
    try:
        loaded = ready_series(series, reading, window or length)
    except LabError as fault:
        questions = (fault,)
    gaps = np.isnan(series.x).sum((0, 1))
    return FileSurvey(
        path=str(series.path),
        form=f"{series.path.suffix.lower().lstrip('.')}, {count} windows of {length}",
        columns=tuple(SurveyedColumn(series.names[i], "number", int(gaps[i])) for i in range(width)),
        rows=tuple(tuple(f"{v:g}" for v in row) for row in series.x[0, :rows]) if count else (),
        first_row=1,
        n_rows=count * length,
        delimiter="",
        decimal=".",
        encoding="",
        time="",
        step=0.0,
        uneven=0.0,
        decisions=loaded.decisions if loaded else (),
        questions=questions,
        choices=_choices(loaded, length, length),
        stretch=series.x[0, :STRETCH] if count else np.zeros((0, 0)),
        stretch_names=series.names,
        ready_steps=length,
    )
