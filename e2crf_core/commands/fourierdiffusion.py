"""Implement `import-fourierdiffusion` and `check-golden` for models of the public FourierDiffusion library."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Register the commands."""
    model = commands.add_parser("import-fourierdiffusion", help="convert a Lightning checkpoint, safely")
    model.add_argument("file", type=Path)
    model.add_argument("--stats", type=Path, required=True, help="npz with mean and std of shape (N, M)")
    model.add_argument("--dataset", default="", help="data set it was trained on, to measure quality against")
    model.add_argument("--out", type=Path, required=True, help="folder to write")
    model.set_defaults(command=_import)
    golden = commands.add_parser("check-golden", help="compare an imported model with the library's outputs")
    golden.add_argument("folder", type=Path)
    golden.add_argument("golden", type=Path)
    golden.set_defaults(command=_check)


def _import(arguments: argparse.Namespace) -> None:
    from e2crf_core.models.fourierdiffusion import import_fourierdiffusion

    model = import_fourierdiffusion(arguments.file, arguments.stats, arguments.out, dataset=arguments.dataset)
    shape = {"length": model.length, "channels": len(model.channels)}
    print(json.dumps({"out": str(arguments.out), "parameters": model.meta["parameters"], **shape}))


def _check(arguments: argparse.Namespace) -> None:
    from e2crf_core.models.fourierdiffusion import check_golden

    print(json.dumps(check_golden(arguments.folder, arguments.golden)))
