"""Where a step goes, and how far a call is from the least time that its operations and bytes take."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.timing import in_turns, interval, repeated
from e2crf_core import CachePolicy, Sampler
from e2crf_core.caching.predictors import reused_output
from e2crf_core.diffusion.noise import BLOCK, NoiseStream
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.e2crf import advance, decide
from e2crf_core.network.flops import network_flops
from e2crf_core.network.forward import attend, plain_forward, visible_keys
from e2crf_core.network.kvcache import KVCache
from e2crf_core.sampling.backend_choice import whole_call
from e2crf_core.sampling.sampler import Step

OPERATIONS_S, BYTES_S = "float32 operations per second", "bytes per second"


def floor_seconds(model: ScoreModel, batch: int, peak: dict[str, float]) -> dict[str, float]:
    """Return the operations and bytes of one whole call, and the least seconds that they take at the machine's peak.

    Bytes are those that must move at least once: all weights, the inputs, and the outputs.
    """
    operations = batch * network_flops(model.network, model.n, model.n, 1)
    weights = sum(p.nbytes for p in model.network.parameters())
    moved = weights + 2 * batch * model.mu.nbytes
    seconds = max(operations / peak[OPERATIONS_S], moved / peak[BYTES_S])
    return {"operations": operations, "bytes": moved, "seconds": seconds}


def measure_floor(model: ScoreModel, batch: int, peak: dict[str, float], rounds: int) -> dict[str, Any]:
    """Measure a whole call beside its floor."""
    least = floor_seconds(model, batch, peak)
    call, level = whole_call(model, None), torch.tensor(0.0, dtype=torch.float64)
    u = torch.randn(batch, *model.mu.shape) * model.mask
    with torch.inference_mode():
        seconds = in_turns({"call": repeated(lambda: call(u, level), max(1, 32 // batch))}, rounds)["call"]
    return {"least": least, "call": interval(seconds), "over_floor": interval(seconds / least["seconds"])}


def measure_parts(model: ScoreModel, batch: int, rounds: int) -> dict[str, Any]:
    """Measure what each part of a step of `balanced` takes, with a call of all tokens and without one."""
    policy = CachePolicy.preset("balanced")
    sampler = Sampler(model, policy, steps=200, batch=batch)
    steps = {bool(step.info.rows): step for step in sampler.steps(batch, 0) if step.before.cache is not None}
    result = {}
    with torch.inference_mode():
        for name, parts in (
            ("step with a call", _call_parts(steps[True], policy)),
            ("step without a call", _reuse_parts(steps[False], policy)),
        ):
            step = steps[name == "step with a call"]
            parts["noise"] = (_noise(model, batch), 1 / BLOCK)
            runs = {part: repeated(run, max(4, 64 // batch)) for part, (run, _) in parts.items()}
            runs["whole"] = repeated(lambda: sampler.step(step.problem, step.before, policy), 4)  # noqa: B023
            seconds = in_turns(runs, rounds)
            taken = {part: weight * seconds[part] for part, (_, weight) in parts.items()}
            whole = seconds["whole"] + taken["noise"]
            shares = {part: interval(values / whole) for part, values in taken.items()}
            rest = float(((whole - sum(taken.values())) / whole).mean())
            result[name] = {"seconds": interval(whole), "shares": shares, "rest": rest}
    return result


Parts = dict[str, tuple[Callable[[], object], float]]
"""What runs by name, and how often a step runs it."""


def _noise(model: ScoreModel, batch: int) -> Callable[[], object]:
    """Return a function that draws the noise of BLOCK steps."""
    stream, step = NoiseStream(0, batch, model.mask, dtype=model.dtype), itertools.count(0, BLOCK)
    return lambda: stream.at(next(step))


def _call_parts(step: Step, policy: CachePolicy) -> Parts:
    """Return the parts of a step with a call of all tokens."""
    problem, state = step.problem, step.before
    network, n = problem.model.network, problem.model.n
    u, condition = problem.network_input(state), problem.condition(state.step)
    level, visible, layers = problem.level(state.step), visible_keys(network, n), network.layers
    prepared = network.prepare(u, level)
    h = network.embed(prepared, None)
    q, k, v = network.qkv(0, h, condition)
    attended = attend(q, k, v, network.heads, visible)
    feature = plain_forward(network, prepared, condition)
    kept = KVCache(layers, len(u), n, network.width, device=u.device, dtype=u.dtype)
    return {
        "decide (E5)": (lambda: decide(policy, problem, state), 1),
        "stem": (lambda: network.prepare(u, level), 1),
        "lift to the width": (lambda: network.embed(prepared, None), 1),
        "queries, keys, values": (lambda: network.qkv(0, h, condition), layers),
        "attention": (lambda: attend(q, k, v, network.heads, visible), layers),
        "projection and MLP": (lambda: network.finish(0, h, attended, condition), layers),
        "keep keys and values": (lambda: kept.write_samples(0, None, k, v), layers),
        "head": (lambda: network.head(feature), 1),
        "denoise and step (E3, E8)": (lambda: advance(problem, state, state.z, state.cache), 1),
    }


def _reuse_parts(step: Step, policy: CachePolicy) -> Parts:
    """Return the parts of a step without a call."""
    problem, state, cache = step.problem, step.before, step.before.cache
    assert cache is not None
    return {
        "decide (E5)": (lambda: decide(policy, problem, state), 1),
        "predict": (lambda: reused_output(policy, problem, cache, state.step), 1),
        "denoise and step (E3, E8)": (lambda: advance(problem, state, state.z, cache), 1),
    }
