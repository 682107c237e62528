"""Time things fairly: in turns, with ratios taken within a round, and against what the machine can do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from e2crf_core.cuda import synchronize
from e2crf_core.quality.protocol import log_interval
from e2crf_core.sampling.sampler import Sampler


def interval(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Return the geometric mean with its 95% interval over rounds."""
    return asdict(log_interval(list(values)))


def in_turns(runs: Mapping[str, Callable[[int], float]], rounds: int) -> dict[str, np.ndarray]:
    """Return the seconds (rounds,) of each run; `run(round)` measures itself, and the order reverses every round."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds):
        for name in list(runs)[:: 1 if turn % 2 == 0 else -1]:
            seconds[name].append(runs[name](turn))
    return {name: np.array(values) for name, values in seconds.items()}


def draws_in_turns(samplers: Mapping[str, Sampler], batch: int, rounds: int) -> dict[str, np.ndarray]:
    """Return the seconds (rounds,) that each sampler takes to draw a batch, in turns."""
    runs = {
        name: lambda turn, sampler=sampler: sampler.draw(batch, turn).seconds
        for name, sampler in samplers.items()
    }
    return in_turns(runs, rounds)


def clocked(work: Callable[[], object]) -> float:
    """Return the seconds that `work` takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def repeated(work: Callable[[], object], times: int) -> Callable[[int], float]:
    """Return a run that takes the mean seconds of `work`, done so many times in a row."""
    return lambda turn: clocked(lambda: [work() for _ in range(times)]) / times


class Held(TorchDispatchMode):
    """Count the most bytes that tensors made in a block hold at once; memory inside an operation is not seen."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and count what it made."""
        made = func(*args, **(kwargs or {}))
        given = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        for x in tree_leaves(made):
            if isinstance(x, Tensor) and x.untyped_storage()._cdata not in given:
                storage = x.untyped_storage()
                self._live[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self._live = {key: held for key, held in self._live.items() if not held[0].expired()}
        self.most = max(self.most, sum(size for _, size in self._live.values()))
        return made


def held_bytes(work: Callable[[], object]) -> int:
    """Return the most bytes that the tensors made by `work` hold at once."""
    with Held() as held:
        work()
    return held.most


def machine_peak(repeats: int = 12, device: str = "cpu") -> dict[str, float]:
    """Measure what this machine can do at best: products of square matrices, and copies of 256 MB."""
    size, result = 1024 if device == "cpu" else 8192, {}

    def least(work: Callable[[], object]) -> float:
        def done() -> None:
            work()
            synchronize(torch.device(device))

        return min(clocked(done) for _ in range(repeats))

    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        result[f"{name} operations per second"] = 2 * size**3 / least(lambda: torch.mm(a, b))  # noqa: B023
    source, target = torch.ones(1 << 26, device=device), torch.empty(1 << 26, device=device)
    result["bytes per second"] = 2 * source.nbytes / least(lambda: target.copy_(source))
    return result
