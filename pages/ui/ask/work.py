"""The work behind an answer: draws given what is known, on a thread, for a few visitors at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.progress import Cancel, Progress
from e2crf_core.quality.probabilistic import covered, crps
from e2crf_core.questions.answers import ASKING, impute
from e2crf_core.questions.recordings import fill
from e2crf_core.sampling.config import SamplerConfig
from pages.ui.ask.subject import Subject
from pages.ui.jobs.thread_job import ThreadJob

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Quantiles of an answer: the median, and the ends of the central 50% and 90%."""
STALE_S = 10.0
MOST = 2


@dataclass(frozen=True)
class Drawing:
    """How answers are drawn: the number of draws, the seed, the sampler, and its plan without a cache."""

    num: int = 64
    seed: int = 0
    config: SamplerConfig = ASKING
    plan: SamplerConfig = ASKING

    @property
    def text(self) -> str:
        """Return the draws and their cost in a few words."""
        steps, policy = self.config.steps, self.config.policy
        cached = policy is not None and policy.trigger != "always"
        return f"{self.num} draws of {steps} {'steps, cached' if cached else 'network calls'}"


@dataclass(frozen=True)
class Answer:
    """The quantiles (Q, T, M) of the draws at LEVELS; `known` (T, M) values equal all of them.

    Where the truth is known: `error`, the mean CRPS, and `median_error`, the mean absolute error of the
    median, both in standard deviations of the training data, and `inside`, the share in the 90% interval.
    """

    quantiles: np.ndarray
    known: np.ndarray
    error: float | None = None
    median_error: float | None = None
    inside: float | None = None


def answer(
    model: ScoreModel, subject: Subject, drawing: Drawing, progress: Progress, cancelled: Cancel
) -> Answer:
    """Draw what is missing of a subject. Raises LabError and Cancelled."""
    options: dict[str, Any] = {
        "num": drawing.num,
        "seed": drawing.seed,
        "config": drawing.config,
        "progress": progress,
        "cancelled": cancelled,
    }
    if subject.truth is None:
        filled = fill(model, subject.values, levels=LEVELS, **options)
        return Answer(filled.quantiles, filled.known)
    size = len(subject.values)
    window = np.full((model.length, subject.values.shape[1]), np.nan)
    window[-size:] = subject.values
    draws = impute(model, window, **options).draws[:, -size:].astype(np.float64)
    known = ~subject.missing
    quantiles = np.quantile(draws, LEVELS, axis=0)
    quantiles[:, known] = subject.values[known]
    place = ~np.isnan(subject.truth)
    if not place.any():
        return Answer(quantiles, known)
    scale = np.broadcast_to(model.std, place.shape)[place]
    drawn, truth = draws[:, place] / scale, subject.truth[place] / scale
    middle = quantiles[LEVELS.index(0.5)][place] / scale
    return Answer(
        quantiles,
        known,
        float(crps(drawn, truth).mean()),
        float(np.abs(middle - truth).mean()),
        float(covered(drawn, truth).mean()),
    )


class AskJobs:
    """At most `MOST` jobs of all visitors at once. Safe to call from any thread."""

    def __init__(self) -> None:
        self._jobs: list[ThreadJob[Any]] = []
        self._lock = threading.Lock()

    def start(self, work: Callable[[Progress, Cancel], Any]) -> ThreadJob[Any]:
        """Start a job that ends by itself `STALE_S` after the last visit. Raises LabError without room."""
        with self._lock:
            self._jobs = [job for job in self._jobs if job.status == "running"]
            if len(self._jobs) >= MOST:
                raise LabError(
                    f"{len(self._jobs)} questions are being answered on this server, as many as it takes",
                    remedy="wait until one is done",
                )
            job = ThreadJob(work, stale_s=STALE_S)
            self._jobs.append(job)
            return job


JOBS = AskJobs()
