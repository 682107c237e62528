"""Errors that a user of the lab is meant to read, and the one that says that work was called off."""

from __future__ import annotations


class LabError(ValueError):
    """Bad input.

    `problem` says what was wrong and where, `remedy` what to do about it, both in words that fit a program, a
    command line and a page. Each front names the control that `field` belongs to in its own terms: `--window`,
    the label of a widget, a JSON pointer. `row` (counted from 1, as a text editor does) and `column` locate a
    fault in a file. `str(error)` is one line: problem, then remedy.
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
    """The caller asked for an end, or a budget ran out, before the work was finished."""
