"""Choose the backend of a sampler: by name, or by measuring what is fastest here without changing samples."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from e2crf_core.caching.policy import CachePolicy
from e2crf_core.cuda import synchronize
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.errors import LabError
from e2crf_core.io.extras import installed
from e2crf_core.network.backends import AUTO, Backend, backend_of
from e2crf_core.network.forward import band_edges_of
from e2crf_core.network.graphs import FeatureGraph
from e2crf_core.network.kept import kept_for
from e2crf_core.network.onnx import PACKAGES

SECONDS = 2.0
GAIN = 0.95
"""The share of eager's time that another backend must stay below to be chosen."""


@dataclass(frozen=True)
class BackendChoice:
    """The backend in use, and why."""

    name: str
    reason: str
    backend: Backend | None


def runs_whole(model: ScoreModel, policy: CachePolicy | None) -> bool:
    """Return whether every recompute runs all tokens, or a prefix of a causal network, so that a backend can."""
    if policy is None or band_edges_of(model.network) or policy.rule.verdict is not None:
        return True
    return policy.rule.whole and policy.k_low < 0 and not policy.probe_share


def choose_backend(model: ScoreModel, policy: CachePolicy | None, name: str, batch: int) -> BackendChoice:
    """Return the backend `name`, or for `auto` the fastest float32 one at `batch`, measured for two seconds.

    Compiled code takes part if this process has compiled it before, which `auto` itself never does. Raises LabError
    if the backend cannot run here, or cannot run this policy.
    """
    if name == "eager":
        return BackendChoice(name, "the default", None)
    if not runs_whole(model, policy):
        reason = "with full attention, this policy recomputes single tokens"
        if name == AUTO:
            return BackendChoice("eager", f"{reason}, which no other backend does", None)
        raise LabError(
            f"{reason}, which the backend {name} cannot do",
            field="backend",
            remedy="use the backend eager, a policy that refreshes all tokens, or a spectrally causal checkpoint",
        )
    if name != AUTO:
        return BackendChoice(name, "as requested", backend_of(model.network, name))
    kept = kept_for(model.network)
    key = (AUTO, batch, torch.get_num_threads(), _compiled(model, batch) is not None)
    if key not in kept:
        kept[key] = _measured(model, batch)
    return kept[key]


def _measured(model: ScoreModel, batch: int) -> BackendChoice:
    eager = BackendChoice("eager", "", None)
    if model.dtype != torch.float32:
        return BackendChoice("eager", f"the others run float32, and this model is in {model.dtype}", None)
    others, missing = _candidates(model, batch)
    if not others:
        return BackendChoice("eager", "; ".join(missing), None)
    seconds = interleaved(model, [eager, *others], batch, SECONDS)
    shares = [median(taken) / median(seconds[0]) for taken in seconds]
    fastest = min(range(len(shares)), key=shares.__getitem__)
    chosen = [eager, *others][fastest] if shares[fastest] < GAIN else eager
    took = [f"{other.name} took {share:.2f}" for other, share in zip(others, shares[1:], strict=True)]
    measured = (
        f"{' and '.join(took)} of eager's time for a call of {batch} samples ({len(seconds[0])} rounds)"
    )
    return BackendChoice(chosen.name, "; ".join((measured, *missing)), chosen.backend)


def _candidates(model: ScoreModel, batch: int) -> tuple[list[BackendChoice], list[str]]:
    """Return the float32 backends that can be measured within seconds, and why others are not."""
    others, missing = [], []
    if model.device.type == "cuda":
        others.append(BackendChoice("cudagraphs", "", backend_of(model.network, "cudagraphs")))
    elif installed(*PACKAGES):
        others.append(BackendChoice("onnxruntime", "", backend_of(model.network, "onnxruntime")))
    else:
        missing.append(f"ONNX Runtime needs pip install {' '.join(PACKAGES)}")
    compiled = _compiled(model, batch)
    if compiled is not None:
        others.append(BackendChoice("compiled", "", compiled))
    else:
        missing.append("compiled code was not tried, because compiling takes about a minute")
    return others, missing


def _compiled(model: ScoreModel, batch: int) -> Backend | None:
    """Return the compiled code of this process for whole calls of a batch, None if it is still to be compiled."""
    compiled = kept_for(model.network).get("compiled")
    return compiled if compiled is not None and compiled.ready(model.n, batch) else None


def interleaved(
    model: ScoreModel, choices: list[BackendChoice], batch: int, limit: float
) -> list[list[float]]:
    """Return the seconds of whole calls of each backend, in turns, until `limit` seconds have passed."""
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(batch, *model.mu.shape, generator=generator).to(model.mu) * model.mask
    level = torch.tensor(0.0, dtype=torch.float64, device=model.device)
    calls = [whole_call(model, choice.backend) for choice in choices]
    seconds: list[list[float]] = [[] for _ in calls]
    with torch.inference_mode():
        for call in calls:
            call(u, level)
            synchronize(model.device)
        begin = time.perf_counter()
        while not seconds[0] or time.perf_counter() - begin < limit:
            for call, taken in zip(calls, seconds, strict=True):
                start = time.perf_counter()
                call(u, level)
                synchronize(model.device)
                taken.append(time.perf_counter() - start)
    return seconds


def whole_call(model: ScoreModel, backend: Backend | None) -> Any:
    """Return a function (u, log_snr) -> F (B, n, 2M) of all tokens by a backend (None: eager)."""
    graph, head = FeatureGraph(model.network, model.n), model.network.head

    def call(u: Tensor, log_snr: Tensor) -> Tensor:
        features = graph(u, log_snr) if backend is None else backend.features(u, log_snr, model.n)
        return head(features)

    return call
