"""Measure a setting on few samples before many, with noise and held-out series that all trials share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError, make_whole
from e2crf_core.io.json_files import validated
from e2crf_core.progress import Cancel, never
from e2crf_core.quality.distances import (
    LOG_SPECTRAL_DISTANCE,
    Metric,
    Picks,
    relative_l2,
    sliced_wasserstein_metric,
)
from e2crf_core.quality.interval import Interval
from e2crf_core.quality.intervals import centered_interval, resample_picks
from e2crf_core.quality.pareto import pareto_front
from e2crf_core.quality.protocol import (
    PRIMARY_METRIC,
    Equivalence,
    Judgment,
    primary_change,
    spectral_change,
)
from e2crf_core.quality.tails import KURTOSIS_DIFFERENCE
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.sampler import Part, Sampler, check_request, warm_up

QUALITIES = {
    "marginal_wasserstein": "marginal Wasserstein",
    "sliced_wasserstein": "sliced Wasserstein",
    "relative_l2": "relative L2",
}
"""The distances by which a study may judge, and their names in sentences."""
COSTS = ("seconds", "flops")
BESIDE = (LOG_SPECTRAL_DISTANCE, KURTOSIS_DIFFERENCE)
"""Distances that are monitored beside the deciding one."""
MORE = "more"
"""The study's attribute that holds measurements on more samples, by trial."""
GROWTH = 4
# A finished trial must be this much cheaper before it may end another, because timings are not exact.
CHEAPER = 0.95


@dataclass(frozen=True)
class StudySpec:
    """The way trials are measured: `num` samples in batches of `batch`, with the same `seed` for all trials.

    `quality` marginal_wasserstein is the protocol's primary distance to held-out series, comparable between
    all solvers (sliced_wasserstein sees much less with few samples); relative_l2 is the distance to the
    uncached twin, which requires a space with one plan. `cost` seconds is wall-clock time per sample, flops
    operations per sample. `width` trials are proposed at once.
    """

    num: int = 64
    batch: int = 16
    seed: int = 0
    quality: str = "marginal_wasserstein"
    cost: str = "seconds"
    directions: int = 256
    resamples: int = 100
    width: int = 1

    def __post_init__(self) -> None:
        """Reject what cannot be measured."""
        make_whole(self, "num", "batch", "seed", "directions", "resamples", "width")
        check_request(self.num, self.seed)
        if self.quality not in QUALITIES:
            raise LabError(
                f"unknown quality {self.quality!r}: use one of {', '.join(QUALITIES)}", field="quality"
            )
        if self.cost not in COSTS:
            raise LabError(f"unknown cost {self.cost!r}: use {' or '.join(COSTS)}", field="cost")
        if not 2 <= self.batch <= self.num or self.num % self.batch:
            raise LabError(
                f"num {self.num}: must be a multiple of the batch {self.batch}, which is 2 or more"
            )
        if min(self.directions, self.resamples) < 1 or not 1 <= self.width <= 1000:
            raise LabError("directions and resamples must be at least 1, width between 1 and 1000")

    @property
    def metric(self) -> Metric:
        """The distance to held-out data that trials are judged by. Raises LabError for relative L2, which is none."""
        if self.quality == "marginal_wasserstein":
            return PRIMARY_METRIC
        if self.quality == "sliced_wasserstein":
            return sliced_wasserstein_metric(directions=self.directions)
        raise LabError(f"{self.quality} is not a distance to held-out data")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return sample counts for assessing a trial: a batch, then four times as many, up to `num`."""
        sizes, size = [], self.batch
        while size < self.num:
            sizes.append(size)
            size *= GROWTH
        return (*sizes, self.num)


@dataclass(frozen=True)
class Rung:
    """The measurements of a trial on its first `num` samples.

    `seconds` (median over batches, with the range seen) and `flops` are for one sample. `quality` has the 95%
    interval `low`..`high`; `replicates` are its values on the bootstrap resamples that all trials share, so
    the difference of two trials has an interval of its own, far narrower than the two. `beside` has other
    distances to held-out data by name, and `spectral` the replicates of the log-spectral one; older studies lack
    them. `alone` is the seconds of one sample run by itself, None where it was not measured.
    """

    __pydantic_config__ = ConfigDict(allow_inf_nan=False)

    num: Annotated[int, Field(ge=1)]
    seconds: Annotated[float, Field(gt=0)]
    seconds_low: float
    seconds_high: float
    flops: Annotated[float, Field(gt=0)]
    token_share: float
    flop_share: float
    quality: float
    low: float
    high: float
    replicates: tuple[float, ...]
    beside: dict[str, Annotated[float, Field(allow_inf_nan=True)]] = field(default_factory=dict)
    spectral: tuple[float, ...] = ()
    alone: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; `from_json` restores an equal rung."""
        return asdict(self)

    @staticmethod
    def from_json(stored: dict[str, Any]) -> Rung:
        """Invert `to_json`. Raises LabError for anything else."""
        return validated(_StoredRung, {"rung": stored}, "a trial").rung

    def cost(self, name: str) -> float:
        """Return seconds or flops per sample."""
        return self.seconds if name == "seconds" else self.flops

    def change(self, other: Rung) -> Interval:
        """Return the quality minus that of `other`, on equal samples, with a 95% interval; positive is worse."""
        value = self.quality - other.quality
        low, high = centered_interval(value, np.subtract(self.replicates, other.replicates))
        return Interval(value, low, high)

    def against(self, reference: Rung) -> Judgment:
        """Return the protocol's judgment against the reference on the same samples."""
        primary = primary_change(
            self.quality, reference.quality, self.replicates, reference.replicates, num=self.num
        )
        return Judgment(primary, self.spectral_against(reference))

    def spectral_against(self, other: Rung) -> Equivalence | None:
        """Return the change of the log-spectral distance from `other` on the same samples, None if unknown."""
        if not (self.spectral and other.spectral):
            return None
        own, theirs = (rung.beside[LOG_SPECTRAL_DISTANCE.name] for rung in (self, other))
        return spectral_change(own, theirs, self.spectral, other.spectral, num=self.num)


@dataclass(frozen=True)
class Point:
    """A measured setting. `origin` says who proposed it; `beaten_by` names the trial that ended it early.

    `more` holds measurements on more samples than the study's, where those could not decide.
    """

    number: int
    origin: str
    setting: SamplerConfig
    rungs: tuple[Rung, ...]
    complete: bool
    beaten_by: int | None = None
    more: Rung | None = None

    @property
    def last(self) -> Rung:
        """Return the measurements on most samples."""
        return self.rungs[-1]

    def against(self, reference: Point) -> Judgment:
        """Return the protocol's judgment against the reference, on as many samples as both were measured on."""
        more, theirs = self.more, reference.more
        if more is not None and theirs is not None and more.num == theirs.num:
            return more.against(theirs)
        return self.last.against(reference.last)

    def at(self, num: int) -> Rung | None:
        """Return the measurements on exactly `num` samples."""
        return next((rung for rung in self.rungs if rung.num == num), None)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; `from_json` restores an equal point."""
        return {**asdict(self), "setting": self.setting.to_json()}

    @staticmethod
    def from_json(stored: dict[str, Any]) -> Point:
        """Invert `to_json`. Raises LabError for anything else."""
        part = validated(_StoredPoint, stored, "a trial")
        values = {name: getattr(part, name) for name in _StoredPoint.model_fields}
        changes = {"setting": SamplerConfig.from_json(part.setting), "rungs": tuple(part.rungs)}
        return Point(**values | changes)


class _StoredRung(BaseModel):
    """The measurements of one trial on one number of samples, as they are stored."""

    rung: Rung


class _StoredPoint(BaseModel):
    """A point as it is stored."""

    number: int
    origin: str
    setting: dict[str, Any]
    rungs: list[Rung] = Field(min_length=1)
    complete: bool
    beaten_by: int | None = None
    more: Rung | None = None


def with_more(point: Point, attrs: Mapping[str, Any]) -> Point:
    """Return a point with what the study's attributes say of it on more samples, if anything was measured."""
    stored = attrs.get(MORE, {}).get(str(point.number))
    return point if stored is None else replace(point, more=Rung.from_json(stored))


@dataclass(frozen=True)
class Bench:
    """Everything needed to measure a setting, all immutable: safe to send to another machine.

    `held` (m, N, M) are standardized held-out series, `blocks` (m,) their overlaps, `twin` (num, N, M) the
    uncached series in data units that relative L2 is measured against.
    """

    model: ScoreModel
    held: np.ndarray
    blocks: np.ndarray
    spec: StudySpec
    mean: np.ndarray
    std: np.ndarray
    twin: np.ndarray | None = None

    def sampler(self, setting: SamplerConfig) -> Sampler:
        """Return the sampler of a setting, in batches of the study's size."""
        return Sampler.of(self.model, replace(setting, batch=self.spec.batch))

    def rung(self, setting: SamplerConfig, parts: Sequence[Part]) -> Rung:
        """Return the measurements of the batches drawn so far."""
        model = self.model
        series = np.concatenate([part.series for part in parts])
        num = len(series)
        sampler = self.sampler(setting)
        each = [part.seconds / len(part.series) for part in parts]
        rows, prepared = sum(p.rows for p in parts), sum(p.prepared for p in parts)
        flops = sampler.flops(rows, prepared, num)
        scaled = self.standardized(series)
        picks = resample_picks(
            num, len(self.held), resamples=self.spec.resamples, seed=self.spec.seed, blocks=self.blocks
        )
        value, replicates = self._quality(scaled, picks)
        low, high = centered_interval(value, replicates)
        return Rung(
            num=num,
            seconds=float(np.median(each)),
            seconds_low=float(min(each)),
            seconds_high=float(max(each)),
            flops=flops / num,
            token_share=rows / (num * model.n * setting.steps),
            flop_share=flops / sampler.full_flops(num),
            quality=value,
            low=low,
            high=high,
            replicates=_rounded(replicates),
            beside={metric.name: metric(scaled, self.held) for metric in BESIDE},
            spectral=_rounded(LOG_SPECTRAL_DISTANCE.values(scaled, self.held, picks)),
        )

    def standardized(self, series: np.ndarray) -> np.ndarray:
        """Standardize series in data units, like `held`."""
        return ((series - self.mean) / self.std).astype(np.float32)

    def distance(self, series: np.ndarray) -> float:
        """Return the distance of series in data units to the held-out ones."""
        return self.spec.metric(self.standardized(series), self.held)

    def _quality(self, scaled: np.ndarray, picks: Picks) -> tuple[float, np.ndarray]:
        spec = self.spec
        if spec.quality == "relative_l2":
            assert self.twin is not None
            twin = self.standardized(self.twin[: len(scaled)])
            error, energy = (np.square(x, dtype=np.float64).sum((1, 2)) for x in (scaled - twin, twin))
            each = np.array([np.sqrt(error[i].sum() / energy[i].sum()) for i, _ in picks])
            return relative_l2(scaled, twin), each
        metric = spec.metric
        return metric(scaled, self.held), metric.values(scaled, self.held, picks)


def _rounded(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(f"{x:.7g}") for x in values)


def measure(
    bench: Bench,
    setting: SamplerConfig,
    front: Sequence[Point] = (),
    cancelled: Cancel = never,
) -> tuple[tuple[Rung, ...], int | None, np.ndarray]:
    """Run a setting on few samples, then more; return measurements, who beat it (or None), and series.

    After each size but the last, the trial ends if some point of `front` is cheaper and certainly better on
    those same samples.
    """
    spec = bench.spec
    sampler = bench.sampler(setting)
    warm_up(sampler, spec.batch, spec.seed)
    rungs: list[Rung] = []
    parts: list[Part] = []
    for size in spec.sizes:
        for first in range(len(parts) * spec.batch, size, spec.batch):
            parts.append(sampler.draw(spec.batch, spec.seed, first, cancelled=cancelled))
        rungs.append(bench.rung(setting, parts))
        if size < spec.num:
            for rival in front:
                theirs = rival.at(size)
                if theirs is not None and dominates(theirs, rungs[-1], spec.cost):
                    return tuple(rungs), rival.number, np.concatenate([p.series for p in parts])
    alone = sampler.draw(1, spec.seed, cancelled=cancelled).seconds
    rungs[-1] = replace(rungs[-1], alone=alone)
    return tuple(rungs), None, np.concatenate([p.series for p in parts])


def dominates(one: Rung, other: Rung, cost: str) -> bool:
    """Return whether `one` is clearly cheaper than `other`, and better beyond chance by its interval.

    A spectrum that is certain to be farther from the data forbids it: samples without high frequencies may be
    close by the deciding distance alone.
    """
    if one.cost(cost) > CHEAPER * other.cost(cost) or other.change(one).low <= 0:
        return False
    spectral = one.spectral_against(other)
    return spectral is None or spectral.change.low <= 0


def front_points(points: Sequence[Point], cost: str) -> list[Point]:
    """Return complete points that no other beats in both cost and quality, cheapest first, ties once."""
    at = {(p.last.cost(cost), p.last.quality): p for p in reversed(points) if p.complete}
    return [at[place] for place in sorted(pareto_front({place: place for place in at}))]
