"""Define the schema of `run.json`, which describes the arrays of an archived run.

Sizes and numbers are limited and unknown fields are rejected, so that a forged manifest cannot request more
memory than an honest one. Archives of the first release have no `digests` and are read without them.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict, model_validator

from e2crf_core.caching.policy import CachePolicy
from e2crf_core.caching.policy_json import PolicyJson
from e2crf_core.diffusion.solvers import MAX_STEPS
from e2crf_core.runs.comparison import Comparison
from e2crf_core.runs.run import RunResult, RunSpec
from e2crf_core.sampling.config import SamplerConfig

SCHEMA: Literal[1] = 1
KIND: Literal["e2crf-run"] = "e2crf-run"
LIMIT_BYTES = 1 << 29
NOTE_LENGTH = 4000
CHANNELS = 1 << 12

Whole = Annotated[int, Strict()]
Size = Annotated[int, Strict(), Field(ge=1, le=1 << 16)]
Name = Annotated[str, Field(max_length=200)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class SpecPart(_Part):
    """A RunSpec with its sampler configuration laid out flat."""

    checkpoint: str = Field(max_length=4096)
    steps: int = Field(ge=1, le=MAX_STEPS)
    num: int
    seed: int
    device: Name
    policy: PolicyJson
    watch: int
    pace: float
    compare: bool
    solver: Name
    grid: Name
    backend: Name = "eager"
    noise: Name = "numpy"

    @staticmethod
    def of(spec: RunSpec) -> SpecPart:
        """Lay out a spec."""
        names = ("checkpoint", "num", "seed", "device", "watch", "pace", "compare")
        config = spec.config
        return SpecPart(
            **{name: getattr(spec, name) for name in names},
            policy=spec.policy,
            steps=config.steps,
            solver=config.solver,
            grid=config.grid,
            backend=config.backend,
            noise=config.noise,
        )

    def spec(self) -> RunSpec:
        """Build the spec. Raises LabError if it is invalid."""
        return RunSpec(
            self.checkpoint,
            self.num,
            self.seed,
            SamplerConfig(
                self.policy, self.steps, self.solver, self.grid, backend=self.backend, noise=self.noise
            ),
            device=self.device,
            watch=self.watch,
            pace=self.pace,
            compare=self.compare,
        )

    @model_validator(mode="after")
    def _runs(self) -> SpecPart:
        self.spec()
        return self


class ShapePart(_Part):
    """The recorded steps, tokens n, length N, and channels M of the series."""

    count: Size
    n: Size
    N: Size
    M: Size

    def recorded_bytes(self, steps: int) -> int:
        """Return the memory that a recorder of this shape takes."""
        return steps * (self.n * (13 + 4 * self.M) + 8 * self.N * self.M)


class ModelPart(_Part):
    """The checkpoint that made the run: data set, digest of its weights, and the scale of each channel."""

    dataset: Name
    digest: str = Field(max_length=64)
    channels: list[Name] = Field(min_length=1, max_length=CHANNELS)
    mean: list[float] = Field(max_length=CHANNELS)
    std: list[float] = Field(max_length=CHANNELS)


class ComparisonPart(_Part):
    """The numbers of a Comparison; the uncached samples are a separate member."""

    seconds_uncached: float
    speedup_wall: float
    relative_l2: float
    sliced_wasserstein: float | None
    sliced_wasserstein_uncached: float | None
    sliced_wasserstein_floor: float | None
    floor_sizes: Annotated[tuple[Whole, Whole], Strict(False)] | None


class ResultPart(_Part):
    """The numbers of a RunResult; the samples are a separate member."""

    seconds: float = Field(ge=0)
    token_share: float = Field(ge=0, le=1)
    flop_share: float = Field(ge=0)
    comparison: ComparisonPart | None

    @staticmethod
    def of(result: RunResult) -> ResultPart:
        """Keep the numbers of a result."""
        compared = None
        if result.comparison is not None:
            numbers = asdict(result.comparison)
            del numbers["samples_uncached"]
            compared = ComparisonPart(**numbers)
        return ResultPart(
            seconds=result.seconds,
            token_share=result.token_share,
            flop_share=result.flop_share,
            comparison=compared,
        )

    def result(self, samples: Any, samples_uncached: Any) -> RunResult:
        """Recombine numbers and arrays."""
        comparison = None
        if self.comparison is not None:
            comparison = Comparison(samples_uncached=samples_uncached, **self.comparison.model_dump())
        return RunResult(samples, self.seconds, self.token_share, self.flop_share, comparison)


PolicyChange = Annotated[
    tuple[
        Annotated[int, Strict(), Field(ge=0, le=MAX_STEPS)], Annotated[int, Strict(), Field(ge=0)], PolicyJson
    ],
    Strict(False),
]
"""First step, version, policy."""


class Manifest(_Part):
    """Everything of a run except its arrays."""

    kind: Literal["e2crf-run"] = KIND
    schema_: Literal[1] = Field(SCHEMA, alias="schema")
    name: str
    created: str = Field(max_length=40)
    status: Name
    note: str
    kept: bool
    spec: SpecPart
    policies: list[PolicyChange] = Field(min_length=1, max_length=MAX_STEPS + 1)
    shape: ShapePart
    model: ModelPart
    versions: dict[Name, Name]
    result: ResultPart | None
    digests: dict[Name, Annotated[str, Field(pattern="^[0-9a-f]{64}$")]] | None = None
    """SHA-256 of every array member."""

    @model_validator(mode="after")
    def _fits(self) -> Manifest:
        shape, steps = self.shape, self.spec.steps
        if shape.count > steps:
            raise ValueError(f"shape.count: {shape.count} recorded steps of {steps}")
        if shape.n > 2 * shape.N or shape.recorded_bytes(steps) > LIMIT_BYTES:
            raise ValueError(
                f"shape: n = {shape.n}, N = {shape.N}, M = {shape.M} do not go together or are too many"
            )
        if self.policies[0][0] != 0:
            raise ValueError("policies: no policy was in force at the first step")
        if any(len(one) != shape.M for one in (self.model.channels, self.model.mean, self.model.std)):
            raise ValueError(f"model: it does not have {shape.M} channels")
        return self

    @property
    def policy_changes(self) -> list[tuple[int, int, CachePolicy]]:
        """Return policies with the step at which each came into force."""
        return [(step, version, policy) for step, version, policy in self.policies]
