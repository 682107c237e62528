"""Tell names in a header from values below it."""

from __future__ import annotations

import re

from e2crf_core.data.numbers import ANY_NUMBER, is_gap
from e2crf_core.data.times import CLOCK_LIKE, TIME_LIKE


def readable(cell: str) -> bool:
    """Return whether a cell is a number in any notation, a time stamp, a time of day, or a gap."""
    cell = cell.strip()
    return is_gap(cell) or any(re.match(pattern, cell) for pattern in (ANY_NUMBER, TIME_LIKE, CLOCK_LIKE))


def numeric_header(first: list[str], body: list[list[str]]) -> bool:
    """Detect a numeric header: 0, 1, 2 or 2019, 2020, 2021 above values that are written differently."""
    cells = [cell.strip() for cell in first]
    labels = cells[1:] if cells and not cells[0] and len(cells) > 1 else cells
    if not all(cell.isdigit() for cell in labels) or not body:
        return False
    values = [int(cell) for cell in labels]
    if values != list(range(values[0], values[0] + len(values))) or not (
        values[0] <= 1 or 1900 <= values[0] <= 2100
    ):
        return False
    if labels is not cells:
        return True
    decimals = sum(any(mark in cell for mark in ".,eE") for record in body for cell in record)
    return decimals > sum(map(len, body)) / 2 and (len(values) > 1 or values[0] == 0)
