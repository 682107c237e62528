"""A study, the advice on one of its points, or a policy card, in a process of its own.

`python -m pages.ui.tune.study_worker JOB --parent PID`, JOB being a folder `jobs/NAME` of a study.
Each kind of job leaves what it found in the study's folder, where the command line finds it as well.
"""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from e2crf_core.data.datasets import load_dataset
from e2crf_core.deploy.policy_card import make_card, save_card
from e2crf_core.errors import Cancelled, LabError
from e2crf_core.models.checkpoints import load_checkpoint
from e2crf_core.tuning.choice import pick
from e2crf_core.tuning.measure import Point, StudySpec
from e2crf_core.tuning.record import StudyReader, begun
from e2crf_core.tuning.report import save_report
from e2crf_core.tuning.space import SearchSpace, measure_ranges
from e2crf_core.tuning.study import Study
from e2crf_core.tuning.warnings import Caution, Inert, advise
from pages.ui.jobs.processes import write_json
from pages.ui.jobs.worker import Stopped, Worker, main

RESULT = "result.json"


def advice_job(number: int) -> str:
    """Name of the job that measures the warnings of a trial."""
    return f"advice-{number}"


class StudyWorker(Worker):
    """Searches, advises or measures a card, as `job.json` says."""

    @property
    def folder(self) -> Path:
        """The study's own folder."""
        return self.job.parents[1]

    def run(self, order: dict[str, Any]) -> None:
        """See Worker."""
        tasks = {"search": self.search, "advice": self.advice, "card": self.card}
        task = tasks.get(str(order.get("task")))
        if task is None:
            raise LabError(f"the job file {self.job / 'job.json'} cannot be read")
        task(order)

    def cancelled(self) -> bool:
        """What the core asks at every step; keeps the heart beating."""
        self.say_now_and_then()
        return not self.wanted

    def open(self, order: dict[str, Any], minutes: float) -> Study:
        """The study, new or as it was left."""
        model = load_checkpoint(order["checkpoint"])
        spec = StudySpec(**order["spec"])
        chosen: dict[str, Any] = {name: tuple(value) for name, value in order["space"].items()}
        known = StudyReader(self.folder).read() if begun(self.folder) else None
        # A study that is there keeps the ranges it was begun with.
        ranges = measure_ranges(model) if known is None else known.space.ranges
        space = SearchSpace(model.n, ranges=ranges, **chosen)
        return Study(
            model,
            load_dataset(model.dataset),
            self.folder,
            spec,
            space=space,
            minutes=minutes,
            reference_steps=order.get("reference_steps"),
        )

    def search(self, order: dict[str, Any]) -> None:
        """Measure trials until the budget is spent; then advise on the point that `pick` names."""
        minutes = float(order["minutes"])
        self.say(minutes=minutes)
        study = self.open(order, minutes)
        begin, before = time.monotonic(), study.spent

        def cancelled() -> bool:
            status = "reference" if study.reference is None else "searching"
            self.say_now_and_then(status=status, spent=before + time.monotonic() - begin)
            return not self.wanted

        self.say(status="searching" if study.reference else "reference", spent=before)
        for _ in study.run(cancelled):
            self.say(status="searching", spent=study.spent)
        self.say(spent=study.spent)
        if not self.wanted:
            raise Stopped
        if study.reference is None:
            raise LabError(
                "The budget ended before the uncached run was measured: resume it with more minutes."
            )
        choice = pick(
            [study.reference, *study.points],
            study.reference,
            cost=study.spec.cost,
            quality=study.spec.quality,
        )
        self.say(status="advising", share=0.0)
        inert, told = self.advise(study, choice.point)
        save_report(study, choice, inert, told)
        keep_advice(self.job.parent / advice_job(choice.point.number), inert, told)
        self.say(status="done")

    def advice(self, order: dict[str, Any]) -> None:
        """Measure what the warnings of one point need."""
        study = self.open(order, 1.0)
        try:
            known = [study.reference, *study.points] if study.reference else []
            point = next((p for p in known if p.number == order["trial"]), None)
            if point is None:
                raise LabError(f"the study has no trial {order['trial']}")
            self.say(status="advising", share=0.0)
            keep_advice(self.job, *self.advise(study, point))
        finally:
            study.release()
        self.say(status="done")

    def advise(self, study: Study, point: Point) -> tuple[list[Inert], list[Caution]]:
        """Advice with progress. Raises Stopped."""
        try:
            return advise(study, point, self.cancelled, lambda done, total: self.say(share=done / total))
        except Cancelled:
            raise Stopped from None

    def card(self, order: dict[str, Any]) -> None:
        """Measure a policy on fresh noise and write its card."""
        record = StudyReader(self.folder).read()
        point = record.point(order["trial"]) if record is not None else None
        if point is None or point.setting.policy is None:
            raise LabError(f"trial {order['trial']} has no policy to deploy")
        setting, policy, model = point.setting, point.setting.policy, load_checkpoint(order["checkpoint"])

        def progress(done: int, total: int) -> None:
            self.say(status="measuring", share=done / total)
            if not self.wanted:
                raise Stopped

        self.say(status="measuring", share=0.0)
        card = make_card(
            order["checkpoint"],
            model,
            policy,
            steps=setting.steps,
            solver=setting.solver,
            grid=setting.grid,
            batch=order["batch"],
            num=order["num"],
            seed=order["seed"],
            progress=progress,
        )
        save_card(card, card_folder(self.folder, order["trial"]))
        self.say(status="done", share=1.0)


def card_folder(study: Path, trial: int) -> Path:
    """Where the card of a trial is kept."""
    return study / "cards" / f"trial-{trial}"


def keep_advice(job: Path, inert: list[Inert], told: list[Caution]) -> None:
    """Write what was found where the page looks for it."""
    write_json(job / RESULT, {"inert": [asdict(i) for i in inert], "warnings": [asdict(t) for t in told]})


if __name__ == "__main__":
    main(StudyWorker)
