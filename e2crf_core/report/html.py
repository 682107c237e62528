"""Render HTML pages from the templates beside this file; every value is escaped unless marked as markup."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

_MARKED = re.compile(r"`(.+?)`|\*\*(.+?)\*\*|\*(.+?)\*")


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
    environment.filters["prose"] = _prose
    return environment


def _digits(value: float, count: int) -> str:
    """Format a number to `count` significant digits."""
    return f"{value:.{count}g}"


def _prose(text: str) -> Markup:
    """Return a text with its `code`, **strong words** and *emphasis* as markup."""

    def tagged(match: re.Match[str]) -> str:
        place = match.lastindex or 1
        tag = ("code", "b", "em")[place - 1]
        return f"<{tag}>{match[place]}</{tag}>"

    return Markup(_MARKED.sub(tagged, str(escape(text))))


def digest(text: str) -> str:
    """Return the digest by which a content security policy admits an inline script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def render(template: str, **values: Any) -> str:
    """Render a template of `report/templates` with some values."""
    return _environment().get_template(template).render(**values)
