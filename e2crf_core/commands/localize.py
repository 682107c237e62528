"""Implement `localize`: fine-tune a checkpoint with full attention into a spectrally causal one."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from e2crf_core.commands.train import band_edges


def add(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser("localize", help="fine-tune a checkpoint into a spectrally causal one")
    parser.add_argument("--checkpoint", required=True, help="a checkpoint with full attention")
    parser.add_argument("--minutes", type=float, default=5.0, help="time to train; sets the number of steps")
    parser.add_argument("--steps", type=int, default=0, help="number of steps, instead of --minutes")
    parser.add_argument(
        "--bands",
        type=band_edges,
        default=None,
        metavar="EDGE,EDGE,...",
        help="inner edges of the bands; octaves unless given",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--threads", type=int, default=0, help="processor threads; 0 leaves them as they are")
    parser.add_argument(
        "--num", type=int, default=512, help="series of each network in the measurement of quality"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the new checkpoint")
    parser.set_defaults(command=_localize)


def _localize(arguments: argparse.Namespace) -> None:
    import torch

    from e2crf_core.commands.terminal import ProgressLine
    from e2crf_core.models.checkpoints import load_checkpoint
    from e2crf_core.models.localize import localize
    from e2crf_core.models.training import TrainEvent
    from e2crf_core.models.training_data import training_data

    if arguments.threads > 0:
        torch.set_num_threads(arguments.threads)
    model = load_checkpoint(arguments.checkpoint, arguments.device)

    def report(event: TrainEvent) -> None:
        print(
            f"step {event.step}/{event.steps}  loss {event.loss:.4f}  held-out {event.heldout:.4f}",
            file=sys.stderr,
        )

    _, change = localize(
        model,
        training_data(model),
        arguments.out,
        minutes=arguments.minutes,
        steps=arguments.steps,
        bands=arguments.bands,
        seed=arguments.seed,
        device=arguments.device,
        num=arguments.num,
        report=report,
        progress=ProgressLine("localizing"),
    )
    loss, judged = change.loss, change.judgment
    print(f"held-out loss {loss['before']['value']:.4f} before, {loss['after']['value']:.4f} after")
    for name, entry in change.distances.items():
        print(f"{name:32s} {entry['before']:.4f} -> {entry['after']:.4f}, real data {entry['floor']:.4f}")
    print(f"quality: {judged.verdict}: {judged.describe()}")
    print(json.dumps({"out": str(arguments.out), **change.to_json()}))
