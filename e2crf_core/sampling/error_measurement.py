"""Measure the error model of a checkpoint and plan (E5), once: pilot run, amplification, and a trial of its plans.

Three things are measured, on seeds reserved for them. A *pilot run* without a cache gives the outputs F of every
call. *Amplification* says how much more than linearly finished samples respond to an error of F. *Trials* then run
plans that the model proposes and compare their errors with what it predicts; the ratios correct its predictions, so
that the tolerated error of a policy is the error of its samples.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from e2crf_core.caching.policy import CLOCKS, CachePolicy
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.network.flops import prefix_flops
from e2crf_core.network.forward import band_edges_of
from e2crf_core.progress import Progress, silent
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.sampling.error_model import DETAILS, ErrorModel, error_weights, sample_errors
from e2crf_core.sampling.influence import Pilot, amplification, influence, measure_points, run_pilot
from e2crf_core.sampling.sampler import Sampler

PILOT_SEED = 0x5EED_0000_0000_0001
PILOT_SAMPLES = 16
AMPLIFICATION_SAMPLES = 8
TRIAL_SEED = 0x5EED_0000_0000_0002
TRIAL_SAMPLES = 32
TRIAL_ERRORS = (0.4, 0.2, 0.1, 0.05, 0.025)
"""Predicted errors of the plans that are tried."""
LEAST_TRIED = 1e-6
"""A plan with a smaller error, predicted or measured, says nothing about their ratio."""
CANDIDATES = 50
"""The maximum number of calls considered as refresh times, evenly spaced on the model's clock."""
SHORT = 60
"""Plans of more calls than this take amplification from a plan of 40 calls, at equal log(a/s)."""
OVERHEAD = 0.05
"""Share of a whole forward that any prefix costs: preparing inputs and calling many small operations."""


def candidate_calls(ticks: np.ndarray, most: int = CANDIDATES) -> tuple[int, ...]:
    """Return the calls that may refresh: all in a short plan, else `most` evenly spaced on the clock."""
    if len(ticks) <= most:
        return tuple(range(len(ticks)))
    even = np.interp(np.linspace(ticks[0], ticks[-1], most), ticks, np.arange(len(ticks)))
    return tuple(np.unique(np.round(even).astype(int)).tolist())


def prefix_costs(model: ScoreModel, edges: tuple[int, ...]) -> np.ndarray:
    """Return (bands,) the cost of running the tokens below each edge, in whole forwards."""
    flops = np.array([prefix_flops(model.network, edge, model.n) for edge in edges])
    return OVERHEAD + (1 - OVERHEAD) * flops / flops[-1]


def measure_error_model(
    model: ScoreModel,
    config: SamplerConfig,
    *,
    num: int = PILOT_SAMPLES,
    trials: int = TRIAL_SAMPLES,
    seed: int = PILOT_SEED,
    progress: Progress = silent,
) -> ErrorModel:
    """Measure with a pilot of `num` samples and `trials` samples of each plan tried (0: none).

    On one CPU core a shipped checkpoint takes 20 to 35 s for 40 calls, and a minute or two for 1,000. `progress`
    counts parts in thousandths.
    """

    def part(first: int, last: int) -> Progress:
        return lambda done, total: progress(first + (last - first) * done // total, 1000)

    points, factors = _measure_amplification(model, companion(config, model), seed, part(0, 550))
    pilot = run_pilot(*Sampler.of(model, config.twin).begin(num, seed), set(), part(550, 750))
    linear = influence(*Sampler.of(model, config.twin).begin(1, seed)).numpy()
    errors = _assembled(model, pilot, linear, points, factors)
    if not trials:
        return errors
    if config.steps > SHORT:
        # Uncached runs of a long plan take minutes, so it is tried on the pilot's own noise.
        twin, noise = pilot.finished.numpy(), seed
    else:
        twin, noise = Sampler.of(model, config.twin).sample(trials, TRIAL_SEED).tokens, TRIAL_SEED
    return replace(errors, trials=tried(model, config, errors, twin, noise, part(750, 1000)))


def bands_of(model: ScoreModel) -> tuple[tuple[int, int], ...]:
    """Return first and last-plus-one token of each band; all tokens for a network with full attention."""
    edges = band_edges_of(model.network) or (model.n,)
    return tuple(zip((0, *edges[:-1]), edges, strict=True))


def _assembled(
    model: ScoreModel, pilot: Pilot, linear: np.ndarray, points: np.ndarray, factors: np.ndarray
) -> ErrorModel:
    """Return the error model of a pilot run, influence (steps, n, 2M) and amplification (2, points, bands)."""
    problem, bands = pilot.problem, bands_of(model)
    edges = tuple(last for _, last in bands)
    levels = np.array(problem.levels)
    ticks = np.stack([problem.clocks[clock].numpy() for clock in CLOCKS])
    candidates = candidate_calls(problem.clocks["profile"].numpy())
    weights = np.stack([linear, linear])
    for which in range(len(DETAILS)):
        for band, (low, high) in enumerate(bands):
            factor = np.interp(levels, points, factors[which, :, band])
            weights[which, :, low:high] *= factor[:, None, None]
    outputs = pilot.outputs.numpy()
    ends = [*candidates, len(levels)]

    def sums(values: np.ndarray) -> np.ndarray:
        return np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, axis=0)])[ends]

    return ErrorModel(
        steps=len(levels),
        ticks=ticks[:, list(candidates)],
        candidates=candidates,
        edges=edges,
        cost=prefix_costs(model, edges),
        outputs=outputs[list(candidates)],
        weight=np.stack([sums(w) for w in weights]),
        moment=np.stack([[sums(w * tick[:, None, None]) for tick in ticks] for w in weights]),
        change=np.stack([_sums_of_products(w, outputs, ends) for w in weights]).astype(outputs.dtype),
        variance=_variance(model),
        points=points,
        amplification=factors,
        trials=np.zeros((len(DETAILS), 0, 2)),
    )


def _variance(model: ScoreModel) -> np.ndarray:
    variance: np.ndarray = (model.v * model.mask).double().cpu().numpy()
    return variance


def _sums_of_products(weights: np.ndarray, outputs: np.ndarray, ends: list[int]) -> np.ndarray:
    """Return (len(ends), B, n, 2M) sums of W F over the calls before each end, without copying the run."""
    total = np.zeros((len(ends), *outputs.shape[1:]))
    for row, (first, last) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        total[row] = total[row - 1] if row else 0.0
        total[row] += np.einsum("ikc,ibkc->bkc", weights[first:last], outputs[first:last].astype(np.float64))
    return total


def _measure_amplification(
    model: ScoreModel, config: SamplerConfig, seed: int, progress: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """Return increasing points (P,) on log(a/s) and factors (2, P, bands)."""
    sampler = Sampler.of(model, config)
    linear = influence(*sampler.begin(1, seed))
    problem, state = sampler.begin(AMPLIFICATION_SAMPLES, seed)
    pilot = run_pilot(problem, state, set(measure_points(problem.plan.steps)))
    middle = [min(i + 2, problem.plan.steps - 1) for i in sorted(pilot.states)]
    norms = np.stack([error_weights(_variance(model), detail) for detail in DETAILS])
    factors = amplification(pilot, linear, bands_of(model), norms, progress)
    return np.array([problem.levels[i] for i in middle]), factors


def tried(
    model: ScoreModel,
    config: SamplerConfig,
    errors: ErrorModel,
    twin: np.ndarray,
    seed: int,
    progress: Progress,
) -> np.ndarray:
    """Return (2, T, 2) predicted and measured RMS errors of plans for each of DETAILS, both increasing.

    `twin` (num, n, 2M) are the finished tokens of an uncached run from `seed`.
    """
    found, total = np.ones((len(DETAILS), len(TRIAL_ERRORS), 2)), len(DETAILS) * len(TRIAL_ERRORS)
    for which, detail in enumerate(DETAILS):
        for place, tau in enumerate(TRIAL_ERRORS):
            policy = CachePolicy.of("nested").replace(tau=tau, detail=detail)
            sampler = Sampler.of(model, replace(config, policy=policy))
            missed = sample_errors(_tried(sampler, len(twin), seed, errors), twin, errors.variance, detail)
            measured, predicted = float(np.square(missed).mean()) ** 0.5, errors.schedule(tau, detail).error
            if min(measured, predicted) > LEAST_TRIED:
                found[which, place] = predicted, measured
            progress(which * len(TRIAL_ERRORS) + place + 1, total)
    return np.sort(found, axis=1)


def _tried(sampler: Sampler, num: int, seed: int, errors: ErrorModel) -> np.ndarray:
    """Return the finished tokens of a nested policy that plans with `errors`."""
    with torch.inference_mode():
        problem, state = sampler.begin(num, seed)
        problem.once("error model", lambda: errors)
        for step in sampler.resume(problem, state):
            state = step.after
    return state.z.cpu().numpy()


def companion(config: SamplerConfig, model: ScoreModel) -> SamplerConfig:
    """Return the plan for measuring amplification: the same if short, else 40 calls of its kind."""
    if config.steps <= SHORT:
        return config.twin
    stochastic = any(row.sigma for row in Sampler.of(model, config.twin).plan.rows)
    solver = "ancestral" if stochastic else "dpmpp_2m"
    return SamplerConfig(None, steps=40, solver=solver, grid="profile")
