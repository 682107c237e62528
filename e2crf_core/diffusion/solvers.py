"""Define solvers as tables of coefficients, one row per network call (E8).

After call i at time t_i has given the denoised estimate D_i from the state z_i, the next state is

    z_{i+1} = own z_i + base b_i + now D_i + before D_{i-1} + earlier D_{i-2} + sigma xi_i

where b_i is a second state that the solver carries: b_{i+1} is the combination `kept` of the same five terms.
Every solver here, including multistep, two-stage, and predictor-corrector ones, is such a table, so one
sampling step and one cache serve them all. Exponential integrators have a table for each coordinate instead
(see `exponential`). The last row returns D itself. `steps` always counts network calls, so equal steps cost
the same with every solver.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from e2crf_core.diffusion.schedules import Schedule
from e2crf_core.errors import LabError

Clock = Callable[[Sequence[float]], np.ndarray]
"""Function from increasing values of log(a/s) to increasing readings; see score_model.Profile."""

Mix = tuple[float, float, float, float, float]
"""Coefficients of z_i, b_i, D_i, D_{i-1}, and D_{i-2}."""

HOLD: Mix = (0.0, 1.0, 0.0, 0.0, 0.0)
STORE: Mix = (1.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Row:
    """The coefficients of one call at time t, as in the module's formula."""

    t: float
    own: float
    base: float
    now: float
    before: float
    sigma: float
    earlier: float = 0.0
    kept: Mix = HOLD

    @property
    def mix(self) -> Mix:
        """Return the coefficients of the next state, without noise."""
        return self.own, self.base, self.now, self.before, self.earlier


@dataclass(frozen=True)
class Plan:
    """A solver on a time grid: one row per network call.

    `order` is 0 if the rows hold the coefficients; otherwise it is the order of the exponential integrator
    whose coefficients `exponential.exponential_table` computes, with its polynomials in `clock`.
    """

    solver: str
    grid: str
    rows: tuple[Row, ...]
    order: int = 0
    clock: Clock = np.asarray

    @property
    def steps(self) -> int:
        """Return the number of network calls."""
        return len(self.rows)


def _linear(schedule: Schedule, steps: int, clock: Clock) -> list[float]:
    return [1.0 + (schedule.t_min - 1.0) * i / (steps - 1) for i in range(steps)]


def _log_snr(schedule: Schedule, steps: int, clock: Clock) -> list[float]:
    low, high = schedule.log_snr(1.0), schedule.log_snr(schedule.t_min)
    return [schedule.t_at(low + (high - low) * i / (steps - 1)) for i in range(steps)]


def _profile(schedule: Schedule, steps: int, clock: Clock) -> list[float]:
    """Return an even grid on a model's own clock: steps are short where its output changes fast."""
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
    """Tabulate the reverse SDE by Euler-Maruyama, the paper's sampler."""
    rows = []
    for t, after in pairwise(times):
        h, g2, s2 = t - after, schedule.g2(t), schedule.s(t) ** 2
        own = 1.0 - h * schedule.f(t) - h * g2 / s2
        rows.append(Row(t, own, 0.0, h * g2 * schedule.a(t) / s2, 0.0, math.sqrt(g2 * h)))
    return rows


def ddim(schedule: Schedule, times: list[float], eta: float = 0.0) -> list[Row]:
    """Tabulate DDIM (Song et al. 2021); eta = 0 is deterministic, eta = 1 the ancestral sampler."""
    rows = []
    for t, after in pairwise(times):
        a, s, a1, s1 = schedule.a(t), schedule.s(t), schedule.a(after), schedule.s(after)
        sigma = eta * s1 * math.sqrt(max(0.0, 1.0 - (a * s1 / (a1 * s)) ** 2))
        own = math.sqrt(s1 * s1 - sigma * sigma) / s
        rows.append(Row(t, own, 0.0, a1 - own * a, 0.0, sigma))
    return rows


def _multistep(
    schedule: Schedule, times: list[float], stochastic: bool, lower_finish: bool = False
) -> list[Row]:
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
        first_order = not previous or (lower_finish and after == times[-1])
        lean = 0.0 if first_order else h / (2 * previous)
        rows.append(Row(t, own, 0.0, weight * (1 + lean), -weight * lean, sigma))
        previous = h
    return rows


def dpm_solver_pp_2m(schedule: Schedule, times: list[float]) -> list[Row]:
    """Tabulate DPM-Solver++(2M), the deterministic second-order multistep solver (Lu et al. 2022)."""
    return _multistep(schedule, times, stochastic=False)


def dpm_solver_pp_2m_lower_finish(schedule: Schedule, times: list[float]) -> list[Row]:
    """Tabulate DPM-Solver++(2M) with a first-order last step, as its authors advise for few steps."""
    return _multistep(schedule, times, stochastic=False, lower_finish=True)


def sde_dpm_solver_pp_2m(schedule: Schedule, times: list[float]) -> list[Row]:
    """Tabulate SDE-DPM-Solver++(2M), midpoint form."""
    return _multistep(schedule, times, stochastic=True)


def unipc_2(schedule: Schedule, times: list[float]) -> list[Row]:
    """Tabulate UniPC-2, B(h) = e^h - 1 (Zhao et al. 2023, "bh2"): predictor of order 2, corrector of order 3.

    The corrector needs no extra call: D at the predicted state corrects that state, and the next prediction
    starts from there. b carries the corrected states.
    """
    rows: list[Row] = []
    unit = np.eye(5)
    state, base, now, before, earlier = unit
    steps = [schedule.log_snr(after) - schedule.log_snr(t) for t, after in pairwise(times)]
    for i, (t, after) in enumerate(pairwise(times)):
        if i == 0:
            corrected = state
        else:
            # Correct the step that led here: first order after the first step, second order later.
            h, s0, s, a = steps[i - 1], schedule.s(times[i - 1]), schedule.s(t), schedule.a(t)
            whole = -math.expm1(-h)
            arrived = now - before
            if i == 1:
                lean = 0.5 * arrived
            else:
                ratio = -steps[i - 2] / h
                phi = whole / h - 1
                phis = (-phi / whole, 2 * (phi / h + 0.5) / whole)
                first, second = np.linalg.solve([[1.0, 1.0], [ratio, 1.0]], phis)
                lean = first * (earlier - before) / ratio + second * arrived
            corrected = s / s0 * base + a * whole * (before + lean)
        h = steps[i]
        predicted = now if i == 0 else now + 0.5 * h / steps[i - 1] * (now - before)
        weight = -schedule.a(after) * math.expm1(-h)
        mix = schedule.s(after) / schedule.s(t) * corrected + weight * predicted
        own, held, *denoised = mix.tolist()
        rows.append(Row(t, own, held, denoised[0], denoised[1], 0.0, denoised[2], tuple(corrected.tolist())))
    return rows


def heun(schedule: Schedule, times: list[float]) -> list[Row]:
    """Tabulate Heun on the probability-flow ODE of z/a over s/a (Karras et al. 2022): two calls per step."""
    rows = []
    for t, after in pairwise(times):
        a, a1 = schedule.a(t), schedule.a(after)
        noise, noise1 = math.exp(-schedule.log_snr(t)), math.exp(-schedule.log_snr(after))
        ratio, half = noise1 / noise, 0.5 * (noise1 - noise)
        rows.append(Row(t, a1 / a * ratio, 0.0, a1 * (1 - ratio), 0.0, 0.0, kept=STORE))
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


def _untabled(schedule: Schedule, times: list[float]) -> list[Row]:
    """Return rows with times only: an exponential integrator's coefficients depend on the coordinate."""
    return [Row(t, 0.0, 0.0, 0.0, 0.0, 0.0) for t in times[:-1]]


SOLVERS: dict[str, Callable[[Schedule, list[float]], list[Row]]] = {
    "euler_maruyama": euler_maruyama,
    "ddim": ddim,
    "ancestral": lambda schedule, times: ddim(schedule, times, eta=1.0),
    "dpmpp_2m": dpm_solver_pp_2m,
    "sde_dpmpp_2m": sde_dpm_solver_pp_2m,
    "heun": heun,
    "dpmpp_2m_lower_finish": dpm_solver_pp_2m_lower_finish,
    "unipc_2": unipc_2,
    "etd_ab2": _untabled,
    "etd_ab3": _untabled,
}
ORDERS = {"etd_ab2": 2, "etd_ab3": 3}
"""The orders of the exponential integrators among SOLVERS."""

MAX_STEPS = 2000
ETA = "ddim:"
LEVELS = "levels:"


def fewest_steps(solver: str) -> int:
    """Return the smallest number of network calls that a solver accepts."""
    return 10 if solver == "euler_maruyama" else 2


def find_solver(name: str) -> Callable[[Schedule, list[float]], list[Row]]:
    """Return `SOLVERS[name]`, or DDIM with ancestral share 0 to 1 for `ddim:ETA`. Raises LabError."""
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


def find_grid(name: str) -> Callable[[Schedule, int, Clock], list[float]]:
    """Return the time grid `GRIDS[name]`, or for `levels:X,Y,...` custom times as values of log(a/s).

    Raises LabError for an unknown name or levels that do not increase.
    """
    if name in GRIDS:
        return GRIDS[name]
    if not name.startswith(LEVELS):
        raise LabError(
            f"unknown time grid {name!r}",
            field="grid",
            remedy=f"use one of {', '.join(GRIDS)}, or {LEVELS} and increasing values of log(a/s)",
        )
    try:
        levels = [float(level) for level in name.removeprefix(LEVELS).split(",")]
    except ValueError:
        levels = []
    if len(levels) < 2 or not all(a < b for a, b in pairwise(levels)) or not np.isfinite(levels).all():
        raise LabError(
            f"time grid {name[:80]!r}",
            field="grid",
            remedy="give at least two values of log(a/s), separated by commas, each larger than the one before",
        )

    def given(schedule: Schedule, steps: int, clock: Clock) -> list[float]:
        if steps != len(levels):
            raise LabError(
                f"time grid {LEVELS} has {len(levels)} levels for {steps} calls",
                field="grid",
                remedy="give one level for each call",
            )
        lowest, highest = schedule.log_snr(1.0), schedule.log_snr(schedule.t_min)
        if levels[0] < lowest - 1e-6 or levels[-1] > highest + 1e-6:
            raise LabError(
                f"time grid {LEVELS} runs from {levels[0]:g} to {levels[-1]:g}",
                field="grid",
                remedy=f"stay within {lowest:.4g} and {highest:.4g}, the schedule's range of log(a/s)",
            )
        return [schedule.t_at(level) for level in levels]

    return given


def make_plan(
    schedule: Schedule,
    steps: int,
    solver: str = "euler_maruyama",
    grid: str = "linear",
    clock: Clock = np.asarray,
) -> Plan:
    """Return the table of a solver with `steps` network calls on a time grid. Raises LabError if impossible.

    Grid `profile` is even on `clock`; by default it is the grid `log_snr`.
    """
    table = find_solver(solver)
    grid_times = find_grid(grid)
    least = fewest_steps(solver)
    if not least <= steps <= MAX_STEPS:
        raise LabError(f"steps {steps}: {solver} takes {least} to {MAX_STEPS}")
    # Heun spends two calls on each interval and one at the end.
    points = (steps - 1) // 2 + 1 if solver == "heun" else steps
    if solver == "heun" and steps % 2 == 0:
        raise LabError(
            f"steps {steps}: heun makes two calls a step and one at the end, so it takes an odd number"
        )
    times = grid_times(schedule, points, clock)
    rows = table(schedule, times)
    last = Row(times[-1], 0.0, 0.0, 1.0, 0.0, 0.0)
    return Plan(solver, grid, (*rows, last), ORDERS.get(solver, 0), clock)
