"""Write a graph of a network as an ONNX file whose batch size is free."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import torch

from e2crf_core.errors import LabError
from e2crf_core.io.extras import installed

PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def require_onnx(purpose: str, field: str = "format") -> None:
    """Raise LabError unless everything that `purpose` needs to write and run ONNX is installed."""
    if not installed(*PACKAGES):
        remedy = f"pip install {' '.join(PACKAGES)}"
        raise LabError(f"{purpose} needs more packages", field=field, remedy=remedy)


def write_onnx(program: Any, path: Path) -> None:
    """Write a `traced` graph with inputs `u` (B, n, 2M) and `log_snr` () and output `f`, float32, weights inside.

    Raises LabError if a package is missing.
    """
    require_onnx("writing ONNX")
    # The exporter warns about every optional package that is not installed.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names: dict[str, Any] = {"input_names": ["u", "log_snr"], "output_names": ["f"]}
        made = torch.onnx.export(program, dynamo=True, verbose=False, **names)
    assert made is not None
    made.save(str(path), include_initializers=True)
