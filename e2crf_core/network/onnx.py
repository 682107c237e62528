"""Write a graph of a network as an ONNX file whose batch size is free."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from e2crf_core.errors import LabError
from e2crf_core.io.extras import installed
from e2crf_core.network.graphs import FeatureGraph

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
LEVEL = 0.5
"""The level of the example from which a graph is traced; any other runs too."""


def batch_shapes() -> dict[str, Any]:
    """Return the dynamic shapes of a graph's inputs: the batch is free."""
    return {"u": {0: torch.export.Dim("batch", min=1, max=65536)}, "log_snr": None}


def require_onnx(purpose: str, field: str = "format") -> None:
    """Raise LabError unless everything that `purpose` needs to write and run ONNX is installed."""
    if not installed(*PACKAGES):
        remedy = f"pip install {' '.join(PACKAGES)}"
        raise LabError(f"{purpose} needs more packages", field=field, remedy=remedy)


def write_onnx(graph: FeatureGraph, u: Tensor, path: Path) -> None:
    """Write a graph with inputs `u` (B, n, 2M) and `log_snr` () and output `f`, float32, weights inside.

    `u` is an example of a batch of at least 2. Raises LabError if a package is missing.
    """
    require_onnx("writing ONNX")
    # The exporter warns about every optional package that is not installed.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph,
            (u, torch.tensor(LEVEL)),
            input_names=["u", "log_snr"],
            output_names=["f"],
            dynamic_shapes=batch_shapes(),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.save(str(path), include_initializers=True)
