"""Record a step as it was, for almost nothing; derive what people look at only when somebody looks.

A step leaves raw blocks: noisy state z, denoised D, decisions, scores, and the input at each token's last
recompute. Series, spectra, drift, and costs follow from these, for many steps at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from e2crf_core.caching.events import StepEvent
from e2crf_core.caching.state import Problem, SamplerState, StepInfo
from e2crf_core.cuda import mark, to_host
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.network.flops import network_flops, update_flops
from e2crf_core.network.host import own_settings


class StepRecord(NamedTuple):
    """The raw blocks of one step at the watched sample, and what it says of the batch, all on the host.

    Blocks that come from a device are complete when `arrived` returns.
    `z`, `denoised`, and `last` (the network input at each token's last recompute; None before the first) have
    shape (1, n, 2M), `at` (1, n) is the step of that recompute, and `score` (1, n) the trigger's. `reasons` (b,
    n), b = 1 if all samples agree, and event intensities `r` (B,), None before the first recompute, are the
    batch's. `rows` counts the recomputed tokens, `samples` the samples with any of them.
    """

    problem: Problem
    step: int
    version: int
    seconds: float
    watch: int
    batch: int
    rows: int
    samples: int
    tau: Tensor
    reasons: Tensor
    score: Tensor
    z: Tensor
    denoised: Tensor
    last: Tensor | None
    at: Tensor | None
    r: Tensor | None
    arrived: Callable[[], None]

    @property
    def event(self) -> StepEvent:
        """Return the step as people see it."""
        values = {name: rows[0] for name, rows in derive([self]).items()}
        return StepEvent(**{name: v if v.ndim else v.item() for name, v in values.items()})


class Observer:
    """Makes the records of one run.

    Rows of the watched sample are copied: views would keep a whole batch. What only a recompute changes is copied
    after a recompute. A device is not waited for.
    """

    def __init__(self) -> None:
        self._source: tuple[Tensor, int] | None = None
        self._last: Tensor | None = None
        self._at: Tensor | None = None
        self._intensity: tuple[Tensor, Tensor] | None = None

    def record(
        self,
        problem: Problem,
        before: SamplerState,
        info: StepInfo,
        seconds: float,
        watch: int,
        version: int,
        after: SamplerState,
    ) -> StepRecord:
        """Return the record of a step of sample `watch`, under the policy with the number `version`."""
        cache = before.cache
        later = after.cache or cache
        if cache is not None and not self._copied(cache.u, watch):
            self._source = cache.u, watch
            self._last, self._at = row_of(cache.u, watch), row_of(cache.clock.at, watch)
        return StepRecord(
            problem=problem,
            step=before.step,
            version=version,
            seconds=seconds,
            watch=watch,
            batch=before.z.shape[0],
            rows=info.rows,
            samples=info.samples,
            tau=row_of(info.tau, watch),
            reasons=info.reasons,
            score=row_of(info.score, watch),
            z=row_of(before.z, watch),
            denoised=row_of(info.denoised, watch),
            last=self._last,
            at=self._at,
            r=None if later is None else self._on_host(later.r),
            arrived=mark(before.z.device),
        )

    def _on_host(self, r: Tensor) -> Tensor:
        if self._intensity is None or self._intensity[0] is not r:
            self._intensity = r, r if r.device.type == "cpu" else to_host(r)
        return self._intensity[1]

    def _copied(self, u: Tensor, watch: int) -> bool:
        return self._source is not None and self._source[0] is u and self._source[1] == watch


def row_of(x: Tensor, sample: int) -> Tensor:
    """Return a copy on the host of the row of a sample of x (B, ...), or x itself if it is there and has one row."""
    one = x.shape[0] == 1
    if x.device.type == "cpu":
        return x if one else x.narrow_copy(0, sample, 1)
    return to_host(x if one else x.narrow(0, sample, 1))


@own_settings()
def derive(records: Sequence[StepRecord]) -> dict[str, np.ndarray]:
    """Return every field of StepEvent, with a row for each of the records, which are of one run."""
    problem, batch = records[0].problem, records[0].batch
    model, steps = problem.model, np.array([record.step for record in records], np.int32)
    rows = np.array([record.rows for record in records], np.int64)
    records[-1].arrived()
    with torch.inference_mode():
        z, denoised = (torch.cat([getattr(record, name) for record in records]) for name in ("z", "denoised"))
        drift, age = _since_recompute(problem, records, steps, z)
        score = torch.cat([record.score for record in records])
        score = score.nan_to_num(posinf=float(np.finfo(np.float32).max))
        reasons = _decisions(records, batch)
        r = _intensities(records)
    watched = np.arange(len(records)), [record.watch for record in records]
    tokens = torch.stack([denoised, z]).float().numpy()
    x0, series = model.series(tokens)
    samples = np.array([record.samples for record in records], np.int64)
    each, prepared = problem.once("operations", lambda: _operations(model))
    update = update_flops(batch, model.n, 2 * len(model.channels))
    return {
        "step": steps,
        "t": np.array([problem.plan.rows[i].t for i in steps]),
        "log_snr": np.array([problem.levels[i] for i in steps]),
        "policy_version": np.array([record.version for record in records], np.int32),
        "share": rows / (batch * model.n),
        "tokens": rows,
        "flops": rows * each + samples * prepared + update,
        "flops_full": np.full(len(records), batch * (model.n * each + prepared) + update),
        "seconds": np.array([record.seconds for record in records]),
        "tau": torch.cat([record.tau for record in records])[:, 0].numpy(),
        "r": r[watched].numpy(),
        "r_mean": r.nanmean(1).numpy(),
        "reasons": reasons[watched],
        "batch_reasons": reasons,
        "e": score.numpy().astype(np.float32),
        "drift": drift,
        "age": age,
        "spectrum": model.magnitudes(tokens[1]).astype(np.float32),
        "x0": x0,
        "series": series,
    }


def _since_recompute(
    problem: Problem, records: Sequence[StepRecord], steps: np.ndarray, z: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Return drift (k, n) of the network input and age (k, n) since each last recompute; 0 before the first."""
    drift, age = np.zeros(z.shape[:2], np.float32), np.zeros(z.shape[:2], np.int32)
    known = [i for i, record in enumerate(records) if record.last is not None]
    if known:
        u0, c_in = problem.once("inputs", lambda: (problem.u0.cpu(), problem.c_in.cpu()))
        index = torch.as_tensor(steps[known], dtype=torch.long)
        u = torch.addcmul(u0[index], c_in[index], z[torch.as_tensor(known)])
        last = torch.cat([records[i].last for i in known])  # type: ignore[misc]
        drift[known] = (u - last).square().sum(-1).float().numpy()
        at = torch.cat([records[i].at for i in known])  # type: ignore[misc]
        age[known] = steps[known, None] - at.numpy()
    return drift, age


def _intensities(records: Sequence[StepRecord]) -> Tensor:
    """Return intensities (k, B), NaN before the first recompute."""
    known = [i for i, record in enumerate(records) if record.r is not None]
    rows = torch.full((len(records), records[0].batch), torch.nan)
    if known:
        stacked = torch.stack([records[i].r for i in known])  # type: ignore[misc]
        rows = rows.to(stacked.dtype)
        rows[known] = stacked
    return rows


def _decisions(records: Sequence[StepRecord], batch: int) -> np.ndarray:
    """Return reasons (k, B, n) of all samples; read only, where all samples agree at every step."""
    rows = [record.reasons for record in records]
    if all(row.shape[0] == 1 for row in rows):
        return np.broadcast_to(torch.stack(rows).numpy(), (len(rows), batch, rows[0].shape[1]))
    return torch.stack([row.expand(batch, -1) for row in rows]).numpy()


def _operations(model: ScoreModel) -> tuple[int, int]:
    """Count the operations of a recomputed token, and of preparing a sample (E6)."""
    return network_flops(model.network, 1, model.n, 0), network_flops(model.network, 0, model.n, 1)


def run_flops(model: ScoreModel, rows: int, prepared: int, num: int, steps: int) -> int:
    """Count the operations of `steps` steps of `num` samples that recomputed `rows` tokens in all (E6).

    `prepared` is how often a sample's inputs were prepared.
    """
    update = update_flops(num, model.n, 2 * len(model.channels)) * steps
    return network_flops(model.network, rows, model.n, prepared) + update
