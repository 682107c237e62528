"""Compare a table of sampler configurations on common noise; an interrupted evaluation resumes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from e2crf_core.errors import LabError
from e2crf_core.evaluation.results import write_results
from e2crf_core.evaluation.shards import Task, run_shards
from e2crf_core.evaluation.summary import summarize
from e2crf_core.evaluation.tables import Evaluation
from e2crf_core.io.locks import claimed
from e2crf_core.progress import Progress, silent
from e2crf_core.quality.learned_scores import FEWEST


def evaluate(
    task: Task,
    out: Path,
    *,
    learned: bool = False,
    progress: Callable[[str], Progress] = lambda label: silent,
) -> Evaluation:
    """Run what is missing in `out`, measure everything, and write the results.

    `progress(label)` returns the progress callback of each part. `learned` adds the learned scores; raises
    LabError if there will be too few samples for them.
    """
    if learned and task.num < FEWEST:
        raise LabError(f"num {task.num}: learned scores need at least {FEWEST} samples", field="num")
    with claimed(out, "evaluation"):
        run_shards(task, out, progress(f"evaluating {task.model.name}, steps"))
        scores = progress("learned scores, per mille") if learned else None
        evaluation = summarize(task, out, progress("measuring"), scores)
        write_results(evaluation, out)
    return evaluation
