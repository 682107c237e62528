"""Read untrusted JSON: limit size, depth, and numbers, and check it against a pydantic model.

Python's own reader accepts NaN, infinite numbers, integers of any length, repeated keys, lone surrogates, and
nesting that exhausts the stack. Each would fail later, elsewhere. Here each is one clear LabError.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from e2crf_core.errors import LabError
from e2crf_core.io.files import replace_file, text_writer

LIMIT_BYTES = 64 << 20
LIMIT_DEPTH = 64
LIMIT_DIGITS = 300
SHOWN_FAULTS = 6

M = TypeVar("M", bound=BaseModel)
_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


class _Unfit(ValueError):
    """JSON that is well formed but not accepted here."""


def parse_json(text: str | bytes, label: str, *, limit: int = LIMIT_BYTES, depth: int = LIMIT_DEPTH) -> Any:
    """Parse a JSON text; `label` names the source in messages.

    Raises LabError for text that is not JSON in UTF-8, is larger than `limit` bytes, nests deeper than
    `depth`, repeats a key, or holds NaN, an infinite number, an integer of more than 300 digits, or a lone
    surrogate.
    """
    if len(text) > limit:
        raise LabError(f"{label} takes {len(text) / 1e6:.0f} MB: at most {limit / 1e6:.0f} MB are read")
    try:
        plain = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        _check_depth(plain, depth)
        value = json.loads(
            plain,
            parse_constant=_no_constant,
            parse_float=_float,
            parse_int=_int,
            object_pairs_hook=_object,
        )
        if "\\ud" in plain.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError as fault:
        raise LabError(f"{label} is not UTF-8 text: byte {fault.start} cannot be decoded") from None
    except UnicodeEncodeError:
        raise LabError(f"{label} holds half of a surrogate pair, which is not a character") from None
    except json.JSONDecodeError as fault:
        raise LabError(f"{label} is not JSON: {fault.msg} at line {fault.lineno}", row=fault.lineno) from None
    except _Unfit as fault:
        raise LabError(f"{label} {fault}") from None
    return value


def read_json(path: str | Path, *, limit: int = LIMIT_BYTES, depth: int = LIMIT_DEPTH) -> Any:
    """Read a JSON file with `parse_json`. Raises LabError, also if the file cannot be opened."""
    path = Path(path)
    try:
        with path.open("rb") as stream:
            # One byte more than allowed is enough to show that a file is too large.
            text = stream.read(limit + 1)
            size = path.stat().st_size
    except (OSError, ValueError) as fault:  # a name that no system allows is a ValueError
        raise LabError(f"{path} cannot be read: {getattr(fault, 'strerror', None) or fault}") from None
    if len(text) > limit:
        raise LabError(f"{path} takes {size / 1e6:.0f} MB: at most {limit / 1e6:.0f} MB are read")
    return parse_json(text, str(path), limit=limit, depth=depth)


def validated(model: type[M], value: Any, label: str) -> M:
    """Return `value` as an instance of a pydantic model. Raises one LabError that lists every fault."""
    try:
        return model.model_validate(value)
    except ValidationError as fault:
        raise LabError(f"{label}: {faults_text(fault)}") from None


def read_model(model: type[M], path: str | Path, *, limit: int = LIMIT_BYTES) -> M:
    """Read a JSON file as an instance of a pydantic model. Raises LabError."""
    return validated(model, read_json(path, limit=limit), str(path))


def faults_text(fault: ValidationError) -> str:
    """Format pydantic's faults on one line: `network.layers: at most 256; title: missing`."""
    texts = []
    for error in fault.errors(include_url=False):
        place = ".".join(str(part) for part in error["loc"])
        cause = error.get("ctx", {}).get("error")
        text = str(cause) if isinstance(cause, ValueError) else _sentence(error["msg"])
        texts.append(" ".join(f"{place}: {text}".split()) if place else text)
    more = [f"and {len(texts) - SHOWN_FAULTS} more"] if len(texts) > SHOWN_FAULTS else []
    return "; ".join(texts[:SHOWN_FAULTS] + more)


def write_json(path: str | Path, value: Any, *, indent: int | None = 1) -> None:
    """Write a JSON file in UTF-8, atomically. Raises ValueError for NaN and infinite numbers."""
    replace_file(Path(path), json_writer(value, indent=indent))


def json_writer(value: Any, *, indent: int | None = 1) -> Callable[[Path], object]:
    """Return a function that writes `value` to a path. Raises ValueError for NaN and infinite numbers."""
    return text_writer(json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


def _check_depth(text: str, limit: int) -> None:
    depth = 0
    for match in _STRUCTURE.finditer(text):
        mark = text[match.start()]
        if mark in "[{":
            depth += 1
            if depth > limit:
                raise _Unfit(f"nests deeper than {limit} levels")
        elif mark in "]}":
            depth -= 1


def _no_constant(name: str) -> Any:
    raise _Unfit(f"holds {name}, which is not a JSON number")


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _Unfit(f"holds the number {digits[:20]}, which is out of range")
    return value


def _int(digits: str) -> int:
    if len(digits.lstrip("-")) > LIMIT_DIGITS:
        raise _Unfit(f"holds an integer of {len(digits)} digits: at most {LIMIT_DIGITS} are read")
    return int(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Unfit(f"has the key {twice[:40]!r} more than once in one object")
    return value


def _sentence(message: str) -> str:
    return message[:1].lower() + message[1:]
