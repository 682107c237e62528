"""Define forward noising z_t = a(t) z_0 + s(t) e of tokens (E2), as frozen schedules of plain floats.

Time runs from 0 (data) to 1 (noise). Every schedule gives a, s, the drift rate f and squared diffusion g² of
dz = f z dt + g dw, and log_snr = log(a/s), the clock for events and predictors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

from e2crf_core.errors import LabError

FAINTEST = -300.0
"""The least log(a/s) at t = 1: below it, powers of a are too small for floating point."""


class Schedule(Protocol):
    """The interface of a noise schedule, with t in (0, 1]."""

    kind: ClassVar[str]

    @property
    def t_min(self) -> float:
        """Return the end of sampling, just above t = 0."""

    def a(self, t: float) -> float:
        """Return the scale of the data at time t."""

    def s(self, t: float) -> float:
        """Return the standard deviation of the noise at time t."""

    def f(self, t: float) -> float:
        """Return the linear drift rate d log a / dt."""

    def g2(self, t: float) -> float:
        """Return the squared diffusion coefficient."""

    def log_snr(self, t: float) -> float:
        """Return log(a/s), decreasing in t."""

    def t_at(self, log_snr: float) -> float:
        """Invert `log_snr`."""


def _check(kind: str, t_min: float, log_snr: Callable[[float], float]) -> None:
    """Reject a schedule whose end, range, or order of log(a/s) no solver can use. Raises LabError."""
    try:
        high, low = (log_snr(t) if 0 < t_min < 1 else math.nan for t in (t_min, 1.0))
    except (ArithmeticError, ValueError, TypeError):
        high = low = math.nan
    if not FAINTEST <= low < high <= -FAINTEST:
        raise LabError(
            f"noise schedule {kind}: log(a/s) must fall with time, between {-FAINTEST:g} and {FAINTEST:g}"
        )


@dataclass(frozen=True)
class VP:
    """The variance-preserving SDE: beta(t) = beta_min + (beta_max - beta_min) t (Song et al. 2021; E2)."""

    beta_min: float = 0.1
    beta_max: float = 20.0
    t_min: float = 1e-3
    kind: ClassVar[str] = "vp"

    def __post_init__(self) -> None:
        """Reject values that make no schedule. Raises LabError."""
        _check(self.kind, self.t_min, self.log_snr)
        if not 0 <= self.beta_min <= self.beta_max:
            raise LabError(f"noise schedule vp: beta falls from {self.beta_min:g} to {self.beta_max:g}")

    def beta(self, t: float) -> float:
        """Return the noise rate at time t."""
        return self.beta_min + (self.beta_max - self.beta_min) * t

    def _log_a(self, t: float) -> float:
        return -0.25 * t * t * (self.beta_max - self.beta_min) - 0.5 * t * self.beta_min

    def a(self, t: float) -> float:
        """Return exp of minus half the integrated beta."""
        return math.exp(self._log_a(t))

    def s(self, t: float) -> float:
        """Return sqrt(1 - a²), computed without cancellation near t = 0."""
        return math.sqrt(-math.expm1(2.0 * self._log_a(t)))

    def f(self, t: float) -> float:
        """Return -beta/2."""
        return -0.5 * self.beta(t)

    def g2(self, t: float) -> float:
        """Return beta."""
        return self.beta(t)

    def log_snr(self, t: float) -> float:
        """Return log a - log s."""
        return self._log_a(t) - math.log(self.s(t))

    def t_at(self, log_snr: float) -> float:
        """Solve the quadratic: integrated beta = log(1 + exp(-2 log_snr))."""
        total = math.log1p(math.exp(-2.0 * log_snr)) if log_snr > -300 else -2.0 * log_snr
        slope = self.beta_max - self.beta_min
        return 2.0 * total / (math.sqrt(self.beta_min**2 + 2.0 * slope * total) + self.beta_min)


@dataclass(frozen=True)
class VE:
    """The variance-exploding SDE: a = 1, and s grows geometrically from sigma_min to sigma_max."""

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    t_min: float = 1e-3
    kind: ClassVar[str] = "ve"

    def __post_init__(self) -> None:
        """Reject values that make no schedule. Raises LabError."""
        _check(self.kind, self.t_min, self.log_snr)

    def a(self, t: float) -> float:
        """Return 1 at all times."""
        return 1.0

    def s(self, t: float) -> float:
        """Return sigma_min (sigma_max / sigma_min)^t."""
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** t

    def f(self, t: float) -> float:
        """Return zero drift."""
        return 0.0

    def g2(self, t: float) -> float:
        """Return d s² / dt."""
        return 2.0 * self.s(t) ** 2 * math.log(self.sigma_max / self.sigma_min)

    def log_snr(self, t: float) -> float:
        """Return -log s."""
        return -math.log(self.s(t))

    def t_at(self, log_snr: float) -> float:
        """Invert log s, which is linear in t."""
        return (-log_snr - math.log(self.sigma_min)) / math.log(self.sigma_max / self.sigma_min)


SCHEDULES: dict[str, type[VP] | type[VE]] = {"vp": VP, "ve": VE}
