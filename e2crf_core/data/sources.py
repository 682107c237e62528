"""Open files as tables whose columns can be streamed, or as arrays of ready windows.

Rows of CSV files are numbered like lines in a text editor; elsewhere row 1 is the first record.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NoReturn, Protocol, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from e2crf_core.data.dialect import SPACES, Dialect, sniff, unique_names
from e2crf_core.errors import LabError
from e2crf_core.io.arrays import reason

TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".npy", ".npz", ".ts")
BLOCK_ROWS = 1 << 16


class Source(Protocol):
    """A table whose columns can be streamed. `notes` lists decisions made in opening it, with certainty."""

    path: Path
    names: tuple[str, ...]
    delimiter: str
    units: tuple[str, ...]
    notes: tuple[tuple[str, bool], ...]

    def batches(self, names: Sequence[str]) -> Iterator[list[pa.Array]]:
        """Yield consecutive blocks of rows, one array for each named column."""

    def row(self, record: int) -> int:
        """Return the user-visible row number of a record counted from 0."""


class CsvSource:
    """A CSV or TSV file, streamed as text so that every cell can be quoted in a message."""

    def __init__(self, path: Path, *, skip: int | None = None, header: int | None = None) -> None:
        self.path = path
        self.dialect: Dialect = sniff(path, skip=skip, header=header)
        self.names, self.units = self.dialect.names, self.dialect.units
        self.delimiter, self.notes = self.dialect.delimiter, self.dialect.notes

    def batches(self, names: Sequence[str]) -> Iterator[list[pa.Array]]:
        """Yield blocks of about 4 MB of text; memory does not grow with the file."""
        held: list[pa.Array] | None = None
        try:
            for batch in self._reader(names):
                if held is not None:
                    yield held
                held = [batch.column(i) for i in range(len(names))]
        except pa.ArrowInvalid as fault:
            self._explain(fault)
        if held is not None:
            # Lines below the table that have its width come last; cut them off here.
            yield [array.slice(0, max(0, len(array) - self.dialect.ends)) for array in held]

    def _reader(self, names: Sequence[str]) -> pacsv.CSVStreamingReader:
        d = self.dialect
        spaced = d.delimiter == SPACES
        return pacsv.open_csv(
            _Tabbed(self.path, d.encoding) if spaced else self.path,
            read_options=pacsv.ReadOptions(
                column_names=list(d.names),
                skip_rows=d.skip,
                block_size=1 << 22,
                use_threads=False,
                encoding="utf-8" if spaced else d.encoding.replace("-sig", ""),
            ),
            parse_options=pacsv.ParseOptions(
                delimiter="\t" if spaced else d.delimiter,
                newlines_in_values=False,
                ignore_empty_lines=len(d.names) > 1,
                invalid_row_handler=self._below_table if d.footer else None,
            ),
            convert_options=pacsv.ConvertOptions(
                column_types={name: pa.string() for name in d.names},
                include_columns=list(names),
                strings_can_be_null=False,
            ),
        )

    def _below_table(self, row: pacsv.InvalidRow) -> str:
        return "skip" if row.text.strip() in self.dialect.footer else "error"

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """Yield (line number, cells) for every data record."""
        d = self.dialect
        with self.path.open(encoding=d.encoding, newline="") as stream:
            for _ in range(d.skip):
                stream.readline()
            if d.delimiter == SPACES:
                for number, line in enumerate(stream, start=d.skip + 1):
                    if line.strip():
                        yield number, line.split()
                return
            reader = csv.reader(stream, delimiter=d.delimiter)
            for record in reader:
                if record or len(self.names) == 1:
                    yield d.skip + reader.line_num, record

    def _explain(self, fault: Exception) -> NoReturn:
        width = len(self.names)
        try:
            for row, record in self._records():
                if not record or len(record) == width or self._joined(record) in self.dialect.footer:
                    continue
                column = self.names[min(len(record), width) - 1]
                raise LabError(
                    f"{self.path.name}: row {row} has {len(record)} cells where {width} are expected (it ends at "
                    f"column {column!r})",
                    field="skip",
                    remedy="correct the row, or skip the lines above the table if it is not part of it",
                    row=row,
                    column=column,
                )
        except csv.Error as broken:
            raise LabError(f"{self.path.name}: {broken}", remedy="correct the quotes of the file") from None
        raise LabError(f"{self.path.name} cannot be read as a table: {reason(fault)}") from None

    def _joined(self, record: list[str]) -> str:
        return self.dialect.delimiter.join(record).strip()

    def row(self, record: int) -> int:
        """Return a record's line number. Reads the file again, so it is only called for messages."""
        return next(islice((row for row, _ in self._records()), record, None), self.dialect.skip + record + 1)


class _Tabbed:
    """A text file that reads each run of white space as one tab, in UTF-8."""

    closed = False

    def __init__(self, path: Path, encoding: str) -> None:
        self._stream: TextIO = path.open(encoding=encoding, newline="")
        self._rest = ""

    def read(self, size: int = -1) -> bytes:
        """Read about `size` more bytes, in whole lines."""
        chunk = self._stream.read(max(size, 1 << 16) if size >= 0 else -1)
        if not chunk:
            text, self._rest = self._rest, ""
        else:
            text, _, self._rest = (self._rest + chunk).rpartition("\n")
            text += "\n" if text else ""
            if not text:
                return self.read(size)
        text = re.sub(r"(?m)^[ \t]+|[ \t\r]+$", "", text)
        return re.sub(r"[ \t]+", "\t", text).encode()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
        self.closed = True


class ParquetSource:
    """A Parquet file. Columns with equal names are numbered."""

    delimiter = ""
    units: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = pq.ParquetFile(path)
        except (pa.ArrowInvalid, OSError) as fault:
            raise LabError(f"{path.name} cannot be read as Parquet: {reason(fault)}") from None
        stored = list(self._file.schema_arrow.names)
        self.names = unique_names(stored)
        twice = sorted({name for name in stored if stored.count(name) > 1})
        self._twice = bool(twice)
        self.notes: tuple[tuple[str, bool], ...] = ()
        if twice:
            self.notes = ((f"columns of equal names were numbered: {', '.join(map(repr, twice[:6]))}", True),)
        self._stored = dict(zip(self.names, stored, strict=True))

    def batches(self, names: Sequence[str]) -> Iterator[list[pa.Array]]:
        """Yield blocks of 65,536 rows."""
        columns = None if self._twice else [self._stored[name] for name in names]
        place = {name: i for i, name in enumerate(self.names if self._twice else names)}
        try:
            for batch in self._file.iter_batches(BLOCK_ROWS, columns=columns):
                if self._twice:
                    yield [batch.column(place[name]) for name in names]
                else:
                    yield [batch.column(batch.schema.get_field_index(self._stored[name])) for name in names]
        except (pa.ArrowInvalid, OSError) as fault:
            raise LabError(f"{self.path.name} is damaged: {reason(fault)}") from None

    def row(self, record: int) -> int:
        """Return the record's number, counted from 1."""
        return record + 1


class ArraySource:
    """Columns that are already arrays: a 2-D NPY, or the equally long 1-D arrays of an NPZ."""

    delimiter = ""
    units: tuple[str, ...] = ()
    notes: tuple[tuple[str, bool], ...] = ()

    def __init__(self, path: Path, columns: dict[str, np.ndarray]) -> None:
        self.path, self._columns = path, columns
        self.names = tuple(columns)

    def batches(self, names: Sequence[str]) -> Iterator[list[pa.Array]]:
        """Yield blocks of 65,536 rows."""
        length = len(self._columns[self.names[0]])
        for low in range(0, length, BLOCK_ROWS):
            yield [
                pa.array(np.ascontiguousarray(self._columns[name][low : low + BLOCK_ROWS])) for name in names
            ]

    def row(self, record: int) -> int:
        """Return the record's number, counted from 1."""
        return record + 1
