"""Hold the result of an evaluation: rows with estimates, and what may be said about pairs of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from e2crf_core.evaluation.config import Configs
from e2crf_core.io.provenance import Provenance
from e2crf_core.quality.interval import Interval
from e2crf_core.quality.intervals import Floor, StableSize
from e2crf_core.quality.pareto import pareto_front
from e2crf_core.quality.protocol import PRIMARY, Judgment
from e2crf_core.sampling.config import SamplerConfig

STABLE_WITHIN = 0.05
"""A distance is called stable if its 95% half-width is at most this share of it."""


@dataclass(frozen=True)
class Estimate(Interval):
    """The mean over repeats with its 95% interval; `values` holds one value per repeat."""

    values: tuple[float, ...]


def spanned(values: Sequence[float]) -> Interval:
    """Return the median over repeats with the full observed range, as used for timings."""
    return Interval(float(np.median(values)), float(min(values)), float(max(values)))


@dataclass(frozen=True)
class TableRow:
    """The measurements of one configuration.

    `seconds` is for `num` samples and `flops` for one; times and ratios are medians over repeats with their
    range. `speedup` compares with the table's reference; `speedup_twin` and `relative_l2` compare with the
    uncached run with the same solver, grid, and steps, if the table has one. Ratios are within a repeat.
    `metrics` maps names to distances to held-out data. `against` is the protocol's
    judgment against the reference on common noise.
    """

    name: str
    config: SamplerConfig
    seconds: Interval
    token_share: float
    flop_share: float
    flops: float
    metrics: dict[str, Estimate]
    speedup: Interval
    speedup_twin: Interval | None
    relative_l2: Estimate | None
    sessions: int
    against: Judgment | None = None

    @property
    def quality(self) -> Estimate:
        """Return the primary distance."""
        return self.metrics[PRIMARY]


@dataclass(frozen=True)
class Evaluation:
    """A finished table. `reference` names the row with which speed and quality are compared.

    `anchors` maps metrics to the distances of samples of the model without its network (F = 0). `stable` maps
    metrics to the number of reference samples that make a distance stable (see `STABLE_WITHIN`).
    """

    checkpoint: str
    dataset: str
    digest: str
    num: int
    repeats: int
    seed: int
    batch: int
    heldout: int
    machine: dict[str, Any]
    reference: str
    interval: str
    titles: dict[str, str]
    units: dict[str, str]
    floors: dict[str, Floor]
    rows: tuple[TableRow, ...]
    provenance: Provenance | None = None
    anchors: dict[str, dict[str, float]] = field(default_factory=dict)
    stable: dict[str, StableSize] = field(default_factory=dict)

    def row(self, name: str) -> TableRow:
        """Return the row of a configuration."""
        return next(row for row in self.rows if row.name == name)

    def pairs(self, metric: str = PRIMARY) -> list[tuple[str, str]]:
        """Return (better, worse) for every pair of rows whose intervals do not overlap."""
        ordered = []
        for a, b in combinations(self.rows, 2):
            first, second = a.metrics[metric], b.metrics[metric]
            if not first.overlaps(second):
                better, worse = (a, b) if first.value < second.value else (b, a)
                ordered.append((better.name, worse.name))
        return ordered

    def front(self, cost: Callable[[TableRow], float]) -> set[str]:
        """Return the names of the rows that no other row beats in both cost and mean quality."""
        return pareto_front({row.name: (cost(row), row.quality.value) for row in self.rows})

    def not_worse(self, row: TableRow, than: TableRow, metrics: Sequence[str] = (PRIMARY,)) -> bool:
        """Return whether no interval of `row` lies entirely above that of `than`."""
        return all(row.metrics[m].low <= than.metrics[m].high for m in metrics)

    def fastest(self, than: TableRow, cached: bool, metrics: Sequence[str] = (PRIMARY,)) -> TableRow | None:
        """Return the fastest cached or uncached row that is not worse than another."""
        able = [
            row
            for row in self.rows
            if (row.config.policy is not None) == cached and self.not_worse(row, than, metrics)
        ]
        return min(able, key=lambda row: row.seconds.value, default=None)


def reference_row(configs: Configs) -> str:
    """Return the name of the uncached configuration with most network calls, or else of the first row."""
    plain = [name for name, config in configs.items() if config.policy is None]
    return max(plain, key=lambda name: configs[name].steps) if plain else next(iter(configs))
