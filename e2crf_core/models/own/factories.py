"""Find and run a user's function that builds a network, and remember which of them the user trusts.

Python code can do anything that its user can. It therefore runs only after consent, which is recorded in
`trusted.json` of the user's folder with the SHA-256 of the file. A file that has changed since, or a
checkpoint brought from another computer, asks for consent again. What the file itself imports is not checked.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from e2crf_core.errors import LabError
from e2crf_core.io.arrays import reason
from e2crf_core.io.json_files import read_model, write_json
from e2crf_core.io.userfiles import user_dir

_REFERENCE = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)", re.ASCII)


class Factory(BaseModel):
    """A function that builds a network: `reference` MODULE:NAME, in the file `path` with SHA-256 `digest`."""

    model_config = ConfigDict(frozen=True, strict=True)

    reference: str = Field(max_length=400)
    path: str = Field(max_length=4096)
    digest: str = Field(pattern="^[0-9a-f]{64}$")

    @property
    def name(self) -> str:
        """Return the function's name."""
        return self.reference.partition(":")[2]


class _Trusted(BaseModel):
    """The factories whose code the user agreed to run."""

    factories: list[Factory] = []


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as fault:
        raise LabError(f"{path} cannot be read: {fault.strerror}", field="factory") from None


def find_factory(reference: str, folder: Path | None = None) -> Factory:
    """Find the file of MODULE:NAME in `folder` (the current one by default) or on Python's path.

    No code runs. Raises LabError if there is no such file.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise LabError(
            f"{reference[:80]!r} names no function",
            field="factory",
            remedy="write MODULE:FUNCTION, such as mynet:build for the function build in mynet.py",
        )
    part = match[1].replace(".", "/")
    roots = [folder or Path.cwd(), *(Path(entry) for entry in sys.path if entry)]
    for root in roots:
        for path in (root / f"{part}.py", root / part / "__init__.py"):
            if path.is_file():
                path = path.resolve()
                return Factory(reference=reference, path=str(path), digest=_digest(path))
    raise LabError(
        f"there is no module {match[1]!r} in {roots[0]} or on Python's path",
        field="factory",
        remedy="go to the folder with its file first",
    )


def _register() -> Path:
    return user_dir() / "trusted.json"


def trusted() -> list[Factory]:
    """Return the factories that the user trusts. Raises LabError if the file that lists them is damaged."""
    path = _register()
    return read_model(_Trusted, path).factories if path.is_file() else []


def trust(factory: Factory) -> None:
    """Record that the user agrees to run a factory's code."""
    kept = [one for one in trusted() if (one.reference, one.path) != (factory.reference, factory.path)]
    write_json(_register(), _Trusted(factories=[*kept, factory]).model_dump())


def require_trust(factory: Factory) -> None:
    """Refuse a factory that the user does not trust, or whose file has changed since. Raises LabError."""
    path = Path(factory.path)
    remedy = "read that file, then import the network again and agree to run its code"
    if factory not in trusted():
        raise LabError(
            f"this network is built by code in {path}, which you have not agreed to run",
            field="trust",
            remedy=remedy,
        )
    if _digest(path) != factory.digest:
        raise LabError(f"{path} has changed since you agreed to run it", field="trust", remedy=remedy)


def build(factory: Factory, length: int, channels: int) -> Any:
    """Run a trusted factory: FUNCTION(length, channels) -> network. Raises LabError if its code fails."""
    require_trust(factory)
    function = _function(factory)
    try:
        return function(length, channels)
    except Exception as fault:
        raise LabError(
            f"{factory.reference}({length}, {channels}) failed: {type(fault).__name__}: {reason(fault)}",
            field="factory",
        ) from fault


def _function(factory: Factory) -> Callable[[int, int], Any]:
    """Return the function, from a module named after its digest: an edited file is another module."""
    path = Path(factory.path)
    name = f"e2crf_own_{factory.digest[:16]}"
    module = sys.modules.get(name)
    if module is None:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        # The file may import its neighbors.
        sys.path.append(str(path.parent))
        try:
            spec.loader.exec_module(module)
        except Exception as fault:
            del sys.modules[name]
            raise LabError(
                f"{path} cannot be imported: {type(fault).__name__}: {reason(fault)}", field="factory"
            ) from fault
        finally:
            sys.path.remove(str(path.parent))
    function = getattr(module, factory.name, None)
    if not callable(function):
        raise LabError(f"{path} has no function {factory.name!r}", field="factory")
    return function
