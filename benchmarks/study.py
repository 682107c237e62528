"""Run a study part by part: common arguments, progress with the time left, and parts that a stopped run keeps."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from e2crf_core import Dataset, ScoreModel, load_checkpoint, load_dataset
from e2crf_core.commands.terminal import ProgressLine
from e2crf_core.io.files import replace_file
from e2crf_core.io.provenance import Provenance
from e2crf_core.progress import Progress
from e2crf_core.questions.heldout import Answers, Question, paired_ratio, resamples

HERE = Path(__file__).resolve().parent
QUESTIONS = {"impute the middle quarter": (3 / 8, 5 / 8), "forecast the last quarter": (3 / 4, 1.0)}
_FINE = 1000


def study_arguments(
    doc: str | None, name: str, *, windows: int, datasets: Sequence[str], num: int | None = None
) -> argparse.ArgumentParser:
    """Return a parser with what all studies of questions take."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=windows, help="held-out windows of each data set")
    if num is not None:
        parser.add_argument("--num", type=int, default=num, help="draws for each window")
    parser.add_argument("--datasets", nargs="+", default=list(datasets))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / "results" / f"{name}_cpu.json")
    parser.add_argument(
        "--work", type=Path, default=Path("artifacts") / name, help="where finished parts are kept"
    )
    return parser


@dataclass
class Parts:
    """The parts of a study of one data set: plain JSON values by name; a finished one is not measured again.

    Parts of other settings, data or weights (`identity`) are dropped.
    """

    path: Path
    identity: Mapping[str, Any]
    line: ProgressLine
    total: int = 0
    done: int = 0
    values: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def open(path: Path, identity: Mapping[str, Any], label: str) -> Parts:
        """Read the parts that an earlier run kept."""
        parts = Parts(path, json.loads(json.dumps(identity)), ProgressLine(label))
        if path.is_file():
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored["identity"] == parts.identity:
                parts.values = stored["parts"]
        return parts

    def expect(self, names: Sequence[str], more: int = 0) -> None:
        """State which parts come, and how many `more` whose names are not known yet."""
        self.total = sum(name not in self.values for name in names) + more

    def get(self, name: str, work: Callable[[Progress], Any]) -> Any:
        """Return a part, measured now unless an earlier run did."""
        if name in self.values:
            return self.values[name]

        def within(done: int, total: int) -> None:
            self.line(
                min(_FINE * self.total, int(_FINE * (self.done + done / max(1, total)))), _FINE * self.total
            )

        self.values[name] = json.loads(json.dumps(work(within)))
        self.done += 1
        self.total = max(self.total, self.done)
        within(0, 1)
        text = json.dumps({"identity": self.identity, "parts": self.values})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self.path, lambda path: path.write_text(text))
        return self.values[name]

    def answers(self, name: str, make: Callable[[Progress], Answers]) -> Answers:
        """Return a part that holds answers."""

        def work(progress: Progress) -> dict[str, Any]:
            made = make(progress)
            return {"crps": made.crps.tolist(), "inside": made.inside.tolist(), "forwards": made.forwards}

        stored = self.get(name, work)
        return Answers(np.array(stored["crps"]), np.array(stored["inside"]), stored["forwards"])

    def drawn(self, name: str, question: Question, draws: int, **drawing: Any) -> Answers:
        """Return a part that holds drawn answers to a question."""
        return self.answers(name, lambda progress: question.drawn(draws, progress=progress, **drawing))


def run(
    arguments: argparse.Namespace,
    study: Callable[[str, ScoreModel, Dataset, Parts], dict[str, Any]],
    *,
    settings: Mapping[str, Any],
    seeds: Sequence[int],
    batch: int = 64,
    also: Mapping[str, Any] | None = None,
) -> None:
    """Study each data set and write the results after each; those of other data sets in the file are kept.

    Parts are taken from an earlier run if its `settings`, seeds, and what `also` holds were the same.
    """
    torch.set_num_threads(arguments.threads)
    results: dict[str, Any] = {**settings, "datasets": {}}
    if arguments.out.is_file():
        before = json.loads(arguments.out.read_text(encoding="utf-8"))
        if {key: value for key, value in before.items() if key != "datasets"} == dict(settings):
            results = before
        elif others := sorted(set(before["datasets"]) - set(arguments.datasets)):
            raise SystemExit(
                f"{arguments.out} holds {', '.join(others)} with other settings: choose another --out"
            )
    for name in arguments.datasets:
        model, data = load_checkpoint(name, "cpu"), load_dataset(name)
        origin = Provenance.now(data=data.digest, checkpoint=model.digest(), seeds=seeds, batch=batch)
        identity = {
            **settings,
            **(also or {}),
            "seeds": list(seeds),
            "data": origin.data,
            "checkpoint": origin.checkpoint,
        }
        parts = Parts.open(arguments.work / f"{name}.json", identity, name)
        results["datasets"][name] = {**study(name, model, data, parts), "provenance": origin.to_json()}
        text = json.dumps(results, indent=1) + "\n"
        replace_file(arguments.out, lambda path, text=text: path.write_text(text))


def asked_about(model: ScoreModel, data: Dataset, question: str, index: np.ndarray) -> Question:
    """Ask one of QUESTIONS about windows `index`: in all channels, its range of shares of the window is missing."""
    place = np.arange(model.length) / model.length
    first, last = QUESTIONS[question]
    known = np.repeat(((place < first) | (place >= last))[:, None], len(model.channels), axis=1)
    return Question.of(model, data, known, index)


def ratio(ours: np.ndarray, theirs: np.ndarray, seed: int) -> dict[str, float] | None:
    """Return the paired ratio of mean CRPS (W,) and (W,) with its interval, or None where `theirs` can be 0."""
    made = paired_ratio(ours, theirs, resamples(np.random.default_rng(seed), len(ours)))
    return None if made is None else asdict(made)
