"""Cut windows from rows, and divide them into training and held-out stretches of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from e2crf_core.data.datasets import block_split
from e2crf_core.data.gaps import Cutting, good_starts
from e2crf_core.data.tables import Table, group_slices
from e2crf_core.errors import LabError

WINDOW_BYTES = 500_000_000
HELDOUT_SHARE = 0.2
# Fewer held-out windows are too few to measure a model.
ENOUGH_HELDOUT = 8


@dataclass(frozen=True)
class Windows:
    """The windows: `x` (S, N, M) float32, each one's group and first row (or stamp), and the number dropped.

    `place` (S,) is the start as a number, in which one window takes `span`.
    """

    x: np.ndarray
    group: np.ndarray
    start: np.ndarray
    place: np.ndarray
    span: float
    dropped: int


def cut_windows(table: Table, cutting: Cutting, offsets: np.ndarray | None = None) -> Windows:
    """Cut windows in each group, skipping gaps and jumps in time; `offsets` (M,) are subtracted first.

    Raises LabError if the result would not fit in memory.
    """
    window, stride = cutting.window, cutting.stride
    kept, dropped = good_starts(table, cutting)
    size = len(kept) * window * table.values.shape[1] * 4
    if size > WINDOW_BYTES:
        least = int(np.ceil(stride * size / WINDOW_BYTES))
        raise LabError(
            f"{len(kept):,} windows would take {size / 1e6:,.0f} MB",
            field="stride",
            remedy=f"raise it to {least} or more",
        )
    x = np.empty((len(kept), window, table.values.shape[1]), dtype=np.float32)
    if len(kept):
        view = sliding_window_view(table.values, window, axis=0)
        for low in range(0, len(kept), 1024):
            part = view[kept[low : low + 1024]].transpose(0, 2, 1)
            x[low : low + 1024] = part if offsets is None else part - offsets
    group = np.array(table.groups)[table.codes[kept]]
    if table.stamps is not None and len(kept):
        begin = table.stamps[kept]
        step = table.regular.step
        span = float((table.stamps[kept + window - 1] - begin).max() / 1e6 + step)
        unit: Literal["s", "us"] = "s" if (begin % 1_000_000 == 0).all() else "us"
        start = np.datetime_as_string(begin.astype("datetime64[us]"), unit=unit)
        return Windows(x, group, start, begin / 1e6, span, dropped)
    first = np.array([part.start for part in group_slices(table.codes)])
    offset = kept - first[np.searchsorted(first, kept, side="right") - 1]
    return Windows(x, group, offset, offset.astype(float), float(window), dropped)


def split_windows(windows: Windows, *, calendar: bool) -> np.ndarray:
    """Return (S,) codes 0 train, 1 held out, 2 left out, with as many held-out stretches as possible."""
    # Series on one calendar share weather or market, so they are split at the same moments.
    group = np.zeros(len(windows.group), dtype=int) if calendar else windows.group
    splits = [
        block_split(group, windows.place, span=windows.span, share=HELDOUT_SHARE, blocks=blocks)
        for blocks in (5, 4, 3, 2, 1)
    ]
    for least in (ENOUGH_HELDOUT, 1):
        for split in splits:
            if (split == 1).sum() >= least and (split == 0).any():
                return split
    # Too little time for a full held-out stretch: hold out the last window and what overlaps it.
    split = np.zeros(len(windows.place), dtype=np.uint8)
    last = np.argmax(windows.place)
    overlap = np.abs(windows.place - windows.place[last]) < windows.span - 1e-9
    split[overlap & (calendar | (windows.group == windows.group[last]))] = 2
    split[last] = 1
    return split
