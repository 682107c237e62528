"""Define the errors that users of the lab read, and the one that reports cancelled work."""

from __future__ import annotations


class LabError(ValueError):
    """An error in the input.

    `problem` states what was wrong and where, and `remedy` what to do about it, both in words that fit a
    program, a command line, and a page. Each front end names the control for `field` in its own terms:
    `--window`, a widget's label, a JSON pointer. `row` (counted from 1, as in a text editor) and `column`
    locate a fault in a file. `str(error)` is one line: problem, then remedy.
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
        self.problem, self.field, self.remedy = problem, field, remedy
        self.row, self.column = row, column
        super().__init__(problem if remedy is None else f"{problem}: {remedy}")


class Cancelled(Exception):
    """The caller cancelled the work, or its budget ran out, before it was finished."""
