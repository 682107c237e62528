"""Variants to compare: policies, solvers and grids as short texts for tables and addresses, and their runs."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from e2crf_core.caching.policy import PRESETS, CachePolicy
from e2crf_core.caching.triggers import deciding
from e2crf_core.diffusion.solvers import ETA, GRIDS, SOLVERS, find_solver
from e2crf_core.errors import LabError
from e2crf_core.runs.run import FINISHED, RunHandle, RunSpec
from e2crf_core.sampling.config import SamplerConfig
from pages.ui.common.registry import RunRegistry

MOST = 6
TRIGGER = "trigger "
POLICIES = (*PRESETS, *(TRIGGER + name for name in deciding()))
CHOICES = (*SOLVERS, *(f"{ETA}{eta:g}" for eta in (0.25, 0.5, 0.75)))
"""Solvers to choose from in a table; an address may name any eta."""


@dataclass(frozen=True)
class Variant:
    """One row of a comparison. `tau` and `R` replace the policy's own where they are given."""

    policy: str = "balanced"
    tau: float | None = None
    R: int | None = None
    solver: str = "euler_maruyama"
    grid: str = "linear"
    steps: int = 300

    def cache_policy(self) -> CachePolicy:
        """The policy that this row means. Raises LabError for an unknown or impossible one."""
        if self.policy not in POLICIES:
            raise LabError(f"unknown policy {self.policy!r}: use one of {', '.join(POLICIES)}")
        base = PRESETS.get(self.policy) or CachePolicy.of(self.policy.removeprefix(TRIGGER))
        changes = {"tau": self.tau, "refresh_every": self.R}
        return base.replace(**{name: value for name, value in changes.items() if value is not None})

    @property
    def name(self) -> str:
        """What the row is called in legends."""
        extra = "".join(f" {n}={v:g}" for n, v in (("τ", self.tau), ("R", self.R)) if v is not None)
        grid = "" if self.grid == "linear" else f" {self.grid}"
        return f"{self.policy.removeprefix(TRIGGER)}{extra}, {self.solver}{grid}, {self.steps}"


DEFAULT = (
    Variant("exact"),
    Variant("balanced"),
    Variant("paper"),
    Variant("exact", solver="dpmpp_2m", grid="log_snr", steps=20),
)


def write(variants: Sequence[Variant]) -> str:
    """Variants as text for an address."""
    return ";".join(
        ",".join("" if v is None else f"{v:g}" if isinstance(v, float) else str(v) for v in row)
        for row in ((a.policy, a.tau, a.R, a.solver, a.grid, a.steps) for a in variants)
    )


def read(text: str) -> tuple[Variant, ...]:
    """Inverse of `write`. Raises LabError for text that is none."""
    found = []
    for part in text.split(";")[:MOST]:
        cells = part.split(",")
        try:
            policy, tau, interval, solver, grid, steps = cells
            found.append(
                checked(
                    Variant(
                        policy,
                        float(tau) if tau else None,
                        int(interval) if interval else None,
                        solver,
                        grid,
                        int(steps),
                    )
                )
            )
        except LabError:
            raise
        except ValueError:
            raise LabError(
                f"{part[:60]!r} in the address is no variant: policy,tau,R,solver,grid,steps"
            ) from None
    return tuple(found)


def checked(variant: Variant) -> Variant:
    """The variant itself, when it can run. Raises LabError."""
    variant.cache_policy()
    find_solver(variant.solver)
    if variant.grid not in GRIDS:
        raise LabError(f"unknown grid {variant.grid!r}: use one of {', '.join(GRIDS)}")
    if not 2 <= variant.steps <= 2000:
        raise LabError(f"steps {variant.steps}: use 2 to 2000")
    return variant


@dataclass
class Job:
    """Runs of variants, one after the other, so that none takes processor time from another."""

    variants: tuple[Variant, ...]
    specs: tuple[RunSpec, ...]
    runs: list[RunHandle] = field(default_factory=list)

    @staticmethod
    def of(variants: Sequence[Variant], checkpoint: str, num: int, seed: int) -> "Job":
        """Plan runs on the same noise. Raises LabError for what cannot run."""
        configs = [SamplerConfig(v.cache_policy(), v.steps, v.solver, v.grid) for v in variants]
        specs = tuple(RunSpec(checkpoint, num, seed, config, compare=False) for config in configs)
        return Job(tuple(checked(v) for v in variants), specs)

    def advance(self, registry: RunRegistry) -> None:
        """Start what is due; to be called until `over`. Raises LabError when the server is full."""
        if self.runs:
            self.runs[-1].touch()
            if self.runs[-1].status != "done":
                return
        if len(self.runs) < len(self.specs):
            self.runs.append(registry.start(self.specs[len(self.runs)]))

    @property
    def over(self) -> bool:
        """Whether nothing more will come: all is done, or a run failed or was stopped."""
        ended = bool(self.runs) and self.runs[-1].status in FINISHED
        return ended and (self.runs[-1].status != "done" or len(self.runs) == len(self.specs))

    @property
    def progress(self) -> float:
        """Share of all steps that are done."""
        done = sum(run.progress * run.spec.config.steps for run in self.runs)
        return done / sum(spec.config.steps for spec in self.specs)
