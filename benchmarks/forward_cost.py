"""Measure what a selective forward costs against a plain one, for all tokens and for shares of them.

Runs alternate in one process after a warm-up. Ratios are taken within a round; their median and spread over
the rounds are reported. Targets at batch 16: all tokens at most 1.05 of the plain forward, a quarter at most
0.45.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.origin import full_checkpoints, provenance_of
from e2crf_core.caching.selection import Selection
from e2crf_core.cuda import synchronize
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.io.files import replace_file
from e2crf_core.io.provenance import machine
from e2crf_core.models.checkpoints import load_checkpoint
from e2crf_core.network.forward import plain_forward, selective_forward
from e2crf_core.network.kvcache import KVCache

SHARES = (1.0, 0.75, 0.5, 0.25, 0.1, 0.03)
HERE = Path(__file__).resolve().parent


def forwards(model: ScoreModel, batch: int) -> dict[str, Callable[[], object]]:
    """Return a plain forward and selective ones on the same inputs; every sample selects the same tokens."""
    network, n = model.network, model.n
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(batch, n, model.mu.shape[1], generator=generator).to(model.device, model.dtype)
    level = torch.tensor(0.0, dtype=torch.float64, device=model.device)
    cache = KVCache(network.layers, batch, n, network.width, device=model.device, dtype=model.dtype)

    def plain() -> object:
        prepared = network.prepare(u, level)
        return network.head(plain_forward(network, prepared, network.condition(level)))

    def selective(mask: torch.Tensor) -> Callable[[], object]:
        def call() -> object:
            chosen = Selection.of(mask, batch, model.device)
            prepared, condition = network.prepare(u, level), network.condition(level)
            if chosen.whole:
                return network.head(plain_forward(network, prepared, condition, cache=cache))
            rows = chosen.take_present(prepared)
            fresh = selective_forward(
                network, rows, condition, cache, chosen.sample, chosen.token, chosen.counts
            )
            return network.head(fresh)

        return call

    with torch.inference_mode():
        plain_forward(network, network.prepare(u, level), network.condition(level), cache=cache)
    calls: dict[str, Callable[[], object]] = {"plain": plain}
    for share in SHARES:
        count = max(1, round(share * n))
        rank = torch.rand(batch, n, generator=generator).argsort(1)
        if share == 1:
            calls["all tokens, keys and values kept"] = selective(rank < count)
            continue
        calls[f"{100 * share:g}% of tokens, another set for each sample"] = selective(rank < count)
        calls[f"{100 * share:g}% of tokens, the lowest"] = selective(torch.arange(n)[None] < count)
    return calls


def measure(model: ScoreModel, batch: int, rounds: int) -> dict[str, dict[str, float]]:
    """Measure the seconds of every forward and its ratio to the plain one (median, quartiles)."""
    calls = forwards(model, batch)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    with torch.inference_mode():
        for call in calls.values():
            call()
        for turn in range(rounds):
            # Reverse the order in every second round, so that no forward gains from always running first.
            for name in list(calls)[:: 1 if turn % 2 == 0 else -1]:
                synchronize(model.device)
                begin = time.perf_counter()
                calls[name]()
                synchronize(model.device)
                seconds[name].append(time.perf_counter() - begin)
    plain = np.array(seconds["plain"])
    result = {}
    for name, values in seconds.items():
        ratio = np.quantile(np.array(values) / plain, [0.25, 0.5, 0.75])
        result[name] = {
            "seconds": float(np.median(values)),
            "ratio": float(ratio[1]),
            "ratio_low": float(ratio[0]),
            "ratio_high": float(ratio[2]),
        }
    return result


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--checkpoints", nargs="*", help="names or folders; by default all shipped with full attention"
    )
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 16, 64])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    arguments = parser.parse_args()
    names = arguments.checkpoints or full_checkpoints()
    results: dict[str, object] = {
        "machine": machine(),
        "rounds": arguments.rounds,
        "provenance": provenance_of(names, (), max(arguments.batches)),
    }
    for name in names:
        model = load_checkpoint(name, arguments.device)
        for batch in arguments.batches:
            measured = measure(model, batch, arguments.rounds)
            results[f"{model.name}, batch {batch}"] = measured
            print(f"{model.name}, batch {batch}: plain {1e3 * measured['plain']['seconds']:.2f} ms")
            for what, m in measured.items():
                spread = f"({m['ratio_low']:.3f} to {m['ratio_high']:.3f})"
                print(f"  {what:<52} {m['ratio']:.3f} {spread}")
    path = arguments.results / f"forward_cost_{arguments.device}.json"
    replace_file(path, lambda p: p.write_text(json.dumps(results, indent=1) + "\n"))
    print(f"written: {path}")


if __name__ == "__main__":
    main()
