"""Why does skipping tokens hurt a solver with few calls: stale outputs, or stale keys and values?

    python -m benchmarks.token_skipping

DPM-Solver++ runs with few calls on the profile grid. A pilot run measures how far each token's output F moves
from call to call and how strongly that moves the finished sample. A token is skipped at a call while that
influence stays below tau. The same tokens are skipped in several ways:

- skipped: not run at all (E6), so others attend to the keys and values from its last recompute;
- predicted keys: not run, but its keys and values are extrapolated through its last two recomputes, on
  log(a/s);
- absent: not run, and no token attends to it;
- 1, 2 or 3 fresh: run through that many of the first layers to refresh their keys and values;
- outputs only: run to refresh its keys and values, but its fresh output is discarded and the old one used.

Errors are relative L2 to the uncached run of the same solver and calls on the same noise. The last way saves
no work; it shows how much of the harm comes from stale keys and values. The ones before it are attempted
remedies.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.origin import full_checkpoints, provenance_of
from benchmarks.trigger_experiments import Given, effect, network_output, pilot_outputs
from e2crf_core.caching.policy import CachePolicy
from e2crf_core.caching.state import Problem, SamplerState, StepInfo
from e2crf_core.caching.triggers import register
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.e2crf import advance
from e2crf_core.errors import LabError
from e2crf_core.io.files import replace_file
from e2crf_core.io.provenance import machine
from e2crf_core.models.checkpoints import load_checkpoint
from e2crf_core.models.training_data import training_data
from e2crf_core.network.forward import attend
from e2crf_core.network.kvcache import KVCache
from e2crf_core.quality.distances import relative_l2
from e2crf_core.sampling.sampler import Sampler, Step

HERE = Path(__file__).resolve().parent
TAUS = (0.005, 0.01, 0.02, 0.04)


def plan_of(calls: int) -> dict[str, Any]:
    """Return the solver under study."""
    return {"steps": calls, "solver": "dpmpp_2m", "grid": "profile"}


def needed(model: ScoreModel, calls: int, tau: float, num: int = 16) -> np.ndarray:
    """Return which tokens (calls, n) must be recomputed: those whose influence in a pilot run exceeds tau."""
    problem, outputs = pilot_outputs(model, **plan_of(calls), num=num)
    weight = effect(problem) * np.abs(np.gradient(np.array(problem.levels)))[:, None]
    mask = np.ones((calls, model.n), dtype=bool)
    held = outputs[0].copy()
    for i in range(1, calls):
        moved = np.sqrt(np.square(outputs[i] - held).sum(-1).mean(0))
        mask[i] = weight[i] * moved > tau
        held[:, mask[i]] = outputs[i][:, mask[i]]
    return mask


class OutputsOnly(Sampler):
    """A sampler that runs every token at every call but holds the output of tokens outside the mask."""

    def __init__(self, model: ScoreModel, mask: np.ndarray, **options: Any) -> None:
        super().__init__(model, None, **options)
        self.mask = torch.from_numpy(mask).to(model.device)
        self._held: torch.Tensor | None = None

    def step(
        self, problem: Problem, state: SamplerState, policy: CachePolicy | None
    ) -> tuple[SamplerState, StepInfo]:
        """Take a plain step whose solver sees held outputs."""
        i = state.step
        after, info = super().step(problem, state, policy)
        fresh = network_output(Step(problem, state, after, policy, info, 0.0))
        held = (
            fresh if self._held is None or i == 0 else torch.where(self.mask[i, :, None], fresh, self._held)
        )
        self._held = held
        after, denoised = advance(problem, state, held, None)
        return after, replace(info, denoised=denoised)


class KeysOf(KVCache):
    """A cache that extrapolates or hides keys and values of tokens that all samples skip alike."""

    def __init__(self, kept: KVCache, tick: float, hide: bool) -> None:
        self.__dict__.update(kept.clone().__dict__)
        layers, _, tokens, _ = self.keys.shape
        self.hide, self.now = hide, tick
        self.at = torch.full((layers, tokens), tick, dtype=torch.float64)
        self.slopes = torch.zeros_like(self.keys), torch.zeros_like(self.values)

    def write_samples(self, layer: int, rows: Tensor | None, k: Tensor, v: Tensor) -> None:
        """Write keys and values for all tokens of all samples."""
        assert rows is None
        self._learn(layer, slice(None), k, v)
        super().write_samples(layer, rows, k, v)

    def write_tokens(self, layer: int, sample: Tensor, token: Tensor, k: Tensor, v: Tensor) -> None:
        """Write keys and values for the same tokens of all samples."""
        chosen = token[: len(token) // self.keys.shape[1]]
        shape = (self.keys.shape[1], len(chosen), -1)
        self._learn(layer, chosen, k.view(shape), v.view(shape))
        super().write_tokens(layer, sample, token, k, v)

    def read(self, layer: int, rows: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the keys and values expected now, or those of the tokens that run now."""
        kept = super().read(layer, rows)
        behind = (self.now - self.at[layer]).to(kept[0])
        if self.hide:
            return kept[0][:, behind == 0], kept[1][:, behind == 0]
        keys, values = (
            torch.addcmul(x, slope[layer], behind[:, None])
            for x, slope in zip(kept, self.slopes, strict=True)
        )
        return keys, values

    def _learn(self, layer: int, chosen: Any, k: Tensor, v: Tensor) -> None:
        moved = (self.now - self.at[layer, chosen]).to(k)[:, None]
        for slope, new, old in zip(self.slopes, (k, v), (self.keys, self.values), strict=True):
            slope[layer][:, chosen] = (new - old[layer][:, chosen]) / moved
        self.at[layer, chosen] = self.now


class KeySampler(Sampler):
    """A Sampler with `KeysOf` for keys and values."""

    hide = False

    def step(
        self, problem: Problem, state: SamplerState, policy: CachePolicy | None
    ) -> tuple[SamplerState, StepInfo]:
        """Take a step after setting the time of the keys and values."""
        if state.cache is not None:
            kv, ticks = state.cache.kv, problem.clocks["log_snr"]
            if not isinstance(kv, KeysOf):
                kv = KeysOf(kv, float(ticks[state.step - 1]), self.hide)
                state = replace(state, cache=replace(state.cache, kv=kv))
            kv.now = float(ticks[state.step])
        return super().step(problem, state, policy)


class AbsentSampler(KeySampler):
    """A sampler in which no token attends to skipped tokens."""

    hide = True


class FreshLayers(Sampler):
    """A sampler that first runs all tokens through the first `depth` layers to refresh keys and values."""

    depth = 1

    def step(
        self, problem: Problem, state: SamplerState, policy: CachePolicy | None
    ) -> tuple[SamplerState, StepInfo]:
        """Take a step after refreshing keys and values in the first layers."""
        if state.cache is not None:
            i, network = state.step, problem.model.network
            u, level = problem.network_input(state), problem.level(i)
            condition, h = network.condition(level), network.embed(network.prepare(u, level), None)
            for layer in range(self.depth):
                q, k, v = network.qkv(layer, h, condition)
                state.cache.kv.write_samples(layer, None, k, v)
                h = network.finish(layer, h, attend(q, k, v, network.heads), condition)
        return super().step(problem, state, policy)


class TwoFresh(FreshLayers):
    """A sampler that refreshes keys and values in the first two layers."""

    depth = 2


class ThreeFresh(FreshLayers):
    """A sampler that refreshes keys and values in the first three layers."""

    depth = 3


WAYS = {
    "skipped": Sampler,
    "predicted_keys": KeySampler,
    "absent": AbsentSampler,
    "1_fresh": FreshLayers,
    "2_fresh": TwoFresh,
    "3_fresh": ThreeFresh,
}
"""The ways to skip tokens: the sampler to use with a policy."""


def leaving_out(mask: np.ndarray) -> CachePolicy:
    """Return a policy that recomputes exactly the tokens of a mask (calls, n)."""
    return CachePolicy(trigger=register(Given("token skipping", mask)).name)


def measure(model: ScoreModel, calls: int, num: int, seed: int) -> list[dict[str, float]]:
    """Measure one record for each tau."""
    data = training_data(model)

    def series(sampler: Sampler) -> np.ndarray:
        return data.standardize(sampler.sample(num, seed).series)

    twin = series(Sampler(model, **plan_of(calls), batch=num, policy=None))
    fewer = series(Sampler(model, **plan_of(calls - 2), batch=num, policy=None))
    found = []
    for tau in TAUS:
        mask = needed(model, calls, tau)
        policy = leaving_out(mask)
        found.append(
            {
                "tau": tau,
                "share": float(mask.mean()),
                **{
                    name: relative_l2(series(kind(model, policy, **plan_of(calls), batch=num)), twin)
                    for name, kind in WAYS.items()
                },
                "outputs_only": relative_l2(
                    series(OutputsOnly(model, mask, **plan_of(calls), batch=num)), twin
                ),
                "two_calls_fewer": relative_l2(fewer, twin),
            }
        )
    return found


def page(results: dict[str, Any]) -> str:
    """Format the measurements as Markdown."""
    shown = (*WAYS, "outputs_only", "two_calls_fewer")
    lines = [
        "# Skipping tokens when the solver needs few calls\n",
        f"Written by `python -m benchmarks.token_skipping`: DPM-Solver++(2M), {results['calls']} calls on the profile"
        f" grid, {results['num']} samples. Relative L2 to the uncached run with as many calls on the same noise;"
        " `two calls fewer` is the uncached run with two calls fewer.\n",
        "| data | tau | tokens run | " + " | ".join(name.replace("_", " ") for name in shown) + " |",
        "|---|---|---|" + "---|" * len(shown),
    ]
    for name, rows in results["rows"].items():
        for r in rows:
            figures = " | ".join(f"{r[key]:.3f}" for key in shown)
            lines.append(f"| {name} | {r['tau']:g} | {100 * r['share']:.0f}% | {figures} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--checkpoints", nargs="*", help="names or folders; by default all shipped with full attention"
    )
    parser.add_argument("--calls", type=int, default=10)
    parser.add_argument("--num", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=HERE / "results")
    arguments = parser.parse_args()
    rows: dict[str, Any] = {}
    try:
        for name in arguments.checkpoints or full_checkpoints():
            rows[name] = measure(load_checkpoint(name, "cpu"), arguments.calls, arguments.num, arguments.seed)
            for row in rows[name]:
                print(name, *(f"{key} {value:.3f}" for key, value in row.items()), flush=True)
    except LabError as fault:
        raise SystemExit(f"error: {fault}") from None
    stored = {
        "calls": arguments.calls,
        "num": arguments.num,
        "machine": machine(),
        "provenance": provenance_of(list(rows), (arguments.seed,), arguments.num),
        "rows": rows,
    }
    stem = arguments.results / "token_skipping_cpu"
    replace_file(stem.with_suffix(".json"), lambda path: path.write_text(json.dumps(stored, indent=1) + "\n"))
    replace_file(stem.with_suffix(".md"), lambda path: path.write_text(page(stored)))


if __name__ == "__main__":
    main()
