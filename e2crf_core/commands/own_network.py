"""Implement `import-network` for networks of the user's own."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Register the command."""
    model = commands.add_parser(
        "import-network", help="make a checkpoint of your own network (docs/protocol.md)"
    )
    model.add_argument("factory", help="MODULE:FUNCTION(length, channels) that builds it; it is run")
    model.add_argument("--weights", type=Path, required=True, help="its state dict: .safetensors, or .pt")
    model.add_argument("--data", required=True, help="data set it was trained on")
    model.add_argument("--name", help="name of the checkpoint (the module's name)")
    model.add_argument("--out", type=Path, help="folder to write instead of your own (E2CRF_HOME)")
    model.add_argument(
        "--trust", action="store_true", help="agree to run MODULE's code, now and whenever it is loaded"
    )
    model.set_defaults(command=_import)


def _import(arguments: argparse.Namespace) -> None:
    from e2crf_core.io.userfiles import user_folder
    from e2crf_core.models.own import import_network

    module = arguments.factory.partition(":")[0].rpartition(".")[2]
    out = arguments.out or user_folder("checkpoints", arguments.name or module)
    made = import_network(arguments.factory, arguments.weights, arguments.data, out, agreed=arguments.trust)
    report = {
        "out": str(out),
        "parameters": made.model.meta["parameters"],
        "laws": len(made.laws),
        "largest_difference": max(law.difference for law in made.laws),
        "heldout_loss": made.loss,
    }
    print(json.dumps(report))
