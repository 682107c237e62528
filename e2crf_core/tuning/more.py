"""Measure one trial and the reference on more samples than a study's own, where those cannot decide."""

from __future__ import annotations

from e2crf_core.errors import LabError
from e2crf_core.progress import Cancel, Progress, never, silent
from e2crf_core.tuning.measure import MORE, Bench, Point, Rung, with_more
from e2crf_core.tuning.stored import read_attributes, set_attribute
from e2crf_core.tuning.study import Study

MOST = 4096


def measure_more(
    study: Study, number: int, num: int, *, cancelled: Cancel = never, progress: Progress = silent
) -> None:
    """Measure a finished trial and the reference on `num` samples, rounded up to whole batches, and keep both.

    `progress` counts batches of both. Raises LabError for a trial that cannot be measured so, Cancelled when
    cancelled; then nothing is kept.
    """
    point = next((p for p in study.points if p.number == number and p.complete), None)
    reference, batch = study.reference, study.spec.batch
    if point is None or reference is None:
        raise LabError(f"the study has no finished trial {number}")
    if not study.spec.num < num <= MOST:
        raise LabError(f"{num} samples: more than {study.spec.num} and at most {MOST} are expected")
    batches = -(-num // batch)

    def rung(place: int, one: Point) -> Rung:
        return extended(
            study.bench,
            one,
            batches,
            cancelled,
            lambda done, _: progress(place * batches + done, 2 * batches),
        )

    measured = {one.number: rung(place, one) for place, one in enumerate((reference, point))}
    known = dict(read_attributes(study.study).get(MORE, {}))
    known |= {str(trial): one.to_json() for trial, one in measured.items()}
    set_attribute(study.study, MORE, known)
    study.reference, *study.points = [with_more(one, {MORE: known}) for one in (reference, *study.points)]


def extended(bench: Bench, point: Point, batches: int, cancelled: Cancel, progress: Progress) -> Rung:
    """Return the measurements of a point's setting on so many batches; the first ones are those of its trial."""
    sampler, spec, parts = bench.sampler(point.setting), bench.spec, []
    for k in range(batches):
        parts.append(sampler.draw(spec.batch, spec.seed, k * spec.batch, cancelled=cancelled))
        progress(k + 1, batches)
    return bench.rung(point.setting, parts)
