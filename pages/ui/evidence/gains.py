"""Results of the trigger study: each kind of event's gain at an equal budget, and its predictability."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from e2crf_core.quality.intervals import seed_spread
from e2crf_core.quality.pareto import pareto_front
from e2crf_core.quality.protocol import FEWEST_SEEDS
from pages.ui.evidence.trigger_study import BANDS, TOKENS, WHOLE, StudySetting, TriggerStudy

WORKS = {"tokens": "tokens", "flops": "operations"}
SHARES = (0.03, 0.05, 0.08, 0.12, 0.2)
MEASURES = {
    "tokens_for_90": "share of the tokens that holds 90% of the energy",
    "energy_in_tenth": "share of the energy in the lowest tenth of the tokens",
}
STRONG_RANK = 0.75


@dataclass(frozen=True)
class Budget:
    """A share of the cost of the uncached run, at which families are compared. `work` is a key of WORKS."""

    share: float
    work: str = "tokens"

    def __str__(self) -> str:
        return f"{100 * self.share:g}% of the {WORKS[self.work]}"

    def part(self, study: TriggerStudy, setting: StudySetting) -> float:
        """Return the cost of a setting as a share of the uncached run's."""
        return setting.flops / study.plain.flops if self.work == "flops" else setting.token_share


def curve_at(
    study: TriggerStudy, settings: Sequence[StudySetting], budget: Budget
) -> tuple[float, ...] | None:
    """Return the relative L2 of each seed at a budget, between settings on the family's front (log-log).

    A setting that costs more than another without a smaller mean error is left out, so that the curve falls. None
    outside the settings measured.
    """
    front = pareto_front({s.name: (budget.part(study, s), s.relative_l2) for s in settings})
    ordered = sorted((s for s in settings if s.name in front), key=lambda s: budget.part(study, s))
    x, at = np.log([budget.part(study, s) for s in ordered]), math.log(budget.share)
    if not x[0] <= at <= x[-1]:
        return None
    seeds = min(len(s.l2) for s in ordered)
    heights = np.log(np.maximum([s.l2[:seeds] for s in ordered], 1e-12))
    return tuple(float(np.exp(np.interp(at, x, heights[:, seed]))) for seed in range(seeds))


@dataclass(frozen=True)
class Best:
    """The family of a kind that stays nearest to the uncached twin at a budget; `l2` has one value for each seed."""

    family: str
    l2: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Geometric mean over seeds."""
        return float(np.exp(np.mean(np.log(self.l2))))


def best_at(study: TriggerStudy, budget: Budget, kind: str | None = None) -> Best | None:
    """Return the best family at a budget, of one kind or of all; None when none was measured there."""
    candidates = []
    for family, settings in study.families.items():
        if kind is None or settings[0].kind == kind:
            values = curve_at(study, settings, budget)
            if values is not None:
                candidates.append(Best(family, values))
    return min(candidates, key=lambda best: best.mean, default=None)


@dataclass(frozen=True)
class GainRow:
    """Distance from the twin with a kind of event, over that of refreshing everything at once.

    A `ratio` under 1 is nearer. `low`..`high` is its 95% interval over seeds, None with too few of them.
    """

    kind: str
    events: Best
    whole: Best
    ratio: float
    low: float | None
    high: float | None

    @property
    def certain(self) -> bool | None:
        """Whether the interval excludes 1; None when there is no interval."""
        return None if self.low is None or self.high is None else not self.low <= 1 <= self.high


def gain_at(study: TriggerStudy, budget: Budget, kind: str) -> GainRow | None:
    """Compare the best family of `kind` with the best that refreshes everything, seed by seed on common noise."""
    events, whole = best_at(study, budget, kind), best_at(study, budget, WHOLE)
    if events is None or whole is None:
        return None
    logs = np.log(events.l2) - np.log(whole.l2)
    low = high = None
    if len(logs) >= FEWEST_SEEDS:
        spread = seed_spread(logs.tolist())
        low, high = math.exp(spread.low), math.exp(spread.high)
    return GainRow(kind, events, whole, float(np.exp(logs.mean())), low, high)


def gain_sentence(gain: GainRow) -> str:
    """Describe a comparison, and whether chance can be excluded."""
    if gain.certain is None:
        outcome = f"ratio {gain.ratio:.2f}, too few seeds to exclude chance"
    else:
        word = "no certain difference" if not gain.certain else "pays" if gain.ratio < 1 else "loses"
        outcome = f"**{word}**, ratio {gain.ratio:.2f} ({gain.low:.2f} to {gain.high:.2f})"
    word = "nearer to" if gain.ratio < 1 else "farther from"
    return (
        f"Refreshing {gain.kind}: {outcome}. Its best family, {gain.events.family}, leaves samples "
        f"{abs(100 * (gain.ratio - 1)):.0f}% {word} their uncached twins than the best family that refreshes "
        f"everything at once, {gain.whole.family}."
    )


def verdict(study: TriggerStudy, budget: Budget) -> list[str]:
    """Describe the study's results for one data set at an equal budget."""
    best = best_at(study, budget)
    if best is None:
        return [f"No family was measured at {budget}."]
    lines = [
        f"Nearest to the uncached samples with {budget}: **{best.family}**, relative L2 {best.mean:.3f}."
    ]
    for kind in (BANDS, TOKENS):
        gain = gain_at(study, budget, kind)
        lines.append(
            f"Refreshing {kind} was not measured at this budget." if gain is None else gain_sentence(gain)
        )
    counts = Counter(s.verdict for s in study.settings)
    lines.append(
        f"By the protocol, of {len(study.settings)} settings {counts['as good']} are as good as no cache and "
        f"{counts['worse']} worse; {counts['undecided']} need more samples than these {study.num * study.repeats}."
    )
    return lines


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation; None for fewer than three points or constant values."""
    if len(x) < 3 or len(set(x)) < 2 or len(set(y)) < 2:
        return None
    return float(stats.spearmanr(x, y).statistic)


@dataclass(frozen=True)
class Foresight:
    """A measure of localization against the gain of one kind of event, a point for each data set."""

    measure: str
    kind: str
    names: tuple[str, ...]
    x: tuple[float, ...]
    gains: tuple[GainRow, ...]

    @property
    def rank(self) -> float | None:
        """Spearman's rank correlation of the measure with the ratio."""
        return rank_correlation(self.x, [g.ratio for g in self.gains])


def foresight(studies: Sequence[TriggerStudy], budget: Budget, measure: str, kind: str) -> Foresight:
    """Return the data sets that have both the measure and a gain at this budget."""
    points = []
    for study in studies:
        gain = gain_at(study, budget, kind)
        if gain is not None and measure in study.localization:
            points.append((study.dataset, study.localization[measure], gain))
    names, x, gains = zip(*points, strict=True) if points else ((), (), ())
    return Foresight(measure, kind, names, x, gains)


def measures(studies: Sequence[TriggerStudy]) -> list[str]:
    """Return the measures of localization that all studies have, known ones first."""
    common = set.intersection(*(set(s.localization) for s in studies)) if studies else set()
    return [m for m in MEASURES if m in common] + sorted(common - set(MEASURES))


def measure_title(measure: str) -> str:
    """Return a measure in words."""
    return MEASURES.get(measure, measure.replace("_", " "))


def foresight_sentence(studies: Sequence[TriggerStudy], budget: Budget, kind: str) -> str:
    """Describe which measure ranks the data sets by the gain of a kind of event."""
    candidates = [foresight(studies, budget, m, kind) for m in measures(studies)]
    ranked = [(f.rank, f) for f in candidates if f.rank is not None]
    if not ranked:
        return f"Refreshing **{kind}**: with fewer than three data sets at this budget there is no order to compare."
    rank, best = max(ranked, key=lambda pair: abs(pair[0]))
    count, title = len(best.names), measure_title(best.measure)
    if abs(rank) < STRONG_RANK:
        return (
            f"Refreshing **{kind}**: no measure ranks the {count} data sets by their gain. The closest, "
            f"{title}, has a rank correlation of {rank:+.2f}."
        )
    return (
        f"Refreshing **{kind}** gains more where the {title} is {'larger' if rank < 0 else 'smaller'}: rank "
        f"correlation {rank:+.2f} over {count} data sets. So few points suggest an order; they do not prove "
        "one."
    )
