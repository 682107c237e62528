"""Check optional dependencies: a missing one gives one clear line that names the extra to install."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

from e2crf_core.errors import LabError

Extra = Literal["app", "tune", "serve", "data", "cluster", "dev"]


def installed(*modules: str) -> bool:
    """Return whether all of the given modules can be imported."""
    return not any(find_spec(module) is None for module in modules)


def require(extra: Extra, purpose: str, *modules: str) -> None:
    """Raise LabError unless `modules` can be imported; `purpose` names what needs the extra."""
    if not installed(*modules):
        raise LabError(f"{purpose} needs the extra [{extra}]", remedy=f"pip install 'e2crf-lab[{extra}]'")
