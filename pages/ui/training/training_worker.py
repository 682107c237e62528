"""A training in a separate process: `python -m pages.ui.training.training_worker JOB --parent PID`.

JOB is the folder `training` of a checkpoint. A training that is stopped or left alone keeps its best weights.
"""

import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from e2crf_core.data.datasets import load_dataset
from e2crf_core.errors import Cancelled, LabError
from e2crf_core.io.files import replace_file
from e2crf_core.models.quality_card import measure_card
from e2crf_core.models.training import Trainer
from e2crf_core.sampling.sampler import Sampler
from pages.ui.jobs.job import read_file, write_file
from pages.ui.jobs.worker import HEARTBEAT_S, Worker, main
from pages.ui.training.training_job import ORDER, PREVIEWS, TrainingOrder, read_previews

REPORTS = 60
MOST_PREVIEWS = 12
EARLY_PREVIEWS = (1, 2, 4)
SHOWN = 6
DRAWING: dict[str, Any] = {"solver": "dpmpp_2m", "grid": "log_snr", "steps": 25}


class TrainingWorker(Worker):
    """One training, from its job file to its model card."""

    @property
    def folder(self) -> Path:
        """The checkpoint's own folder."""
        return self.job.parent

    def run(self) -> None:
        """Train, draw previews, save the best weights, measure them."""
        order = read_file(self.job / ORDER, TrainingOrder)
        if order is None:
            raise LabError(f"the job file {self.job / ORDER} is damaged")
        torch.set_num_threads(order.threads)
        trainer = self.prepare(order)
        self.train(trainer)
        if not trainer.history:
            self.say(status="stopped", error="It was stopped before its first report: nothing was saved.")
            return
        trainer.save()
        finished = trainer.step >= trainer.spec.steps or not self.unwanted
        if finished:
            self.measure()
        self.say(status="done" if finished else "stopped")

    def prepare(self, order: TrainingOrder) -> Trainer:
        """Return a new or resumed trainer; the number of steps is fixed at the first start."""
        spec = order.spec
        trainer = Trainer(spec, load_dataset(spec.data), self.folder)
        if not spec.steps:
            steps = trainer.spec.steps
            trainer.spec = replace(trainer.spec, evaluate_every=min(200, max(10, steps // REPORTS)))
            write_file(self.job / ORDER, TrainingOrder(spec=trainer.spec, threads=order.threads))
        return trainer

    def train(self, trainer: Trainer) -> None:
        """Train until the end or a stop; draw previews from the weights of some reports."""
        previews, steps = read_previews(self.job), trainer.spec.steps

        def tell(**changes: Any) -> None:
            self.say(step=trainer.step, share=trainer.step / steps, **changes)

        def cancelled() -> bool:
            if time.monotonic() - self.beat > HEARTBEAT_S:
                tell()
            return self.unwanted

        tell(status="training", steps=steps, history=tuple(trainer.history))
        every = max(1, steps // trainer.spec.evaluate_every // MOST_PREVIEWS)
        for event in trainer.run(cancelled):
            tell(history=tuple(trainer.history))
            number = len(trainer.history)
            if number in EARLY_PREVIEWS or number % every == 0:
                previews[event.step] = (
                    Sampler(trainer.model(), policy=None, **DRAWING).sample(SHOWN, 0).series
                )
                self.keep(previews)

    def measure(self) -> None:
        """Run the held-out protocol, which the visitor may skip."""
        self.say(status="measuring")
        with suppress(Cancelled):
            try:
                measure_card(self.folder.name, progress=self.report)
            except LabError as fault:
                # There are too few held-out windows to measure quality, but the checkpoint is valid.
                self.say(note=f"Its quality was not measured: {fault}")

    def keep(self, previews: dict[int, np.ndarray]) -> None:
        """Write the previews drawn so far: steps (P,), series (P, SHOWN, N, M)."""

        def write(path: Path) -> None:
            with open(path, "wb") as file:
                np.savez(file, steps=np.array(list(previews)), series=np.stack(list(previews.values())))

        replace_file(self.job / PREVIEWS, write)


if __name__ == "__main__":
    main(TrainingWorker)
