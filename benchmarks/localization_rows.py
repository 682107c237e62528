"""Define the rows of `benchmarks.localization`: solvers alone, whole refreshes, and nested bands.

A *way* to sample by a solver alone is its order scheme, its time grid, and how many of its first calls are left
out (a late start: F = 0 until then). A pilot on noise of its own tries all ways at a few numbers of calls; the study
itself runs, for each number of calls, the best one in data units and the best one in whitened units.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from e2crf_core import CachePolicy, Sampler, SamplerConfig, ScoreModel, predict
from e2crf_core.network.forward import band_edges_of

KINDS = {"data": 0.0, "whitened": 1.0}
"""Units of errors by name, with the `detail` that stands for them (see error_model.error_weights)."""
LEVELS = {"data": (0.1, 0.035), "whitened": (0.35, 0.2)}
SOLVERS = ("dpmpp_2m", "unipc_2", "etd_ab2", "etd_ab3")
GRIDS = ("profile", "log_snr")
SKIPS = (0, 1, 2)
PILOT_CALLS = (5, 8, 12)
CALLS = (4, 5, 6, 7, 8, 9, 10, 12, 14)
ANCHOR, NO_NETWORK, NO_CACHE = "converged", "no network", "no cache"
PLANNED = ("whole", "nested", "detail")
"""Methods whose refreshes are planned from the checkpoint's tables."""
CHEAP = {"steps": 40, "solver": "dpmpp_2m", "grid": "profile"}
CONVERGED = SamplerConfig(None, steps=48, solver="dpmpp_2m", grid="profile")
WHOLE_TAUS = (0.14, 0.1, 0.07, 0.05, 0.035, 0.025)
NESTED_TAUS = tuple(np.geomspace(0.2, 0.02, 12).round(4).tolist())
DETAIL_TAUS = tuple(np.geomspace(0.6, 0.15, 4).round(4).tolist())
IDENTITY = repr(
    (SOLVERS, GRIDS, SKIPS, PILOT_CALLS, CALLS, CHEAP, CONVERGED, WHOLE_TAUS, NESTED_TAUS, DETAIL_TAUS)
)
"""What finished parts depend on beside data, weights, and sizes."""


@dataclass(frozen=True)
class SampledRow:
    """One way to sample. `network` is full or causal; `method` is solver, whole, nested, detail, or live."""

    name: str
    network: str
    method: str
    config: SamplerConfig


@dataclass(frozen=True)
class SolverWay:
    """A solver alone: order scheme, time grid, and the number of first calls that are left out."""

    solver: str
    grid: str
    skip: int

    def describe(self, calls: int) -> str:
        """Name the way with `calls` network calls."""
        late = f", first {self.skip} left out" if self.skip else ""
        return f"{self.solver} {self.grid}, {calls} calls{late}"


WAYS = tuple(SolverWay(solver, grid, skip) for solver in SOLVERS for grid in GRIDS for skip in SKIPS)


def alone(model: ScoreModel, way: SolverWay, calls: int) -> SamplerConfig:
    """Return the configuration of a solver alone that makes `calls` network calls."""
    plain = SamplerConfig(None, steps=calls + way.skip, solver=way.solver, grid=way.grid)
    if not way.skip:
        return plain
    levels = Sampler.of(model, plain).begin(1, 0)[0].levels
    start = float(np.mean(levels[way.skip - 1 : way.skip + 1])) - float(levels[0])
    # Every step from the start on is computed: the trigger only says where that is.
    return replace(plain, policy=CachePolicy.of("fixed").replace(refresh_every=1, start=start))


def pilot_rows(model: ScoreModel, network: str, counts: tuple[int, ...] = PILOT_CALLS) -> list[SampledRow]:
    """Return every way at the pilot's numbers of calls."""
    return [
        SampledRow(way.describe(calls), network, "solver", alone(model, way, calls))
        for calls in counts
        for way in WAYS
    ]


def best_ways(pilot: Mapping[str, Mapping[str, float]], calls: int) -> list[SolverWay]:
    """Return the ways with the least error of a pilot (by name, by kind) at the number of calls nearest to `calls`.

    One way for each kind of error; one in all if they agree.
    """
    counts = {way.describe(c): (way, c) for c in PILOT_CALLS for way in WAYS}
    known = [(*counts[name], errors) for name, errors in pilot.items()]
    near = min({c for _, c, _ in known}, key=lambda c: (abs(math.log(c / calls)), c))
    here = [(way, errors) for way, c, errors in known if c == near]
    best = [min(here, key=lambda each: each[1][kind])[0] for kind in KINDS]
    return list(dict.fromkeys(best))


def rows_of(
    model: ScoreModel, network: str, pilot: Mapping[str, Mapping[str, float]], calls: tuple[int, ...] = CALLS
) -> list[SampledRow]:
    """Return the rows of one network: anchors, solvers alone by the pilot's choice, 40 cheap steps with a cache.

    The anchors are the converged solution, whose error is 0, and the model without its network.
    """
    rows = [SampledRow(f"{network}: {name}", network, name, CONVERGED) for name in (ANCHOR, NO_NETWORK)]
    rows += [
        SampledRow(f"{network}: {way.describe(count)}", network, "solver", alone(model, way, count))
        for count in calls
        for way in best_ways(pilot, count)
    ]
    if not band_edges_of(model.network):
        return rows + planned(model, network, "whole", WHOLE_TAUS, 0.0)
    rows += planned(model, network, "nested", NESTED_TAUS, 0.0)
    return rows + planned(model, network, "detail", DETAIL_TAUS, 1.0)


def planned(
    model: ScoreModel, network: str, method: str, taus: tuple[float, ...], detail: float
) -> list[SampledRow]:
    """Return 40 cheap steps with the refreshes that the tables plan for each tolerated error, each plan once."""
    rows: dict[tuple[int, ...], SampledRow] = {}
    for tau in taus:
        policy = CachePolicy.of("nested").replace(detail=detail, tau=tau)
        row = SampledRow(f"{network}: {method}, tau {tau:g}", network, method, SamplerConfig(policy, **CHEAP))
        rows.setdefault(predict(model, policy, **CHEAP).prefixes, row)
    return list(rows.values())


EULER = SamplerConfig(None, steps=1000)
CLOCK = CachePolicy(trigger="log_snr", clock="profile", predictor="linear")
CAUSAL_EULER: dict[str, CachePolicy] = {
    **{f"nested, tau {tau:g}": CachePolicy.of("nested").replace(tau=tau) for tau in (0.1, 0.05, 0.02)},
    "nested_live, tau 0.05": CachePolicy.of("nested_live").replace(tau=0.05),
    "bands by the clock": CachePolicy(
        trigger="bands", clock="profile", predictor="linear", bands=((8, 0.2), (100_000, 0.8))
    ),
    "whole refreshes by the clock, 0.2": CLOCK.replace(tau=0.2),
}
FULL_EULER: dict[str, CachePolicy] = {
    "first release's quality": CLOCK.replace(tau=0.06),
    "first release's balanced": CLOCK.replace(tau=0.2),
    "first release's fast": CLOCK.replace(tau=0.45),
    "every 20 steps": CachePolicy.of("fixed").replace(refresh_every=20),
    "token events by gain": CachePolicy.of("gain").replace(tau=0.1),
    "published rule to the letter (paper_literal)": CachePolicy.preset("paper_literal"),
    "our reading of it (paper)": CachePolicy.preset("paper"),
}


def euler_rows(network: str, steps: int) -> list[SampledRow]:
    """Return the rows of the paper's sampler, Euler-Maruyama, without a cache first."""
    plain = replace(EULER, steps=steps)
    policies = CAUSAL_EULER if network == "causal" else FULL_EULER
    made = [SampledRow(NO_CACHE, network, "none", plain)]
    for name, policy in policies.items():
        method = "nested" if policy.trigger.startswith("nested") else policy.trigger
        made.append(SampledRow(name, network, method, replace(plain, policy=policy)))
    return made
