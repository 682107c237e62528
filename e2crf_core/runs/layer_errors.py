"""Compare what the cache held of every token, layer by layer, with a fresh forward on the same state.

A record keeps decisions and scores, not the network's internals; runs repeat bit for bit, so running again
recovers them. Differences are |held - fresh| / |fresh| over a token's vector: of h_l, K_l, and V_l of each
layer l (E4, E6), of the cumulative residual feature C = h_L, of F, and of D and the score that F gives (E3).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from e2crf_core.caching.feedback import renewed
from e2crf_core.caching.policy import CachePolicy
from e2crf_core.caching.predictors import reused_output
from e2crf_core.caching.selection import Selection
from e2crf_core.caching.state import Cache, Problem, SamplerState
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.network.forward import plain_forward
from e2crf_core.network.kvcache import KVCache
from e2crf_core.progress import Cancel, Progress, never, silent
from e2crf_core.runs.archive import Archive
from e2crf_core.runs.replay import check_same_weights
from e2crf_core.sampling.sampler import Sampler


class Tapped:
    """A wrapped network that exposes its last forward's residual stream: `stream` is h_0 .. h_L as rows."""

    def __init__(self, network: Any) -> None:
        self._network = network
        self.stream: list[Tensor] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def embed(self, prepared: Tensor, index: Tensor | None) -> Tensor:
        """Return h_0, which begins a forward."""
        self.stream = [self._network.embed(prepared, index)]
        return self.stream[0]

    def finish(self, layer: int, h: Tensor, attended: Tensor, condition: Tensor) -> Tensor:
        """Return h of the next layer."""
        self.stream.append(self._network.finish(layer, h, attended, condition))
        return self.stream[-1]


@dataclass(frozen=True)
class Inside:
    """The internals of the network for one sample at one step.

    `stream` (L + 1, n, d) ends with C; `keys` and `values` have shape (L, n, d); the output F, the denoised
    D, and the score have shape (n, 2M).
    """

    stream: Tensor
    keys: Tensor
    values: Tensor
    output: Tensor
    denoised: Tensor
    score: Tensor


def quantities(layers: int) -> tuple[str, ...]:
    """Return the names of the rows of `differences`, from the input to the score."""
    inner = [f"{name}{layer}" for layer in range(layers) for name in ("h", "K", "V")]
    return (*inner, "C", "F", "D", "score")


def differences(held: Inside, fresh: Inside) -> Tensor:
    """Return (3 L + 4, n) relative differences, ordered as in `quantities`; 0 if both are 0."""
    inner = torch.stack([_relative(a, b) for a, b in zip(_inner(held), _inner(fresh), strict=True)], dim=1)
    outer = [
        _relative(held.stream[-1], fresh.stream[-1]),
        _relative(held.output, fresh.output),
        _relative(held.denoised, fresh.denoised),
        _relative(held.score, fresh.score),
    ]
    return torch.cat([inner.flatten(0, 1), torch.stack(outer)])


def _inner(inside: Inside) -> tuple[Tensor, Tensor, Tensor]:
    return inside.stream[:-1], inside.keys, inside.values


def _relative(held: Tensor, fresh: Tensor) -> Tensor:
    """Return (..., n) for vectors (..., n, d)."""
    return torch.linalg.vector_norm(held - fresh, dim=-1) / torch.linalg.vector_norm(fresh, dim=-1).clamp(
        min=torch.finfo(fresh.dtype).tiny
    )


def fresh_inside(problem: Problem, state: SamplerState, watch: int) -> Inside:
    """Run all tokens of one sample of the state, as if nothing were kept."""
    i, model = state.step, problem.model
    z = state.z[watch : watch + 1]
    u = torch.addcmul(problem.u0[i], problem.c_in[i], z)
    level = torch.tensor(problem.levels[i], dtype=torch.float64, device=u.device)
    tapped = Tapped(model.network)
    kv = KVCache(tapped.layers, 1, model.n, tapped.width, device=u.device, dtype=u.dtype)
    plain_forward(tapped, tapped.prepare(u, level), tapped.condition(level), cache=kv)
    stream = torch.stack([h[0] for h in tapped.stream])
    output = model.network.head(stream[-1])
    return Inside(stream, kv.keys[:, 0], kv.values[:, 0], output, *_outcome(problem, i, z[0], output))


def held_inside(
    policy: CachePolicy, problem: Problem, state: SamplerState, cache: Cache, stream: Tensor, watch: int
) -> Inside:
    """Return what `cache` holds of one sample for `state`; `stream` (L, n, d) is the kept h_0 .. h_{L-1}.

    A spectrally causal network keeps no keys and values, so those computed from the kept stream replace them.
    """
    output = reused_output(policy, problem, cache, state.step)[watch]
    whole = torch.cat([stream, cache.feature[watch][None]])
    if cache.kv is not None:
        keys, values = cache.kv.keys[:, watch], cache.kv.values[:, watch]
    else:
        network, level = problem.model.network, problem.level(state.step)
        condition = network.condition(level)
        parts = [network.qkv(layer, h, condition)[1:] for layer, h in enumerate(stream)]
        keys, values = (torch.stack(part) for part in zip(*parts, strict=True))
    outcome = _outcome(problem, state.step, state.z[watch], output)
    return Inside(whole, keys, values, output, *outcome)


def _outcome(problem: Problem, i: int, z: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
    """Return D and the score (a D - z) / s² that F gives (E3)."""
    schedule, t = problem.model.schedule, problem.plan.rows[i].t
    denoised = torch.addcmul(problem.d0[i], problem.c_skip[i], z).addcmul_(problem.c_out[i], output)
    return denoised, (schedule.a(t) * denoised - z) / schedule.s(t) ** 2


@dataclass(frozen=True)
class LayerTable:
    """The differences to a fresh forward at every recorded step: (steps, 3 L + 4, n), named by `names`.

    `kept` compares what the cache held before the step, so it shows the error of reusing the token; NaN at
    the first step. `used` compares what the step continued with. `changed` names the first step whose
    decisions the new run did not repeat, or None.
    """

    names: tuple[str, ...]
    kept: np.ndarray
    used: np.ndarray
    changed: int | None


@torch.inference_mode()
def layer_table(
    archive: Archive,
    model: ScoreModel,
    *,
    progress: Progress = silent,
    cancelled: Cancel = never,
) -> LayerTable:
    """Repeat a recorded run and inspect its watched sample at every step.

    Raises LabError if the model is not the one that made the record, Cancelled if `cancelled` asks to stop.
    """
    spec, old = archive.spec, archive.recorder
    check_same_weights(archive, model)
    tapped = Tapped(model.network)
    sampler = Sampler.of(replace(model, network=tapped), spec.config)
    names, watch, changed = quantities(tapped.layers), spec.watch, None
    kept = np.full((old.count, len(names), model.n), np.nan, np.float32)
    used = np.empty_like(kept)
    stream = model.mu.new_zeros(tapped.layers, model.n, tapped.width)
    loop = sampler.steps(spec.num, spec.seed, policy=archive.policy_at, cancelled=cancelled)
    fresh = None
    for i, step in enumerate(islice(loop, old.count)):
        problem, before, after, ran = step.problem, step.before, step.after, tapped.stream
        assert step.policy is not None and after.cache is not None
        fresh = fresh or fresh_inside(problem, before, watch)
        reasons = step.info.reasons.expand(spec.num, model.n)
        current = renewed(step.policy, reasons)[watch] > 0
        stream = _renewed(stream, ran, Selection.of(reasons > 0, spec.num, stream.device), current, watch)
        now = held_inside(step.policy, problem, before, after.cache, stream, watch)
        used[i] = differences(now, fresh).cpu().numpy()
        if changed is None and not np.array_equal(reasons[watch].numpy(), old.column("reasons")[i]):
            changed = i
        if i + 1 < old.count:
            # Before the next step overwrites the keys and values: the error of reusing everything at that
            # step.
            fresh = fresh_inside(problem, after, watch)
            held = held_inside(archive.policy_at(i + 1), problem, after, after.cache, stream, watch)
            kept[i + 1] = differences(held, fresh).cpu().numpy()
        progress(i + 1, old.count)
    return LayerTable(names, kept, used, changed)


def _renewed(stream: Tensor, rows: list[Tensor], chosen: Selection, current: Tensor, watch: int) -> Tensor:
    """Return the watched sample's kept stream (L, n, d) after a step that ran `chosen` with h_l `rows`.

    Tokens that ran but are not in `current` (n,) keep their old keys and values, and so their old h_l.
    """
    mine = (chosen.sample == watch) & current.to(stream.device)[chosen.token]
    if not bool(mine.any()):
        return stream
    # A plain forward ran whole samples (b, n, d), a selective one rows (T, d), in the same order.
    fresh = torch.stack([h.reshape(-1, h.shape[-1])[mine] for h in rows[:-1]])
    return stream.index_copy(1, chosen.token[mine], fresh)
