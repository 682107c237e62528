"""E8: solvers as tables of coefficients, one row for each network call.

After call i at time t_i gave the denoised estimate D_i from the state z_i, the next state is

    z_{i+1} = own z_i + base z_b + now D_i + before D_{i-1} + sigma xi_i

with z_b the state kept at the last call marked `keep`. Every solver here, multistep and two-stage ones too, is
such a table, so one sampling step and one cache serve them all. The last row returns D itself. `steps` always
counts network calls, so equal steps cost the same whatever the solver.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from e2crf_core.diffusion.schedules import Schedule
from e2crf_core.errors import LabError


@dataclass(frozen=True)
class Row:
    """Coefficients of one call at time t; see the module's formula."""

    t: float
    own: float
    base: float
    now: float
    before: float
    sigma: float
    keep: bool = False


@dataclass(frozen=True)
class Plan:
    """A solver on a time grid: one row for each network call."""

    solver: str
    grid: str
    rows: tuple[Row, ...]

    @property
    def steps(self) -> int:
        """Number of network calls."""
        return len(self.rows)


Clock = Callable[[Sequence[float]], np.ndarray]
"""Increasing readings for increasing values of log(a/s); see model.Profile."""


def _linear(schedule: Schedule, steps: int, clock: Clock) -> list[float]:
    return [1.0 + (schedule.t_min - 1.0) * i / (steps - 1) for i in range(steps)]


def _log_snr(schedule: Schedule, steps: int, clock: Clock) -> list[float]:
    low, high = schedule.log_snr(1.0), schedule.log_snr(schedule.t_min)
    return [schedule.t_at(low + (high - low) * i / (steps - 1)) for i in range(steps)]


def _profile(schedule: Schedule, steps: int, clock: Clock) -> list[float]:
    """Even on a model's own clock: steps are short where its output was measured to change fast."""
    levels = np.linspace(schedule.log_snr(1.0), schedule.log_snr(schedule.t_min), 4001)
    ticks = clock(levels.tolist())
    even = np.interp(np.linspace(ticks[0], ticks[-1], steps), ticks, levels)
    return [schedule.t_at(float(level)) for level in even]


def _karras(schedule: Schedule, steps: int, clock: Clock, rho: float = 7.0) -> list[float]:
    high, low = (math.exp(-schedule.log_snr(t) / rho) for t in (1.0, schedule.t_min))
    return [schedule.t_at(-rho * math.log(high + (low - high) * i / (steps - 1))) for i in range(steps)]


GRIDS: dict[str, Callable[[Schedule, int, Clock], list[float]]] = {
    "linear": _linear,
    "log_snr": _log_snr,
    "karras": _karras,
    "profile": _profile,
}


def euler_maruyama(schedule: Schedule, times: list[float]) -> list[Row]:
    """The reverse SDE by Euler-Maruyama, the paper's sampler."""
    rows = []
    for t, after in pairwise(times):
        h, g2, s2 = t - after, schedule.g2(t), schedule.s(t) ** 2
        own = 1.0 - h * schedule.f(t) - h * g2 / s2
        rows.append(Row(t, own, 0.0, h * g2 * schedule.a(t) / s2, 0.0, math.sqrt(g2 * h)))
    return rows


def ddim(schedule: Schedule, times: list[float], eta: float = 0.0) -> list[Row]:
    """DDIM (Song et al. 2021); eta = 0 is deterministic, eta = 1 the ancestral sampler."""
    rows = []
    for t, after in pairwise(times):
        a, s, a1, s1 = schedule.a(t), schedule.s(t), schedule.a(after), schedule.s(after)
        sigma = eta * s1 * math.sqrt(max(0.0, 1.0 - (a * s1 / (a1 * s)) ** 2))
        own = math.sqrt(s1 * s1 - sigma * sigma) / s
        rows.append(Row(t, own, 0.0, a1 - own * a, 0.0, sigma))
    return rows


def _multistep(schedule: Schedule, times: list[float], stochastic: bool) -> list[Row]:
    rows = []
    previous = 0.0
    for t, after in pairwise(times):
        s, a1, s1 = schedule.s(t), schedule.a(after), schedule.s(after)
        h = schedule.log_snr(after) - schedule.log_snr(t)
        if stochastic:
            own, weight = s1 / s * math.exp(-h), -a1 * math.expm1(-2 * h)
            sigma = s1 * math.sqrt(-math.expm1(-2 * h))
        else:
            own, weight, sigma = s1 / s, -a1 * math.expm1(-h), 0.0
        lean = h / (2 * previous) if previous else 0.0
        rows.append(Row(t, own, 0.0, weight * (1 + lean), -weight * lean, sigma))
        previous = h
    return rows


def dpm_solver_pp_2m(schedule: Schedule, times: list[float]) -> list[Row]:
    """DPM-Solver++(2M), the deterministic second-order multistep solver (Lu et al. 2022)."""
    return _multistep(schedule, times, stochastic=False)


def sde_dpm_solver_pp_2m(schedule: Schedule, times: list[float]) -> list[Row]:
    """SDE-DPM-Solver++(2M), midpoint form."""
    return _multistep(schedule, times, stochastic=True)


def heun(schedule: Schedule, times: list[float]) -> list[Row]:
    """Heun's method on the probability-flow ODE in x = z/a against s/a (Karras et al. 2022): two calls a step."""
    rows = []
    for t, after in pairwise(times):
        a, a1 = schedule.a(t), schedule.a(after)
        noise, noise1 = math.exp(-schedule.log_snr(t)), math.exp(-schedule.log_snr(after))
        ratio, half = noise1 / noise, 0.5 * (noise1 - noise)
        rows.append(Row(t, a1 / a * ratio, 0.0, a1 * (1 - ratio), 0.0, 0.0, keep=True))
        corrector = Row(
            after,
            half / noise1,
            a1 / a * (1 + half / noise),
            -a1 * half / noise1,
            -a1 * half / noise,
            0.0,
        )
        rows.append(corrector)
    return rows


SOLVERS: dict[str, Callable[[Schedule, list[float]], list[Row]]] = {
    "euler_maruyama": euler_maruyama,
    "ddim": ddim,
    "ancestral": lambda schedule, times: ddim(schedule, times, eta=1.0),
    "dpmpp_2m": dpm_solver_pp_2m,
    "sde_dpmpp_2m": sde_dpm_solver_pp_2m,
    "heun": heun,
}
MAX_STEPS = 2000
ETA = "ddim:"


def fewest_steps(solver: str) -> int:
    """The least number of network calls that a solver takes."""
    return 10 if solver == "euler_maruyama" else 2


def find_solver(name: str) -> Callable[[Schedule, list[float]], list[Row]]:
    """`SOLVERS[name]`, or for `ddim:ETA` DDIM with that share, 0 to 1, of ancestral noise. Raises LabError."""
    if name in SOLVERS:
        return SOLVERS[name]
    if name.startswith(ETA):
        try:
            eta = float(name.removeprefix(ETA))
        except ValueError:
            eta = math.nan
        if not 0 <= eta <= 1:
            raise LabError(f"solver {name!r}: eta is a number from 0 (deterministic) to 1 (ancestral)")
        return lambda schedule, times: ddim(schedule, times, eta)
    raise LabError(
        f"unknown solver {name!r}: use one of {', '.join(SOLVERS)}, or {ETA}ETA with eta from 0 to 1"
    )


def make_plan(
    schedule: Schedule,
    steps: int,
    solver: str = "euler_maruyama",
    grid: str = "linear",
    clock: Clock = np.asarray,
) -> Plan:
    """The table of a solver with `steps` network calls on a time grid. Raises LabError for what cannot be.

    Grid `profile` is even on `clock`; without one it is the grid `log_snr`.
    """
    table = find_solver(solver)
    if grid not in GRIDS:
        raise LabError(f"unknown time grid {grid!r}: use one of {', '.join(GRIDS)}")
    least = fewest_steps(solver)
    if not least <= steps <= MAX_STEPS:
        raise LabError(f"steps {steps}: {solver} takes {least} to {MAX_STEPS}")
    # Heun spends two calls on each interval and one on the end.
    points = (steps - 1) // 2 + 1 if solver == "heun" else steps
    if solver == "heun" and steps % 2 == 0:
        raise LabError(
            f"steps {steps}: heun makes two calls a step and one at the end, so it takes an odd number"
        )
    times = GRIDS[grid](schedule, points, clock)
    rows = table(schedule, times)
    return Plan(solver, grid, (*rows, Row(times[-1], 0.0, 0.0, 1.0, 0.0, 0.0)))
