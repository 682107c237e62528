"""Why does leaving out tokens hurt a solver with few calls: stale outputs, or stale keys and values?

    python -m benchmarks.token_skipping

DPM-Solver++ with few calls on the profile grid. A pilot run measures how far each token's output F moves from call
to call and how strongly that moves the finished sample; a token is left out of a call while that influence stays
under tau. The same tokens are left out in two ways:

- skipped: not run at all (E6), so that others attend to the keys and values it left at its last recompute;
- outputs only: run, so that its keys and values are fresh, but its fresh output is thrown away and the old one used.

Errors are relative L2 to the uncached run of the same solver and calls on the same noise. What outputs only saves
none of the work: it tells how much of the harm is due to stale keys and values.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.rules import RuleSampler, effect, network_output, pilot_outputs
from e2crf_core.checkpoints import list_checkpoints, load_checkpoint, replace_file
from e2crf_core.data import load_dataset
from e2crf_core.e2crf import advance
from e2crf_core.errors import LabError
from e2crf_core.evaluation import machine
from e2crf_core.metrics import relative_l2
from e2crf_core.model import ScoreModel
from e2crf_core.policy import CachePolicy
from e2crf_core.sampler import Sampler, plain_step
from e2crf_core.state import Problem, SamplerState, StepInfo

HERE = Path(__file__).resolve().parent
TAUS = (0.005, 0.01, 0.02, 0.04)


def plan_of(calls: int) -> dict[str, Any]:
    """The solver under study."""
    return {"steps": calls, "solver": "dpmpp_2m", "grid": "profile"}


def needed(model: ScoreModel, calls: int, tau: float, num: int = 16) -> np.ndarray:
    """(calls, n) which tokens a pilot run finds must be recomputed: influence of holding F on the sample over tau."""
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
    """Every token is run at every call, but the output of a token outside the mask is held."""

    def __init__(self, model: ScoreModel, mask: np.ndarray, **options: Any) -> None:
        super().__init__(model, cached=False, **options)
        self.mask = torch.from_numpy(mask).to(model.device)
        self._held: torch.Tensor | None = None

    def step(
        self, problem: Problem, state: SamplerState, policy: CachePolicy
    ) -> tuple[SamplerState, StepInfo]:
        """A plain step whose solver sees held outputs."""
        i = state.step
        _, info = plain_step(problem, state)
        fresh = network_output(problem, state.z, info, i)
        held = (
            fresh if self._held is None or i == 0 else torch.where(self.mask[i, :, None], fresh, self._held)
        )
        self._held = held
        after, denoised = advance(problem, state, held, None)
        return after, StepInfo(info.reasons, info.score, info.tau, info.rows, info.samples, denoised)


def measure(model: ScoreModel, calls: int, num: int, seed: int) -> list[dict[str, float]]:
    """One record for each tau."""
    data = load_dataset(model.dataset)

    def series(sampler: Sampler) -> np.ndarray:
        return data.standardise(sampler.sample(num, seed).series)

    twin = series(Sampler(model, **plan_of(calls), batch=num, cached=False))
    fewer = series(Sampler(model, **plan_of(calls - 2), batch=num, cached=False))
    found = []
    for tau in TAUS:
        mask = needed(model, calls, tau)
        table = torch.from_numpy(mask)

        def rule(problem: Problem, state: SamplerState, table: torch.Tensor = table) -> torch.Tensor:
            return table[state.step : state.step + 1]

        skipped = RuleSampler(model, rule, CachePolicy(), **plan_of(calls), batch=num)
        found.append(
            {
                "tau": tau,
                "share": float(mask.mean()),
                "skipped": relative_l2(series(skipped), twin),
                "outputs_only": relative_l2(
                    series(OutputsOnly(model, mask, **plan_of(calls), batch=num)), twin
                ),
                "two_calls_fewer": relative_l2(fewer, twin),
            }
        )
    return found


def page(results: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        "# Leaving out tokens beside a solver with few calls\n",
        f"Written by `python -m benchmarks.token_skipping`: DPM-Solver++(2M), {results['calls']} calls on the profile"
        f" grid, {results['num']} samples. Relative L2 to the uncached run with as many calls on the same noise;"
        " `two calls fewer` is the uncached run that makes two calls less.\n",
        "| data | tau | tokens run | skipped | outputs only | two calls fewer |",
        "|---|---|---|---|---|---|",
    ]
    for name, rows in results["rows"].items():
        lines += [
            f"| {name} | {r['tau']:g} | {100 * r['share']:.0f}% | {r['skipped']:.3f} | {r['outputs_only']:.3f} |"
            f" {r['two_calls_fewer']:.3f} |"
            for r in rows
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoints", nargs="*", help="names or folders; by default all that are shipped")
    parser.add_argument("--calls", type=int, default=10)
    parser.add_argument("--num", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=HERE / "results")
    arguments = parser.parse_args()
    rows: dict[str, Any] = {}
    try:
        for name in arguments.checkpoints or list_checkpoints():
            rows[name] = measure(load_checkpoint(name, "cpu"), arguments.calls, arguments.num, arguments.seed)
            print(
                name, *(f"{r['share']:.2f}: {r['skipped']:.3f} / {r['outputs_only']:.3f}" for r in rows[name])
            )
    except LabError as fault:
        raise SystemExit(f"error: {fault}") from None
    stored = {"calls": arguments.calls, "num": arguments.num, "machine": machine(), "rows": rows}
    stem = arguments.results / "token_skipping_cpu"
    replace_file(stem.with_suffix(".json"), lambda path: path.write_text(json.dumps(stored, indent=1) + "\n"))
    replace_file(stem.with_suffix(".md"), lambda path: path.write_text(page(stored)))


if __name__ == "__main__":
    main()
