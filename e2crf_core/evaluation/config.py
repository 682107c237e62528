"""Read the configurations that an evaluation compares from a JSON file; every fault is listed at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from e2crf_core.caching.policy import POLICY_SCHEMA, PRESETS, CachePolicy
from e2crf_core.diffusion.schedules import VP
from e2crf_core.diffusion.solvers import GRIDS, find_solver, make_plan
from e2crf_core.errors import LabError
from e2crf_core.io.json_files import parse_json
from e2crf_core.sampling.config import SamplerConfig

MAX_CONFIG_BYTES = 1_000_000
Configs = Mapping[str, SamplerConfig]
"""The rows of an evaluation by name, in the order of the table."""


class ConfigError(LabError):
    """A configuration file that cannot run; `faults` lists every problem with it."""

    def __init__(self, where: str, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__(f"configurations {where}: " + "; ".join(faults), field="configs")


def read_policy(value: object, info: ValidationInfo) -> CachePolicy | None:
    """Read a policy from a preset's name, its fields as JSON values, or None for no cache."""
    if value is None or isinstance(value, CachePolicy):
        return value
    if isinstance(value, str):
        presets: Mapping[str, CachePolicy] = info.context or PRESETS
        if value in presets:
            return presets[value]
        raise LabError(f"{value!r} is not a preset: use one of {', '.join(presets)}, an object, or null")
    if not isinstance(value, dict):
        raise LabError("a preset's name, an object, or null is expected")
    return CachePolicy.from_json(json.dumps({"schema": POLICY_SCHEMA, **value}))


def _solver(name: str) -> str:
    find_solver(name)
    return name


def _grid(name: str) -> str:
    if name not in GRIDS:
        raise LabError(f"unknown time grid {name!r}: use one of {', '.join(GRIDS)}")
    return name


class _Entry(BaseModel):
    """One row of a configuration file."""

    model_config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80)]
    solver: Annotated[str, AfterValidator(_solver)]
    grid: Annotated[str, AfterValidator(_grid)]
    steps: int
    policy: Annotated[Any, BeforeValidator(read_policy)]

    @model_validator(mode="after")
    def _runs(self) -> _Entry:
        make_plan(VP(), self.steps, self.solver, self.grid)
        return self

    @property
    def config(self) -> SamplerConfig:
        """Return the row's sampler configuration."""
        return SamplerConfig(policy=self.policy, steps=self.steps, solver=self.solver, grid=self.grid)


def parse_configs(
    text: str | bytes, where: str = "file", presets: Mapping[str, CachePolicy] = PRESETS
) -> dict[str, SamplerConfig]:
    """Read a JSON list of {"name", "solver", "grid", "steps", "policy"}.

    `policy` is the name of one of `presets`, an object with fields of CachePolicy, or null for an uncached run.
    Raises ConfigError that lists every fault.
    """
    try:
        stored = parse_json(text, "it", limit=MAX_CONFIG_BYTES)
    except LabError as fault:
        raise ConfigError(where, [fault.problem]) from None
    if not isinstance(stored, list) or not stored:
        raise ConfigError(where, ['a list of {"name", "solver", "grid", "steps", "policy"} is expected'])
    names = [entry.get("name") if isinstance(entry, dict) else None for entry in stored]
    faults = [
        f"entry {index + 1}: the name {name!r} is used twice"
        for index, name in enumerate(names)
        if isinstance(name, str) and name in names[:index]
    ]
    try:
        entries = TypeAdapter(list[_Entry]).validate_python(stored, context=presets)
    except ValidationError as fault:
        raise ConfigError(where, [*map(_worded, fault.errors(include_url=False)), *faults]) from None
    if faults:
        raise ConfigError(where, faults)
    return {entry.name: entry.config for entry in entries}


def _worded(fault: Any) -> str:
    """Word a pydantic fault in one line: which entry, which field, what is wrong."""
    index, *path = fault["loc"]
    known = f" (known: {', '.join(_Entry.model_fields)})" if fault["type"] == "extra_forbidden" else ""
    message = fault["msg"].removeprefix("Value error, ")
    return ": ".join([f"entry {index + 1}", *map(str, path), message[:1].lower() + message[1:] + known])


def load_configs(path: Path, presets: Mapping[str, CachePolicy] = PRESETS) -> dict[str, SamplerConfig]:
    """Read a file with `parse_configs`. Raises LabError if it cannot be read."""
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise LabError(f"configurations {path}: larger than 1 MB", field="configs")
        text = path.read_bytes()
    except OSError as fault:
        raise LabError(f"configurations {path}: {fault.strerror}", field="configs") from None
    return parse_configs(text, str(path), presets)
