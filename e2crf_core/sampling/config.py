"""Define SamplerConfig: how samples are drawn, as one value that studies, runs, servers, and pages share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from e2crf_core.caching.policy import POLICY_SCHEMA, PRESETS, CachePolicy
from e2crf_core.diffusion.noise import check_noise
from e2crf_core.errors import LabError, make_whole
from e2crf_core.network.backends import check_backend


@dataclass(frozen=True)
class SamplerConfig:
    """A sampler's settings: `steps` of `solver` on `grid`, cached by `policy` (None: uncached).

    `batch` limits how many samples run together; it changes no sample. `backend` runs the network where all of
    it is called (network.backends.BACKENDS, or `auto`: what is fastest here). `noise` is one of the streams of
    diffusion.noise.NOISES.
    """

    policy: CachePolicy | None = PRESETS["balanced"]
    steps: int = 1000
    solver: str = "euler_maruyama"
    grid: str = "linear"
    batch: int = 64
    backend: str = "eager"
    noise: str = "numpy"

    def __post_init__(self) -> None:
        """Reject an empty batch; the plan is checked with the model's schedule."""
        make_whole(self, "steps", "batch")
        if self.batch < 1:
            raise LabError(f"batch {self.batch}: must be at least 1", field="batch")
        check_backend(self.backend)
        check_noise(self.noise)

    @property
    def plan(self) -> tuple[str, str, int]:
        """Return solver, grid, and steps, which a run shares with its uncached twin."""
        return self.solver, self.grid, self.steps

    @property
    def twin(self) -> SamplerConfig:
        """Return the reference for this configuration: without a cache, on the eager backend."""
        return replace(self, policy=None, backend="eager")

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; `from_json` restores an equal configuration.

        The first stream of noise is left out, so that what older versions stored still fits.
        """
        stored = asdict(self)
        if self.noise == SamplerConfig.noise:
            del stored["noise"]
        return stored

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> SamplerConfig:
        """Invert `to_json`; a missing batch, backend, or noise takes the default. Raises LabError for anything else."""
        try:
            policy = stored["policy"]
            return SamplerConfig(
                policy=None
                if policy is None
                else CachePolicy.from_json(json.dumps({"schema": POLICY_SCHEMA, **policy})),
                steps=int(stored["steps"]),
                solver=str(stored["solver"]),
                grid=str(stored["grid"]),
                batch=int(stored.get("batch", 64)),
                backend=str(stored.get("backend", "eager")),
                noise=str(stored.get("noise", SamplerConfig.noise)),
            )
        except (KeyError, TypeError, ValueError) as fault:
            raise LabError(f"not a sampler configuration: {fault}") from None

    def describe(self) -> str:
        """Describe the configuration in a few words."""
        plan = f"{self.solver} on the {self.grid} grid with {self.steps} steps"
        if self.backend != "eager":
            plan += f", backend {self.backend}"
        if self.noise != SamplerConfig.noise:
            plan += f", noise {self.noise}"
        if self.policy is None:
            return f"{plan}, no cache"
        policy = self.policy
        extra = f", {policy.predictor} predictor" if policy.predicts else ""
        if policy.predicts and policy.predictor_split:
            extra += f" ({policy.predictor_above} from token {policy.predictor_split} on)"
        return f"{plan}, trigger {policy.trigger}, {policy.rule.describe(policy)}{extra}"
