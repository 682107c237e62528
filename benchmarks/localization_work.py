"""Run the rows of `benchmarks.localization`: errors by seed, seconds in turns, and long runs side by side."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from benchmarks.localization_reading import stored_judgment
from benchmarks.localization_rows import (
    ANCHOR,
    CONVERGED,
    KINDS,
    NO_CACHE,
    NO_NETWORK,
    PILOT_CALLS,
    SampledRow,
    pilot_rows,
)
from e2crf_core import Dataset, Sampler, ScoreModel
from e2crf_core.diffusion.spectral import tokenize
from e2crf_core.evaluation.anchors import no_network
from e2crf_core.models.heldout import heldout_blocks
from e2crf_core.progress import Progress
from e2crf_core.quality.distances import LOG_SPECTRAL_DISTANCE
from e2crf_core.quality.protocol import FLIP, PRIMARY_METRIC, judge
from e2crf_core.runs.answer import standardized, trace_run, whole_forwards
from e2crf_core.sampling.error_model import sample_errors
from e2crf_core.sampling.sampler import warm_up

DECIDING = (PRIMARY_METRIC, LOG_SPECTRAL_DISTANCE)
PILOT_SEED = 770_001
PIECES = 40
"""Parts into which a long run is divided, so that runs which are compared take turns."""


def errors_by_kind(model: ScoreModel, tokens: np.ndarray, twin: np.ndarray) -> dict[str, np.ndarray]:
    """Return (num,) relative errors of samples to a twin, for each kind of error."""
    variance = (model.v * model.mask).double().cpu().numpy()
    return {kind: sample_errors(tokens, twin, variance, detail) for kind, detail in KINDS.items()}


def pilot(
    model: ScoreModel, num: int, progress: Progress, counts: tuple[int, ...] = PILOT_CALLS
) -> dict[str, Any]:
    """Return the median error, by kind, of every way to use a solver alone, on noise of the pilot's own."""
    twin = Sampler.of(model, CONVERGED).sample(num, PILOT_SEED).tokens
    made, rows = {}, pilot_rows(model, "", counts)
    for done, row in enumerate(rows):
        errors = errors_by_kind(model, Sampler.of(model, row.config).sample(num, PILOT_SEED).tokens, twin)
        made[row.name] = {kind: float(np.median(values)) for kind, values in errors.items()}
        progress(done + 1, len(rows))
    return made


def seed_errors(
    model: ScoreModel, data: Dataset, rows: Sequence[SampledRow], num: int, seed: int, progress: Progress
) -> dict[str, Any]:
    """Return, for each row, cost in whole forwards, errors to the converged solution, and distances to real data.

    Errors are one value a sample.
    """
    heldout = data.standardize(data.x[data.heldout])
    twin = Sampler.of(model, CONVERGED).sample(num, seed).tokens

    def entry(tokens: np.ndarray, cost: float) -> dict[str, Any]:
        errors = errors_by_kind(model, tokens, twin)
        series = data.standardize(model.series(tokens))
        distances = {metric.name: metric(series, heldout) for metric in DECIDING}
        return {"cost": cost, "distances": distances} | {
            k: np.round(v, 6).tolist() for k, v in errors.items()
        }

    made = {}
    for done, row in enumerate(rows):
        if row.method == ANCHOR:
            made[row.name] = entry(twin, CONVERGED.steps)
        elif row.method == NO_NETWORK:
            made[row.name] = entry(tokenize(standardized(model, no_network(model, num, seed))), 0.0)
        else:
            trace = trace_run(Sampler.of(model, replace(row.config, batch=num)), num, seed)
            made[row.name] = entry(trace.tokens, whole_forwards(model, trace.computed))
        progress(done + 1, len(rows))
    return made


def seconds_in_turns(
    models: Mapping[str, ScoreModel], rows: Sequence[SampledRow], batch: int, rounds: int, progress: Progress
) -> dict[str, list[float]]:
    """Return each row's seconds for one batch, one value a round; in a round all rows take turns.

    Every round begins with another row.
    """
    samplers = [Sampler.of(models[row.network], replace(row.config, batch=batch)) for row in rows]
    for sampler in samplers:
        warm_up(sampler, batch, 0)
        sampler.draw(batch, 0)
    seconds: dict[str, list[float]] = {row.name: [] for row in rows}
    for turn in range(rounds):
        for place in np.roll(np.arange(len(rows)), -turn):
            seconds[rows[place].name].append(samplers[place].draw(batch, turn).seconds)
        progress(turn + 1, rounds)
    return seconds


@dataclass
class LongRun:
    """A run that advances in pieces and takes turns with others. `times` are the seconds of each whole run."""

    sampler: Sampler
    num: int
    seed: int
    repeats: int
    times: list[float]
    share: float = 0.0
    tokens: np.ndarray | None = None
    computed: np.ndarray | None = None

    def pieces(self) -> Iterator[None]:
        """Run, stopping after each piece; every repeat draws the same samples."""
        steps = self.sampler.plan.steps
        for repeat in range(self.repeats):
            self.times.append(0.0)
            computed = np.zeros((steps, self.num), np.int64)
            with torch.inference_mode():
                problem, state = self.sampler.begin(self.num, self.seed)
            begin, stop = time.perf_counter(), steps / PIECES
            for leap in self.sampler.leaps(problem, state):
                computed[state.step], state = (leap.reasons > 0).sum(1).numpy(), leap.after
                if state.step >= stop:
                    self.times[-1] += time.perf_counter() - begin
                    self.share = (repeat + state.step / steps) / self.repeats
                    yield
                    begin, stop = time.perf_counter(), state.step + steps / PIECES
            self.times[-1] += time.perf_counter() - begin
            self.tokens, self.computed = state.z.cpu().numpy(), computed


def side_by_side(runs: Sequence[LongRun], progress: Progress) -> None:
    """Run all to their ends; the one that is farthest behind, as a share of its way, goes next."""
    for run in runs:
        warm_up(run.sampler, run.num, run.seed)
    moving = {id(run): (run, run.pieces()) for run in runs}
    while moving:
        run, pieces = min(moving.values(), key=lambda each: each[0].share)
        if next(pieces, "ended") == "ended":
            del moving[id(run)]
        progress(int(1000 * sum(r.share for r in runs)), 1000 * len(runs))


def long_rows(
    model: ScoreModel, data: Dataset, rows: Sequence[SampledRow], num: int, seed: int, progress: Progress
) -> dict[str, Any]:
    """Run the paper's sampler with each policy beside the uncached one, and judge them by the protocol.

    Rows that are much faster than the uncached run are repeated, so that their speed has a range.
    """
    runs = {
        row.name: LongRun(
            Sampler.of(model, replace(row.config, batch=num)), num, seed, 2 if repeated(row) else 1, []
        )
        for row in rows
    }
    side_by_side(list(runs.values()), progress)
    plain = runs[NO_CACHE]
    assert plain.tokens is not None
    reference = data.standardize(model.series(plain.tokens))
    heldout, blocks = data.standardize(data.x[data.heldout]), heldout_blocks(data)
    made: dict[str, Any] = {}
    for row in rows:
        run = runs[row.name]
        assert run.tokens is not None and run.computed is not None
        entry = {
            "method": row.method,
            "config": row.config.to_json(),
            "seconds": run.times,
            "cost": whole_forwards(model, run.computed),
            "token_share": float(run.computed.mean() / model.n),
        }
        if row.name != NO_CACHE:
            entry |= judged(model, data, run.tokens, plain.tokens, reference, heldout, blocks)
        made[row.name] = entry
    series = data.standardize(no_network(model, num, seed))
    made[NO_NETWORK] = {
        "method": "none",
        "cost": 0.0,
        "judgment": stored_judgment(judge(series, reference, heldout, blocks=blocks)),
    }
    return made


def repeated(row: SampledRow) -> bool:
    """Return whether a row runs twice: not the uncached run, and not rules that save little."""
    policy = row.config.policy
    return policy is not None and policy.rule.depends != "states"


def judged(
    model: ScoreModel,
    data: Dataset,
    tokens: np.ndarray,
    twin: np.ndarray,
    reference: np.ndarray,
    heldout: np.ndarray,
    blocks: np.ndarray,
) -> dict[str, Any]:
    """Return a row's errors to its uncached twin and the protocol's judgment of its samples."""
    errors = errors_by_kind(model, tokens, twin)
    made: dict[str, Any] = {
        kind: {"median": float(np.median(values)), "high": float(np.quantile(values, 0.9))}
        for kind, values in errors.items()
    }
    made["flips"] = float(np.mean(errors["data"] > FLIP))
    series = data.standardize(model.series(tokens))
    made["judgment"] = stored_judgment(judge(series, reference, heldout, blocks=blocks))
    return made
