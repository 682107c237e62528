"""Read numbers as people write them, choosing the decimal mark from a whole column.

1,015 may mean 1015 or 1.015. One cell cannot tell, but a column usually can: 1,5 or 0,125 shows that the
comma is a decimal mark; 1,234,567 or 1,234.5 shows a thousands mark. If a column leaves it open, the user is
asked; the first rows are never used as a guess.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

GAP_WORDS = ("", "na", "n/a", "#n/a", "nan", "null", "none", "nd", "-", "--", "?", ".")
PLAIN = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
# A number in some notation; thousands marks may also be spaces, thin spaces, and apostrophes.
_DIGITS = "\\d{1,3}([ \u00a0\u202f'’.,]\\d{3})+([.,]\\d*)?|\\d+[.,]?\\d*|[.,]\\d+"
ANY_NUMBER = f"^[+\\-\u2212]?[$€£¥]? ?({_DIGITS})([eE][+-]?\\d+)? ?[%€]?$"
# What a cell shows about the marks of its column.
EVIDENCE = {
    "comma_decimal": r"^[+-]?(\d*,(\d{1,2}|\d{4,})|0+,\d+|\d{4,},\d+|,\d+|\d+,)([eE].*)?$",
    "comma_group": r"^[+-]?[1-9]\d{0,2},\d{3}$",
    "comma_groups": r"^[+-]?[1-9]\d{0,2}(,\d{3}){2,}(\.\d*)?$|^[+-]?[1-9]\d{0,2}(,\d{3})+\.\d*$",
    "dot_decimal": r"^[+-]?(\d*\.(\d{1,2}|\d{4,})|0+\.\d+|\d{4,}\.\d+|\.\d+|\d+\.)([eE].*)?$",
    "dot_group": r"^[+-]?[1-9]\d{0,2}\.\d{3}$",
    "dot_groups": r"^[+-]?[1-9]\d{0,2}(\.\d{3}){2,}(,\d*)?$|^[+-]?[1-9]\d{0,2}(\.\d{3})+,\d*$",
    "long_integer": r"^[+-]?[1-9]\d{3,}$",
    "short_integer": r"^[+-]?[1-9]\d{0,2}$",
    "bare": r"^[+-]?[1-9]\d{2}$",
    "spaced": "\\d[ \u00a0\u202f'’]\\d",
    "decorated": "[$€£¥%\u2212]",
}
SHOWN_TEXTS = 200


class BadCell(Exception):
    """A cell that cannot be read: its index within the block, and its content."""

    def __init__(self, index: int, text: str) -> None:
        super().__init__(index, text)
        self.index, self.text = index, text


@dataclass(frozen=True)
class NumberStyle:
    """How a column's numbers are written: the decimal mark, and the thousands mark if there is one.

    `loose` also accepts thousands separated by spaces or apostrophes, currency signs, and percent signs.
    `missing` lists further words, in lower case, that mean a gap.
    """

    decimal: str = "."
    thousands: str = ""
    loose: bool = False
    missing: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Describe the style in words, for a record of decisions."""
        mark = {".": "decimal point", ",": "decimal comma"}[self.decimal]
        words = [mark] if self.decimal == "," or self.thousands or self.loose else []
        words += [f"{self.thousands!r} between thousands"] if self.thousands else []
        words += ["spaces, currency and percent signs dropped"] if self.loose else []
        return "numbers" + (f" ({', '.join(words)})" if words else "")


PLAIN_STYLE = NumberStyle()


@dataclass
class NumberEvidence:
    """The evidence of a text column about its marks, gathered block by block.

    Without `exact`, columns of plain numbers are judged by a few cells of each block.
    """

    exact: bool = True
    marks: dict[str, int] = field(default_factory=lambda: dict.fromkeys(EVIDENCE, 0))
    numbers: int = 0
    gaps: int = 0
    texts: int = 0
    first_text: int = -1
    words: Counter[str] = field(default_factory=Counter)

    def add(self, array: pa.Array, row: int, missing: Sequence[str] = ()) -> np.ndarray | None:
        """Add a block of text cells starting at record `row`; return its values if they are plain numbers."""
        clean = without_gaps(array, missing)
        self.gaps += clean.null_count
        try:
            values = pc.cast(clean, pa.float64())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            self._add_marked(clean, row)
            return None
        self.numbers += len(clean) - clean.null_count
        if not self.marks["dot_decimal"]:
            # A few cells usually show that the point is the decimal mark; only a file that may have decimal
            # commas is searched further.
            part = clean if self.exact else clean.slice(0, 200)
            self.marks["dot_decimal"] += _any(part, EVIDENCE["dot_decimal"])
            self.marks["dot_group"] += _any(part, EVIDENCE["dot_group"])
            self.marks["bare"] += self.exact and _any(part, EVIDENCE["bare"])
        plain = values.to_numpy(zero_copy_only=False)
        if not (self.marks["long_integer"] and self.marks["short_integer"]):
            whole = np.abs(plain[plain == np.round(plain)])
            self.marks["long_integer"] += bool((whole >= 1000).any())
            self.marks["short_integer"] += bool(((whole > 0) & (whole < 1000)).any())
        return plain

    def _add_marked(self, clean: pa.Array, row: int) -> None:
        """Count the evidence in the cells of a block that are not all plain numbers."""
        present = clean.drop_null()
        number = pc.match_substring_regex(present, ANY_NUMBER)
        count = pc.sum(pc.cast(number, pa.int64())).as_py() or 0
        self.numbers += count
        if count < len(present):
            self._add_texts(clean, present.filter(pc.invert(number)), row)
        cells = present.filter(number)
        for name in ("spaced", "decorated"):
            self.marks[name] += _any(cells, EVIDENCE[name])
        if self.marks["spaced"] or self.marks["decorated"]:
            cells = _undecorated(cells)
        present_marks = {mark: pc.any(pc.match_substring(cells, mark)).as_py() for mark in ",."}
        for name, pattern in EVIDENCE.items():
            mark = {"comma": ",", "dot": "."}.get(name.partition("_")[0])
            if not self.marks[name] and (mark is None or present_marks[mark]):
                self.marks[name] += _any(cells, pattern)

    def _add_texts(self, clean: pa.Array, texts: pa.Array, row: int) -> None:
        self.texts += len(texts)
        if self.first_text < 0:
            self.first_text = row + pc.index(clean, texts[0]).as_py()
        if len(self.words) < SHOWN_TEXTS:
            for entry in pc.value_counts(texts):
                self.words[entry["values"].as_py()[:60]] += entry["counts"].as_py()


def _any(cells: pa.Array, pattern: str) -> bool:
    return bool(pc.any(pc.match_substring_regex(cells, pattern)).as_py())


@dataclass(frozen=True)
class StyleChoice:
    """A style (None: both readings are open), whether it is certain, and whether the column decided it."""

    style: NumberStyle | None
    certain: bool = True
    settled: bool = True


def decide_style(seen: NumberEvidence, delimiter: str, file_decimal: str = "") -> StyleChoice:
    """Decide a column's style; `file_decimal` is the mark that other columns settled ('' if none did)."""
    m = seen.marks
    loose = bool(m["spaced"] or m["decorated"])
    comma_decimal = m["comma_decimal"] or m["dot_groups"]
    dot_decimal = m["dot_decimal"] or m["comma_groups"]
    if comma_decimal and not dot_decimal:
        # Next to decimal commas, a point is a thousands mark only if some cell has both.
        return StyleChoice(NumberStyle(",", "." if m["dot_groups"] else "", loose))
    if dot_decimal:
        thousands = "," if m["comma_groups"] or m["comma_group"] else ""
        return StyleChoice(NumberStyle(".", thousands, loose), certain=not (comma_decimal and thousands))
    if m["comma_group"]:
        return _three_digits_after_comma(m, delimiter, file_decimal, loose)
    # 987 beside 1.104: as a decimal, it would have been written 987.000.
    grouped = file_decimal == "," or (not file_decimal and m["bare"] and not m["long_integer"])
    if m["dot_group"] and grouped:
        return StyleChoice(NumberStyle(",", ".", loose), certain=False, settled=False)
    if m["dot_group"] and not file_decimal and delimiter not in (",", ""):
        return StyleChoice(NumberStyle(".", "", loose), certain=False, settled=False)
    return StyleChoice(NumberStyle(".", "", loose), settled=False)


def _three_digits_after_comma(
    m: dict[str, int], delimiter: str, file_decimal: str, loose: bool
) -> StyleChoice:
    """Decide 1,015 in every cell with a comma: thousands if all integers without a comma are below 1000."""
    thousands, decimals = NumberStyle(".", ",", loose), NumberStyle(",", "", loose)
    if m["long_integer"]:
        return StyleChoice(decimals, certain=False, settled=False)
    if file_decimal:
        return StyleChoice(decimals if file_decimal == "," else thousands, certain=False, settled=False)
    if m["short_integer"] or delimiter == ",":
        return StyleChoice(thousands, certain=False, settled=False)
    return StyleChoice(None, certain=False, settled=False)


def is_text(array: pa.Array) -> bool:
    """Return whether an array holds strings."""
    return pa.types.is_string(array.type) or pa.types.is_large_string(array.type)


def is_gap(cell: str) -> bool:
    """Return whether a cell stands for a missing value."""
    return cell.strip().lower() in GAP_WORDS


def without_gaps(array: pa.Array, missing: Sequence[str] = ()) -> pa.Array:
    """Return trimmed text, null if a cell is empty or marks a missing value."""
    text = pc.utf8_trim_whitespace(array.cast(pa.string()))
    gap = pc.is_in(pc.utf8_lower(text), value_set=pa.array([*GAP_WORDS, *missing], pa.string()))
    return pc.if_else(gap, pa.scalar(None, pa.string()), text)


def cell_text(array: pa.Array, index: int) -> str:
    """Return the content of a cell, for a message."""
    try:
        return str(array[index].as_py())
    except (OverflowError, ValueError):
        return "out of range"


def _undecorated(array: pa.Array) -> pa.Array:
    """Remove spaces and apostrophes between digits, and currency and percent signs."""
    return pc.replace_substring_regex(
        pc.replace_substring(array, "\u2212", "-"), "[ \u00a0\u202f'’$€£¥%]", ""
    )


def _unmarked(array: pa.Array, style: NumberStyle, original: pa.Array) -> pa.Array:
    """Return text with a point as the only mark between digits. Raises BadCell."""
    if style.loose:
        array = _undecorated(array)
    if style.thousands:
        mark = re.escape(style.thousands)
        groups = rf"^[+-]?\d{{1,3}}({mark}\d{{3}})+({re.escape(style.decimal)}\d*)?$"
        marked = pc.match_substring(array, style.thousands)
        bad = pc.fill_null(pc.and_(marked, pc.invert(pc.match_substring_regex(array, groups))), False)
        _refuse_any(bad, original)
        array = pc.replace_substring(array, style.thousands, "")
    if style.decimal == ",":
        # In such a file, a point would be a thousands mark: reading 1.234 as a decimal would be wrong.
        _refuse_any(pc.fill_null(pc.match_substring(array, "."), False), original)
        array = pc.replace_substring(array, ",", ".")
    return array


def _refuse_any(bad: pa.Array, original: pa.Array) -> None:
    if pc.any(bad).as_py():
        index = pc.index(bad, True).as_py()
        raise BadCell(index, cell_text(original, index))


def numbers(array: pa.Array, style: NumberStyle = PLAIN_STYLE) -> np.ndarray:
    """Read a column block as float64, NaN for gaps. Raises BadCell for text and infinite values."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    original = array
    if is_text(array):
        array = _unmarked(without_gaps(array, style.missing), style, original)
    try:
        values = pc.cast(array, pa.float64()).to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        faulty = (
            i for i in range(len(array)) if array[i].is_valid and not re.match(PLAIN, cell_text(array, i))
        )
        index = next(faulty, 0)
        raise BadCell(index, cell_text(original, index)) from None
    infinite = np.isinf(values)
    if infinite.any():
        index = int(np.flatnonzero(infinite)[0])
        raise BadCell(index, cell_text(original, index))
    return values
