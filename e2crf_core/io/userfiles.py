"""Manage the user's folder of imported data sets, checkpoints, and studies, found by name like shipped ones.

It is `~/.e2crf-lab`, or the value of the variable E2CRF_HOME, with one folder per name in `data/`,
`checkpoints/`, and `studies/`.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from e2crf_core.errors import LabError
from e2crf_core.io.sets import settle

Kind = Literal["data", "checkpoints", "studies"]
DEPTH = 4
"""How deep in the user's folder files are written."""
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,47}", re.ASCII)


def user_dir() -> Path:
    """Return the user's own folder, which need not exist."""
    return Path(os.environ.get("E2CRF_HOME") or Path.home() / ".e2crf-lab")


def check_name(name: str) -> str:
    """Return `name` if it may name one of our folders on any system. Raises LabError otherwise."""
    if not _SAFE.fullmatch(name):
        raise LabError(
            f"the name {name[:60]!r} cannot be used: 1 to 48 letters, digits, '-' and '_', beginning with a letter"
            " or digit"
        )
    return name


def user_folder(kind: Kind, name: str) -> Path:
    """Return the folder for the user's `name`, existing or not. Raises LabError for an unsafe name."""
    return user_dir() / kind / check_name(name)


def user_names(kind: Kind, marker: str) -> list[str]:
    """Return sorted names of the user's folders with a file `marker`; skip names that are not ours."""
    found = (user_dir() / kind).glob(f"*/{marker}")
    return sorted(path.parent.name for path in found if _SAFE.fullmatch(path.parent.name))


def clean_home() -> None:
    """Complete or remove what killed processes left in the user's own folder, as every program does when it starts."""
    for place, _, _ in os.walk(user_dir()):
        if len(Path(place).relative_to(user_dir()).parts) <= DEPTH:
            with contextlib.suppress(LabError):
                settle(Path(place))


def free_name(wanted: str, taken: Iterable[str]) -> str:
    """Return a safe name like `wanted`, such as a file's, that is not among `taken`."""
    plain = re.sub(r"[^a-z0-9_]+", "-", wanted.lower()).strip("-_")[:40].rstrip("-_") or "own"
    used = set(taken)
    numbered = (plain if i == 1 else f"{plain}-{i}" for i in range(1, len(used) + 2))
    return next(name for name in numbered if name not in used)
