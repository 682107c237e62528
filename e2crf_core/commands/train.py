"""Implement `train` and `card`: make a checkpoint, and measure it in the same way as every model card."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Any

from e2crf_core.errors import LabError


def add(commands: Any) -> None:
    """Register the commands."""
    train = commands.add_parser("train", help="train a score model; resumes what OUT holds")
    train.add_argument(
        "--data", required=True, help="name of a data set, or a folder that 'data import' wrote"
    )
    train.add_argument("--preset", default="compact", help="compact or paper")
    train.add_argument("--minutes", type=float, default=20.0, help="time to spend; sets the number of steps")
    train.add_argument("--steps", type=int, default=0, help="number of steps, instead of --minutes")
    train.add_argument("--batch", type=int, default=64)
    train.add_argument("--seed", type=int, default=0)
    train.add_argument(
        "--patience", type=int, default=0, help="stop after so many reports without gain; 0: never"
    )
    train.add_argument(
        "--truncation", type=float, default=0.0, help="share of batches with a random bandwidth"
    )
    train.add_argument(
        "--bands",
        type=band_edges,
        default=(),
        metavar="EDGE,EDGE,...",
        help="inner edges of the bands of a spectrally causal network, such as 4,8,16,32,64; none: full attention",
    )
    train.add_argument("--bf16", action="store_true", help="compute in bfloat16: faster on most GPUs")
    train.add_argument("--device", default="auto", help="auto, cpu or cuda")
    train.add_argument("--threads", type=int, default=0, help="processor threads; 0 leaves them as they are")
    train.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    train.set_defaults(command=_train)
    card = commands.add_parser("card", help="measure a checkpoint on held-out data and state it in its card")
    card.add_argument("--checkpoint", required=True)
    card.add_argument("--seed", type=int, default=0)
    card.set_defaults(command=_card)


def band_edges(text: str) -> tuple[int, ...]:
    """Parse edges such as "4,8,16"."""
    return tuple(int(part) for part in text.split(","))


def _train(arguments: argparse.Namespace) -> None:
    import torch

    from e2crf_core.commands.terminal import ProgressLine
    from e2crf_core.data.datasets import load_dataset, require_heldout
    from e2crf_core.models.checkpoints import check_new_checkpoint
    from e2crf_core.models.quality_card import measure_card
    from e2crf_core.models.training import TRAIN_PRESETS, Trainer, TrainSpec

    if arguments.preset not in TRAIN_PRESETS:
        raise LabError(
            f"unknown preset {arguments.preset!r}", field="preset", remedy=f"use {' or '.join(TRAIN_PRESETS)}"
        )
    if arguments.threads > 0:
        torch.set_num_threads(arguments.threads)
    names = ("minutes", "steps", "batch", "seed", "patience", "truncation", "bands", "bf16")
    options = {name: getattr(arguments, name) for name in names}
    spec = TrainSpec(data=arguments.data, **TRAIN_PRESETS[arguments.preset], **options)
    check_new_checkpoint(arguments.out)
    dataset = load_dataset(arguments.data)
    # Reject a data set with too few windows to measure the model before training it.
    require_heldout(dataset)
    trainer = Trainer(spec, dataset, arguments.out, arguments.device)
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    previous = signal.signal(signal.SIGINT, stop)
    try:
        for event in trainer.run(cancelled=lambda: stopping, progress=ProgressLine("training")):
            print(
                f"step {event.step}/{event.steps}  loss {event.loss:.4f}  held-out {event.heldout:.4f}"
                f"  best {event.best:.4f}  {event.seconds_left / 60:.1f} min left",
                file=sys.stderr,
                flush=True,
            )
    finally:
        signal.signal(signal.SIGINT, previous)
    if not trainer.history:
        raise LabError("training was stopped before its first report: nothing was saved")
    trainer.save()
    if stopping:
        print("stopped: the best weights so far were kept; the same command resumes", file=sys.stderr)
    report = measure_card(arguments.out.resolve(), arguments.seed, ProgressLine("measuring"))
    print(
        json.dumps({"out": str(arguments.out), "steps": trainer.step, "heldout_loss": trainer.best, **report})
    )


def _card(arguments: argparse.Namespace) -> None:
    from e2crf_core.commands.terminal import ProgressLine
    from e2crf_core.models.quality_card import measure_card

    print(json.dumps(measure_card(arguments.checkpoint, arguments.seed, ProgressLine("measuring"))))
