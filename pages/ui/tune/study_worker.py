"""A search, the advice on a trial, or a policy card, in a separate process.

`python -m pages.ui.tune.study_worker JOB --parent PID`, where JOB is a folder `jobs/NAME` of a study. Each
kind of job leaves its result in the study's folder, where the command line finds it as well.
"""

import time
from dataclasses import replace
from pathlib import Path

from e2crf_core.deploy.html import save_card
from e2crf_core.deploy.measure import make_card
from e2crf_core.errors import Cancelled, LabError
from e2crf_core.models.checkpoints import load_checkpoint
from e2crf_core.models.training_data import training_data
from e2crf_core.tuning.choice import pick
from e2crf_core.tuning.measure import Point
from e2crf_core.tuning.more import measure_more
from e2crf_core.tuning.record import StudyReader, begun
from e2crf_core.tuning.report import save_report
from e2crf_core.tuning.space import SearchSpace, measure_ranges
from e2crf_core.tuning.study import Study
from e2crf_core.tuning.warnings import Caution, Inert, advise
from pages.ui.jobs.job import read_file
from pages.ui.jobs.worker import Worker, main
from pages.ui.tune.study_files import advice_job, card_folder, keep_advice
from pages.ui.tune.study_job import ORDER, StudyOrder


class StudyWorker(Worker):
    """A worker that searches, advises or measures a card, as `job.json` specifies."""

    @property
    def folder(self) -> Path:
        """The study's own folder."""
        return self.job.parents[1]

    def run(self) -> None:
        """Do the task that the job file names."""
        order = read_file(self.job / ORDER, StudyOrder)
        if order is None:
            raise LabError(f"the job file {self.job / ORDER} is damaged")
        tasks = {"search": self.search, "advice": self.advice, "card": self.card, "more": self.more}
        tasks[order.task](order)

    def open(self, order: StudyOrder, minutes: float) -> Study:
        """Return the study, new or resumed."""
        model = load_checkpoint(order.checkpoint)
        known = StudyReader(self.folder).read() if begun(self.folder) else None
        # An existing study keeps the ranges it was started with.
        ranges = measure_ranges(model) if known is None else known.space.ranges
        space = SearchSpace(model.n, ranges=ranges, **order.space.model_dump())
        return Study(
            model,
            training_data(model),
            self.folder,
            order.spec,
            space=space,
            minutes=minutes,
            reference_steps=order.reference_steps,
        )

    def search(self, order: StudyOrder) -> None:
        """Measure trials until the budget is spent, then advise on the point that `pick` names."""
        self.say(minutes=order.minutes)
        study = self.open(order, order.minutes)
        begin, before = time.monotonic(), study.spent

        def cancelled() -> bool:
            status = "reference" if study.reference is None else "searching"
            self.say_now_and_then(status=status, spent=before + time.monotonic() - begin)
            return self.unwanted

        self.say(status="searching" if study.reference else "reference", spent=before)
        for _ in study.run(cancelled):
            self.say(status="searching", spent=study.spent)
        self.say(spent=study.spent)
        if self.unwanted:
            raise Cancelled
        if study.reference is None:
            raise LabError(
                "the budget ended before the uncached run was measured", remedy="resume it with more minutes"
            )
        choice = pick(
            [study.reference, *study.points],
            study.reference,
            cost=study.spec.cost,
            quality=study.spec.quality,
        )
        inert, warnings = self.advise(study, choice.point)
        save_report(study, choice, inert, warnings)
        keep_advice(self.job.parent / advice_job(choice.point.number), inert, warnings)
        self.say(status="done")

    def advice(self, order: StudyOrder) -> None:
        """Measure what the warnings of one trial need."""
        study = self.open(order, 1.0)
        try:
            known = [study.reference, *study.points] if study.reference else []
            point = next((p for p in known if p.number == order.trial), None)
            if point is None:
                raise LabError(f"the study has no trial {order.trial}")
            keep_advice(self.job, *self.advise(study, point))
        finally:
            study.release()
        self.say(status="done")

    def advise(self, study: Study, point: Point) -> tuple[list[Inert], list[Caution]]:
        """Return the advice on a point. Raises Cancelled."""
        self.say(status="advising")
        return advise(study, point, self.cancelled, lambda done, total: self.say(share=done / total))

    def more(self, order: StudyOrder) -> None:
        """Measure a trial and the reference on more samples."""
        study = self.open(order, 1.0)
        self.say(status="measuring")
        try:
            measure_more(study, order.trial, order.num, cancelled=self.cancelled, progress=self.report)
        finally:
            study.release()
        self.say(status="done", share=1.0)

    def card(self, order: StudyOrder) -> None:
        """Measure a policy on fresh noise and write its card."""
        record = StudyReader(self.folder).read()
        point = record.point(order.trial) if record is not None else None
        if point is None or point.setting.policy is None:
            raise LabError(f"trial {order.trial} has no policy to deploy")
        model = load_checkpoint(order.checkpoint)
        config = replace(point.setting, batch=order.spec.batch, backend=order.backend)
        self.say(status="measuring")
        card = make_card(
            order.checkpoint,
            model,
            config,
            num=order.num,
            seed=order.seed,
            progress=self.report,
        )
        save_card(card, card_folder(self.folder, order.trial))
        self.say(status="done", share=1.0)


if __name__ == "__main__":
    main(StudyWorker)
