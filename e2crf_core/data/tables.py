"""Tables from strangers' files: dialect found, columns streamed, every fault named by row and column.

Rows are numbered as a text editor numbers the lines of a CSV file; elsewhere row 1 is the first record.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from e2crf_core.errors import LabError
from e2crf_core.io.arrays import read_npy, read_npz, reason

TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".npy", ".npz")
GAP_WORDS = ("", "na", "n/a", "#n/a", "nan", "null", "none", "nd", "-", "--", "?", ".")
SAMPLE_ROWS = 1000
_SAMPLE_BYTES = 1 << 18
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_NUMBER_COMMA = r"^[+-]?(\d+,?\d*|,\d+)([eE][+-]?\d+)?$"
_TIME_FORMATS = (
    "ISO8601",
    "%d/%m/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M:%S",
    "%d/%m/%Y %H:%M",
    "%m/%d/%Y %H:%M",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
    "%d.%m.%Y",
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d %H:%M",
    "%Y/%m/%d",
    "%d-%b-%Y",
    "%d %b %Y",
)
# No delimiter may follow: a whole line that begins with a time stamp is not one.
_TIME_LIKE = r"^(\d{1,4}([-/.])\w{1,3}\2\d{1,4}|\d{1,2} [A-Za-z]{3} \d{4})([ T][^;,|\t]*)?$"
_TIME_NAMES = {"t", "time", "times", "timestamp", "date", "datetime", "seconds", "sec", "epoch", "unixtime"}


class BadCell(Exception):
    """A cell that cannot be read: index within its batch, and what it says."""

    def __init__(self, index: int, text: str) -> None:
        super().__init__(index, text)
        self.index, self.text = index, text


class Source(Protocol):
    """A table whose columns can be streamed. `decimal` is the decimal mark of numbers kept as text."""

    path: Path
    names: tuple[str, ...]
    decimal: str

    def batches(self, wanted: Sequence[str]) -> Iterator[list[pa.Array]]:
        """Consecutive blocks of rows, as one array for each wanted column."""

    def row(self, record: int) -> int:
        """Row number that a user sees for the record counted from 0."""


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written: `skip` lines come before the first data row."""

    encoding: str
    delimiter: str
    decimal: str
    header: bool
    skip: int
    names: tuple[str, ...]


def _encoding(path: Path) -> str:
    with path.open("rb") as stream:
        head = stream.read(4)
        if head.startswith(codecs.BOM_UTF8):
            return "utf-8-sig"
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        stream.seek(0)
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            while chunk := stream.read(1 << 20):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "latin-1"
    return "utf-8"


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    seen: dict[str, int] = {}
    unique = []
    for position, raw in enumerate(names, start=1):
        name = raw.strip() or f"c{position}"
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name}.{seen[name]}")
    return tuple(unique)


def _is_gap(cell: str) -> bool:
    return cell.strip().lower() in GAP_WORDS


def _readable(cell: str, decimal: str) -> bool:
    """Whether a cell is a number, a time stamp or a gap."""
    cell = cell.strip()
    if _is_gap(cell) or re.match(_NUMBER_COMMA if decimal == "," else _NUMBER, cell):
        return True
    return re.match(_TIME_LIKE, cell) is not None


def _sample_records(text: str, delimiter: str) -> list[list[str]]:
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        return [record for record in islice(lines, 60) if record]
    except csv.Error:
        return []


def _score(records: list[list[str]], decimal: str) -> tuple[float, int]:
    """(how well the records read as a table, its width): the best guess has the highest."""
    body = records[1:] or records
    width = max({len(r) for r in body}, key=[len(r) for r in body].count)
    even = sum(len(r) == width for r in records) / len(records)
    cells = [cell for record in body[:20] for cell in record]
    readable = sum(_readable(cell, decimal) for cell in cells) / max(len(cells), 1)
    return even * (0.2 + readable), width


def sniff(path: Path) -> Dialect:
    """Find encoding, delimiter, decimal mark and header of a CSV file from its first lines."""
    encoding = _encoding(path)
    with path.open(encoding=encoding, newline="") as stream:
        text = stream.read(_SAMPLE_BYTES)
        cut = text.rfind("\n")
        if len(text) == _SAMPLE_BYTES and cut > 0:
            text = text[: cut + 1]
    preamble = 0
    lines = text.splitlines(keepends=True)
    while preamble < len(lines) and (not lines[preamble].strip() or lines[preamble].startswith("#")):
        preamble += 1
    text = "".join(lines[preamble:])
    if not text.strip():
        raise LabError(f"{path.name} is empty: row 1 has no columns")
    if "\0" in text:
        raise LabError(f"{path.name} is not a text table: row {preamble + 1} holds binary data")
    best: tuple[float, int, str, str] | None = None
    for delimiter in (",", ";", "\t", "|"):
        records = _sample_records(text, delimiter)
        for decimal in (".", ",") if delimiter != "," else (".",):
            if not records:
                continue
            score, width = _score(records, decimal)
            if best is None or (round(score, 6), width) > best[:2]:
                best = (round(score, 6), width, delimiter, decimal)
    if best is None:
        raise LabError(f"{path.name}: row {preamble + 1} cannot be split into columns: is a quote left open?")
    _, _, delimiter, decimal = best
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    first = next(record for record in reader if record)
    header_lines = reader.line_num
    body = [record for record in _sample_records(text, delimiter)[1:] if len(record) == len(first)]
    header = _looks_like_header(first, body, decimal)
    names = _unique(first) if header else tuple(f"c{i + 1}" for i in range(len(first)))
    return Dialect(encoding, delimiter, decimal, header, preamble + (header_lines if header else 0), names)


def _looks_like_header(first: list[str], body: list[list[str]], decimal: str) -> bool:
    """A header names things: some cell is text above numbers, or no cell of row 1 reads as data at all."""
    words = [not _readable(cell, decimal) for cell in first]
    for column, word in enumerate(words):
        below = [record[column] for record in body if not _is_gap(record[column])]
        if word and below and sum(_readable(cell, decimal) for cell in below) > len(below) / 2:
            return True
    return all(word or _is_gap(cell) for word, cell in zip(words, first, strict=True))


class CsvSource:
    """A CSV or TSV file, streamed as text so that every cell can be quoted in a message."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.dialect = sniff(path)
        self.names = self.dialect.names
        self.decimal = self.dialect.decimal

    def batches(self, wanted: Sequence[str]) -> Iterator[list[pa.Array]]:
        """Blocks of about 4 MB of text; memory does not grow with the file."""
        d = self.dialect
        try:
            reader = pacsv.open_csv(
                self.path,
                read_options=pacsv.ReadOptions(
                    column_names=list(d.names),
                    skip_rows=d.skip,
                    block_size=1 << 22,
                    use_threads=False,
                    encoding="utf-8" if d.encoding == "utf-8-sig" else d.encoding,
                ),
                parse_options=pacsv.ParseOptions(
                    delimiter=d.delimiter, newlines_in_values=False, ignore_empty_lines=len(d.names) > 1
                ),
                convert_options=pacsv.ConvertOptions(
                    column_types={name: pa.string() for name in d.names},
                    include_columns=list(wanted),
                    strings_can_be_null=False,
                ),
            )
            for batch in reader:
                yield [batch.column(i) for i in range(len(wanted))]
        except pa.ArrowInvalid as fault:
            self._explain(fault)

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """(line number, cells) of every data record."""
        with self.path.open(encoding=self.dialect.encoding, newline="") as stream:
            for _ in range(self.dialect.skip):
                stream.readline()
            reader = csv.reader(stream, delimiter=self.dialect.delimiter)
            for record in reader:
                if record or len(self.names) == 1:
                    yield self.dialect.skip + reader.line_num, record

    def _explain(self, fault: Exception) -> None:
        try:
            for row, record in self._records():
                if record and len(record) != len(self.names):
                    column = self.names[min(len(record), len(self.names)) - 1]
                    raise LabError(
                        f"{self.path.name}: row {row} has {len(record)} cells where {len(self.names)} are "
                        f"expected (it ends at column {column!r}): correct the row"
                    )
        except csv.Error as broken:
            raise LabError(f"{self.path.name}: {broken}: correct the quotes of the file") from None
        raise LabError(f"{self.path.name} cannot be read as a table: {reason(fault)}") from None

    def row(self, record: int) -> int:
        """Line number of a record: counted only when a message needs it, because it reads the file again."""
        return next(islice((row for row, _ in self._records()), record, None), self.dialect.skip + record + 1)


class ParquetSource:
    """A Parquet file."""

    decimal = "."

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = pq.ParquetFile(path)
        except (pa.ArrowInvalid, OSError) as fault:
            raise LabError(f"{path.name} cannot be read as Parquet: {reason(fault)}") from None
        self.names = tuple(self._file.schema_arrow.names)

    def batches(self, wanted: Sequence[str]) -> Iterator[list[pa.Array]]:
        """Blocks of 65,536 rows."""
        try:
            for batch in self._file.iter_batches(1 << 16, columns=list(wanted)):
                yield [batch.column(batch.schema.get_field_index(name)) for name in wanted]
        except (pa.ArrowInvalid, OSError) as fault:
            raise LabError(f"{self.path.name} is damaged: {reason(fault)}") from None

    def row(self, record: int) -> int:
        """Records counted from 1."""
        return record + 1


class ArraySource:
    """Columns that are already arrays: a 2-D NPY, or the equally long 1-D arrays of an NPZ."""

    decimal = "."

    def __init__(self, path: Path, columns: dict[str, np.ndarray]) -> None:
        self.path, self._columns = path, columns
        self.names = tuple(columns)

    def batches(self, wanted: Sequence[str]) -> Iterator[list[pa.Array]]:
        """Blocks of 65,536 rows."""
        length = len(self._columns[self.names[0]])
        for low in range(0, length, 1 << 16):
            yield [
                pa.array(np.ascontiguousarray(self._columns[name][low : low + (1 << 16)])) for name in wanted
            ]

    def row(self, record: int) -> int:
        """Records counted from 1."""
        return record + 1


def read_arrays(path: Path) -> np.ndarray | ArraySource:
    """NPY or NPZ: ready windows (S, N, M), or columns. Raises LabError when it is neither."""
    if path.suffix.lower() == ".npy":
        arrays = {"": read_npy(path)}
    else:
        arrays = read_npz(path)
        if "X" in arrays and arrays["X"].ndim == 3:
            x = arrays["X"]
            return x * arrays["scale"] + arrays["offset"] if {"scale", "offset"} <= arrays.keys() else x
    allowed = "biufUSM"
    for name, array in arrays.items():
        if array.dtype.kind not in allowed:
            raise LabError(
                f"{path.name}: array {name or 'in it'} has type {array.dtype}: real numbers are needed"
            )
    if len(arrays) == 1:
        name, array = next(iter(arrays.items()))
        if array.ndim == 3:
            return array
        if array.ndim == 2 and array.shape[1]:
            return ArraySource(path, {f"{name or 'c'}{i + 1}": array[:, i] for i in range(array.shape[1])})
    if arrays and all(array.ndim == 1 for array in arrays.values()):
        lengths = {name: len(array) for name, array in arrays.items()}
        if len(set(lengths.values())) == 1:
            return ArraySource(path, {name or "c1": array for name, array in arrays.items()})
    shapes = ", ".join(f"{name or 'array'} {array.shape}" for name, array in arrays.items())
    raise LabError(
        f"{path.name} holds {shapes or 'nothing'}: give (rows, columns), (S, N, M), or equally long columns"
    )


def open_source(path: str | Path) -> np.ndarray | Source:
    """Open a file by its suffix: a table to stream, or an array of ready windows (S, N, M)."""
    path = Path(path)
    if not path.is_file():
        raise LabError(f"no file {str(path)!r}: check the path")
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return ParquetSource(path)
    if suffix in (".npy", ".npz"):
        return read_arrays(path)
    if suffix in (".csv", ".tsv", ".txt"):
        return CsvSource(path)
    raise LabError(f"{path.name}: files of type {suffix!r} are not read: use {', '.join(TABLE_SUFFIXES)}")


def _without_gaps(array: pa.Array) -> pa.Array:
    text = pc.utf8_trim_whitespace(array)
    gap = pc.is_in(pc.utf8_lower(text), value_set=pa.array(GAP_WORDS))
    return pc.if_else(gap, pa.scalar(None, pa.string()), text)


def _cell(array: pa.Array, index: int) -> str:
    """What a cell says, for a message."""
    try:
        return str(array[index].as_py())
    except (OverflowError, ValueError):
        return "out of range"


def _doubles(array: pa.Array, decimal: str) -> np.ndarray:
    """A column block as float64, NaN where there is a gap. Raises BadCell at text."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    original = array
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        array = _without_gaps(array.cast(pa.string()))
        if decimal == ",":
            # In such a file a point would be a thousands mark: reading 1.234 as one and a bit would be wrong.
            pointed = pc.fill_null(pc.match_substring(array, "."), False)
            if pc.any(pointed).as_py():
                index = pc.index(pointed, True).as_py()
                raise BadCell(index, _cell(original, index))
            array = pc.replace_substring(array, ",", ".")
    try:
        return pc.cast(array, pa.float64()).to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        faulty = (
            i for i in range(len(array)) if array[i].is_valid and not re.match(_NUMBER, _cell(array, i))
        )
        index = next(faulty, 0)
        raise BadCell(index, _cell(original, index)) from None


def numbers(array: pa.Array, decimal: str = ".") -> np.ndarray:
    """A column block as float32, NaN where there is a gap. Raises BadCell at text, infinity and overflow."""
    values = _doubles(array, decimal)
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    infinite = np.isinf(narrow)
    if infinite.any():
        index = int(np.flatnonzero(infinite)[0])
        raise BadCell(index, _cell(array, index))
    return narrow


def _time_format(cells: Sequence[str]) -> str | None:
    """The format all cells share. Where day and month cannot be told apart, the more even steps decide."""
    cells = [cell.strip() for cell in cells]
    # A time stamp has two separators; a plain number such as 2019 or 20.19 is a number.
    if not cells or not all(re.match(_TIME_LIKE, cell) for cell in cells):
        return None
    found: list[tuple[int, str]] = []
    for layout in _TIME_FORMATS:
        times = pd.to_datetime(pd.Series(cells), format=layout, utc=True, errors="coerce")
        if not times.isna().any():
            steps = np.diff(_micro(times))
            found.append((len(np.unique(steps)), layout))
    return min(found, key=lambda pair: pair[0])[1] if found else None


def _micro(stamps: pd.Series) -> np.ndarray:
    return stamps.dt.tz_localize(None).to_numpy().astype("datetime64[us]").astype(np.int64)


def times(array: pa.Array, layout: str, decimal: str = ".") -> np.ndarray:
    """Time stamps as int64 microseconds. `layout`: a strptime format, 'ISO8601', or 'number' for seconds."""
    if pa.types.is_temporal(array.type):
        if array.null_count:
            raise BadCell(pc.index(pc.is_null(array), True).as_py(), "")
        return pc.cast(pc.cast(array, pa.timestamp("us"), safe=False), pa.int64()).to_numpy()
    if layout == "number":
        seconds = _doubles(array, decimal)
        bad = ~np.isfinite(seconds)
        micro = np.round(np.where(bad, 0, seconds) * 1e6).astype(np.int64)
    else:
        stamps = pd.to_datetime(array.to_pandas().str.strip(), format=layout, utc=True, errors="coerce")
        bad = stamps.isna().to_numpy()
        micro = _micro(stamps)
    if bad.any():
        index = int(np.flatnonzero(bad)[0])
        raise BadCell(index, _cell(array, index))
    return micro


@dataclass(frozen=True)
class Column:
    """What one column holds: `gaps` empty cells, `texts` cells that are no numbers, from row `first_text` on."""

    name: str
    kind: str
    gaps: int
    texts: int = 0
    first_text: int = 0


@dataclass(frozen=True)
class Preview:
    """What a file is before it is imported. Rows are numbered as in the file; `step` is in seconds."""

    path: str
    form: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    first_row: int
    n_rows: int
    delimiter: str
    decimal: str
    encoding: str
    time: str
    step: float
    uneven: float


@dataclass(frozen=True)
class Clock:
    """The time column: its name and layout; from the first rows its usual step and share of other steps."""

    name: str
    layout: str
    step: float
    uneven: float


def find_clock(source: Source, name: str | None = None) -> Clock | None:
    """The column of time stamps: the one asked for (LabError if it is none), else the first that looks it."""
    head = next(source.batches(source.names), None)
    if head is None:
        return None
    for column, array in zip(source.names, head, strict=True):
        if name is not None and column != name:
            continue
        array = array.slice(0, SAMPLE_ROWS)
        layout = _layout(column, array, source.decimal, named=name is not None)
        if layout is None:
            continue
        try:
            steps = np.diff(times(array, layout, source.decimal)) / 1e6
        except BadCell:
            steps = np.array([])
        steps = steps[steps > 0]
        step = float(np.median(steps)) if len(steps) else 0.0
        uneven = float((np.abs(steps - step) > 0.01 * step).mean()) if len(steps) else 0.0
        return Clock(column, layout, step, uneven)
    if name is not None:
        cell = _cell(head[source.names.index(name)], 0)
        raise LabError(
            f"{source.path.name}: row {source.row(0)}, column {name!r}: {cell!r} is not a time stamp"
        )
    return None


def _layout(name: str, array: pa.Array, decimal: str, *, named: bool) -> str | None:
    """How to read a column as time, or None."""
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        return "native"
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        cells = [cell for cell in array.to_pylist() if cell is not None and not _is_gap(cell)]
        if layout := _time_format(cells):
            return layout
    if not named and name.strip().lower() not in _TIME_NAMES:
        return None
    try:
        values = _doubles(array, decimal)
    except BadCell:
        return None
    grows = len(values) > 1 and bool(np.all(np.diff(values) >= 0))
    return "number" if np.isfinite(values).any() and (named or grows) else None


@dataclass(frozen=True)
class Survey:
    """Number of data rows and what every column holds."""

    rows: int
    columns: tuple[Column, ...]


def survey(source: Source, clock: Clock | None) -> Survey:
    """Read the whole table once and count numbers, texts and gaps of every column."""
    found = {name: [0, 0, 0, -1] for name in source.names}
    rows = 0
    for batch in source.batches(source.names):
        for name, array in zip(source.names, batch, strict=True):
            counts = found[name]
            try:
                gaps = int(np.isnan(numbers(array, source.decimal)).sum())
                counts[0] += len(array) - gaps
                counts[2] += gaps
            except BadCell as bad:
                number, text, gap = _tally(array, source.decimal)
                counts[0] += number
                counts[1] += text
                counts[2] += gap
                counts[3] = counts[3] if counts[3] >= 0 else rows + bad.index
        rows += len(batch[0])
    columns = []
    for name, (number, text, gap, first) in found.items():
        kind = "number" if number and number >= text else "text" if text else "empty"
        if clock and name == clock.name:
            kind, text = "time", 0
        row = source.row(first) if text and kind == "number" else 0
        columns.append(Column(name, kind, gap, text, row))
    return Survey(rows, tuple(columns))


def _tally(array: pa.Array, decimal: str) -> tuple[int, int, int]:
    """(numbers, texts, gaps) in a block that is not all numbers."""
    if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        gaps = array.null_count
        return 0, len(array) - gaps, gaps
    clean = _without_gaps(array.cast(pa.string()))
    gaps = clean.null_count
    pattern = _NUMBER_COMMA if decimal == "," else _NUMBER
    number = pc.sum(pc.cast(pc.match_substring_regex(clean, pattern), pa.int64())).as_py() or 0
    return number, len(array) - gaps - number, gaps


def preview(path: str | Path, *, rows: int = 8) -> Preview:
    """Look at a file before importing it: columns, kinds, gaps, first rows, dialect, and time column.

    Reads the whole file once in blocks. Raises LabError when it cannot be read as a table.
    """
    path = Path(path)
    source = open_source(path)
    form = path.suffix.lower().lstrip(".")
    if isinstance(source, np.ndarray):
        count, length, width = source.shape
        gaps = np.isnan(source).sum((0, 1)) if source.dtype.kind == "f" else np.zeros(width)
        columns = tuple(Column(f"c{i + 1}", "number", int(gaps[i])) for i in range(width))
        head = tuple(tuple(f"{v:g}" for v in row) for row in source[0, :rows]) if count else ()
        return Preview(str(path), f"{form}, {count} windows of {length}", columns, head, 1, count * length,
                       "", "", "", "", 0.0, 0.0)  # fmt: skip
    clock = find_clock(source)
    whole = survey(source, clock)
    head_batch = next(source.batches(source.names), [])
    cells = [[_cell(a, i) if a[i].is_valid else "" for i in range(min(rows, len(a)))] for a in head_batch]
    dialect = source.dialect if isinstance(source, CsvSource) else None
    return Preview(
        path=str(path),
        form=form,
        columns=whole.columns,
        rows=tuple(zip(*cells, strict=True)),
        first_row=source.row(0),
        n_rows=whole.rows,
        delimiter=dialect.delimiter if dialect else "",
        decimal=source.decimal,
        encoding=dialect.encoding if dialect else "",
        time=clock.name if clock else "",
        step=clock.step if clock else 0.0,
        uneven=clock.uneven if clock else 0.0,
    )
