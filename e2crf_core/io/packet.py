"""Self-describing binary packets: a JSON header followed by typed arrays.

Layout, little-endian: magic `E2P1`, uint32 length of the header, header (UTF-8 JSON padded with blanks so
that the arrays start at a multiple of 8), then the arrays in C order, each padded to a multiple of 8. The
header's `arrays` lists `[name, dtype, shape, offset]`; a browser maps them as typed arrays without parsing or
copying.
"""

import json
import math
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

MAGIC = b"E2P1"
_TYPES = {"u1": np.uint8, "f4": np.float32}


def finite(value: float | None) -> float | None:
    """`value` as a plain float, None where JSON could not carry it (absent, infinite or not a number)."""
    return float(value) if value is not None and math.isfinite(value) else None


def pack(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """One packet. `arrays` are sent as uint8 where they are uint8, as float32 otherwise."""
    bodies: list[bytes] = []
    listed: list[list[Any]] = []
    offset = 0
    for name, array in arrays.items():
        kind = "u1" if array.dtype == np.uint8 else "f4"
        body = np.ascontiguousarray(array, dtype=_TYPES[kind]).tobytes()
        listed.append([name, kind, list(array.shape), offset])
        bodies.append(body + b"\0" * (-len(body) % 8))
        offset += len(bodies[-1])
    text = json.dumps({**header, "arrays": listed}, allow_nan=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([MAGIC, struct.pack("<I", len(text)), text, *bodies])
