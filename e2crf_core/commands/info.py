"""Implement `info`: list what this installation has."""

from __future__ import annotations

import argparse
import json
from typing import Any


def add(commands: Any) -> None:
    """Register the command."""
    info = commands.add_parser("info", help="list checkpoints, data sets, presets and devices")
    info.add_argument("--json", action="store_true")
    info.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> None:
    """Print the listing."""
    import torch

    from e2crf_core.caching.policy import PRESETS
    from e2crf_core.data.datasets import list_datasets, load_dataset
    from e2crf_core.diffusion.solvers import ETA, GRIDS, SOLVERS
    from e2crf_core.models.checkpoints import list_checkpoints, read_card
    from e2crf_core.network.backends import BACKENDS

    devices = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    listing: dict[str, dict[str, Any] | list[str]] = {
        "checkpoints": {name: read_card(name).get("dataset") for name in list_checkpoints()},
        "datasets": {name: load_dataset(name).title for name in list_datasets()},
        "presets": {name: policy.trigger for name, policy in PRESETS.items()},
        "solvers": [*SOLVERS, f"{ETA}0 to {ETA}1"],
        "grids": list(GRIDS),
        "backends": BACKENDS,
        "devices": devices,
    }
    if arguments.json:
        print(json.dumps(listing))
        return
    for heading, entries in listing.items():
        print(heading)
        for entry in entries:
            note = f"  {entries[entry]}" if isinstance(entries, dict) else ""
            print(f"  {entry:<16}{note}")
