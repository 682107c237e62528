"""Score recordings of any length for anomalies, with a detector calibrated on normal recordings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.models.heldout import heldout_blocks
from e2crf_core.models.training_data import training_data
from e2crf_core.progress import Cancel, Progress, never, silent
from e2crf_core.questions.anomaly import Detector
from e2crf_core.questions.recordings import nearest_window


@dataclass(frozen=True)
class RecordingScores:
    """The scores of a recording (T, M).

    `starts` (W,) are the first steps of its windows, `totals` (W,) their scores (NaN if too little is known).
    `window` (T,) is the index of the window whose center is nearest to each step, `per_step` (T, M) the
    contribution of each value, the mean over windows that hold it; NaN for missing values.
    """

    starts: np.ndarray
    totals: np.ndarray
    window: np.ndarray
    per_step: np.ndarray


def heldout_windows(model: ScoreModel) -> tuple[np.ndarray, np.ndarray]:
    """Return the held-out windows (K, N, M) of a model's data set, in data units, and (K,) labels of overlaps.

    Raises LabError if the data set is not here or does not fit.
    """
    try:
        data = training_data(model)
    except LabError as fault:
        raise LabError(
            f"the data set {model.dataset!r} of this model cannot be read ({fault.problem})",
            field="normal",
            remedy="give a recording of normal operation to calibrate on",
        ) from None
    if data.x.shape[1:] != (model.length, len(model.channels)) or not len(data.heldout):
        raise LabError(
            f"the data set {model.dataset!r} has no held-out windows of this model's shape",
            field="normal",
            remedy="give a recording of normal operation to calibrate on",
        )
    return data.x[data.heldout], heldout_blocks(data)


def normal_windows(
    model: ScoreModel, recording: np.ndarray, hop: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Cut a recording (T, M) of normal operation, in data units, like one to be judged; return what fit takes."""
    starts, windows = cut(recording, model.length, hop or model.length)
    return windows, starts // model.length


def cut(recording: np.ndarray, length: int, hop: int) -> tuple[np.ndarray, np.ndarray]:
    """Return first steps (W,) and windows (W, N, M) of a recording (T, M), every `hop` steps.

    All steps are covered: steps beyond the end are missing values (NaN). Raises LabError unless 1 <= hop <= N.
    """
    if not 1 <= hop <= length:
        raise LabError(
            f"hop {hop}", field="hop", remedy=f"choose 1 to {length} steps, the length of a window"
        )
    total = len(recording)
    starts = np.arange(0, max(1, total - length + hop), hop)
    padded = np.full((int(starts[-1]) + length, recording.shape[1]), np.nan)
    padded[:total] = recording
    return starts, np.stack([padded[start : start + length] for start in starts])


def score_recording(
    detector: Detector,
    recording: np.ndarray,
    hop: int | None = None,
    *,
    progress: Progress = silent,
    cancelled: Cancel = never,
) -> RecordingScores:
    """Score a recording (T, M) in data units, with missing values as NaN, in windows `hop` steps apart.

    By default, windows follow one another. For training windows with a phase, such as whole days, hop and first
    step must keep it. Raises LabError for other channels or an impossible hop.
    """
    length = detector.model.length
    if recording.ndim != 2 or recording.shape[1] != len(detector.model.channels) or not len(recording):
        raise LabError(
            f"the recording has shape {recording.shape}, the model has {len(detector.model.channels)} channels",
            field="channels",
            remedy=f"give a column for each of {', '.join(detector.model.channels)}",
        )
    starts, windows = cut(np.asarray(recording, dtype=np.float64), length, hop or length)
    scores = detector.score(windows, progress=progress, cancelled=cancelled)
    total = np.zeros((int(starts[-1]) + length, recording.shape[1]))
    count = np.zeros_like(total)
    for start, part in zip(starts, scores.per_step, strict=True):
        total[start : start + length] += np.nan_to_num(part)
        count[start : start + length] += ~np.isnan(part)
    with np.errstate(invalid="ignore"):
        per_step = (total / count)[: len(recording)]
    window = nearest_window(np.arange(len(recording)), starts, length)
    return RecordingScores(starts, scores.total, window, per_step)
