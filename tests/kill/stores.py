"""Write and read numbered versions of each kind of store."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from e2crf_core.caching.policy import CachePolicy
from e2crf_core.data.datasets import load_dataset
from e2crf_core.data.writing import write_dataset
from e2crf_core.deploy.card import load_policy
from e2crf_core.deploy.html import save_card
from e2crf_core.deploy.measure import make_card
from e2crf_core.evaluation.bulk import BulkShard, BulkTask, collect, run_shards
from e2crf_core.io.json_files import json_writer
from e2crf_core.io.sets import write_set
from e2crf_core.models.checkpoints import load_checkpoint, read_card, save_checkpoint
from e2crf_core.models.training_state import read_state, write_state
from e2crf_core.progress import Cancel
from e2crf_core.runs.archive import Archive, of_handle
from e2crf_core.runs.run import RunSpec
from e2crf_core.runs.store import RunStore
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.tuning.executors import Outcome, TrialJob
from e2crf_core.tuning.measure import Bench, Rung
from e2crf_core.tuning.record import StudyReader
from e2crf_core.tuning.stored import ordered_params
from tests.conftest import make_model
from tests.studies import MODEL, rung, study
from tests.tiny import ended

Report = Callable[[int], object]
"""Function that a writer calls with each version that it has saved."""
SMALL = replace(make_model(dtype=torch.float32), name="small", dataset="")


class Store(ABC):
    """A kind of store: `newest` reads the version in it, and `content` all that a flipped bit could change."""

    name: str

    def prepare(self, folder: Path) -> None:
        """Write version 0."""
        self.write(folder, 0)

    @abstractmethod
    def write(self, folder: Path, version: int) -> None: ...

    @abstractmethod
    def newest(self, folder: Path) -> int:
        """Return the version found. Raises LabError for a store that is damaged, or a mixture of versions."""

    @abstractmethod
    def content(self, folder: Path) -> Any: ...

    def write_on(self, folder: Path, report: Report) -> None:
        """Save one version after the other, without end, from the one found."""
        for version in itertools.count(self.newest(folder) + 1):
            self.write(folder, version)
            report(version)

    def start(self, folder: Path) -> None:
        """Do what the program does next in this folder: it saves again."""
        self.write(folder, self.newest(folder) + 1)


def one_version(versions: Sequence[float]) -> int:
    """Return the version that all parts have. Raises AssertionError for a mixture."""
    assert len(set(versions)) == 1, f"a mixture of versions {sorted(set(versions))} was read"
    return int(versions[0])


MEASURED = {"size": 2, "draws": 1, "solver": "dpmpp_2m", "steps": 4, "figures": {}}


class Checkpoints(Store):
    """Weights and card of one model: both are saved anew, then the card alone, as after a training."""

    name = "checkpoint"

    def write(self, folder: Path, version: int) -> None:
        mean = np.full_like(SMALL.mean, version)
        save_checkpoint(replace(SMALL, mean=mean, meta={"version": version}), folder)
        card = {**read_card(folder), "measured": {**MEASURED, "seed": version}}
        write_set(folder, {"card.json": json_writer(card)}, beside=("model.safetensors",))

    def newest(self, folder: Path) -> int:
        model = load_checkpoint(folder, "cpu")
        measured = model.meta.get("measured", {"seed": model.meta["version"]})
        return one_version([*model.mean, model.meta["version"], measured["seed"]])

    def content(self, folder: Path) -> Any:
        model = load_checkpoint(folder, "cpu")
        return model.digest(), model.meta


class Archives(Store):
    """One recorded run, with samples and note of its version."""

    name = "archive"

    def __init__(self) -> None:
        spec = RunSpec("small", 2, 3, SamplerConfig(CachePolicy(), 10, "ddim"), "cpu", watch=1, compare=False)
        self._archive = of_handle(ended(spec, SMALL))

    def write(self, folder: Path, version: int) -> None:
        result = self._archive.result
        assert result is not None
        samples = np.full_like(result.samples, version)
        archive = replace(
            self._archive, name="run", note=str(version), kept=True, result=replace(result, samples=samples)
        )
        RunStore(folder).add(archive)

    def newest(self, folder: Path) -> int:
        archive = self._read(folder)
        assert archive.result is not None
        return one_version([int(archive.note), *np.unique(archive.result.samples)])

    def content(self, folder: Path) -> Any:
        archive = self._read(folder)
        assert archive.result is not None
        columns = {name: archive.recorder.column(name).tobytes() for name in archive.recorder.names}
        return archive.note, archive.spec, archive.model, archive.result.samples.tobytes(), columns

    def _read(self, folder: Path) -> Archive:
        return RunStore(folder).get("run")


class PolicyCards(Store):
    """One deployed policy: its card, the policy alone, and the page of both."""

    name = "policy card"

    def __init__(self) -> None:
        config = SamplerConfig(CachePolicy(), steps=10, solver="ddim", batch=4)
        self._card = make_card("small", SMALL, config, num=4)

    def write(self, folder: Path, version: int) -> None:
        config, measured = self._card.config, self._card.measured
        policy = self._card.policy.replace(tau=1.0 + version)
        card = replace(
            self._card, config=replace(config, policy=policy), measured=replace(measured, seed=version)
        )
        save_card(card, folder)

    def newest(self, folder: Path) -> int:
        card = load_policy(folder / "card.json")
        alone = CachePolicy.from_json((folder / "policy.json").read_text())
        return one_version([card.measured.seed, card.policy.tau - 1, alone.tau - 1])

    def content(self, folder: Path) -> Any:
        return load_policy(folder / "card.json").to_json()


class Datasets(Store):
    """A data set, imported anew under its name."""

    name = "data set"

    def write(self, folder: Path, version: int) -> None:
        count = 20
        arrays = {
            "X": np.full((count, 12, 2), version, np.float32),
            "channels": np.array(["a", "b"]),
            "group": np.array(["g"] * count),
            "start": 12 * np.arange(count),
        }
        write_dataset(folder, arrays, {"title": str(version)})

    def newest(self, folder: Path) -> int:
        data = load_dataset(folder)
        return one_version([int(data.title), *np.unique(data.x)])

    def content(self, folder: Path) -> Any:
        data = load_dataset(folder)
        return data.digest, data.card, data.group.tolist(), data.start.tolist(), data.units


class TrainingStates(Store):
    """The state of a training, saved at every report."""

    name = "training state"

    def write(self, folder: Path, version: int) -> None:
        state = {"step": version, "weights": torch.full((4000,), float(version))}
        write_state(folder / "state.pt", state)

    def newest(self, folder: Path) -> int:
        state = self.content(folder)
        return one_version([state["step"], *set(state["weights"])])

    def content(self, folder: Path) -> Any:
        state = read_state(folder / "state.pt", torch.device("cpu"))
        assert state is not None
        return {"step": state["step"], "weights": tuple(state["weights"].tolist())}


class Instant:
    """An executor that measures a trial in no time: its quality is its number."""

    def run(self, bench: Bench, jobs: Sequence[TrialJob], cancelled: Cancel) -> Iterator[Outcome]:
        for job in jobs:
            yield job.number, (made_up(job.number),), None


def made_up(number: int) -> Rung:
    return rung(1.0 + number, 1.0 + number)


class Studies(Store):
    """A study, in which a version is the number of finished trials."""

    name = "study"

    def prepare(self, folder: Path) -> None:
        list(study(folder, reference_steps=12).run(max_trials=1))

    def write(self, folder: Path, version: int) -> None:
        list(study(folder, executor=Instant()).run(max_trials=1))

    def write_on(self, folder: Path, report: Report) -> None:
        for count, _ in enumerate(study(folder, executor=Instant()).run(), self.newest(folder) + 1):
            report(count)

    def newest(self, folder: Path) -> int:
        record = StudyReader(folder).read()
        assert record is not None and record.reference is not None
        assert all(point.rungs[0] == made_up(point.number) for point in record.points[1:])
        return len(record.points)

    def content(self, folder: Path) -> Any:
        reader = StudyReader(folder)
        record = reader.read()
        assert record is not None
        trials = reader.study.get_trials(deepcopy=False)
        return replace(record, driver=None), [ordered_params(trial) for trial in trials]


class Shards(Store):
    """An evaluation, in which a version is the number of finished shards."""

    name = "shards"
    task = BulkTask(SamplerConfig(None, 10, "ddim"), num=8000, shard=2)

    def write(self, folder: Path, version: int) -> None:
        for _ in run_shards(MODEL, self.task, folder, draw=self._draw, cancelled=lambda: True):
            pass

    def write_on(self, folder: Path, report: Report) -> None:
        for count, _ in enumerate(
            run_shards(MODEL, self.task, folder, draw=self._draw), self._count(folder) + 1
        ):
            report(count)

    def newest(self, folder: Path) -> int:
        count = self._count(folder)
        series, _ = collect(folder, replace(self.task, num=2 * count))
        assert (series[::2] == np.arange(0, 2 * count, 2)[:, None, None]).all(), "shards were mixed"
        return count

    def content(self, folder: Path) -> Any:
        series, shards = collect(folder, replace(self.task, num=2 * self._count(folder)))
        return series.tobytes(), [(s.first, s.seconds, s.rows, s.prepared) for s in shards]

    def _count(self, folder: Path) -> int:
        return len(list((folder / "shards").glob("*.npz")))

    @staticmethod
    def _draw(model: Any, task: BulkTask, missing: Sequence[int], cancelled: Cancel) -> Iterator[BulkShard]:
        for first in missing:
            yield BulkShard(first, np.full((2, 24, 2), float(first)), 0.1, 0.1, 7, 0, 1)


KINDS: tuple[type[Store], ...] = (
    Archives,
    Checkpoints,
    Datasets,
    PolicyCards,
    Shards,
    Studies,
    TrainingStates,
)
