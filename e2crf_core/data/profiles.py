"""Profile every column of a table in one pass over the whole file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from e2crf_core.data.numbers import NumberEvidence, is_text, without_gaps
from e2crf_core.data.sources import Source
from e2crf_core.data.times import (
    BadCell,
    TimeStyle,
    is_clock,
    is_time_name,
    micros,
    text_styles,
    unit_of_name,
)
from e2crf_core.errors import LabError

_HEAD = 200
_MOST_DISTINCT = 2000


@dataclass
class ColumnProfile:
    """One column: cell counts, evidence on its marks, and whether it may be time or an identifier.

    `styles` are the time formats that every cell fits so far; `values` holds all numbers while the column may
    be time.
    """

    name: str
    unit: str = ""
    native_time: bool = False
    text: bool = False
    evidence: NumberEvidence = field(default_factory=NumberEvidence)
    styles: list[TimeStyle] = field(default_factory=list)
    clock: bool = False
    values: list[np.ndarray] | None = field(default_factory=list)
    low: float = np.inf
    high: float = -np.inf
    whole: bool = True
    next_count: float | None = None
    counter: bool = True
    distinct: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    last: str = ""
    rows: int = 0

    @property
    def kind(self) -> str:
        """Return 'time', 'number', 'text', or 'empty', by most cells."""
        if self.native_time or self.styles or self.clock:
            return "time"
        if self.evidence.numbers and self.evidence.numbers >= self.evidence.texts:
            return "number"
        return "text" if self.evidence.texts else "empty"

    def add(self, array: pa.Array, missing: Sequence[str]) -> None:
        """Add the next block."""
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        first = self.rows == 0
        if pa.types.is_temporal(array.type):
            self.native_time, self.clock = not pa.types.is_time(array.type), pa.types.is_time(array.type)
            self.evidence.gaps += array.null_count
        elif is_text(array):
            self.text = True
            self._add_text(array, missing, first)
        else:
            self._add_numbers(array)
        self.rows += len(array)

    def _add_text(self, array: pa.Array, missing: Sequence[str], first: bool) -> None:
        if first:
            cells = [c.strip() for c in array.slice(0, _HEAD).to_pylist() if c and c.strip()]
            self.styles, self.clock = text_styles(cells), is_clock(cells)
        if len(self.styles) > 1:
            self.styles = _fitting(self.styles, array)
        if self.styles or self.clock:
            self.values = None
            self.evidence.gaps += without_gaps(array).null_count
            return
        texts = self.evidence.texts
        values = self.evidence.add(array, self.rows, missing)
        if self.evidence.texts > texts:
            self.values, self.counter = None, False
            self._add_labels(array)
        elif values is not None:
            # A count is written without a decimal mark.
            self.counter = self.counter and not pc.any(pc.match_substring(array, ".")).as_py()
            self._add_values(values)
        else:
            self.counter, self.values = False, None

    def _add_labels(self, array: pa.Array) -> None:
        labels = pc.fill_null(pc.utf8_trim_whitespace(array), "")
        coded = labels.dictionary_encode()
        codes = coded.indices.to_numpy()
        if not len(codes):
            return
        names = coded.dictionary.to_pylist()
        self.runs += int((np.diff(codes) != 0).sum()) + (names[codes[0]] != self.last or not self.runs)
        self.last = names[codes[-1]]
        if len(self.distinct) <= _MOST_DISTINCT:
            self.distinct.update(dict(zip(names, np.bincount(codes).tolist(), strict=False)))

    def _add_numbers(self, array: pa.Array) -> None:
        try:
            values = pc.cast(array, pa.float64()).to_numpy(zero_copy_only=False)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            self.evidence.texts += len(array)
            self.values, self.counter = None, False
            return
        self.counter = self.counter and pa.types.is_integer(array.type)
        gaps = int(np.isnan(values).sum())
        self.evidence.gaps += gaps
        self.evidence.numbers += len(values) - gaps
        self._add_values(values)

    def _add_values(self, values: np.ndarray) -> None:
        if not len(values):
            return
        if self.counter:
            begin = values[0] if self.next_count is None else self.next_count
            self.counter = bool(begin == values[0] and (np.diff(values) == 1).all())
            self.next_count = float(values[-1]) + 1
        self.whole = self.whole and bool((values == np.round(values))[~np.isnan(values)].all())
        with np.errstate(invalid="ignore"):
            self.low, self.high = (
                float(np.nanmin([self.low, *_ends(values)])),
                float(np.nanmax([self.high, *_ends(values)])),
            )
        if self.values is not None:
            self.values.append(values)
            if not self._maybe_time(values):
                self.values = None

    def _maybe_time(self, values: np.ndarray) -> bool:
        if np.isnan(values).any():
            return False
        if is_time_name(self.name) or unit_of_name(self.name, self.unit) is not None:
            return True
        steps = np.diff(values)
        return bool((steps > 0).all() or (steps < 0).all())


def _ends(values: np.ndarray) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    return (float(known.min()), float(known.max())) if len(known) else (np.nan, np.nan)


def _fitting(styles: list[TimeStyle], array: pa.Array) -> list[TimeStyle]:
    """Return the styles that read the block, or all if none does, so that reading names the fault."""
    fits = []
    for style in styles:
        try:
            micros(array, style)
        except BadCell:
            continue
        fits.append(style)
    return fits or styles[:1]


@dataclass(frozen=True)
class TableProfile:
    """The number of data rows, and every column in file order."""

    rows: int
    columns: dict[str, ColumnProfile]


def profile(source: Source, missing: Sequence[str] = ()) -> TableProfile:
    """Read the whole table once, in blocks, and describe every column. Raises LabError for a damaged file."""
    if not source.names:
        raise LabError(f"{source.path.name} has no columns", remedy="give a table with a header or numbers")
    units = source.units or ("",) * len(source.names)
    exact = source.delimiter not in (",", "")
    columns = {
        name: ColumnProfile(name, unit, evidence=NumberEvidence(exact=exact))
        for name, unit in zip(source.names, units, strict=True)
    }
    rows = 0
    for batch in source.batches(source.names):
        for name, array in zip(source.names, batch, strict=True):
            columns[name].add(array, missing)
        rows += len(batch[0])
    return TableProfile(rows, columns)
