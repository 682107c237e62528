"""Run whole forwards by torch's kernels, by compiled code, or by ONNX Runtime, with weights of several precisions.

A backend replaces the network where a sampler calls it for all tokens, or for a prefix of a spectrally causal
network. A forward of chosen tokens, which reads kept keys and values, always runs on torch's kernels.
"""

from __future__ import annotations

import copy
import logging
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from types import FunctionType
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from e2crf_core.cuda import Captured
from e2crf_core.errors import LabError
from e2crf_core.network.graphs import FeatureGraph, for_graphs, traced
from e2crf_core.network.kept import kept_for
from e2crf_core.network.onnx import require_onnx, write_onnx
from e2crf_core.network.shapes import Float

BACKENDS = {
    "eager": "torch's own kernels, float32: the reference",
    "eager-bf16": "torch's own kernels, weights and products of the layers in bfloat16",
    "cudagraphs": "torch's own kernels on an NVIDIA GPU, one CUDA graph for each prefix and batch size, float32",
    "compiled": "code that torch compiles for this machine, which takes about a minute, float32",
    "compiled-bf16": "compiled code, weights and products of the layers in bfloat16",
    "onnxruntime": "ONNX Runtime on the CPU, float32",
    "onnxruntime-int8": "ONNX Runtime on the CPU, weights of the layers in 8-bit integers",
}
"""The backends by name, with one line for people."""
AUTO = "auto"

Run = Callable[[Tensor, Tensor], Tensor]


@runtime_checkable
class Backend(Protocol):
    """What a sampler, and the choice of a backend, need of one."""

    def features(self, u: Float[Tensor, "B n c"], log_snr: Tensor, m: int) -> Float[Tensor, "B m d"]:
        """Return C (E4) of the lowest m tokens; m is n, or the upper edge of a causal network's band."""

    def ready(self, m: int, batch: int) -> bool:
        """Return whether nothing is left to build or compile for a batch."""


class _Graphs:
    """A backend that builds one program for each prefix length, when it is first needed."""

    def __init__(self, network: Any, build: Callable[[FeatureGraph, Tensor], Run]) -> None:
        self._network, self._build = network, build
        self._runs: dict[int, Run] = {}
        self._done: set[tuple[int, bool]] = set()
        self._lock = Lock()

    def features(self, u: Tensor, log_snr: Tensor, m: int) -> Tensor:
        with self._lock:
            if m not in self._runs:
                self._runs[m] = self._build(FeatureGraph(self._network, m), u)
        features = self._runs[m](u, log_snr)
        self._done.add((m, len(u) > 1))
        return features

    def ready(self, m: int, batch: int) -> bool:
        """Return whether nothing is left to build or compile for a batch: one sample has code of its own."""
        return (m, batch > 1) in self._done


class HalfLinear(nn.Module):
    """A linear map with weights in bfloat16; input and output keep their precision."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("weight", linear.weight.detach().to(torch.bfloat16))
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().to(torch.bfloat16))

    weight: Tensor
    bias: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., in) to (..., out)."""
        return nnf.linear(x.to(torch.bfloat16), self.weight, self.bias).to(x.dtype)


def check_backend(name: str) -> None:
    """Raise LabError for an unknown name."""
    if name not in (*BACKENDS, AUTO):
        raise LabError(
            f"unknown backend {name!r}", field="backend", remedy=f"use {AUTO}, {', '.join(BACKENDS)}"
        )


def backend_of(network: Any, name: str) -> Backend | None:
    """Return a network's backend, None for `eager`; it is kept, so that each is built once.

    Raises LabError for an unknown name, or if the backend needs what this machine or network does not offer.
    """
    check_backend(name)
    if name == "eager":
        return None
    kept = kept_for(network)
    if name not in kept:
        kept[name] = _make(network, name)
    return kept[name]


def _make(network: Any, name: str) -> Backend:
    example = next(network.parameters())
    kind, _, precision = name.partition("-")
    # A backend must not keep its network alive: it is stored under it.
    twin = copy.deepcopy(network) if kind in ("eager", "cudagraphs") else for_graphs(network)
    if precision == "bf16":
        twin = halved(twin)
    if kind == "eager":
        return _Graphs(twin, lambda graph, u: graph)
    if kind == "cudagraphs":
        if example.device.type != "cuda":
            raise LabError(
                f"the backend {name} needs an NVIDIA GPU, and this model is on {example.device}",
                field="backend",
                remedy="move the model to cuda, or use eager",
            )
        return _Graphs(twin, lambda graph, u: Captured(graph))
    if kind == "compiled":
        if example.device.type == "cpu":
            require_compiler(f"the backend {name}", field="backend")
        # The stem's transforms run on torch's kernels inside compiled code, as they do without it.
        warnings.filterwarnings(
            "ignore", message="Torchinductor does not support code generation for complex"
        )
        return _Graphs(twin, lambda graph, u: _compiled(graph))
    if example.device.type != "cpu" or example.dtype != torch.float32:
        raise LabError(
            f"the backend {name} runs float32 on the CPU, this network is in {example.dtype} on {example.device}",
            field="backend",
        )
    require_onnx(f"the backend {name}", field="backend")
    return _Graphs(twin, lambda graph, u: _onnx_session(graph, u, integers=precision == "int8"))


def _compiled(graph: FeatureGraph) -> Run:
    """Return a graph compiled under a code object of its own.

    Torch keeps what it compiled with the code object, and gives up at eight: fewer than the prefixes of a network.
    """

    def call(graph: FeatureGraph, u: Tensor, log_snr: Tensor) -> Tensor:
        return graph(u, log_snr)

    own = FunctionType(call.__code__.replace(), call.__globals__)
    compiled = torch.compile(own, fullgraph=True, dynamic=True)
    return lambda u, log_snr: compiled(graph, u, log_snr)


def require_compiler(purpose: str, field: str = "format") -> None:
    """Raise LabError unless there is a C++ compiler, which torch needs to compile for the CPU."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise LabError(
            f"{purpose} needs a C++ compiler, and there is no {compiler}",
            field=field,
            remedy="install one, or choose another",
        )


def halved(network: Any) -> Any:
    """Return a copy whose linear maps of tokens have bfloat16 weights; all else keeps its precision.

    The head is left alone too, because a sampler applies the original's.
    """
    twin = copy.deepcopy(network)
    skipped = getattr(network, "per_step_modules", ())
    for name, module in list(twin.named_modules()):
        if isinstance(module, nn.Linear) and name.split(".")[0] not in skipped:
            parent, _, last = name.rpartition(".")
            setattr(twin.get_submodule(parent), last, HalfLinear(module))
    return twin


def _onnx_session(graph: FeatureGraph, u: Tensor, *, integers: bool) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that wait by spinning take a busy machine's time from everybody else.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    with TemporaryDirectory(prefix="e2crf-onnx-") as folder:
        path = Path(folder) / "network.onnx"
        with torch.inference_mode(False), torch.no_grad():
            write_onnx(traced(graph, torch.zeros(2, *u.shape[1:])), path)
        if integers:
            path = _quantized(path)
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(u: Tensor, log_snr: Tensor) -> Tensor:
        feed = {"u": u.contiguous().numpy(), "log_snr": log_snr.float().numpy()}
        return torch.from_numpy(session.run(None, feed)[0])

    return run


def _quantized(path: Path) -> Path:
    """Return a file beside `path` whose matrix products have 8-bit weights."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    small = path.with_name("int8.onnx")
    # It advises to run its own optimizer first, which ONNX Runtime does anyway when it loads the file.
    logging.disable(logging.WARNING)
    try:
        quantize_dynamic(path, small, op_types_to_quantize=["MatMul", "Gemm"], weight_type=QuantType.QInt8)
    finally:
        logging.disable(logging.NOTSET)
    return small
