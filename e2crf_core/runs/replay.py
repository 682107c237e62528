"""Replay a recorded run: yield its steps as events, or run it again bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np

from e2crf_core.caching.events import StepEvent
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.models.checkpoints import load_checkpoint
from e2crf_core.progress import Progress, silent
from e2crf_core.runs.archive import Archive
from e2crf_core.sampling.observing import Observer
from e2crf_core.sampling.recorder import Recorder
from e2crf_core.sampling.sampler import Sampler

MEASURED_TIME = frozenset({"seconds"})
"""Columns that no rerun can repeat."""


def events(archive: Archive) -> Iterator[StepEvent]:
    """Yield the recorded steps one by one, as the sampler yielded them."""
    for row in range(archive.recorder.count):
        yield archive.recorder.event(row)


def check_same_weights(archive: Archive, model: ScoreModel) -> None:
    """Raise LabError unless `model` has the weights that made the run."""
    if not model.has_digest(archive.model["digest"]):
        raise LabError(
            f"checkpoint {archive.spec.checkpoint!r} has changed since this run was made: its weights differ",
            field="checkpoint",
        )


def rerun(
    archive: Archive,
    *,
    load: Callable[[str, str], ScoreModel] = load_checkpoint,
    progress: Progress = silent,
) -> tuple[Recorder, np.ndarray]:
    """Run it again, each policy from its original step; return the new record and samples (num, N, M).

    Raises LabError if the checkpoint is not available or is not the one that made the run.
    """
    spec, old = archive.spec, archive.recorder
    model = load(spec.checkpoint, spec.device)
    check_same_weights(archive, model)
    sampler = Sampler.of(model, spec.config)
    recorder = Recorder(spec.config.steps, model.n, model.length, len(model.channels), spec.num)
    recorder.policies.extend(old.policies)
    observer = Observer()
    loop = sampler.steps(spec.num, spec.seed, policy=archive.policy_at)
    for i, step in enumerate(islice(loop, old.count)):
        version = [v for first, v, _ in old.policies if first <= i][-1]
        recorder.append(
            observer.record(step.problem, step.before, step.info, 0.0, spec.watch, version, step.after)
        )
        progress(i + 1, old.count)
    return recorder, model.series(step.after.z.cpu().numpy())


def differences(old: Recorder, new: Recorder) -> list[str]:
    """Return the columns in which two records of a run differ in any bit; times are not compared."""
    return [
        name
        for name in old.names
        if name not in MEASURED_TIME and old.column(name).tobytes() != new.column(name).tobytes()
    ]
