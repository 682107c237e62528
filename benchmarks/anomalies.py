"""Does the anomaly score find what is planted? ROC areas, beside a matrix profile and the Gaussian of E3 alone.

    python -m benchmarks.anomalies [--windows 48] [--datasets ecg wind] [--out FILE.json]

Half of the held-out windows calibrate the detector; each of up to `--windows` others is scored twice, as it is and with
one anomaly in one channel: a spike of one step, a shift of the level to the window's end, or a stretch that repeats
its first value (on ecg over the second beat, which is then missing), at three sizes each. Spikes and shifts are in
standard deviations of the channel, stretches in shares of the window. A ROC area compares planted windows with normal
ones that do not overlap them; intervals are 95% bootstrap intervals over windows, drawn in blocks where they overlap.

The baseline from a library is the matrix profile (stumpy): the largest distance of a subsequence of an eighth of a
window to its nearest neighbor in training windows, in deviations of those of normal windows and over all channels, in
two forms: z-normalized, and not. It sees the same standardized values; install stumpy to run it, or pass `--no-stumpy`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks.study import Parts, run, study_arguments
from e2crf_core import Dataset, ScoreModel
from e2crf_core.models.heldout import heldout_blocks
from e2crf_core.progress import Progress
from e2crf_core.quality.interval import Interval
from e2crf_core.questions.anomaly import Detector, gaussian_part

SEED = 42_000
KINDS: dict[str, tuple[float, ...]] = {
    "spike": (0.5, 1.0, 2.0),
    "level shift": (0.25, 0.5, 1.0),
    "dropout": (0.04, 0.08, 0.16),
}
NEIGHBORS = 60
"""Training windows in which the matrix profile looks for neighbors."""
PEAK = 5
"""Steps over which the score of the worst place is smoothed."""

Method = Callable[[np.ndarray], np.ndarray]


def plant(window: np.ndarray, kind: str, size: float, rng: np.random.Generator, *, beat: bool) -> np.ndarray:
    """Return a standardized window (N, M) with one anomaly; padding at its end is left alone."""
    planted, steps = window.copy(), len(window)
    channel = int(rng.integers(window.shape[1]))
    moving = np.flatnonzero(np.diff(window[:, channel]))
    end = int(moving[-1]) + 1 if len(moving) else steps - 1
    sign = rng.choice([-1.0, 1.0])
    if kind == "spike":
        planted[rng.integers(1, end), channel] += sign * size
    elif kind == "level shift":
        planted[rng.integers(1, max(2, 3 * end // 4)) : end + 1, channel] += sign * size
    else:
        width = max(2, round(size * steps))
        start = int(rng.integers(1, max(2, end - width)))
        if beat:
            later = end // 4 + int(window[end // 4 : end, channel].argmax())
            start = min(max(1, later - width // 2), max(1, end - width))
        planted[start : start + width, channel] = planted[start - 1, channel]
    return planted


def roc_interval(normal: np.ndarray, planted: np.ndarray, blocks: np.ndarray) -> Interval:
    """Return the ROC area of scores (W,) and (W,) of the same windows with its interval over `blocks` (W,).

    It is the probability that a planted window scores higher than a normal one of another block; ties count half.
    A window is not compared with itself: a bootstrap repeats such pairs more often than they occur. Raises ValueError
    with fewer than two blocks.
    """
    _, block = np.unique(blocks, return_inverse=True)
    member = np.eye(block.max() + 1)[:, block]
    wins = (planted[:, None] > normal) + 0.5 * (planted[:, None] == normal)
    sums, pairs = member @ wins @ member.T, np.outer(member.sum(1), member.sum(1))
    np.fill_diagonal(sums, 0.0)
    np.fill_diagonal(pairs, 0.0)
    if not pairs.any():
        raise ValueError("all windows overlap: there is no other block to compare with")
    rng = np.random.default_rng(SEED)
    counts = rng.multinomial(len(member), np.full(len(member), 1 / len(member)), 1000).astype(float)
    total = np.einsum("rb,bc,rc->r", counts, pairs, counts)
    areas = (np.einsum("rb,bc,rc->r", counts, sums, counts)[total > 0]) / total[total > 0]
    low, high = np.quantile(areas, [0.025, 0.975]).tolist()
    return Interval(float(sums.sum() / pairs.sum()), low, high)


def smooth(part: np.ndarray) -> np.ndarray:
    """Return contributions (W, N, M) summed over PEAK neighboring steps."""
    total = np.cumsum(np.pad(part, ((0, 0), (PEAK // 2 + 1, PEAK // 2), (0, 0))), axis=1)
    return total[:, PEAK:] - total[:, :-PEAK]


def usual_places(normal: np.ndarray) -> dict[str, list]:
    """Return the mean and spread (N, M) of the smoothed contributions (W, N, M) of normal windows."""
    usual = smooth(normal)
    return {"mean": usual.mean(0).tolist(), "spread": usual.std(0).tolist()}


def worst_place(usual: Mapping[str, list]) -> Method:
    """Return a score of contributions (W, N, M): the highest smoothed one, in deviations of normal windows'."""
    mean, spread = np.array(usual["mean"]), np.array(usual["spread"])
    floor = 1e-3 * spread.max()
    return lambda part: ((smooth(part) - mean) / (spread + floor)).max((1, 2))


def matrix_profile(train: np.ndarray, usual: np.ndarray, *, normalized: bool) -> Method:
    """Return the score of the matrix profile against training windows (K, N, M), all standardized.

    Distances of each channel are in deviations of those of other normal windows `usual`.
    """
    import stumpy

    join = stumpy.stump if normalized else stumpy.aamp
    length = train.shape[1]
    width = max(4, length // 8)

    def strung(windows: np.ndarray) -> np.ndarray:
        """Join windows (W, N) to a series, with a missing value after each, which no subsequence crosses."""
        return np.pad(windows, ((0, 0), (0, 1)), constant_values=np.nan).ravel().astype(np.float64)

    seen: dict[tuple[int, bytes], np.ndarray] = {}

    def look(windows: np.ndarray, channel: int) -> np.ndarray:
        """Return profiles (W, N - width + 1) of one channel; what was looked up before is not joined again."""
        keys = [(channel, window[:, channel].tobytes()) for window in windows]
        new = [place for place, key in enumerate(keys) if key not in seen]
        if new:
            ours, theirs = strung(windows[new, :, channel]), strung(train[..., channel])
            found = join(ours, width, theirs, ignore_trivial=False)[:, 0].astype(np.float64)
            rows = np.append(found, np.full(width - 1, np.nan)).reshape(len(new), length + 1)
            seen.update(zip((keys[place] for place in new), rows[:, : length + 1 - width], strict=True))
        return np.stack([seen[key] for key in keys])

    def finite(windows: np.ndarray, channel: int) -> np.ndarray:
        return np.where(np.isfinite(found := look(windows, channel)), found, 0.0)

    channels = range(train.shape[2])
    scale = [(found.mean(), found.std() + 1e-9) for found in (finite(usual, c) for c in channels)]

    def score(windows: np.ndarray) -> np.ndarray:
        worst = [(finite(windows, c).max(1) - scale[c][0]) / scale[c][1] for c in channels]
        return np.max(worst, axis=0)

    return score


@dataclass(frozen=True)
class Judged:
    """The windows that are scored (W, N, M), standardized, their `blocks` (W,), and the methods that score them."""

    detector: Detector
    truth: np.ndarray
    blocks: np.ndarray
    local: Method
    profiles: Mapping[str, Method]

    def scores(self, windows: np.ndarray, progress: Progress) -> dict[str, list[float]]:
        """Return the scores (W,) of every method."""
        model = self.detector.model
        network = self.detector.score(windows * model.std + model.mean, progress=progress)
        return {
            "score": network.total.tolist(),
            "score, worst place": self.local(network.per_step).tolist(),
            "Gaussian of E3": gaussian_part(model, windows).sum((1, 2)).tolist(),
            **{key: method(windows).tolist() for key, method in self.profiles.items()},
        }


def prepare(
    model: ScoreModel, data: Dataset, count: int, parts: Parts, rng: np.random.Generator, *, library: bool
) -> Judged:
    """Calibrate on half of the held-out windows; up to `count` others will be scored."""
    place = rng.permutation(len(data.heldout))
    half = len(place) // 2
    calibration, test = np.sort(place[:half]), np.sort(place[half : half + count])
    labels = heldout_blocks(data)
    units = data.x.astype(np.float64)
    quiet = units[data.heldout[calibration]]

    def fit(progress: Progress) -> dict[str, Any]:
        made = Detector.fit(model, quiet, blocks=labels[calibration], progress=progress)
        return {"normal": made.normal.tolist(), "mean": made.mean, "independent": made.independent}

    stored = parts.get("calibration", fit)
    detector = Detector(model, 1, 0, np.array(stored["normal"]), stored["mean"], stored["independent"])
    local = parts.get(
        "usual places", lambda progress: usual_places(detector.score(quiet, progress=progress).per_step)
    )
    profiles: dict[str, Method] = {}
    if library:
        chosen = rng.choice(data.train, min(NEIGHBORS, len(data.train)), replace=False)
        near, other = (
            (units[part] - model.mean) / model.std for part in (chosen, data.heldout[calibration[:NEIGHBORS]])
        )
        profiles["matrix profile, z-normalized"] = matrix_profile(near, other, normalized=True)
        profiles["matrix profile"] = matrix_profile(near, other, normalized=False)
    truth = (units[data.heldout[test]] - model.mean) / model.std
    return Judged(detector, truth, labels[test], worst_place(local), profiles)


def study(
    name: str, model: ScoreModel, data: Dataset, parts: Parts, *, count: int, library: bool
) -> dict[str, Any]:
    """Plant every kind at every size into windows of one data set, and score them with every method."""
    anomalies = [(kind, size) for kind, sizes in KINDS.items() for size in sizes]
    parts.expect(
        ["calibration", "usual places", "as they are", *(f"{kind} {size}" for kind, size in anomalies)]
    )
    rng = np.random.default_rng(SEED)
    judged = prepare(model, data, count, parts, rng, library=library)
    threshold = judged.detector.threshold(0.05)
    normal = parts.get("as they are", partial(judged.scores, judged.truth))
    rows = []
    for kind, size in anomalies:
        windows = np.stack([plant(x, kind, size, rng, beat=name == "ecg") for x in judged.truth])
        planted = parts.get(f"{kind} {size}", partial(judged.scores, windows))
        areas = {
            key: asdict(roc_interval(np.array(normal[key]), np.array(scores), judged.blocks))
            for key, scores in planted.items()
        }
        hits = float((np.array(planted["score"]) > threshold.value).mean())
        rows.append({"kind": kind, "size": size, "roc_area": areas, "hits_at_5_percent": hits})
    return {
        "windows": len(judged.truth),
        "calibration": len(judged.detector.normal),
        "false_alarms_at_5_percent": float((np.array(normal["score"]) > threshold.value).mean()),
        "false_alarm_interval": asdict(threshold.rate),
        "anomalies": rows,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Run the study and write its results after each data set."""
    parser = study_arguments(
        __doc__, "anomalies", windows=48, datasets=["ecg", "household", "stocks", "wind"]
    )
    parser.add_argument("--no-stumpy", action="store_true", help="leave the matrix profile out")
    arguments = parser.parse_args(argv)
    library = not arguments.no_stumpy
    if library and not importlib.util.find_spec("stumpy"):
        raise SystemExit("stumpy is not installed: install it, or pass --no-stumpy")
    count = arguments.windows
    also = {"windows": count, "stumpy": library}
    run(arguments, partial(study, count=count, library=library), settings={}, also=also, seeds=[SEED])


if __name__ == "__main__":
    main()
