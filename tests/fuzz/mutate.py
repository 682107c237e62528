"""Damage valid inputs: bytes, text, and JSON values, by a seeded random generator."""

from __future__ import annotations

import contextlib
import io
import json
import math
import warnings
import zipfile
from random import Random
from typing import Any

import numpy as np

NUMBERS: tuple[Any, ...] = (
    0, -1, 1, 2, 3, 0.0, -0.0, 0.5, 1e-300, 1e300, -1e300, 1e-8, 2**31 - 1, 2**31, 2**40, 2**53, 2**63, 2**64 - 1,
    10**19, 10**25, 100_000, -(2**63), 65536, 1e12,
)  # fmt: skip
TEXTS: tuple[str, ...] = (
    "", " ", "\n", "a\nb", "\x00", "\u202e", "\u2028", "😀", "ß", "e\u0301", "null", "nan", "inf", "-inf", "1e300",
    "1e999", "-0", "0x10", "1_000", "٣", "²", "½", "true", "../../etc/passwd", "/etc/passwd", "..", ".", "~", "a/b",
    "CON", "![x](http://evil.example/x.png)", "<img src=x onerror=alert(1)>", "$a$", "`a`", "[a](b)", "a" * 300,
    "%s%n", "{0}", "${x}", "'; drop table x; --", "-", "--help", "=1+1", "1,2", "1;2", "cos.system", "ecg", "wind",
    "2020-01-01", "0001-01-01", "9999-12-31", "2020-02-30", "10min", "auto", "Europe/Berlin", "None", "-1", "0", "1",
    "2", "99999999999999999999", "1e-300", "0.5", "all", "none", "exact", "cuda", "cuda:99", "meta", "balanced",
)  # fmt: skip
BYTES: tuple[bytes, ...] = (
    b"", b"\x00", b"\xff", b"\xfe\xff", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\n", b"\r\n", b"\t", b",", b";", b'"',
    b"'", b'""', b"\xd8\x00", b"\x80", b"nan", b"inf", b"1e999", b"-", b"[" * 80, b"{", b"}", b"]", b":", b"@data\n",
    b"\\ud800", b"1" + b"0" * 30, b"NaN", b"null", b"\x00" * 64, b"\xff" * 8, b"#", b"%", b" ", b"PK\x03\x04",
)  # fmt: skip
JSON_TEXTS: tuple[str, ...] = (
    "", "null", "[]", "{}", "0", '"x"', "NaN", "[" * 3000, '{"a":' * 500, "1" + "0" * 5000, '{"a":1,"a":2}',
    '{"a":"\\ud800"}', '{"schema": 1}', '{"schema": 1e999}', '{"schema": 99}', '"' + "x" * 100_000 + '"',
    '{"\\u0000": 1}', "[1,]", "\ufeff{}", "[[[[]]]]", '{"type": {"a": []}}', "-", "1e5", "true",
)  # fmt: skip


def any_value(rng: Random, depth: int = 2) -> Any:
    """Return a JSON value that a reader may not expect."""
    kind = rng.randrange(8 if depth else 5)
    if kind < 2:
        return rng.choice(NUMBERS)
    if kind < 4:
        return rng.choice(TEXTS)
    if kind == 4:
        return rng.choice((None, True, False, math.nan, math.inf, -math.inf))
    if kind == 5:
        return [any_value(rng, depth - 1) for _ in range(rng.choice((0, 1, 2, 5)))]
    if kind == 6:
        return {rng.choice(TEXTS): any_value(rng, depth - 1) for _ in range(rng.choice((0, 1, 2)))}
    return [rng.choice(NUMBERS)] * rng.choice((50, 300))


def changed_value(rng: Random, value: Any) -> Any:
    """Return a JSON value with one to three of its parts changed, dropped, or added."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = list(_places(value))
        if not places or rng.random() < 0.03:
            value = any_value(rng)
            continue
        holder, key = rng.choice(places)
        action = rng.random()
        if action < 0.3:
            holder[key] = any_value(rng)
        elif action < 0.8:
            holder[key] = _near(rng, holder[key])
        elif action < 0.85:
            del holder[key]
        elif isinstance(holder, dict):
            holder[rng.choice(TEXTS)] = any_value(rng)
        else:
            holder.insert(rng.randrange(len(holder) + 1), any_value(rng))
    return value


def _near(rng: Random, value: Any) -> Any:
    """Return a value of the same kind: what a reader that checks types only lets pass."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return rng.choice(
            (-value, value + 1, value - 1, 2 * value, value * 1000, value / 3, str(value), [value])
        )
    if isinstance(value, str):
        return rng.choice(
            (value + rng.choice(TEXTS), value[1:], value.upper(), value * 50, [value], [*value])
        )
    if isinstance(value, list):
        return rng.choice((value * 2, value[::-1], value[:1], [value]))
    return [value]


def _places(value: Any) -> Any:
    """Yield (container, key) of every part of a JSON value."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def json_bytes(rng: Random, value: Any) -> bytes:
    """Return JSON text like that of a value, changed in its parts, in its bytes, or wholly."""
    way = rng.random()
    if way < 0.08:
        return rng.choice(JSON_TEXTS).encode("utf-8", "surrogatepass")
    if way < 0.25:
        return changed_bytes(rng, json.dumps(value).encode())
    text = json.dumps(changed_value(rng, value), ensure_ascii=rng.random() < 0.5)
    return text.encode(rng.choice(("utf-8",) * 8 + ("utf-16", "utf-8-sig")), "surrogatepass")


def changed_bytes(rng: Random, body: bytes) -> bytes:
    """Return a body with a few bits flipped, cut off, overwritten, repeated, or mixed with hostile bytes."""
    out = bytearray(body)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        place = rng.randrange(len(out) + 1)
        way = rng.randrange(7)
        if way == 0 and out:
            out[place % len(out)] ^= 1 << rng.randrange(8)
        elif way == 1:
            del out[place:]
        elif way == 2:
            out[place:place] = rng.choice(BYTES)
        elif way == 3:
            piece = rng.choice(BYTES)
            out[place : place + len(piece)] = piece
        elif way == 4:
            del out[place : place + rng.choice((1, 2, 10, 100))]
        elif way == 5:
            out[place:place] = out[place : place + rng.choice((1, 8, 100))] * rng.choice((1, 3, 20))
        elif out:
            out[place % len(out)] = rng.randrange(256)
    return bytes(out)


DTYPES = ("b1", "i1", "u8", "f2", ">f4", "f8", "c8", "U3", "S3", "M8[s]", "m8[D]", "V4", ">i2", "f4")
ODD = (np.nan, np.inf, -np.inf, 0.0, 1e30, 1e-30, 1e38, -1e38, 1e-44)


def changed_array(rng: Random, body: bytes) -> bytes:
    """Return an NPY file like a valid one: of another type, of another shape, with odd values, or damaged."""
    way = rng.random()
    if way < 0.2:
        return changed_bytes(rng, body[:128]) + body[128:]
    if way < 0.3:
        return changed_bytes(rng, body)
    array = np.load(io.BytesIO(body))
    with (
        contextlib.suppress(ValueError, TypeError, OverflowError, IndexError, RuntimeError),
        warnings.catch_warnings(action="ignore"),
    ):
        for _ in range(rng.choice((1, 1, 2))):
            array = _odd_array(rng, array)
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def _odd_array(rng: Random, array: Any) -> Any:
    way = rng.randrange(8)
    if way == 0:
        return array.astype(rng.choice(DTYPES))
    if way == 1:
        return array.T if rng.random() < 0.5 else np.asfortranarray(array)
    if way == 2:
        return array[: rng.choice((0, 1, 2, 5))]
    if way == 3:
        return array[..., None] if rng.random() < 0.5 else array.reshape(-1)
    if way == 4:
        return np.concatenate([array, array])
    if way == 5:
        return array.ravel()[:1].reshape(())
    if array.dtype.kind == "f" and array.size:
        odd = array.copy()
        odd.flat[rng.randrange(odd.size) :: rng.choice((1, 7, odd.size))] = rng.choice(ODD)
        return odd
    if array.dtype.kind in "iu":
        return np.full_like(array, rng.choice((0, 1, 2, 100)))
    return np.full(array.shape, rng.choice(TEXTS))


def changed_members(rng: Random, body: bytes) -> bytes:
    """Return an NPZ file with one or two arrays changed and all checksums right."""
    with zipfile.ZipFile(io.BytesIO(body)) as zipped:
        members = {name: zipped.read(name) for name in zipped.namelist()}
    chosen = rng.sample(sorted(members), min(len(members), rng.choice((1, 1, 2))))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as zipped:
        for name, part in members.items():
            zipped.writestr(name, changed_array(rng, part) if name in chosen else part)
    return out.getvalue()


def changed_table(rng: Random, text: str) -> bytes:
    """Return a table with cells, lines, its line ends, its delimiter, or its encoding changed."""
    delimiter = next((mark for mark in ("\t", ";", ",", " ") if mark in text[:400]), ",")
    lines = [line.split(delimiter) for line in text.splitlines()[: rng.choice((0, 1, 2, 5, 60, 400))]]
    for _ in range(rng.choice((0, 1, 3, 20))):
        if not lines:
            break
        row = rng.choice(lines) if rng.random() < 0.7 else lines[0]
        place = rng.randrange(len(row) + 1)
        way = rng.random()
        if way < 0.7 and row:
            row[place % len(row)] = rng.choice(TEXTS)
        elif way < 0.8:
            row.insert(place, rng.choice(TEXTS))
        elif way < 0.9 and row:
            row.pop(place % len(row))
        else:
            lines.insert(
                rng.randrange(len(lines) + 1), [rng.choice(TEXTS)] * rng.choice((0, 1, len(row), 50))
            )
    if lines and rng.random() < 0.15:
        # A column of one kind, such as empty cells or text.
        column, cell = rng.randrange(max(1, len(lines[0]))), rng.choice(TEXTS)
        for row in lines[rng.randrange(2) :]:
            if column < len(row):
                row[column] = cell
    mark = rng.choice((delimiter,) * 6 + (",", ";", "\t", "|", " ", "  "))
    end = rng.choice(("\n",) * 6 + ("\r\n", "\r", "\n\n"))
    body = end.join(mark.join(row) for row in lines) + rng.choice((end, ""))
    coding = rng.choice(
        ("utf-8",) * 14 + ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252", "utf-32")
    )
    encoded = body.encode(coding, "replace")
    return changed_bytes(rng, encoded) if rng.random() < 0.2 else encoded
