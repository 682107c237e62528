"""Define request models: the fields of a policy and of a request for samples, with one server's limits."""

# No postponed annotations here: the request models are made for each application and contain its limits.

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

from e2crf_core.caching.policy import PRESETS, CachePolicy
from e2crf_core.diffusion.solvers import ETA, GRIDS, MAX_STEPS, SOLVERS
from e2crf_core.errors import LabError
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.serving.batching import SampleJob

# The largest integer that every JSON reader represents exactly.
MAX_SEED = 2**53 - 1
LEAST_DEADLINE_S, MAX_DEADLINE_S = 0.01, 86_400.0


@dataclass(frozen=True)
class Limits:
    """The limits of a server: samples and steps per request, concurrent requests, samples per batch."""

    num: int = 256
    steps: int = 1000
    queue: int = 64
    batch: int = 64

    def __post_init__(self) -> None:
        """Reject limits that allow nothing."""
        if min(self.num, self.queue, self.batch) < 1 or not 10 <= self.steps <= MAX_STEPS:
            raise LabError(
                f"limits: num, queue and batch must be at least 1, steps between 10 and {MAX_STEPS}"
            )


def _whole(value: Any) -> Any:
    """Convert 3.0 to the integer 3, since JSON has only one kind of number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _choice(names: Any) -> Any:
    return Literal.__getitem__(tuple(names))


def whole_number(low: int, high: int, help: str = "") -> Any:
    return Annotated[int, Field(strict=True, ge=low, le=high, description=help), BeforeValidator(_whole)]


def policy_field() -> Any:
    """Return the type of a policy in a request: the name of a preset, or its fields."""
    return _choice(PRESETS) | policy_model()


@lru_cache(maxsize=1)
def policy_model() -> type[BaseModel]:
    """Return the fields of a policy as a request model, with the policy's own ranges and help."""
    members: dict[str, Any] = {}
    for f in fields(CachePolicy):
        meta = f.metadata
        low, high, help = meta["low"], meta["high"], meta["help"]
        kind: Any
        if f.name == "bands":
            pair: Any = tuple.__class_getitem__(
                (whole_number(1, 1_000_000), Annotated[float, Field(strict=True, ge=low, le=high)])
            )
            kind = Annotated[list[pair], Field(min_length=1, max_length=64, description=help)]
        elif meta["choices"]:
            kind = Annotated[_choice(meta["choices"]), Field(description=help)]
        elif f.type == "bool":
            kind = Annotated[bool, Field(strict=True, description=help)]
        elif f.type == "int":
            kind = whole_number(low, high, help)
        else:
            kind = Annotated[float, Field(strict=True, ge=low, le=high, description=help)]
        default: Any = f.default
        members[f.name] = (kind, list(default) if f.name == "bands" else default)
    return create_model("Policy", __config__=STRICT, __doc__="When to recompute which token.", **members)


# One of the named solvers, or DDIM with a share of ancestral noise.
_SOLVER = (
    _choice(SOLVERS)
    | Annotated[
        str,
        Field(
            strict=True,
            pattern=rf"^{ETA}(0(\.[0-9]{{1,6}})?|1(\.0{{1,6}})?)$",
            description=f"{ETA}ETA is DDIM with the share ETA, 0 to 1, of ancestral noise",
        ),
    ]
)
SECONDS: Any = Annotated[
    float | None,
    Field(
        strict=True,
        ge=LEAST_DEADLINE_S,
        le=MAX_DEADLINE_S,
        description="seconds after which the server gives up and answers 504",
    ),
]
STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


def request_model(limits: Limits, default: SamplerConfig) -> type[BaseModel]:
    """Return the model of a request body, with the server's limits in its schema."""
    named = next((name for name, policy in PRESETS.items() if policy == default.policy), None)
    if default.policy is None:
        raise LabError("a server needs a default policy", field="policy")
    stated = named or policy_model()(**_policy_values(default.policy))
    return create_model(
        "SamplesRequest",
        __config__=STRICT,
        __doc__="What to draw. A sample depends on the seed, its number and the settings, not on other requests.",
        num=(whole_number(1, limits.num, "number of samples"), 1),
        seed=(whole_number(0, MAX_SEED, "equal seeds give equal samples"), 0),
        policy=(policy_field(), stated),
        steps=(whole_number(2, limits.steps, "network calls of the solver"), default.steps),
        solver=(_SOLVER, default.solver),
        grid=(_choice(GRIDS), default.grid),
        format=(_choice(("json", "npz")), "json"),
        deadline_s=(SECONDS, None),
    )


def _policy_values(policy: CachePolicy) -> dict[str, Any]:
    values = {f.name: getattr(policy, f.name) for f in fields(policy)}
    return values | {"bands": [list(pair) for pair in policy.bands]}


def config_of(body: Any) -> SamplerConfig:
    """Return the sampler configuration of a request.

    Raises LabError for fields that are valid separately but not together.
    """
    return SamplerConfig(policy_of(body.policy), body.steps, body.solver, body.grid)


def policy_of(policy: Any) -> CachePolicy:
    """Return the policy of a request, a preset's name or a model. Raises LabError like `config_of`."""
    if isinstance(policy, str):
        return PRESETS[policy]
    values = policy.model_dump()
    return CachePolicy(**values | {"bands": tuple(tuple(pair) for pair in values["bands"])})


def job_of(body: Any) -> SampleJob:
    """Return the job of a request. Raises LabError like `config_of`."""
    return SampleJob(config_of(body), body.num, body.seed, deadline=body.deadline_s)
