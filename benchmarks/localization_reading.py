"""Read `benchmarks.localization`: what equal error costs with and without nested bands.

Among the rows of a baseline whose median error is at most a level, the cheapest is the baseline's row. It is compared
with two rows of nested bands: `at_level`, the cheapest whose error is at most the level, too, and `as_close`, the
cheapest that is at least as close to the converged solution as the baseline's row, which may have gone below the
level because its calls are whole numbers. The first is the usual time to a required error, the second
gives nothing away. No curve is interpolated or continued: what no row reaches is reported so. The interval of a gain in
network work comes from a bootstrap over samples in which all rows share the resample and both rows are chosen anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.localization_rows import ANCHOR, LEVELS
from e2crf_core.quality.distances import LOG_SPECTRAL_DISTANCE
from e2crf_core.quality.interval import Interval
from e2crf_core.quality.intervals import seed_spread
from e2crf_core.quality.protocol import FEWEST_SEEDS, PRIMARY, SPECTRAL_MARGIN, Equivalence, Judgment

RESAMPLES = 1000
BASELINES = {
    "solver alone, full attention": ("full", ("solver",)),
    "solver alone, causal": ("causal", ("solver",)),
    "whole refreshes, full attention": ("full", ("whole",)),
}
"""What nested bands are compared with: name -> network and methods."""
MATCHES = {"at_level": "at the level", "as_close": "as close as the baseline"}
NESTED = {"data": ("nested",), "whitened": ("nested", "detail")}


class Errors:
    """The errors (samples,) of all rows of a data set, with their costs; medians over all samples and resamples."""

    def __init__(self, rows: Mapping[str, Mapping[str, Any]], kind: str) -> None:
        self.names = list(rows)
        self.cost = np.array([row["cost"] for row in rows.values()])
        self.network = [row["network"] for row in rows.values()]
        self.method = [row["method"] for row in rows.values()]
        values = np.array([row[kind] for row in rows.values()])
        self.median = np.median(values, axis=1)
        draws = np.random.default_rng(0).integers(0, values.shape[1], (RESAMPLES, values.shape[1]))
        self.resampled = np.stack([np.median(row[draws], axis=1) for row in values], axis=1)

    def of(self, network: str, methods: Sequence[str]) -> np.ndarray:
        """Return the places of the rows of some methods on a network, cheapest first, then smallest error."""
        here = [
            i
            for i in range(len(self.names))
            if self.network[i] == network and self.method[i] in methods and self.cost[i] > 0
        ]
        return np.array(sorted(here, key=lambda i: (round(self.cost[i], 6), self.median[i])), dtype=int)


def cheapest(places: np.ndarray, error: np.ndarray, level: float) -> int | None:
    """Return the first of `places`, which are sorted by cost, whose error is at most a level, or None."""
    fit = places[error[places] <= level]
    return int(fit[0]) if len(fit) else None


def match(errors: Errors, base: np.ndarray, nested: np.ndarray, level: float, close: bool) -> dict[str, Any]:
    """Return the nested row that is compared with the baseline's, and the gain in cost with its interval.

    The interval is a 95% bootstrap; an end is None where a side reaches no such error. `close`: nested bands
    must come as close as the baseline's row did, not only within the level.
    """

    def both(medians: np.ndarray) -> tuple[int | None, int | None]:
        before = cheapest(base, medians, level)
        if before is None:
            return None, None
        return before, cheapest(nested, medians, medians[before] if close else level)

    def gain(before: int | None, after: int | None) -> float:
        if before is None:
            return np.inf
        return 0.0 if after is None else float(errors.cost[before] / errors.cost[after])

    before, after = both(errors.median)
    if before is None or after is None:
        return {"nested": None, "work": None}
    ratios = [gain(*both(medians)) for medians in errors.resampled]
    low, high = np.quantile(ratios, [0.025, 0.975], method="nearest")
    ends = [float(low) or None, None if np.isinf(high) else float(high)]
    return {"nested": described(errors, after), "work": [gain(before, after), *ends]}


def comparisons(rows: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each kind of error, level and baseline, its row and both comparisons with nested bands."""
    found = []
    for kind, levels in LEVELS.items():
        errors = Errors(rows, kind)
        nested = errors.of("causal", NESTED[kind])
        for level in levels:
            for name, (network, methods) in BASELINES.items():
                base = errors.of(network, methods)
                if len(base):
                    row = described(errors, cheapest(base, errors.median, level))
                    entry = {"kind": kind, "level": level, "baseline": name, "before": row}
                    for way in MATCHES:
                        entry[way] = match(errors, base, nested, level, way == "as_close")
                    found.append(entry)
    return found


def described(errors: Errors, place: int | None) -> dict[str, Any] | None:
    """Return name, cost and median error of a row."""
    if place is None:
        return None
    cost, error = float(errors.cost[place]), float(errors.median[place])
    return {"row": errors.names[place], "cost": cost, "error": error}


def contenders(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of all rows that are compared, each once: those that have to be timed."""
    sides = [
        side for entry in found for side in (entry["before"], *(entry[way]["nested"] for way in MATCHES))
    ]
    return list(dict.fromkeys(side["row"] for side in sides if side))


def with_seconds(
    found: Sequence[dict[str, Any]], seconds: Mapping[str, Mapping[str, Sequence[float]]]
) -> list[dict[str, Any]]:
    """Add to each comparison, by batch size, how many times as fast nested bands are.

    Ratios are taken within rounds, in which both rows ran; each has its median and range over rounds.
    """
    made = []
    for entry in found:
        timed = dict(entry)
        for way in MATCHES:
            gains = {}
            for batch, by_row in seconds.items():
                sides = (entry["before"], entry[way]["nested"])
                pair = [by_row.get(side["row"]) if side else None for side in sides]
                if pair[0] and pair[1]:
                    ratios = np.divide(*pair)
                    gains[batch] = [float(f(ratios)) for f in (np.median, np.min, np.max)]
            timed[way] = {**entry[way], "wall": gains}
        made.append(timed)
    return made


def summary(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return each row without its single values: median and 90% quantile by kind, RMS, and the protocol's verdict.

    Changes of both distances are against the converged solution of the row's network, paired by seed; with fewer
    than three seeds there is none.
    """
    made = {}
    for name, row in rows.items():
        entry = {key: value for key, value in row.items() if key not in (*LEVELS, "distances")}
        for kind in LEVELS:
            values = np.asarray(row[kind])
            entry[kind] = {
                "median": float(np.median(values)),
                "high": float(np.quantile(values, 0.9)),
                "rms": float(np.sqrt(np.square(values).mean())),
            }
        anchor = rows.get(f"{row['network']}: {ANCHOR}")
        if anchor is not None and anchor is not row:
            entry["judgment"] = judgment(row["distances"], anchor["distances"], len(row["data"]))
        made[name] = entry
    return made


def judgment(
    own: Sequence[Mapping[str, float]], anchor: Sequence[Mapping[str, float]], num: int
) -> dict[str, Any] | None:
    """Judge distances, one value of each a seed, against the anchor's; None with fewer than three seeds."""
    if len(own) < FEWEST_SEEDS:
        return None

    def change(name: str, relative: bool) -> Interval:
        values, base = (np.array([seed[name] for seed in side]) for side in (own, anchor))
        spread = seed_spread(((values - base) / (base.mean() if relative else 1.0)).tolist())
        return Interval(spread.value, spread.low, spread.high)

    return stored_judgment(
        Judgment(
            Equivalence(change(PRIMARY, True), num),
            Equivalence(change(LOG_SPECTRAL_DISTANCE.name, False), num, SPECTRAL_MARGIN, "dB"),
        )
    )


def stored_judgment(judged: Judgment) -> dict[str, Any]:
    """Return a judgment as plain JSON values: both changes with their intervals, and the verdict."""
    changes = [[part.change.value, part.change.low, part.change.high] for part in judged.parts]
    return {
        "primary": changes[0],
        "spectral": changes[-1],
        "verdict": judged.verdict,
        "needed": judged.needed,
    }


def euler_speed(rows: Mapping[str, Mapping[str, Any]], plain: str) -> dict[str, list[float]]:
    """Return how many times as fast as the uncached run each row is: median and range over its repeats."""
    base = rows[plain]["seconds"][0]
    made = {}
    for name, row in rows.items():
        if times := row.get("seconds"):
            ratios = [base / value for value in times]
            made[name] = [float(f(ratios)) for f in (np.median, np.min, np.max)]
    return made
