"""Detect how a text table is written: encoding, delimiter, header, and what stands above and below the table.

Detection reads the first 256 kB and the last 64 kB. Decisions are recorded in words, and guesses are marked
as such.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from e2crf_core.data.header_cells import numeric_header, readable
from e2crf_core.data.numbers import is_gap
from e2crf_core.data.times import ELAPSED, is_time_name
from e2crf_core.errors import LabError

SPACES = " "
_SAMPLE_BYTES, _TAIL_BYTES = 1 << 18, 1 << 16
_RECORDS = 200
_MOST_HEADER, _MOST_FOOTER = 5, 200
_SEP = re.compile(r'^\ufeff?"?sep=(.)"?\s*$', re.IGNORECASE)
_TOTAL = re.compile(
    r"^(grand )?(total|sum|summe|gesamt|mean|average|mittelwert|count|min|max)\b", re.IGNORECASE
)
_UNITS = set(ELAPSED) | {
    "%", "-", "1", "°c", "°f", "°", "degc", "degf", "deg", "k", "c", "f", "v", "mv", "kv", "a", "ma", "pa", "w", "kw",
    "mw", "gw", "wh", "kwh", "mwh", "hz", "khz", "m", "mm", "cm", "km", "m/s", "km/h", "hpa", "kpa", "bar", "mbar",
    "ppm", "ppb", "g", "kg", "l", "m3", "m³", "m²", "t", "eur", "usd", "gbp", "€", "$", "var", "va", "lux", "ft",
    "ug/m3",
    "ug/m³",
    "µg/m³", "bpm", "mmhg", "n", "nm", "rpm", "w/m2", "w/m²", "utc", "units", "unit",
}  # fmt: skip


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written: `skip` lines precede the first data row; `header` of its rows are names.

    `units` has a text for each column, or is empty. `footer` holds the lines below the table; `ends` counts
    those with as many cells as the table. `notes` lists what was decided, each with whether it is certain.
    """

    encoding: str
    delimiter: str
    skip: int
    header: int
    names: tuple[str, ...]
    units: tuple[str, ...] = ()
    footer: frozenset[str] = frozenset()
    ends: int = 0
    notes: tuple[tuple[str, bool], ...] = ()


def find_encoding(path: Path) -> str:
    """Detect the encoding of a text file: its byte order mark, else UTF-8 if valid, else Latin-1.

    Raises LabError for text that its mark does not fit, such as a file that was cut off.
    """
    with path.open("rb") as stream:
        head = stream.read(4)
        marked = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
        encoding = next((name for mark, name in marked.items() if head.startswith(mark)), "")
        stream.seek(0)
        decoder = codecs.getincrementaldecoder(encoding or "utf-8")()
        try:
            while chunk := stream.read(1 << 20):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as fault:
            if encoding:
                raise LabError(
                    f"{path.name} is not whole: it begins as {encoding.removesuffix('-sig').upper()} text, but does "
                    f"not go on as such ({fault.reason})",
                    remedy="save it again as UTF-8",
                ) from None
            return "latin-1"
    return encoding or "utf-8"


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """Trim names, number empty ones, and append `.2` and so on to repeated ones."""
    seen: Counter[str] = Counter()
    unique: list[str] = []
    for position, raw in enumerate(names, start=1):
        name = " ".join(raw.split()) or f"c{position}"
        seen[name] += 1
        while seen[name] > 1 and f"{name}.{seen[name]}" in names:
            seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name}.{seen[name]}")
    return tuple(unique)


def split_records(text: str, delimiter: str, most: int | None = None) -> Iterator[tuple[int, list[str]]]:
    """Yield (lines read so far, cells) for each record that is not an empty line."""
    if delimiter == SPACES:
        lines = enumerate(islice(io.StringIO(text), most), start=1)
        yield from ((number, line.split()) for number, line in lines if line.strip())
        return
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    for record in islice(reader, most):
        if record:
            yield reader.line_num, record


@dataclass(frozen=True)
class _Split:
    """A sample split by one delimiter: records with line numbers, the table's width, and its first record."""

    delimiter: str
    records: list[tuple[int, list[str]]]
    width: int
    start: int
    score: float

    @property
    def body(self) -> list[list[str]]:
        """Return the records of the table's width below its first one."""
        return [cells for _, cells in self.records[self.start + 1 :] if len(cells) == self.width]


def _split(text: str, delimiter: str) -> _Split | None:
    try:
        records = list(split_records(text, delimiter, _RECORDS))
    except csv.Error:
        return None
    if not records:
        return None
    widths = [len(cells) for _, cells in records]
    width = Counter(widths + widths[len(widths) // 2 :]).most_common(1)[0][0]
    fits = [w == width for w in widths]
    whole = (i for i in range(len(fits)) if fits[i] and sum(fits[i : i + 6]) >= 0.7 * len(fits[i : i + 6]))
    start = next(whole, fits.index(True))
    body = [cells for (_, cells), fit in zip(records[start + 1 :], fits[start + 1 :], strict=True) if fit][
        -60:
    ]
    cells = [cell for record in body or [records[start][1]] for cell in record]
    share = sum(readable(cell) for cell in cells) / len(cells)
    return _Split(delimiter, records, width, start, round(sum(fits) / len(fits) * (0.2 + share), 6))


def _best_split(text: str, forced: str) -> _Split | None:
    tried = [_split(text, d) for d in ([forced] if forced else [",", ";", "\t", "|"])]
    splits = [s for s in tried if s is not None]
    best = max(splits, key=lambda s: (s.score, s.width), default=None)
    if not forced:
        spaced = _split(text, SPACES)
        if (
            spaced
            and spaced.width > 1
            and spaced.score > 0.7
            and (best is None or spaced.score >= best.score + (0.25 if best.width > 1 else 0.0))
        ):
            return spaced
    return best


def _sample(path: Path, encoding: str) -> str:
    with path.open(encoding=encoding, newline="") as stream:
        text = stream.read(_SAMPLE_BYTES)
    cut = text.rfind("\n")
    return text[: cut + 1] if len(text) == _SAMPLE_BYTES and cut > 0 else text


def _leading(lines: list[str]) -> tuple[int, str]:
    """Count leading blank lines, comments, and Excel's `sep=`, and return the delimiter that `sep=` names."""
    count, forced = 0, ""
    while count < len(lines) and (
        not lines[count].strip() or lines[count].startswith("#") or _SEP.match(lines[count])
    ):
        if named := _SEP.match(lines[count]):
            forced = named[1]
            if not forced.isascii():
                raise LabError(
                    f"line {count + 1} names the delimiter {forced!r}", remedy="use an ASCII character"
                )
        count += 1
    return count, forced


def sniff(path: Path, *, skip: int | None = None, header: int | None = None) -> Dialect:
    """Detect how a text table is written; `skip` lines and `header` rows override it. Raises LabError."""
    encoding = find_encoding(path)
    lines = _sample(path, encoding).splitlines(keepends=True)
    first, forced = _leading(lines) if skip is None else (skip, "")
    text = "".join(lines[first:])
    if not text.strip():
        raise LabError(f"{path.name} is empty: row {first + 1 if skip else 1} has no columns")
    if "\0" in text:
        raise LabError(f"{path.name} is not a text table: row {first + 1} holds binary data")
    split = _best_split(text, forced)
    if split is None:
        raise LabError(f"{path.name}: row {first + 1} cannot be split into columns: is a quote left open?")
    notes: list[tuple[str, bool]] = []
    start = _names_begin(split) if skip is None and header is None else split.start if skip is None else 0
    above = [(split.delimiter + " ").join(c.strip() for c in cells) for _, cells in split.records[:start]]
    top = _header(split, start, header)
    lacking = _lacking_name(split, start) if skip is None and start and not top.rows else None
    if lacking is not None:
        above, start, top = above[:-1], start - 1, _Header(1, lacking)
    if not top.rows and skip is None and header is None:
        top = _commented(lines[:first], split) or top
    if above:
        notes.append((f"{_lines(len(above))} above the table left out: {_shown(above)}", False))
    if split.delimiter == SPACES:
        notes.append(("columns are separated by white space", False))
    notes += top.notes
    end = start + top.rows
    begin = split.records[end - 1][0] if end else 0
    footer, ends = _footer(path, encoding, split)
    if footer:
        notes.append((f"{_lines(len(footer))} below the table left out: {_shown(sorted(footer))}", False))
    names = unique_names(top.names)
    twice = sorted({n for n in top.names if n.strip() and top.names.count(n) > 1})
    if twice:
        notes.append((f"columns of equal names were numbered: {_shown(twice)}", True))
    return Dialect(
        encoding, split.delimiter, first + begin, top.rows, names, top.units, footer, ends, tuple(notes)
    )  # fmt: skip


def _names_begin(split: _Split) -> int:
    """Find the first record of names, below lines that happen to have the table's width (`Serial,1234`)."""
    start = split.start
    records = [cells for _, cells in split.records[start : start + 20]]
    body = [cells for _, cells in split.records[start + 1 :] if len(cells) == split.width]
    data = _data_columns(body[min(len(body) // 3, 20) :] or body, split.width)
    names = [len(cells) == split.width and _names_only(cells, data) for cells in records]
    if not any(names):
        return start
    last = len(names) - 1 - names[::-1].index(True)
    first = last
    while first > 0 and names[first - 1]:
        first -= 1
    # A row of words far below a header is a fault in the data, not a header.
    above = [
        cells for cells in records[:first] if data and all(readable(cells[c]) for c in data if c < len(cells))
    ]
    return start + first if first and not above else start


def _lines(count: int) -> str:
    return "1 line" if count == 1 else f"{count} lines"


def _shown(texts: Sequence[str]) -> str:
    short = [repr(t if len(t) <= 40 else t[:37] + "...") for t in texts[:3]]
    return ", ".join(short) + (f" and {len(texts) - 3} more" if len(texts) > 3 else "")


@dataclass(frozen=True)
class _Header:
    """The rows above the data: their number, names, units, and what was decided."""

    rows: int
    names: tuple[str, ...]
    units: tuple[str, ...] = ()
    notes: tuple[tuple[str, bool], ...] = ()


def _lacking_name(split: _Split, start: int) -> tuple[str, ...] | None:
    """Return the names of a header that is one cell short, adding the first (R) or an empty last one."""
    cells = split.records[start - 1][1]
    if len(cells) != split.width - 1 or any(readable(cell) and not cell.strip().isdigit() for cell in cells):
        return None
    if all(not record[-1].strip() for record in split.body):
        return (*cells, "")
    return ("", *cells)


def _commented(lines: list[str], split: _Split) -> _Header | None:
    """Return names in comments just above a table without a header, as NumPy and NOAA write them."""
    rows: list[list[str]] = []
    for line in reversed(lines):
        cells = next((cells for _, cells in split_records(line.lstrip("# \t"), split.delimiter)), [])
        if not line.startswith("#") or len(cells) != split.width or any(map(readable, cells)):
            break
        rows.insert(0, cells)
    if not rows:
        return None
    top = _several(rows)
    return _Header(
        0, top.names, top.units, (("the names are in a comment above the table", False), *top.notes)
    )


def _header(split: _Split, start: int, wanted: int | None) -> _Header:
    """Return the header rows of the table that begins at record `start`."""
    rows = [
        cells for _, cells in split.records[start : start + _MOST_HEADER + 1] if len(cells) == split.width
    ]
    body = [cells for _, cells in split.records[start + 1 :] if len(cells) == split.width]
    data = _data_columns(body[min(len(body) // 3, 10) :] or body, split.width)
    numbered = tuple(f"c{i + 1}" for i in range(split.width))
    if wanted is not None:
        count = min(wanted, len(rows))
        return _Header(count, tuple(rows[0]), notes=()) if count else _Header(0, numbered)
    words = [not readable(cell) for cell in rows[0]]
    if not (
        any(word and column in data for column, word in enumerate(words))
        or all(word or is_gap(cell) for word, cell in zip(words, rows[0], strict=True))
    ):
        if numeric_header(rows[0], body):
            return _Header(
                1,
                tuple(rows[0]),
                notes=(("the first row, of consecutive whole numbers, is the header", False),),
            )
        return _Header(0, numbered, notes=(("there is no header: columns are c1, c2, ...", True),))
    more = 1
    while more < len(rows) and data and _names_only(rows[more], data):
        more += 1
    return _several(rows[:more])


def _names_only(cells: list[str], data: set[int]) -> bool:
    present = [cells[column] for column in data if cells[column].strip()]
    return bool(present) and not any(readable(cell) for cell in present)


def _several(rows: list[list[str]]) -> _Header:
    """Return the names in one or more header rows, recognizing a row of units."""
    names, notes = list(rows[0]), []
    units: tuple[str, ...] = ()
    for row in rows[1:]:
        cells = [cell.strip() for cell in row]
        present = [cell for cell in cells if cell]
        known = [cell for cell in present if cell.strip("[]()").lower() in _UNITS]
        if not units and known and 2 * len(known) >= len(present):
            units = tuple(cell.strip("[]()") for cell in cells)
            notes.append((f"the row below the names holds units: {_shown(present)}", False))
            continue
        notes.append((f"a further header row was left out: {_shown(present)}", False))
        if len(set(names)) < len(names):
            names = [" ".join(filter(None, (a.strip(), b))) for a, b in zip(names, cells, strict=True)]
        elif is_time_name(cells[0]) and len(present) == 1:
            names[0] = cells[0]
    return _Header(len(rows), tuple(names), tuple(units), tuple(notes))


def _data_columns(body: list[list[str]], width: int) -> set[int]:
    """Return the columns that hold mostly numbers or times."""
    data = set()
    for column in range(width):
        cells = [record[column] for record in body if not is_gap(record[column])]
        if cells and sum(readable(cell) for cell in cells) > len(cells) / 2:
            data.add(column)
    return data


def _footer(path: Path, encoding: str, split: _Split) -> tuple[frozenset[str], int]:
    """Find lines below the table (totals, sources, empty rows), and how many have the table's width."""
    size = path.stat().st_size
    if encoding == "utf-16" and size > _TAIL_BYTES:
        return frozenset(), 0
    with path.open("rb") as stream:
        stream.seek(max(0, size - _TAIL_BYTES) if encoding != "utf-16" else 0)
        lines = stream.read().decode(encoding.replace("-sig", ""), errors="replace").splitlines()
    lines = lines[1:] if size > _TAIL_BYTES else lines
    data = _data_columns(split.body[-60:], split.width)
    footer, ends = [], 0
    for line in reversed(lines[max(split.start + 2, len(lines) - _MOST_FOOTER) :]):
        if not line.strip():
            continue
        try:
            cells = next(split_records(line, split.delimiter))[1]
        except (csv.Error, StopIteration):
            break
        if not _is_footer(cells, split.width, data):
            break
        footer.append(line.strip())
        ends += len(cells) == split.width
    return frozenset(footer), ends


def _is_footer(cells: list[str], width: int, data: set[int]) -> bool:
    present = [cell for cell in cells if cell.strip()]
    if not present:
        return width > 1
    if len(cells) != width:
        return any(not readable(cell) for cell in present)
    if not data or width == 1:
        return False
    inside = [cells[column] for column in data if cells[column].strip()]
    return not any(readable(cell) for cell in inside) or bool(_TOTAL.match(present[0].strip()))
