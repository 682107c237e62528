"""The user's own folder: imported data sets, trained or imported checkpoints, studies, found by name like shipped ones.

It is `~/.e2crf-lab`, or what the variable E2CRF_HOME says, with one folder a name in `data/`, `checkpoints/` and
`studies/`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from e2crf_core.errors import LabError

Kind = Literal["data", "checkpoints", "studies"]
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,47}", re.ASCII)


def user_dir() -> Path:
    """The user's own folder; it need not exist."""
    return Path(os.environ.get("E2CRF_HOME") or Path.home() / ".e2crf-lab")


def check_name(name: str) -> str:
    """`name` itself, when it may name a folder of ours on any system. Raises LabError otherwise."""
    if not _SAFE.fullmatch(name):
        raise LabError(
            f"the name {name[:60]!r} cannot be used: 1 to 48 letters, digits, '-' and '_', beginning with a letter"
            " or digit"
        )
    return name


def user_folder(kind: Kind, name: str) -> Path:
    """The folder that holds, or will hold, the user's own `name`. Raises LabError for a name that could escape."""
    return user_dir() / kind / check_name(name)


def user_names(kind: Kind, marker: str) -> list[str]:
    """Names of the user's own folders that hold a file `marker`, sorted. Folders with other names are not ours."""
    found = (user_dir() / kind).glob(f"*/{marker}")
    return sorted(path.parent.name for path in found if _SAFE.fullmatch(path.parent.name))


def free_name(wanted: str, taken: Iterable[str]) -> str:
    """A safe name like `wanted`, such as a file's, that is not among `taken`."""
    plain = re.sub(r"[^a-z0-9_]+", "-", wanted.lower()).strip("-_")[:40].rstrip("-_") or "own"
    used = set(taken)
    numbered = (plain if i == 1 else f"{plain}-{i}" for i in range(1, len(used) + 2))
    return next(name for name in numbered if name not in used)
