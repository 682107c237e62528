"""Summarize the distances of all shards of an evaluation as estimates over repeats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from e2crf_core.evaluation.anchors import no_network
from e2crf_core.evaluation.shards import Shard, Task, read_shards
from e2crf_core.evaluation.tables import (
    STABLE_WITHIN,
    Estimate,
    Evaluation,
    TableRow,
    reference_row,
    spanned,
)
from e2crf_core.io.provenance import Provenance
from e2crf_core.models.heldout import heldout_blocks
from e2crf_core.progress import Progress, silent
from e2crf_core.quality.distances import Metric, relative_l2
from e2crf_core.quality.intervals import StableSize, measure, real_floor, seed_spread, stable_size
from e2crf_core.quality.learned_scores import NAMES, learned_scores
from e2crf_core.quality.protocol import FEWEST_SEEDS, judge, judgment_over_seeds, protocol_metrics

PAIRED_RESAMPLES = 100
_STABLE_DIRECTIONS, _STABLE_MOST, _STABLE_RESAMPLES = 200, 4096, 40
Sets = dict[str, list[np.ndarray]]


def summarize(
    task: Task, out: Path, progress: Progress = silent, learned: Progress | None = None
) -> Evaluation:
    """Measure all shards in `out`: distances for every repeat, then estimates over repeats.

    `learned`, a progress callback, also requests the learned scores, which take seconds to minutes per row.
    """
    data = task.dataset
    held, train = data.standardize(data.x[data.heldout]), data.standardize(data.x[data.train])
    metrics = protocol_metrics(len(data.channels), directions=task.directions)
    shards = {name: read_shards(out, task, name) for name in task.names}
    sets = {name: [data.standardize(shard.series) for shard in shards[name]] for name in task.names}
    reference = reference_row(task.configs)
    blocks = heldout_blocks(data)
    rows = []
    for place, name in enumerate(task.names):
        estimates = {}
        for metric in metrics:
            estimates[metric.name] = _estimate(metric, sets[name], held, blocks)
            progress(place * len(metrics) + len(estimates), len(task.names) * len(metrics))
        against = judgment_over_seeds(
            [
                judge(a, b, held, blocks=blocks, resamples=PAIRED_RESAMPLES, seed=k)
                for k, (a, b) in enumerate(zip(sets[name], sets[reference], strict=True))
            ]
        )
        rows.append(replace(_row(task, name, shards, sets, reference, estimates), against=against))
    evaluation = Evaluation(
        checkpoint=task.model.name,
        dataset=data.name,
        digest=task.model.digest(),
        num=task.num,
        repeats=task.repeats,
        seed=task.seed,
        batch=task.batch,
        heldout=len(held),
        machine={**shards[reference][0].machine, "device": str(task.model.device)},
        reference=reference,
        interval="seeds" if task.repeats >= FEWEST_SEEDS else "bootstrap",
        titles={m.name: m.title for m in metrics},
        units={m.name: m.unit for m in metrics},
        floors={m.name: real_floor(held, task.num, m, train=train) for m in metrics},
        rows=tuple(rows),
        provenance=Provenance.now(
            data=data.digest,
            checkpoint=task.model.digest(),
            seeds=range(task.seed, task.seed + task.repeats),
            batch=task.batch,
        ),
        anchors={"no network": _no_network(task, held, metrics)},
        stable=_stable(task, np.concatenate(sets[reference])[:_STABLE_MOST], held),
    )
    return evaluation if learned is None else _with_learned(evaluation, sets, held, train, blocks, learned)


def _no_network(task: Task, held: np.ndarray, metrics: Sequence[Metric]) -> dict[str, float]:
    """Distances of as many samples of the model without its network: what every row must beat."""
    series = task.dataset.standardize(no_network(task.model, task.num, task.seed))
    return {metric.name: metric(series, held) for metric in metrics}


def _row(
    task: Task,
    name: str,
    shards: dict[str, list[Shard]],
    sets: Sets,
    reference: str,
    estimates: dict[str, Estimate],
) -> TableRow:
    """Return one row of the table, its cost compared with the reference and with its uncached twin."""
    config, parts = task.configs[name], shards[name]
    seconds = [shard.seconds for shard in parts]
    twins = {c.plan: n for n, c in task.configs.items() if c.policy is None}
    twin = twins.get(config.plan) if config.policy is not None else None
    speedup_twin = distance = None
    if twin is not None:
        speedup_twin = spanned([s.seconds / own for s, own in zip(shards[twin], seconds, strict=True)])
        errors = [relative_l2(a, b) for a, b in zip(sets[name], sets[twin], strict=True)]
        distance = _over_seeds(errors, None)
    return TableRow(
        name=name,
        config=config,
        seconds=spanned(seconds),
        token_share=float(np.mean([s.token_share for s in parts])),
        flop_share=float(np.mean([s.flop_share for s in parts])),
        flops=float(np.mean([s.flops for s in parts])),
        metrics=estimates,
        speedup=spanned([s.seconds / own for s, own in zip(shards[reference], seconds, strict=True)]),
        speedup_twin=speedup_twin,
        relative_l2=distance,
        sessions=len({s.session for s in parts}),
    )


def _with_learned(
    evaluation: Evaluation,
    sets: Sets,
    held: np.ndarray,
    train: np.ndarray,
    blocks: np.ndarray,
    progress: Progress,
) -> Evaluation:
    """Return the evaluation with the learned scores added to its distances."""
    learned = learned_scores(list(sets.values()), held, train, blocks=blocks, progress=progress)
    rows = []
    for row, scores in zip(evaluation.rows, learned.scores, strict=True):
        added = {}
        for name in NAMES:
            first = scores[0][name]
            half = first.value - first.low, first.high - first.value
            added[name] = _over_seeds([measured[name].value for measured in scores], half)
        rows.append(replace(row, metrics=row.metrics | added))
    return replace(
        evaluation,
        rows=tuple(rows),
        floors=evaluation.floors | learned.floors,
        titles=evaluation.titles | {name: title for name, (title, _) in NAMES.items()},
        units=evaluation.units | {name: unit for name, (_, unit) in NAMES.items()},
    )


def _stable(task: Task, pool: np.ndarray, held: np.ndarray) -> dict[str, StableSize]:
    """Return how many samples of the reference make each distance stable."""
    cheap = protocol_metrics(len(task.dataset.channels), directions=min(task.directions, _STABLE_DIRECTIONS))
    return {
        m.name: stable_size(pool, held, m, within=STABLE_WITHIN, resamples=_STABLE_RESAMPLES) for m in cheap
    }


def _over_seeds(values: list[float], half: tuple[float, float] | None) -> Estimate:
    """Return Student's interval of the mean if there are enough seeds, else the given interval."""
    if len(values) >= FEWEST_SEEDS:
        spread = seed_spread(values)
        return Estimate(spread.value, spread.low, spread.high, tuple(values))
    mean = float(np.mean(values))
    below, above = half or (mean - min(values), max(values) - mean)
    return Estimate(mean, mean - below, mean + above, tuple(values))


def _estimate(metric: Metric, sets: list[np.ndarray], held: np.ndarray, blocks: np.ndarray) -> Estimate:
    """Estimate over seeds; with too few, the bootstrap interval of the first repeat is used."""
    values = [metric(x, held) for x in sets]
    if len(values) >= FEWEST_SEEDS:
        return _over_seeds(values, None)
    first = measure(sets[0], held, metric, resamples=100, floor_repeats=1, blocks=blocks)
    return _over_seeds(values, (first.value - first.low, first.high - first.value))
