"""Define the lab's quality protocol in one place (docs/statistics.md explains and justifies it).

1. *Verdict*: two distances to held-out data are compared with a reference's on common noise, each by its change with
   a paired 95% interval: the marginal Wasserstein distance (*primary*, as a share of the reference's) and the
   log-spectral distance (in dB). A setting is as good as the reference only if the upper ends of both are within
   their margins. The primary sees wrong values, the other one wrong frequencies; neither sees both.
2. *What a cache did*: the error to the uncached twin on the same noise, in data units and whitened per band.
3. *Beside them* the other distances of `protocol_metrics`, with the floor of real data at the same sizes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import stats

from e2crf_core.diffusion.spectral import band_edges, coordinate_mask, tokenize
from e2crf_core.errors import LabError
from e2crf_core.quality.distances import (
    LOG_SPECTRAL_DISTANCE,
    Metric,
    check_pair,
    marginal_wasserstein_metric,
    relative_l2_per_sample,
    standard_metrics,
)
from e2crf_core.quality.interval import Interval
from e2crf_core.quality.intervals import centered_interval, resample_picks, seed_spread
from e2crf_core.quality.tails import EXTREMES_DIFFERENCE, KURTOSIS_DIFFERENCE

PRIMARY_METRIC = marginal_wasserstein_metric(domain="time")
PRIMARY = PRIMARY_METRIC.name
MARGIN = 0.05
"""A setting is as good as the reference if its primary distance is certain to be at most this share larger."""
SPECTRAL_MARGIN = 0.5
"""The same for the log-spectral distance, in dB: 0.5 dB are 12% of a frequency's power.

In dB, not as a share: most of this distance is sampling noise (0.6 to 1.0 dB for 64 real series), so a share of it
would mean something else for every number of samples.
"""
FLIP = 0.5
"""A sample with a larger relative L2 to its twin ended elsewhere; unrelated series are about 1.4 apart."""
FEWEST_SEEDS = 3
RESAMPLES = 200
Verdict = Literal["as good", "worse", "undecided"]


def protocol_metrics(channels: int, *, directions: int = 1000, seed: int = 0) -> tuple[Metric, ...]:
    """Return every distance of the protocol for series of `channels` channels, including the primary one."""
    return (
        *standard_metrics(channels, directions=directions, seed=seed),
        KURTOSIS_DIFFERENCE,
        EXTREMES_DIFFERENCE,
    )


@dataclass(frozen=True)
class Equivalence:
    """A comparison of one distance to real data with the reference's, on common noise.

    `change` is a share of the reference's distance (0.05: 5% farther from the data), or a difference in dB as
    `unit` says, with its paired 95% interval from `num` samples. `verdict` is "as good" if the upper end is
    within `margin`, "worse" if the lower end is above it, and "undecided" if more samples are needed.
    """

    change: Interval
    num: int
    margin: float = MARGIN
    unit: Literal["share", "dB"] = "share"

    @property
    def verdict(self) -> Verdict:
        """Return the verdict of the interval."""
        if self.change.high <= self.margin:
            return "as good"
        return "worse" if self.change.low > self.margin else "undecided"

    @property
    def needed(self) -> int | None:
        """Return the samples at which this change would be certain to be within the margin, or None."""
        return samples_needed(self.change, self.num, self.margin)

    def describe(self) -> str:
        """Describe both readings: `measured -2.0%, certain to be below +4.0%`."""
        # Adding 0 turns a rounded -0.0 into 0.0.
        value, high = (
            f"{round(100 * x, 1) + 0.0:+.1f}%" if self.unit == "share" else f"{round(x, 2) + 0.0:+.2f} dB"
            for x in (self.change.value, self.change.high)
        )
        return f"measured {value}, certain to be below {high}"


@dataclass(frozen=True)
class Judgment:
    """The joint comparison of a setting with the reference, by which every choice of the lab is made.

    As good only if both distances say so (an intersection-union test: its error rate is that of one test at most),
    worse if either does. `spectral` is None for studies of versions that did not measure it.
    """

    primary: Equivalence
    spectral: Equivalence | None = None

    @property
    def parts(self) -> tuple[Equivalence, ...]:
        """Return the comparisons that were made."""
        return (self.primary,) if self.spectral is None else (self.primary, self.spectral)

    @property
    def verdict(self) -> Verdict:
        """Return the joint verdict."""
        verdicts = {part.verdict for part in self.parts}
        if "worse" in verdicts:
            return "worse"
        return "undecided" if "undecided" in verdicts else "as good"

    @property
    def excess(self) -> float:
        """Return the larger upper end in units of its margin: at most 1 is as good."""
        return max(part.change.high / part.margin for part in self.parts)

    @property
    def needed(self) -> int | None:
        """Return the samples that would settle it as "as good" if the changes stay, or None if none would."""
        each = [part.needed for part in self.parts]
        return None if None in each else max(count for count in each if count is not None)

    def within(self, budget: float) -> Judgment:
        """Return the same judgment with a primary margin of `budget`; the other margin grows in proportion."""
        factor = budget / self.primary.margin
        parts = (replace(part, margin=factor * part.margin) for part in self.parts)
        return Judgment(*parts)

    def describe(self) -> str:
        """Describe both readings of both distances."""
        text = self.primary.describe()
        return text if self.spectral is None else f"{text}; spectrum {self.spectral.describe()}"


def samples_needed(change: Interval, num: int, margin: float = MARGIN) -> int | None:
    """Return the sample count at which the upper end of `change`, known from `num`, would reach `margin`.

    Intervals shrink with the square root of the number. Returns None if the change itself exceeds the margin,
    so that more samples would only confirm it.
    """
    half, room = change.high - change.value, margin - change.value
    if half <= room:
        return num
    return math.ceil(num * (half / room) ** 2) if room > 0 else None


def judge(
    samples: np.ndarray,
    reference: np.ndarray,
    heldout: np.ndarray,
    *,
    blocks: np.ndarray | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Judgment:
    """Compare samples (n, N, M) with reference samples on the same noise by distances to held-out (m, N, M).

    All are standardized. Sample i of both sets starts from the same noise and is resampled together with its
    partner; `blocks` labels dependent held-out series. Raises LabError for sets that do not match.
    """
    samples, reference = check_pair(samples, reference)
    if len(samples) != len(reference):
        raise LabError(
            f"common noise pairs samples one to one, but there are {len(samples)} and {len(reference)}"
        )
    picks = resample_picks(len(samples), len(heldout), resamples=resamples, seed=seed, blocks=blocks)

    def compare(metric: Metric) -> tuple[float, float, np.ndarray, np.ndarray]:
        own, theirs = metric(samples, heldout), metric(reference, heldout)
        return own, theirs, metric.values(samples, heldout, picks), metric.values(reference, heldout, picks)

    num = len(samples)
    return Judgment(
        primary_change(*compare(PRIMARY_METRIC), num=num),
        spectral_change(*compare(LOG_SPECTRAL_DISTANCE), num=num),
    )


Replicates = Sequence[float] | np.ndarray


def primary_change(
    distance: float, reference: float, replicates: Replicates, reference_replicates: Replicates, *, num: int
) -> Equivalence:
    """Return the relative change of two distances from their values on shared bootstrap resamples."""
    if not reference > 0:
        raise LabError(
            "the reference is at distance 0 from the held-out data: no change can be told against it"
        )
    change = distance - reference
    low, high = centered_interval(change, np.subtract(replicates, reference_replicates))
    return Equivalence(Interval(change / reference, low / reference, high / reference), num)


def spectral_change(
    distance: float, reference: float, replicates: Replicates, reference_replicates: Replicates, *, num: int
) -> Equivalence:
    """Return the change in dB of two log-spectral distances from their values on shared bootstrap resamples."""
    change = distance - reference
    low, high = centered_interval(change, np.subtract(replicates, reference_replicates))
    return Equivalence(Interval(change, low, high), num, SPECTRAL_MARGIN, "dB")


def judgment_over_seeds(each: Sequence[Judgment]) -> Judgment:
    """Combine the judgments of several seeds, each distance by `equivalence_over_seeds`."""
    if not each:
        raise LabError("no seed was measured")
    parts = zip(*(judgment.parts for judgment in each), strict=True)
    return Judgment(*map(equivalence_over_seeds, parts))


def equivalence_over_seeds(each: Sequence[Equivalence]) -> Equivalence:
    """Combine equivalences of several seeds: Student's interval of the mean change, from three seeds on.

    With fewer seeds, it takes the mean with mean half-widths, shrunk as independent seeds allow.
    """
    num, changes = sum(e.num for e in each), [e.change for e in each]
    if len(each) >= FEWEST_SEEDS:
        spread = seed_spread([change.value for change in changes])
        return replace(each[0], change=Interval(spread.value, spread.low, spread.high), num=num)
    value = float(np.mean([change.value for change in changes]))
    below, above = (
        float(np.mean([abs(getattr(change, end) - change.value) for change in changes]))
        / math.sqrt(len(each))
        for end in ("low", "high")
    )
    return replace(each[0], change=Interval(value, value - below, value + above), num=num)


def log_interval(values: Sequence[float]) -> Interval:
    """Return the geometric mean of positive values with Student's 95% interval of the mean logarithm.

    For errors, which range over orders of magnitude and are never negative. Needs at least two values.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or len(x) < 2 or not (x > 0).all() or not np.isfinite(x).all():
        raise LabError(f"a log interval needs at least 2 finite values above 0, got {list(values)}")
    logs = np.log(x)
    half = stats.t.ppf(0.975, len(x) - 1) * logs.std(ddof=1) / math.sqrt(len(x))
    return Interval(*(float(np.exp(logs.mean() + shift)) for shift in (0.0, -half, half)))


@dataclass(frozen=True)
class TwinError:
    """The distance of samples from their uncached twins on the same noise.

    `pooled`, `median`, and `q90` are relative L2 in data units: over all samples at once, of the median
    sample, and of the sample at the 90% quantile. `flips` is the share of samples that ended elsewhere (see
    `FLIP`). For tokens first..last-1, `bands` holds the root mean square error in standard deviations of each
    token over real data: whitened, so that weak high frequencies have the same weight as strong ones. All
    have 95% bootstrap intervals over samples.
    """

    pooled: Interval
    median: Interval
    q90: Interval
    flips: Interval
    bands: tuple[tuple[int, int, Interval], ...]


def twin_error(
    samples: np.ndarray,
    twin: np.ndarray,
    real: np.ndarray,
    *,
    edges: Sequence[int] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> TwinError:
    """Compare samples (n, N, M) with their twins; `real` (m, N, M) gives the variance of each token.

    `edges` are the first tokens of all bands but the first; by default those of `spectral.band_edges`.
    """
    samples, twin = check_pair(samples, twin)
    each = relative_l2_per_sample(samples, twin)
    error, energy = (np.square(x).sum((1, 2)) for x in (samples - twin, twin))
    white = whitened_errors(samples, twin, real)
    tokens = white.shape[1]
    inner = band_edges(tokens) if edges is None else edges
    cuts = sorted({0, *(int(edge) for edge in inner if 0 < edge < tokens), tokens})
    rng = np.random.default_rng(seed)
    picks = [np.arange(len(each)), *(rng.integers(0, len(each), len(each)) for _ in range(resamples))]

    def over(statistic: object) -> Interval:
        values = [float(statistic(pick)) for pick in picks]  # type: ignore[operator]
        low, high = np.quantile(values[1:], [0.025, 0.975])
        return Interval(values[0], float(low), float(high))

    return TwinError(
        pooled=over(lambda i: np.sqrt(error[i].sum() / max(energy[i].sum(), 1e-300))),
        median=over(lambda i: np.median(each[i])),
        q90=over(lambda i: np.quantile(each[i], 0.9)),
        flips=over(lambda i: np.mean(each[i] > FLIP)),
        bands=tuple(
            (a, b, over(lambda i, a=a, b=b: np.sqrt(white[i, a:b].mean())))
            for a, b in itertools.pairwise(cuts)
        ),
    )


def whitened_errors(samples: np.ndarray, twin: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Return (n, tokens) mean squared errors of coordinates over their variance in `real` (m, N, M)."""
    mask = coordinate_mask(samples.shape[1], samples.shape[2])
    variance = np.where(mask, tokenize(np.asarray(real, dtype=np.float64)).var(0), 1.0)
    variance = np.maximum(variance, 1e-12 * variance[mask].max())
    error = np.square(tokenize(samples - twin)) / variance * mask
    return error.sum(-1) / mask.sum(-1)
