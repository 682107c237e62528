"""Flip single bits in the files of a store: its content is refused, or is what it was."""

from __future__ import annotations

import random
from pathlib import Path

from e2crf_core import LabError
from tests.kill.stores import Store


def flip(store: Store, folder: Path, intact: object, rng: random.Random) -> str | None:
    """Flip one bit; return "refused", "unchanged" or what is wrong, and put the bit back."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    path = rng.choices(paths, [path.stat().st_size for path in paths])[0]
    body = path.read_bytes()
    place = rng.randrange(8 * len(body))
    damaged = bytearray(body)
    damaged[place // 8] ^= 1 << place % 8
    path.write_bytes(damaged)
    try:
        content = store.content(folder)
    except LabError as fault:
        return "refused" if "\n" not in str(fault) else f"refused in several lines: {fault}"
    except Exception as fault:
        return f"{path.name}, bit {place}: {type(fault).__name__}: {fault}"
    finally:
        path.write_bytes(body)
    return "unchanged" if content == intact else f"{path.name}, bit {place}: accepted in silence"
