"""Measure a study's trials: here, or wherever an Executor sends them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from e2crf_core.errors import Cancelled, LabError
from e2crf_core.progress import Cancel, never
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.tuning.measure import Bench, Point, Rung, measure


@dataclass(frozen=True)
class TrialJob:
    """A trial to be measured, and the finished ones that may end it early."""

    number: int
    setting: SamplerConfig
    front: tuple[Point, ...]


Outcome = tuple[int, tuple[Rung, ...], int | None] | tuple[int, str]
"""(trial, rungs, beaten by), or (trial, why it failed)."""


class Executor(Protocol):
    """A place to measure trials: yields each outcome once known; may end early when cancelled."""

    def run(self, bench: Bench, jobs: Sequence[TrialJob], cancelled: Cancel) -> Iterator[Outcome]: ...


class Local:
    """An executor that measures trials in this process, one after the other."""

    def run(self, bench: Bench, jobs: Sequence[TrialJob], cancelled: Cancel) -> Iterator[Outcome]:
        """Measure trials as defined by Executor."""
        for job in jobs:
            try:
                yield measure_job(bench, job, cancelled)
            except Cancelled:
                return


def measure_job(bench: Bench, job: TrialJob, cancelled: Cancel = never) -> Outcome:
    """Run `measure` for a job; a setting that cannot run is an outcome, not the end of the study."""
    try:
        rungs, beaten, _ = measure(bench, job.setting, job.front, cancelled)
    except LabError as fault:
        return job.number, str(fault)
    if not all(np.isfinite(rung.quality) for rung in rungs):
        return job.number, "samples were not finite"
    return job.number, rungs, beaten
