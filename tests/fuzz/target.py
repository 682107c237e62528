"""Define inputs and the targets that read them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Self


@dataclass(frozen=True)
class Input:
    """Foreign input: the bytes of a file or message, and what else the target needs to read them."""

    body: bytes = b""
    options: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; `from_json` restores an equal input."""
        return {"body": base64.b64encode(self.body).decode(), "options": self.options}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """Invert `to_json`."""
        return cls(base64.b64decode(stored["body"]), stored["options"])

    @property
    def text(self) -> str:
        """Return the body as text, whatever it holds."""
        return self.body.decode("utf-8", "replace")


@dataclass(frozen=True)
class Place:
    """Where a target works: the `valid` files, read-only, and a `folder` of its own for every input."""

    valid: Path
    folder: Path

    def write(self, name: str, body: bytes) -> Path:
        """Write a file into the folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        return path


Make = Callable[[Random, Path], Input]
"""Make an input from a seeded generator and the folder of valid files."""
Feed = Callable[[Input, Place], object]
"""Let the lab read an input. Raises LabError to refuse it, Unfit if what it accepted is not fit for use."""


@dataclass(frozen=True)
class Target:
    """A reader of foreign input; `weight` is its share of all inputs."""

    name: str
    make: Make
    feed: Feed
    weight: float = 1.0


def json_of(path: Path) -> Any:
    """Read a valid JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
