"""What was measured and kept in `benchmarks/results`, read for the Evidence page. Knows nothing of Streamlit.

Result files come with the checkout, but anyone may put another there: each is checked when read, and one that is
damaged is named and harms nothing else.
"""

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from scipy import stats

from e2crf_core.caching.triggers import TRIGGERS
from e2crf_core.errors import LabError
from e2crf_core.evaluation.tables import FEWEST_SEEDS
from e2crf_core.quality.intervals import seed_spread
from e2crf_core.quality.pareto import pareto_front
from pages.ui.common import library

Read = TypeVar("Read")

ROOT = Path(__file__).resolve().parents[3]
LIMIT_BYTES = 50_000_000
QUICK = "quick"
PLAIN = "no cache"

WORKS = {"tokens": "tokens", "flops": "operations", "seconds": "wall clock"}
WHOLE, BANDS, TOKENS = "everything at once", "band by band", "token by token"
KINDS = (WHOLE, BANDS, TOKENS)
SHARES = (0.03, 0.05, 0.08, 0.12, 0.2)
MEASURES = {
    "tokens_for_90": "share of the tokens that holds 90% of the energy",
    "energy_in_tenth": "share of the energy in the lowest tenth of the tokens",
}


def results_folder() -> Path:
    """Where results lie: E2CRF_RESULTS, or `benchmarks/results` of this checkout."""
    return Path(os.environ.get("E2CRF_RESULTS") or ROOT / "benchmarks" / "results")


def result_files(stem: str, suffix: str = ".json") -> list[Path]:
    """Files called `stem`*`suffix`; full measurements before quick ones."""
    found = sorted(results_folder().glob(f"{stem}*{suffix}"))
    return sorted(found, key=lambda path: QUICK in path.stem)


def label(path: Path, stem: str) -> str:
    """What distinguishes a result file, in words: `trigger_study_quick` is the quick form."""
    extra = path.stem.removeprefix(stem).strip("_").replace("_", " ")
    return extra or "full"


def read_text(path: Path) -> str:
    """A result file. Raises LabError that names it."""
    try:
        if path.stat().st_size > LIMIT_BYTES:
            raise LabError(
                f"{path.name} is larger than {LIMIT_BYTES // 1_000_000} MB: it is no result of ours"
            )
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise LabError(f"{path.name} cannot be read: {type(fault).__name__}") from None


def _damaged(path: Path, what: str, command: str) -> LabError:
    return LabError(
        f"{path.name} is damaged ({what}): run `{command}` again, or take the file from the repository"
    )


@dataclass(frozen=True)
class Setting:
    """One measured setting of the study. `l2` has one relative L2 for each seed, () for the uncached run."""

    name: str
    family: str
    kind: str
    token_share: float
    flops: float
    seconds: float
    l2: tuple[float, ...]
    quality: tuple[float, float, float]

    @property
    def relative_l2(self) -> float:
        """Mean over seeds; NaN for the uncached run."""
        return float(np.mean(self.l2)) if self.l2 else math.nan


@dataclass(frozen=True)
class Study:
    """The trigger study of one data set. `floor` is (low, mean, high) of real data, or the mean thrice."""

    checkpoint: str
    dataset: str
    num: int
    repeats: int
    steps: int
    floor: tuple[float, float, float]
    localization: dict[str, float]
    machine: dict[str, Any]
    plain: Setting
    settings: tuple[Setting, ...]

    @property
    def families(self) -> dict[str, list[Setting]]:
        """Settings by trigger and predictor, from little work to much."""
        found: dict[str, list[Setting]] = {}
        for setting in self.settings:
            found.setdefault(setting.family, []).append(setting)
        return {name: sorted(s, key=lambda one: one.token_share) for name, s in found.items()}


def kind_of(family: str, config: dict[str, Any]) -> str:
    """Whether events concern all tokens, bands or single tokens, from the rule's or the trigger's name."""
    rule, policy = config.get("rule"), config.get("policy") or {}
    name = str(rule or policy.get("trigger") or family)
    if "band" in name:
        return BANDS
    if rule:
        return WHOLE if str(rule) in ("pilot", "closed form", "online") else TOKENS
    return WHOLE if name in TRIGGERS and TRIGGERS[name].whole else TOKENS


def _setting(row: dict[str, Any]) -> Setting:
    seeds = row.get("relative_l2_values")
    if seeds is None:
        seeds = [] if row["relative_l2"] is None else [row["relative_l2"]]
    value, low, high = (float(v) for v in row["sliced_wasserstein"])
    numbers = (float(row["token_share"]), float(row["flops"]), float(row["seconds"]), value, low, high)
    if not all(map(math.isfinite, (*numbers, *seeds))) or min(numbers[:3]) <= 0:
        raise ValueError("a figure is not a number")
    family = str(row["family"])
    return Setting(
        str(row["name"]),
        family,
        kind_of(family, row["config"]),
        *numbers[:3],
        tuple(float(v) for v in seeds),
        (value, low, high),
    )


def _study(checkpoint: str, stored: dict[str, Any]) -> Study:
    rows = [_setting(row) for row in stored["rows"]]
    plain = next(row for row in rows if row.name == PLAIN)
    floor = float(stored["floor"])
    low, high = stored.get("floor_range", (floor, floor))
    return Study(
        checkpoint=checkpoint,
        dataset=str(stored["dataset"]),
        num=int(stored["num"]),
        repeats=int(stored["repeats"]),
        steps=int(stored["steps"]),
        floor=(float(low), floor, float(high)),
        localization={str(k): float(v) for k, v in stored["localization"].items()},
        machine=dict(stored["machine"]),
        plain=plain,
        settings=tuple(row for row in rows if row.l2),
    )


def _each(path: Path, command: str, one: Callable[[str, Any], Read]) -> dict[str, Read]:
    """What `one` makes of a file's objects, by name. Raises LabError that names the file and the command for it."""
    try:
        found = {str(name): one(str(name), stored) for name, stored in json.loads(read_text(path)).items()}
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        StopIteration,
        RecursionError,
        LabError,
    ) as fault:
        raise _damaged(path, f"{type(fault).__name__}: {fault}"[:120], command) from None
    if not found:
        raise _damaged(path, "it holds no data set", command)
    return found


@lru_cache(maxsize=8)
def _studies(path: Path, _: library.Stamp) -> dict[str, Study]:
    return _each(
        path, "python -m benchmarks.trigger_study" + (" --quick" if QUICK in path.stem else ""), _study
    )


def read_studies(path: Path) -> dict[str, Study]:
    """Trigger studies of a file by checkpoint. Raises LabError that names the file."""
    return _studies(path, library.stamp(path))


@dataclass(frozen=True)
class Budget:
    """A share of what the uncached run costs, by which families are compared. `work`: a key of WORKS."""

    share: float
    work: str = "tokens"

    def __str__(self) -> str:
        return f"{100 * self.share:g}% of the {WORKS[self.work]}"

    def part(self, study: Study, setting: Setting) -> float:
        """What a setting costs, in parts of the uncached run."""
        match self.work:
            case "flops":
                return setting.flops / study.plain.flops
            case "seconds":
                return setting.seconds / study.plain.seconds
        return setting.token_share


def curve_at(study: Study, settings: Sequence[Setting], budget: Budget) -> tuple[float, ...] | None:
    """Relative L2 of each seed at a budget, between measured settings (log-log); None beyond them."""
    ordered = sorted(settings, key=lambda s: budget.part(study, s))
    x, wanted = np.log([budget.part(study, s) for s in ordered]), math.log(budget.share)
    if not x[0] <= wanted <= x[-1]:
        return None
    seeds = min(len(s.l2) for s in ordered)
    heights = np.log(np.maximum([s.l2[:seeds] for s in ordered], 1e-12))
    return tuple(float(np.exp(np.interp(wanted, x, heights[:, seed]))) for seed in range(seeds))


@dataclass(frozen=True)
class Best:
    """The family of a kind that stays nearest to the uncached twin at a budget; `l2` one for each seed."""

    family: str
    l2: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Geometric mean over seeds."""
        return float(np.exp(np.mean(np.log(self.l2))))


def best_at(study: Study, budget: Budget, kind: str | None = None) -> Best | None:
    """The best family at a budget, of one kind or of all; None where none was measured there."""
    found = []
    for family, settings in study.families.items():
        if kind is None or settings[0].kind == kind:
            values = curve_at(study, settings, budget)
            if values is not None:
                found.append(Best(family, values))
    return min(found, key=lambda best: best.mean, default=None)


@dataclass(frozen=True)
class Gain:
    """How many times as far from the twin a kind of event leaves samples as refreshing everything does.

    `ratio` under 1: nearer. `low`..`high` is the 95% interval of the ratio over seeds, None with too few of them.
    """

    kind: str
    mine: Best
    whole: Best
    ratio: float
    low: float | None
    high: float | None

    @property
    def told_apart(self) -> bool | None:
        """Whether the interval excludes 1; None when there is no interval."""
        return None if self.low is None or self.high is None else not self.low <= 1 <= self.high


def gain_at(study: Study, budget: Budget, kind: str) -> Gain | None:
    """Best family of `kind` against the best that refreshes everything, seed by seed on common noise."""
    mine, whole = best_at(study, budget, kind), best_at(study, budget, WHOLE)
    if mine is None or whole is None:
        return None
    logs = np.log(mine.l2) - np.log(whole.l2)
    low = high = None
    if len(logs) >= FEWEST_SEEDS:
        spread = seed_spread(logs.tolist())
        low, high = math.exp(spread.low), math.exp(spread.high)
    return Gain(kind, mine, whole, float(np.exp(logs.mean())), low, high)


def outcome(gain: Gain | None) -> str:
    """A comparison in a few words."""
    if gain is None:
        return "not measured at this budget"
    if gain.told_apart is None:
        return f"ratio {gain.ratio:.2f}; too few seeds to exclude chance"
    word = "not told apart" if not gain.told_apart else "they pay" if gain.ratio < 1 else "they lose"
    return f"**{word}**: ratio {gain.ratio:.2f} ({gain.low:.2f} to {gain.high:.2f})"


def gain_sentence(gain: Gain) -> str:
    """What a comparison says, and whether chance can be excluded."""
    word = "nearer to" if gain.ratio < 1 else "farther from"
    return (
        f"Events {gain.kind}, {outcome(gain)}. The best, {gain.mine.family}, leaves samples"
        f" {abs(100 * (gain.ratio - 1)):.0f}% {word} their uncached twins than the best that refreshes everything,"
        f" {gain.whole.family}."
    )


def verdict(study: Study, budget: Budget) -> list[str]:
    """What the study says of one data set at an equal budget, in sentences."""
    best = best_at(study, budget)
    if best is None:
        return [f"No family was measured at {budget}."]
    lines = [
        f"Nearest to the uncached samples with {budget}: **{best.family}**, relative L2 {best.mean:.3f}."
    ]
    for kind in (BANDS, TOKENS):
        gain = gain_at(study, budget, kind)
        lines.append(
            f"Events {kind}, not measured at this budget beside some that refresh everything."
            if gain is None
            else gain_sentence(gain)
        )
    value, low, high = study.plain.quality
    other = [s for s in study.settings if s.quality[1] > high or s.quality[2] < low]
    lines.append(
        f"By sliced Wasserstein {len(other)} of {len(study.settings)} settings are told apart from no cache"
        f" ({value:.3f}, interval {low:.3f} to {high:.3f}; real data {study.floor[1]:.3f})."
    )
    return lines


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Spearman's; None for fewer than three points or where one side does not vary."""
    if len(x) < 3 or len(set(x)) < 2 or len(set(y)) < 2:
        return None
    return float(stats.spearmanr(x, y).statistic)


@dataclass(frozen=True)
class Foresight:
    """One measure of localization against the gain of one kind of event, a point for each data set."""

    measure: str
    kind: str
    names: tuple[str, ...]
    x: tuple[float, ...]
    gains: tuple[Gain, ...]

    @property
    def rank(self) -> float | None:
        """Spearman's rank correlation of the measure with the ratio."""
        return rank_correlation(self.x, [g.ratio for g in self.gains])


def foresight(studies: Sequence[Study], budget: Budget, measure: str, kind: str) -> Foresight:
    """Data sets that have both the measure and a gain at this budget."""
    found = []
    for study in studies:
        gain = gain_at(study, budget, kind)
        if gain is not None and measure in study.localization:
            found.append((study.dataset, study.localization[measure], gain))
    names, x, gains = zip(*found, strict=True) if found else ((), (), ())
    return Foresight(measure, kind, names, x, gains)


def measures(studies: Sequence[Study]) -> list[str]:
    """Measures of localization that all studies have, known ones first."""
    common = set.intersection(*(set(s.localization) for s in studies)) if studies else set()
    return [m for m in MEASURES if m in common] + sorted(common - set(MEASURES))


def measure_title(measure: str) -> str:
    """A measure in words."""
    return MEASURES.get(measure, measure.replace("_", " "))


def foresight_sentence(studies: Sequence[Study], budget: Budget, kind: str) -> str:
    """Which measure orders the data sets as the gain of a kind of event does."""
    ranked = [
        (abs(f.rank), f)
        for f in (foresight(studies, budget, m, kind) for m in measures(studies))
        if f.rank is not None
    ]
    if not ranked:
        return f"Events **{kind}**: fewer than three data sets were measured at this budget, so nothing can be ordered."
    strength, best = max(ranked, key=lambda pair: pair[0])
    way = "larger" if (best.rank or 0) < 0 else "smaller"
    count = len(best.names)
    if strength < 0.75:
        return (
            f"Events **{kind}**: no measure orders the {count} data sets as their gain does (the nearest,"
            f" {measure_title(best.measure)}, has a rank correlation of {best.rank:+.2f})."
        )
    return (
        f"Events **{kind}** gain more where the {measure_title(best.measure)} is {way}: rank correlation"
        f" {best.rank:+.2f} over {count} data sets. That many points show an order, they do not prove one."
    )


def study_frame(studies: Sequence[Study]) -> pd.DataFrame:
    """Every setting of some studies, the uncached run first: the table behind the charts."""
    rows = []
    for study in studies:
        for s in (study.plain, *study.settings):
            rows.append(
                {
                    "data set": study.dataset,
                    "setting": s.name,
                    "family": s.family,
                    "events": "" if s is study.plain else s.kind,
                    "tokens %": 100 * s.token_share,
                    "GFLOP a sample": s.flops / 1e9,
                    "seconds": s.seconds,
                    "relative L2": s.relative_l2,
                    "sliced Wasserstein": s.quality[0],
                    "sliced Wasserstein low": s.quality[1],
                    "sliced Wasserstein high": s.quality[2],
                }
            )
    return pd.DataFrame(rows)


CONVERGED = "to_converged"
"""Relative L2 to the converged solution of the same noise: a figure of rows that add no noise of their own."""


@dataclass(frozen=True)
class Rated:
    """A row of an evaluation: cost, and a figure (value, low, high) for each metric."""

    name: str
    solver: str
    grid: str
    steps: int
    trigger: str
    token_share: float
    flops: float
    seconds: tuple[float, float, float]
    speedup: tuple[float, float, float]
    figures: dict[str, tuple[float, float, float]]


@dataclass(frozen=True)
class Table:
    """A stored evaluation. `floors` are (low, mean, high) of real data by metric, for all but `CONVERGED`."""

    checkpoint: str
    dataset: str
    num: int
    repeats: int
    reference: str
    machine: dict[str, Any]
    titles: dict[str, str]
    units: dict[str, str]
    floors: dict[str, tuple[float, float, float]]
    reading: tuple[str, ...]
    rows: tuple[Rated, ...]

    @property
    def call_flops(self) -> float:
        """Operations of one uncached network call for one sample, from the reference."""
        row = next(r for r in self.rows if r.name == self.reference)
        return row.flops / (row.steps * row.token_share)

    def calls(self, row: Rated) -> float:
        """How many uncached network calls a row's operations amount to."""
        return row.flops / self.call_flops

    def rated(self, metric: str) -> tuple[Rated, ...]:
        """The rows that have a figure."""
        return tuple(row for row in self.rows if metric in row.figures)

    def front(self, cost: Callable[[Rated], float], metric: str) -> set[str]:
        """Names of the rows that no other row beats in both cost and mean figure."""
        return pareto_front({row.name: (cost(row), row.figures[metric][0]) for row in self.rated(metric)})


def _figure(stored: dict[str, Any], middle: str = "value") -> tuple[float, float, float]:
    found = tuple(float(stored[key]) for key in (middle, "low", "high"))
    if not all(map(math.isfinite, found)):
        raise ValueError("a figure is not a number")
    return found[0], found[1], found[2]


def _rated(row: dict[str, Any], converged: dict[str, list[float]]) -> Rated:
    config = row["config"]
    policy = config["policy"]
    figures = {str(name): _figure(figure) for name, figure in row["metrics"].items()}
    if config["name"] in converged:
        spread = seed_spread(converged[config["name"]])
        figures[CONVERGED] = (spread.value, spread.low, spread.high)
    return Rated(
        name=str(config["name"]),
        solver=str(config["solver"]),
        grid=str(config["grid"]),
        steps=int(config["steps"]),
        trigger="none" if policy is None else str(policy["trigger"]),
        token_share=float(row["token_share"]),
        flops=float(row["flops"]),
        seconds=_figure(row["seconds"], "median"),
        speedup=_figure(row["speedup"], "median"),
        figures=figures,
    )


def _equal_errors(found: list[dict[str, Any]]) -> list[str]:
    """A sentence on what solvers without a cache need for the error of each cached row; none without figures."""
    told = [f"{float(e['faster']):.2f} ({e['row']})" for e in found if e["faster"] is not None]
    if not told:
        return []
    return [
        "To come as near to the converged solution as a row with the cache, the fastest solver alone, on the better of"
        f" its time grids, takes so many times as long: {', '.join(told)}."
    ]


def _table(checkpoint: str, stored: dict[str, Any]) -> Table:
    floors = {name: _figure(floor) for name, floor in stored["floors"].items()}
    rows = tuple(_rated(row, stored.get(CONVERGED, {})) for row in stored["rows"])
    titles = {str(k): str(v) for k, v in stored["titles"].items()}
    units = {str(k): str(v) for k, v in stored["units"].items()}
    whole = all(set(titles) <= set(row.figures) for row in rows)
    if any(CONVERGED in row.figures for row in rows):
        titles[CONVERGED], units[CONVERGED] = "relative L2 to the converged solution", "same noise"
    table = Table(
        checkpoint=checkpoint,
        dataset=str(stored["dataset"]),
        num=int(stored["num"]),
        repeats=int(stored["repeats"]),
        reference=str(stored["reference"]),
        machine=dict(stored["machine"]),
        titles=titles,
        units=units,
        floors={name: (low, value, high) for name, (value, low, high) in floors.items()},
        reading=(*map(str, stored["reading"]), *_equal_errors(stored.get("equal_error", []))),
        rows=rows,
    )
    if not whole or not table.call_flops > 0:
        raise ValueError("rows lack figures")
    return table


@lru_cache(maxsize=8)
def _tables(path: Path, command: str, _: library.Stamp) -> dict[str, Table]:
    return _each(path, command, _table)


def read_tables(path: Path, command: str) -> dict[str, Table]:
    """Evaluations of a file by checkpoint. Raises LabError that names the file and `command`, which makes it."""
    return _tables(path, command, library.stamp(path))


def table_frame(table: Table) -> pd.DataFrame:
    """Every row of an evaluation with its figures, fast ones first."""
    rows = []
    for row in sorted(table.rows, key=lambda r: r.seconds[0]):
        line: dict[str, Any] = {
            "name": row.name,
            "solver": row.solver,
            "grid": row.grid,
            "network calls": row.steps,
            "cache": row.trigger,
            "tokens %": 100 * row.token_share,
            "worth of calls": table.calls(row),
            "seconds": row.seconds[0],
            "speed": row.speedup[0],
        }
        for metric, title in table.titles.items():
            value, low, high = row.figures.get(metric, (math.nan,) * 3)
            line |= {title: value, f"{title} low": low, f"{title} high": high}
        rows.append(line)
    return pd.DataFrame(rows)


def demoted(text: str) -> str:
    """Markdown without its first title, other headings two levels lower: a page has a title of its own."""
    lines = text.splitlines()
    if lines and lines[0].startswith("# "):
        lines = lines[1:]
    return "\n".join("##" + line if line.startswith("#") else line for line in lines)
