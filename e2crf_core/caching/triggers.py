"""Define the rules that decide which tokens are recomputed (E5): one small class each, in a registry.

A rule gives every token a score; a token whose score exceeds the threshold tau is an *event*. Scores use only what
is known before the network runs. To add a rule, write one class and register it:

    @register
    class Drift(Trigger):
        name, help = "drift", "drift of a token's input since its last recompute"
        reads = COMMON | {"tau"}

        def score(self, policy, problem, state):
            return input_drift(problem, state).cpu().double()

`CachePolicy(trigger="drift")` then runs it, and every widget, search space, and table offers it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from torch import Tensor

from e2crf_core.caching.events import Reason
from e2crf_core.caching.state import NEVER, Cache, Problem, Recompute, SamplerState
from e2crf_core.network.shapes import Float

if TYPE_CHECKING:
    from e2crf_core.caching.policy import CachePolicy
else:
    # Policies import this module, so anything that evaluates its annotations, such as shape checks, sees Any.
    CachePolicy = Any

ETA = 1e-12
"""A small constant that keeps ratios finite when nothing has moved."""

COMMON = frozenset(
    {
        "clock",
        "start",
        "k_low",
        "refresh_every",
        "probe_share",
        "tau_safe",
        "tau_warn",
        "alpha",
        "correct",
        "predictor",
        "predictor_split",
        "predictor_above",
    }
)
"""Policy fields that work with any rule: late start, cutoff, refreshes, probes, feedback on features, predictors."""

ADAPTING = frozenset({"adapt", "error_budget"})
"""Policy fields of E7 (b), for rules whose threshold may be scaled."""


class Trigger:
    """A rule of E5.

    `name` is the value of `CachePolicy.trigger` and `help` one line for people. `reads` are the policy fields
    that change what the rule does, `needs` those that it requires, and `base` the values of a sensible policy
    that differ from the defaults. `whole`: an event of one token recomputes all tokens of its sample.
    `verdict`: the rule has this outcome at every step and ignores the rest of the policy. `late`: the rule
    also decides at the first step and may leave tokens uncomputed; otherwise the first step computes all.
    `calibrated`: a checkpoint is calibrated once for each plan before the rule decides, which takes a minute.
    `damps_probes`: feedback E7a moves a probed feature by alpha rho instead of correcting the tokens that
    were not recomputed. `probes_when_due`: when a refresh of all tokens is due, a random subset is probed instead.

    `depends` names the source of a score: the `clock` alone (the same for every sample and known before a run,
    so that steps without a call are taken as one), the noisy `states`, something `measured` while the rule
    itself runs, or the `network`'s own errors.
    `replay_error` is the logarithm of the measured factor between real and predicted token shares when
    predicting from a record; `replay_error_by_tau` is the same for each unit of log(tau / recorded tau).
    """

    name: str
    help: str
    reads: frozenset[str] = COMMON
    needs: frozenset[str] = frozenset()
    base: Mapping[str, Any] = {}
    whole: bool = False
    verdict: Reason | None = None
    late: bool = False
    calibrated: bool = False
    damps_probes: bool = False
    probes_when_due: bool = False
    depends: Literal["clock", "states", "measured", "network"] = "states"
    replay_error: float = 0.0
    replay_error_by_tau: float = 0.0

    def score(self, policy: CachePolicy, problem: Problem, state: SamplerState) -> Tensor:
        """Return scores (b, n) float64 on the host, b = 1 if all samples agree, in the units of `limit`."""
        raise NotImplementedError

    def limit(self, policy: CachePolicy) -> float:
        """Return the value that a score must exceed, before adaptation."""
        return policy.tau

    def threshold(self, policy: CachePolicy, cache: Cache | None) -> Tensor:
        """Return (b, 1) float64 on the host: `limit`, scaled (E7 (b)) if the rule reads `adapt`."""
        if cache is None or not policy.adapt or "adapt" not in self.reads:
            return torch.full((1, 1), self.limit(policy), dtype=torch.float64)
        return self.limit(policy) * cache.scale[:, None]

    def due(self, policy: CachePolicy, elapsed: Tensor) -> Tensor:
        """Return whether R steps have passed, given the steps `elapsed` since the last refresh of all tokens."""
        return elapsed >= policy.refresh_every

    def measure(
        self, policy: CachePolicy, problem: Problem, cache: Cache, seen: Recompute
    ) -> Mapping[str, Any]:
        """Return the cache fields that the rule updates after a recompute; `cache` is the one before it."""
        return {}

    def faults(self, policy: CachePolicy) -> list[str]:
        """List the faults of a policy of this rule whose fields are each in range."""
        return []

    def describe(self, policy: CachePolicy) -> str:
        """Describe the threshold in a few words."""
        return f"tau {policy.tau:.3g}"

    def scaled(self, policy: CachePolicy, factor: float) -> dict[str, Any]:
        """Return policy changes that multiply its threshold by `factor`; above 1, less is recomputed."""
        return {"tau": policy.tau * factor}

    def search_range(self, way: float) -> tuple[str, float, float] | None:
        """Return (field, low, high) of thresholds that matter in a run whose log(a/s) moves by `way`.

        Returns None if the scores must be measured first.
        """
        return None


TRIGGERS: dict[str, Trigger] = {}
"""All rules by name."""

_Rule = TypeVar("_Rule", bound="Trigger | type[Trigger]")


def register(rule: _Rule) -> _Rule:
    """Add a rule, or a rule class without arguments, to `TRIGGERS`. Raises ValueError for a name in use."""
    made = rule() if isinstance(rule, type) else rule
    known = TRIGGERS.setdefault(made.name, made)
    if type(known).__qualname__ != type(made).__qualname__:
        raise ValueError(f"two triggers are named {made.name!r}")
    TRIGGERS[made.name] = made
    return rule


def schedules(*, whole: bool = False) -> tuple[str, ...]:
    """Return names of rules with decisions known before a run; with `whole`, those for all tokens alike."""
    return tuple(
        name
        for name, rule in TRIGGERS.items()
        if rule.depends == "clock" and (rule.whole or rule.verdict is not None or not whole)
    )


def deciding() -> tuple[str, ...]:
    """Return the names of the rules that decide step by step: all except those with a fixed verdict."""
    return tuple(name for name, rule in TRIGGERS.items() if rule.verdict is None)


@register
class Gain(Trigger):
    """A rule on influence, measured gain and input drift: (c_out a/s)² |dF|²/|du|² |c_in z - u|²."""

    name = "gain"
    help = "drift of a token times its measured gain and its influence on the step"
    reads = COMMON | ADAPTING | {"tau"}
    depends = "measured"
    replay_error = 0.05
    # A token's gain falls when others are computed less often, which a record at another threshold cannot
    # show: `python -m benchmarks.whatif_law` measured shares off by up to 31% on ecg, 37% on wind, 7% on
    # stocks, and 76% on household for tau up to 3 times larger or smaller.
    replay_error_by_tau = 0.65

    def score(self, policy: CachePolicy, problem: Problem, state: SamplerState) -> Tensor:
        """Return each token's expected squared error of the step."""
        assert state.cache is not None
        return (
            (influence(problem, state.step) * state.cache.gain * input_drift(problem, state)).cpu().double()
        )

    def measure(
        self, policy: CachePolicy, problem: Problem, cache: Cache, seen: Recompute
    ) -> Mapping[str, Any]:
        """Return |dF|²/|du|² of each recomputed token."""
        chosen = seen.chosen
        drift = (chosen.take(seen.u) - chosen.take(cache.u)).square().sum(-1)
        gain = seen.delta.square().sum(-1) / (drift + ETA)
        return {"gain": chosen.put(cache.gain[..., None], gain[:, None])[..., 0]}


@register
class LogSnr(Trigger):
    """A rule that refreshes all tokens when the clock has moved by tau since the last refresh."""

    name = "log_snr"
    help = "refresh all tokens when log(a/s) has moved by tau since the last refresh"
    reads = COMMON | ADAPTING | {"tau"}
    whole = True
    depends = "clock"

    def score(self, policy: CachePolicy, problem: Problem, state: SamplerState) -> Tensor:
        """Return how far the clock has moved since each token's last recompute."""
        return moved(policy, problem, state)

    def search_range(self, way: float) -> tuple[str, float, float]:
        """Return thresholds from a small part of the whole way up to a quarter of it."""
        return "tau", way / 500, way / 4


@register
class Bands(Trigger):
    """A rule with a separate interval on the clock for each frequency band."""

    name = "bands"
    help = "each frequency band has its own log(a/s) interval"
    reads = COMMON | ADAPTING | {"bands"}
    depends = "clock"

    def score(self, policy: CachePolicy, problem: Problem, state: SamplerState) -> Tensor:
        """Return how far the clock has moved, in intervals of the token's band."""
        way = moved(policy, problem, state)
        return way / band_intervals(policy, way.shape[1])

    def limit(self, policy: CachePolicy) -> float:
        """Return the limit of one interval."""
        return 1.0

    def describe(self, policy: CachePolicy) -> str:
        """Describe edges and intervals."""
        return "bands " + " ".join(f"k<{edge}: {tau:.3g}" for edge, tau in policy.bands)

    def scaled(self, policy: CachePolicy, factor: float) -> dict[str, Any]:
        """Multiply all intervals."""
        return {"bands": tuple((edge, tau * factor) for edge, tau in policy.bands)}

    def search_range(self, way: float) -> tuple[str, float, float]:
        """Return thresholds from a small part of the whole way up to half of it."""
        return "bands", way / 500, way / 2


@register
class Rate(Trigger):
    """A rule on the measured rate of change of F times the distance moved on the clock."""

    name = "rate"
    help = "refresh a sample when its measured rate of change times the log(a/s) moved exceeds tau"
    reads = COMMON | ADAPTING | {"tau"}
    whole = True
    depends = "network"

    def score(self, policy: CachePolicy, problem: Problem, state: SamplerState) -> Tensor:
        """Score per root of the clock: along a noisy path, F moves like a random walk."""
        assert state.cache is not None
        return state.cache.rate[:, None] * moved(policy, problem, state).sqrt()

    def measure(
        self, policy: CachePolicy, problem: Problem, cache: Cache, seen: Recompute
    ) -> Mapping[str, Any]:
        """Return the error of D caused by reuse, per root of the distance moved on the clock."""
        ticks = problem.clocks[policy.clock]
        way = (ticks[seen.step] - ticks[cache.clock.at]).amax(1)
        return {"rate": torch.where(seen.touched, seen.error / (way.sqrt() + ETA), cache.rate)}

    def search_range(self, way: float) -> tuple[str, float, float]:
        """Return thresholds for a relative change of F."""
        return "tau", 1e-3, 1.0


@register
class Fixed(Trigger):
    """A rule that refreshes all tokens every R steps."""

    name = "fixed"
    help = "refresh all tokens every R steps"
    needs = frozenset({"refresh_every"})
    base: Mapping[str, Any] = {"refresh_every": 10}
    whole = True
    depends = "clock"

    def score(self, policy: CachePolicy, problem: Problem, state: SamplerState) -> Tensor:
        """Return the steps since each token's last recompute."""
        assert state.cache is not None
        return (state.step - state.cache.clock.at).double()

    def limit(self, policy: CachePolicy) -> float:
        """Return half a step below R, so that rounding never matters."""
        return policy.refresh_every - 0.5

    def faults(self, policy: CachePolicy) -> list[str]:
        """Report a missing interval."""
        fault = "refresh_every: trigger 'fixed' needs an interval R of at least 1 step"
        return [fault] if policy.refresh_every < 1 else []

    def describe(self, policy: CachePolicy) -> str:
        """Describe the interval."""
        return f"every {policy.refresh_every} steps"

    def scaled(self, policy: CachePolicy, factor: float) -> dict[str, Any]:
        """Multiply the interval, rounding away from the current one."""
        period = policy.refresh_every * factor
        return {"refresh_every": max(1, math.floor(period) if factor < 1 else math.ceil(period))}


class Constant(Trigger):
    """A rule with the same outcome at every step, without scores."""

    reads: frozenset[str] = frozenset()
    depends = "clock"

    def score(self, policy: CachePolicy, problem: Problem, state: SamplerState) -> Tensor:
        """Return scores that are never events."""
        assert state.cache is not None
        return torch.zeros(state.cache.clock.at.shape, dtype=torch.float64)

    def limit(self, policy: CachePolicy) -> float:
        """Return a limit that no score reaches."""
        return math.inf


@register
class Always(Constant):
    """A rule that recomputes everything at every step."""

    name = "always"
    help = "recompute everything at every step (no cache)"
    verdict = Reason.REFRESH


@register
class Never(Constant):
    """A rule that computes once, then reuses to the end."""

    name = "never"
    help = "compute once, then reuse to the end"
    verdict = Reason.REUSED


def moved(policy: CachePolicy, problem: Problem, state: SamplerState) -> Float[Tensor, "b n"]:
    """Return (b, n) on the host: distance on the policy's clock since each last recompute, inf if none."""
    assert state.cache is not None
    ticks, at = problem.clocks[policy.clock], state.cache.clock.at
    return torch.where(at == NEVER, torch.inf, ticks[state.step] - ticks[at])


def band_intervals(policy: CachePolicy, tokens: int) -> Float[Tensor, " n"]:
    """Return (n,) the log(a/s) interval of each token; the last band extends to the end."""
    intervals = torch.full((tokens,), policy.bands[-1][1], dtype=torch.float64)
    for edge, tau in reversed(policy.bands):
        intervals[:edge] = tau
    return intervals


def input_drift(problem: Problem, state: SamplerState) -> Float[Tensor, "B n"]:
    """Return d_k (B, n) = |c_in z_k - u_k|²: how far each network input is from its last recompute."""
    assert state.cache is not None
    return (problem.network_input(state) - state.cache.u).square().sum(-1)


def influence(problem: Problem, step: int) -> Float[Tensor, " n"]:
    """Return (n,) (c_out a/s)²: how strongly an error of a token's F moves the solver's step."""
    ratio = torch.exp(torch.tensor(2 * problem.levels[step], dtype=torch.float64)).to(problem.c_out)
    return problem.c_out[step].square().mean(-1) * ratio
