"""Fill short gaps along time, and count what each way of handling gaps would leave."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from e2crf_core.data.steps import holes, outages, span_text
from e2crf_core.data.tables import Table, group_slices, resampled
from e2crf_core.errors import LabError, make_whole

GAP_CHOICES = ("drop", "interpolate")
# No network takes longer ones (`models.cards`).
MAX_WINDOW = 1 << 16
MAX_ROWS = 1 << 40
# A choice that keeps this share of the best choice's windows is preferred if it invents less.
_ENOUGH = 0.9


@dataclass(frozen=True)
class Cutting:
    """How rows become windows. `window`, `stride`, and `max_gap`, the longest gap to fill, are in rows.

    `resample` is a step such as '10min' or 'auto', or None for rows as they are. With `ignore_calendar`, rows
    are steps regardless of their time stamps.
    """

    window: int
    stride: int
    gaps: str = "drop"
    max_gap: int = 3
    resample: str | None = None
    ignore_calendar: bool = False

    def __post_init__(self) -> None:
        """Reject choices that make no windows. Raises LabError."""
        make_whole(self, "window", low=4, high=MAX_WINDOW)
        make_whole(self, "stride", "max_gap", low=1, high=MAX_ROWS)
        if self.gaps not in GAP_CHOICES:
            raise LabError(
                f"gaps {self.gaps!r} is unknown", field="gaps", remedy=f"use {' or '.join(GAP_CHOICES)}"
            )


@dataclass(frozen=True)
class GapChoice:
    """The windows left and dropped, and cells filled, by one way of handling gaps; one way is recommended."""

    text: str
    cutting: Cutting
    windows: int
    dropped: int
    filled: int
    recommended: bool = False


def breaks(table: Table, *, ignore_calendar: bool = False, long: bool = False) -> np.ndarray:
    """Return (T,) True at rows before which rows of their group are missing; with `long`, only after outages."""
    broken = np.zeros(len(table.values), dtype=bool)
    regular = table.regular
    if table.stamps is None or ignore_calendar or not regular.step:
        return broken
    for part in group_slices(table.codes):
        broken[part.start + 1 : part.stop] = (outages if long else holes)(table.stamps[part], regular)
    return broken


def fill_gaps(
    values: np.ndarray, longest: int, stamps: np.ndarray | None = None, broken: np.ndarray | None = None
) -> tuple[np.ndarray, int]:
    """Fill runs of at most `longest` NaN between two numbers, in proportion to time if it is known.

    `values` (T, M), `stamps` (T,), `broken` (T,) True at rows after an outage: no value is filled across one.
    Returns the filled copy and the number of filled cells.
    """
    filled = values.copy()
    count = 0
    time = (
        np.arange(len(values), dtype=np.float64)
        if stamps is None
        else (stamps - stamps[0]).astype(np.float64)
    )
    stretch = np.zeros(len(values), dtype=np.int64) if broken is None else np.cumsum(broken)
    for channel in range(values.shape[1]):
        gap = np.isnan(values[:, channel])
        if not gap.any() or gap.all():
            continue
        edges = np.diff(np.concatenate([[0], gap.view(np.int8), [0]]))
        begin, end = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
        short = (end - begin <= longest) & (begin > 0) & (end < len(gap))
        last = len(gap) - 1
        short &= stretch[np.maximum(begin - 1, 0)] == stretch[np.minimum(end, last)]
        cells = np.flatnonzero(gap)[np.repeat(short, end - begin)]
        known = np.flatnonzero(~gap)
        filled[cells, channel] = np.interp(time[cells], time[known], values[known, channel])
        count += len(cells)
    return filled, int(count)


def filled_table(table: Table, cutting: Cutting) -> tuple[Table, int]:
    """Return the table with short gaps filled if `cutting` requests it, and the number of filled cells."""
    if cutting.gaps != "interpolate" or not np.isnan(table.values).any():
        return table, 0
    broken = breaks(table, ignore_calendar=cutting.ignore_calendar, long=True)
    values = np.empty_like(table.values)
    filled = 0
    for part in group_slices(table.codes):
        stamps = None if table.stamps is None or cutting.ignore_calendar else table.stamps[part]
        values[part], count = fill_gaps(table.values[part], cutting.max_gap, stamps, broken[part])
        filled += count
    return replace(table, values=values), filled


def good_starts(table: Table, cutting: Cutting) -> tuple[np.ndarray, int]:
    """Return first rows of the windows without a gap or a jump in time, and the number of other windows."""
    window, stride = cutting.window, cutting.stride
    bad = np.isnan(table.values).any(1)
    broken = breaks(table, ignore_calendar=cutting.ignore_calendar)
    gaps = np.concatenate([[0], np.cumsum(bad, dtype=np.int64)])
    jumped = np.concatenate([[0], np.cumsum(broken, dtype=np.int64)])
    kept, total = [], 0
    for part in group_slices(table.codes):
        starts = np.arange(part.start, part.stop - window + 1, stride)
        total += len(starts)
        clean = gaps[starts + window] == gaps[starts]
        # A jump to the first row of a window happens before the window.
        whole = jumped[starts + window] == jumped[starts + 1]
        kept.append(starts[clean & whole])
    starts = np.concatenate(kept) if kept else np.zeros(0, dtype=np.int64)
    return starts, total - len(starts)


def longest_clean_run(table: Table) -> int:
    """Return the most rows of one group in a row without a gap: the longest possible window."""
    best = 0
    for part in group_slices(table.codes):
        gaps = np.flatnonzero(np.isnan(table.values[part]).any(1))
        bounds = np.concatenate([[-1], gaps, [part.stop - part.start]])
        best = max(best, int(np.diff(bounds).max()) - 1)
    return best


def gap_choices(table: Table, cutting: Cutting) -> tuple[GapChoice, ...]:
    """Return what each way of handling gaps would leave of an unmodified table; one way is recommended."""
    base = replace(cutting, gaps="drop", resample=None, ignore_calendar=False)
    options = [("drop windows over gaps", base)]
    if np.isnan(table.values).any():
        fill = f"fill gaps of up to {cutting.max_gap} rows"
        options.append((fill, replace(base, gaps="interpolate")))
    regular = table.regular
    if table.stamps is not None and regular.uneven and not regular.calendar:
        grid = f"put rows on a grid of {span_text(regular.step)}"
        options.append((grid, replace(base, resample="auto")))
        options.append((f"{grid} and fill short gaps", replace(base, resample="auto", gaps="interpolate")))
    if breaks(table).any():
        options.append(("take rows as steps and ignore the calendar", replace(base, ignore_calendar=True)))
    counted = []
    for text, option in options:
        try:
            even = resampled(table, regular.step) if option.resample else table
        except LabError:
            continue
        full, filled = filled_table(even, option)
        starts, dropped = good_starts(full, option)
        counted.append(GapChoice(text, option, len(starts), dropped, filled))
    # Ignoring an outage joins unrelated stretches, so recommend it only if nothing else leaves windows.
    careful = [c for c in counted if not c.cutting.ignore_calendar and c.windows] or counted
    most = max(choice.windows for choice in careful)
    best = next(choice for choice in careful if choice.windows >= _ENOUGH * most)
    return tuple(replace(choice, recommended=choice is best) for choice in counted)
