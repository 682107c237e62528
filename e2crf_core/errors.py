"""Define the errors that users of the lab read, and the one that reports cancelled work."""

from __future__ import annotations

import operator

LONGEST = 2000
"""Characters of a problem or a remedy; what quotes more of its input is cut in the middle."""


class LabError(ValueError):
    """An error in the input.

    `problem` states what was wrong and where, and `remedy` what to do about it, both in words that fit a
    program, a command line, and a page. Each front end names the control for `field` in its own terms:
    `--window`, a widget's label, a JSON pointer. `row` (counted from 1, as in a text editor) and `column`
    locate a fault in a file. `str(error)` is one printable line, whatever it quotes: problem, then remedy.
    """

    def __init__(
        self,
        problem: str,
        *,
        field: str | None = None,
        remedy: str | None = None,
        row: int | None = None,
        column: str | None = None,
    ) -> None:
        self.problem, self.field, self.row, self.column = one_line(problem), field, row, column
        self.remedy = None if remedy is None else one_line(remedy)
        super().__init__(self.problem if self.remedy is None else f"{self.problem}: {self.remedy}")


def one_line(text: str) -> str:
    """Return text that any terminal and page shows as one line; what cannot be printed is escaped.

    Messages quote names of files and columns, which may hold line breaks, control sequences, or marks that
    turn the direction of writing.
    """
    if len(text) > LONGEST:
        text = f"{text[: LONGEST - 500]} [...] {text[-490:]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c in "\n\r\t" else ascii(c)[1:-1] for c in text)


def whole_number(name: str, value: object, low: int = -(2**63), high: int = 2**63 - 1) -> int:
    """Return `value`, of any integer type such as NumPy's, as an int. Raises LabError unless low <= value <= high.

    Of NumPy's integers some readers, such as those of JSON, know nothing, so none of them gets beyond the edge.
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise LabError(f"{name} {value!r}: a whole number is needed", field=name) from None
    if isinstance(value, bool) or not low <= number <= high:
        raise LabError(f"{name} {value}: must lie between {low} and {high}", field=name)
    return number


def make_whole(holder: object, *names: str, low: int = -(2**63), high: int = 2**63 - 1) -> None:
    """Turn fields of a frozen dataclass into ints by `whole_number`, for its `__post_init__`."""
    for name in names:
        object.__setattr__(holder, name, whole_number(name, getattr(holder, name), low, high))


class Cancelled(Exception):
    """The caller cancelled the work, or its budget ran out, before it was finished."""
