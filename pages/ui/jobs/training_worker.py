"""A training in a process of its own: `python -m pages.ui.jobs.training_worker JOB --parent PID`.

JOB is the folder `training` of a checkpoint. Stopped early, or left alone, it keeps its best weights.
"""

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from e2crf_core.data.datasets import load_dataset
from e2crf_core.errors import LabError
from e2crf_core.io.files import replace_file
from e2crf_core.models.quality_card import measure_card
from e2crf_core.models.training import Trainer, TrainSpec
from e2crf_core.sampling.sampler import Sampler
from pages.ui.jobs.processes import write_json
from pages.ui.jobs.worker import HEARTBEAT_S, Stopped, Worker, main

REPORTS = 60
PREVIEWS = 12
SHOWN = 6
DRAWING: dict[str, Any] = {"solver": "dpmpp_2m", "grid": "log_snr", "steps": 25}


class TrainingWorker(Worker):
    """One training from its job file to its model card."""

    @property
    def folder(self) -> Path:
        """The checkpoint's own folder."""
        return self.job.parent

    def run(self, job: dict[str, Any]) -> None:
        """Train, draw now and then, save the best, measure it."""
        self.say(history=[])
        torch.set_num_threads(int(job["threads"]))
        trainer = self.prepare(TrainSpec(**job["spec"]), job)
        previews = self.previews()
        first, begin = trainer.step, time.monotonic()

        def cancelled() -> bool:
            now = time.monotonic()
            if now - self.beat > HEARTBEAT_S and trainer.step > first:
                each = (now - begin) / (trainer.step - first)
                self.say(step=trainer.step, seconds_left=each * (trainer.spec.steps - trainer.step))
            return not self.wanted

        self.say(status="training", step=trainer.step, steps=trainer.spec.steps, history=trainer.history)
        every = max(1, trainer.spec.steps // trainer.spec.evaluate_every // PREVIEWS)
        for event in trainer.run(cancelled):
            self.say(**asdict(event), history=trainer.history)
            number = len(trainer.history)
            if number in (1, 2, 4) or number % every == 0:
                series = Sampler(trainer.model(), cached=False, **DRAWING).sample(SHOWN, 0).series
                previews[event.step] = series
                self.keep(previews)
        if not trainer.history:
            self.say(status="stopped", error="It was stopped before its first report: nothing was saved.")
            return
        trainer.save()
        finished = trainer.step >= trainer.spec.steps or self.wanted
        if finished:
            self.say(status="measuring", measured=0.0)
            try:
                measure_card(self.folder.name, progress=self.measuring)
            except Stopped:
                pass
            except LabError as fault:
                # Too few held-out windows to measure by: the checkpoint is good all the same.
                self.say(note=f"Its quality was not measured: {fault}")
        self.say(status="done" if finished else "stopped")

    def prepare(self, spec: TrainSpec, job: dict[str, Any]) -> Trainer:
        """The trainer, new or as it was left; the number of steps is fixed at the first start."""
        trainer = Trainer(spec, load_dataset(spec.data), self.folder)
        if not spec.steps:
            steps = trainer.spec.steps
            trainer.spec = replace(trainer.spec, evaluate_every=min(200, max(10, steps // REPORTS)))
            write_json(self.job / "job.json", {**job, "spec": asdict(trainer.spec)})
        return trainer

    def measuring(self, done: int, total: int) -> None:
        """Progress of the held-out protocol, which may be left out."""
        if not self.wanted:
            raise Stopped
        self.say(measured=done / total)

    def previews(self) -> dict[int, np.ndarray]:
        """Series drawn earlier, by step."""
        path = self.job / "previews.npz"
        if not path.is_file():
            return {}
        with np.load(path) as stored:
            return dict(zip(stored["steps"].tolist(), stored["series"], strict=True))

    def keep(self, previews: dict[int, np.ndarray]) -> None:
        """Write the series drawn so far: steps (P,), series (P, SHOWN, N, M)."""

        def write(path: Path) -> None:
            with open(path, "wb") as file:
                np.savez(file, steps=np.array(list(previews)), series=np.stack(list(previews.values())))

        replace_file(self.job / "previews.npz", write)


if __name__ == "__main__":
    main(TrainingWorker)
