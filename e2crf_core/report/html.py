"""Render HTML pages from the templates beside this file; every value is escaped unless marked as markup."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).resolve().parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["digits"] = _digits
    return environment


def _digits(value: float, count: int) -> str:
    """Format a number to `count` significant digits."""
    return f"{value:.{count}g}"


def render(template: str, **values: Any) -> str:
    """Render a template of `report/templates` with some values."""
    return _environment().get_template(template).render(**values)
