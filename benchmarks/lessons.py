"""Record the measurements that the lessons show.

    python -m benchmarks.lessons
    python -m benchmarks.lessons --only solver --num 4 --out /tmp/studies.json

All errors are paired on common noise: see `e2crf_core/lessons/studies.py`. Lessons that are not measured again keep
what the file holds.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from e2crf_core.commands.terminal import ProgressLine
from e2crf_core.data.datasets import load_dataset
from e2crf_core.io.json_files import read_model, write_json
from e2crf_core.lessons.record import LessonRecord, LessonStudy, measured, record_file
from e2crf_core.lessons.studies import LessonBench, Sizes
from e2crf_core.lessons.texts import CAUSAL
from e2crf_core.models.checkpoints import load_checkpoint

NETWORKS = {
    "change": ("wind", "ecg"),
    "events": ("wind",),
    "feedback": ("household",),
    "fewer": ("stocks", "ecg"),
    "causality": ("wind", CAUSAL),
    "solver": (CAUSAL, "wind"),
}
"""The networks of each lesson; the page opens on the first."""


def measure(lesson: str, name: str, sizes: Sizes) -> LessonStudy:
    """Measure one lesson on one network."""
    model = load_checkpoint(name, "cpu")
    line = ProgressLine(f"{lesson}, {name}, steps")
    return measured(lesson, name, LessonBench(model, load_dataset(model.dataset), sizes, line))


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="*", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--num", type=int, default=Sizes().num, help="samples of each study")
    parser.add_argument("--out", type=Path, default=record_file())
    arguments = parser.parse_args()
    record = read_model(LessonRecord, arguments.out) if arguments.out.is_file() else LessonRecord()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    for lesson in arguments.only:
        studies = tuple(
            measure(lesson, name, replace(Sizes(), num=arguments.num)) for name in NETWORKS[lesson]
        )
        record = LessonRecord(studies={**record.studies, lesson: studies})
        write_json(arguments.out, record.model_dump(mode="json"))


if __name__ == "__main__":
    main()
