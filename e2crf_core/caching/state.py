"""Hold what a cached sampler carries from one step to the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from e2crf_core.caching.selection import Selection
from e2crf_core.diffusion.conditioning import Conditioning
from e2crf_core.diffusion.exponential import exponential_table
from e2crf_core.diffusion.noise import NoiseStream
from e2crf_core.diffusion.score_model import ScoreModel, precondition
from e2crf_core.diffusion.solvers import Plan
from e2crf_core.network.backends import Backend
from e2crf_core.network.forward import prefix_forward
from e2crf_core.network.kept import Conditions
from e2crf_core.network.kvcache import KVCache
from e2crf_core.network.shapes import Bool, Float, Int, UInt8

T = TypeVar("T")
NEVER = -1
"""The step of the last recompute of a token that has never been computed."""


@dataclass(frozen=True)
class Clock:
    """The last recompute of each token, on the host: (b, n), b = B, or 1 while all samples agree.

    `at` is the step of a token's last recompute and `previous` that of the one before (`at` if there was
    none); both are NEVER for a token that has not been computed yet, whose output F is 0. `refreshed` (b, 1)
    is the step of the last recompute of all tokens. `unit` names the clock in Problem.clocks on which
    differences of outputs are taken.
    """

    at: Int[Tensor, "b n"]
    previous: Int[Tensor, "b n"]
    refreshed: Int[Tensor, "b 1"]
    unit: str


@dataclass(frozen=True)
class Cache:
    """The cache in a sampler state. Small tensors are replaced, never changed; `kv` is passed on.

    `kv` is overwritten in place (see KVCache); it is None for a spectrally causal network, which keeps none.

    `feature` (B, n, d) is C (E4) and `output` (B, n, 2M) is F = head(C); `slope` and `curve` are F's divided
    differences on the clock `clock.unit`, for predictors. `u` and `z` (B, n, 2M) are network input and state
    at each token's last recompute, `gain` (B, n) is the measured |dF|²/d, and `r` (B,) the event intensity, all
    on the device. Per sample, on the host: `rate` is the rate of F per log(a/s), `scale` the adaptation factor
    of tau, and `rested` whether the last step was skipped. `residual` (B, bands, d) is the running residual
    of each band.
    """

    kv: KVCache | None
    feature: Float[Tensor, "B n d"]
    output: Float[Tensor, "B n c"]
    slope: Float[Tensor, "B n c"] | None
    curve: Float[Tensor, "B n c"] | None
    u: Float[Tensor, "B n c"]
    z: Float[Tensor, "B n c"]
    gain: Float[Tensor, "B n"]
    clock: Clock
    r: Float[Tensor, " B"]
    rate: Float[Tensor, " B"]
    scale: Float[Tensor, " B"]
    rested: Bool[Tensor, " B"]
    residual: Float[Tensor, "B bands d"] | None


@dataclass(frozen=True)
class SamplerState:
    """The state between two steps: noisy tokens z (B, n, 2M), solver memory, and cache.

    `past` holds the last denoised values (outputs F for an exponential integrator), newest first, each
    (B, n, 2M); `base` is the second state that some solvers carry.
    """

    step: int
    z: Float[Tensor, "B n c"]
    past: tuple[Float[Tensor, "B n c"], ...]
    base: Float[Tensor, "B n c"] | None
    cache: Cache | None


@dataclass(frozen=True)
class ExponentialSteps:
    """An exponential integrator's table on the model's device, with shapes as in `ExponentialTable`."""

    own: Tensor
    offset: Tensor
    weights: Tensor

    def advance(self, step: int, z: Tensor, outputs: tuple[Tensor, ...]) -> Tensor:
        """Return the next state (B, n, 2M) from z and the last outputs F, newest first."""
        after = torch.addcmul(self.offset[step], self.own[step], z)
        for weight, output in zip(self.weights[step], outputs, strict=False):
            after.addcmul_(weight, output)
        return after


@dataclass(frozen=True)
class Problem:
    """The constants of a run: model, plan, noise, and per-call coefficient tables (steps, n, 2M).

    `levels` and `log_snr`, on the model's device, are log(a/s) of each call. The tables fold E3 into affine
    maps: u = c_in z + u0, D = c_skip z + c_out F + d0. Triggers measure intervals on `clocks` (steps,), on the
    host: log(a/s), and log(a/s) stretched by the model's profile. `bands` (n,) names each token's frequency
    band, for feedback. `backend` runs whole forwards and prefixes (None: the network itself, the eager
    backend). `memo` holds what `once` has built.
    """

    model: ScoreModel
    plan: Plan
    noise: NoiseStream
    levels: tuple[float, ...]
    log_snr: Float[Tensor, " steps"]
    clocks: dict[str, Tensor]
    c_in: Float[Tensor, "steps n c"]
    u0: Float[Tensor, "steps n c"]
    c_skip: Float[Tensor, "steps n c"]
    c_out: Float[Tensor, "steps n c"]
    d0: Float[Tensor, "steps n c"]
    bands: Int[Tensor, " n"]
    exponential: ExponentialSteps | None = None
    conditioning: Conditioning | None = None
    backend: Backend | None = None
    conditions: Conditions = field(default_factory=Conditions, compare=False, repr=False)
    memo: dict[object, Any] = field(default_factory=dict, compare=False, repr=False)

    def level(self, step: int) -> Tensor:
        """Return log(a/s) () at a call, float64 on the model's device: the network's condition."""
        return self.log_snr[step]

    def condition(self, step: int) -> Tensor:
        """Return the network's condition at a call, kept between runs."""
        return self.conditions.at(self.model.network, self.levels[step], self.level(step))

    def features(self, step: int, u: Float[Tensor, "B n c"], m: int) -> Float[Tensor, "B m d"]:
        """Return C (E4) of the lowest m tokens from network inputs u; m is n or the upper edge of a band."""
        if self.backend is not None:
            return self.backend.features(u, self.level(step), m)
        network = self.model.network
        return prefix_forward(network, network.prepare(u, self.level(step)), self.condition(step), m)

    def network_input(self, state: SamplerState) -> Float[Tensor, "B n c"]:
        """Return the network input u = c_in (z - a mu), (B, n, 2M) (E3)."""
        return torch.addcmul(self.u0[state.step], self.c_in[state.step], state.z)

    def denoised(self, step: int, z: Tensor, output: Tensor) -> Tensor:
        """Return D = mu + c_skip (z - a mu) + c_out F, (..., n, 2M), for tokens z and outputs F (E3).

        A conditioned run then also conditions this mean on the observed values.
        """
        denoised = torch.addcmul(self.d0[step], self.c_skip[step], z).addcmul_(self.c_out[step], output)
        return denoised if self.conditioning is None else self.conditioning.apply(step, denoised)

    def once(self, key: object, build: Callable[[], T]) -> T:
        """Return the result of `build`, made once per key and run: for tables that a trigger derives."""
        if key not in self.memo:
            self.memo[key] = build()
        return self.memo[key]

    @staticmethod
    def make(model: ScoreModel, plan: Plan, noise: NoiseStream, bands: Tensor) -> Problem:
        """Build tables for every call of `plan`; `bands` (n,) names each token's frequency band."""
        schedule = model.schedule
        times = [row.t for row in plan.rows]
        levels = tuple(schedule.log_snr(t) for t in times)
        a, s = (
            torch.tensor([scale(t) for t in times], dtype=torch.float64).to(model.device)[:, None, None]
            for scale in (schedule.a, schedule.s)
        )
        mu, v, mask = model.mu.double(), model.v.double(), model.mask.double()
        p = precondition(v, a, s)
        c_in, c_skip, c_out = p.c_in, p.c_skip * mask, p.c_out * mask
        exponential = None
        if plan.order:
            statistics = (mu.cpu().numpy(), v.cpu().numpy())
            table = exponential_table(schedule, times, plan.order, plan.clock, *statistics)
            parts = (
                torch.as_tensor(part).to(mask) * mask for part in (table.own, table.offset, table.weights)
            )
            exponential = ExponentialSteps(*(part.to(model.dtype) for part in parts))
        return Problem(
            exponential=exponential,
            conditions=Conditions.of(model.network),
            model=model,
            plan=plan,
            noise=noise,
            levels=levels,
            log_snr=torch.tensor(levels, dtype=torch.float64).to(model.device),
            clocks={
                "log_snr": torch.tensor(levels, dtype=torch.float64),
                "profile": torch.as_tensor(model.profile.clock(levels)),
            },
            c_in=c_in.to(model.dtype),
            u0=(-c_in * a * mu).to(model.dtype),
            c_skip=c_skip.to(model.dtype),
            c_out=c_out.to(model.dtype),
            d0=(mu * mask - c_skip * a * mu).to(model.dtype),
            bands=bands,
        )


@dataclass(frozen=True)
class Recompute:
    """What a recompute at `step` showed about the tokens in `chosen`.

    `u` (B, n, 2M) is the network input of all tokens and `delta` (T, 2M) the change of F of the chosen ones
    since they were last computed. Per sample, on the host: `touched` (B,) is whether it had any chosen token,
    and `error` (B,) the RMS error of D caused by reusing them, relative to the scale of the data (NaN if not
    requested).
    """

    step: int
    chosen: Selection
    u: Float[Tensor, "B n c"]
    delta: Float[Tensor, "T c"]
    touched: Bool[Tensor, " B"]
    error: Float[Tensor, " B"]


@dataclass(frozen=True)
class StepInfo:
    """The decisions and cost of one step.

    `reasons` (b, n) are Reason codes and `score` (b, n) event scores, both on the host, with b = 1 if all
    samples agree; `tau` (b, 1) is the threshold in force. `rows` counts the recomputed tokens, `samples` the
    samples with any of them; `denoised` is D (B, n, 2M) on the device.
    """

    reasons: UInt8[Tensor, "b n"]
    score: Float[Tensor, "#b n"]
    tau: Float[Tensor, "#b 1"]
    rows: int
    samples: int
    denoised: Float[Tensor, "B n c"]
