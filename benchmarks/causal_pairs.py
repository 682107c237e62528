"""Compare full with causal attention (E6): does causality cost quality at equal training?

    python -m benchmarks.causal_pairs train --data wind --steps 2500 --seed 0 --work runs/pairs
    python -m benchmarks.causal_pairs measure --data wind --steps 2500 --seed 0 --work runs/pairs

`train` trains the causal network (or, with `--arm full`, the other one) as `e2crf train` does, and can be
resumed.
`measure` adds the pair to benchmarks/results/causal_pairs.json. A shipped checkpoint that was trained with the same
steps and seed serves as the arm with full attention. Both networks start from the same weights and see the same
batches; both sample from the same noise, uncached. "before" is full attention, "after" is causal.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch

from e2crf_core import ScoreModel, load_checkpoint, load_dataset
from e2crf_core.commands.terminal import ProgressLine
from e2crf_core.io.json_files import write_json
from e2crf_core.io.provenance import Provenance
from e2crf_core.models.folders import read_card
from e2crf_core.models.quality_change import NUM, quality_change
from e2crf_core.models.training import TRAIN_PRESETS, Trainer, TrainSpec

RESULTS = Path("benchmarks/results/causal_pairs.json")
BANDS = (4, 8, 16, 32, 64)


def spec_of(data: str, steps: int, seed: int, arm: str, batch: int = 64) -> TrainSpec:
    """Return the training specification of one arm of a pair."""
    spec = TrainSpec(data=data, steps=steps, seed=seed, batch=batch, **TRAIN_PRESETS["compact"])
    return replace(spec, bands=BANDS) if arm == "causal" else spec


def folder_of(work: Path, data: str, steps: int, seed: int, arm: str) -> Path:
    """Return the folder in which an arm is trained."""
    return work / f"{data}-{arm}-{steps}-{seed}"


def train(arguments: argparse.Namespace) -> None:
    """Train one arm, or resume it."""
    torch.set_num_threads(arguments.threads)
    key = (arguments.data, arguments.steps, arguments.seed, arguments.arm)
    folder = folder_of(arguments.work, *key)
    trainer = Trainer(spec_of(*key), load_dataset(arguments.data), folder)
    for event in trainer.run():
        print(f"{folder.name} step {event.step}/{event.steps} held-out {event.heldout:.4f}", flush=True)
    trainer.save()


def load_arm(work: Path, data: str, steps: int, seed: int, arm: str) -> ScoreModel:
    """Load a trained arm, or the shipped checkpoint if it was trained the same way."""
    folder = folder_of(work, data, steps, seed, arm)
    if arm == "full" and not (folder / "model.safetensors").is_file():
        training = read_card(data)["training"]
        if (training["steps_done"], training["seed"]) == (steps, seed) and not training.get("bands"):
            return load_checkpoint(data, "cpu")
    return load_checkpoint(folder, "cpu")


def measure(arguments: argparse.Namespace) -> None:
    """Compare a pair and add it to the results."""
    torch.set_num_threads(arguments.threads)
    key = (arguments.data, arguments.steps, arguments.seed)
    full, causal = (load_arm(arguments.work, *key, arm) for arm in ("full", "causal"))
    dataset = load_dataset(arguments.data)
    provenance = {
        model: Provenance.now(
            data=dataset.digest, checkpoint=made.digest(), seeds=[arguments.seed], batch=64
        ).to_json()
        for model, made in (("full", full), ("causal", causal))
    }
    change = quality_change(
        full, causal, dataset, num=arguments.num, seed=arguments.seed, progress=ProgressLine("sampling")
    )
    row = {
        "data": arguments.data,
        "training_steps": arguments.steps,
        "training_seed": arguments.seed,
        "bands": list(causal.network.edges),
        "quality": change.to_json(),
        "provenance": provenance,
    }
    rows = json.loads(RESULTS.read_text())["pairs"] if RESULTS.is_file() else []
    rows = [r for r in rows if (r["data"], r["training_steps"], r["training_seed"]) != key] + [row]
    write_json(RESULTS, {"schema": 2, "pairs": rows})
    print(f"{arguments.data}, seed {arguments.seed}: {change.judgment.verdict}: {change.judgment.describe()}")


def main() -> None:
    """Train an arm or measure a pair."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("task", choices=("train", "measure"))
    parser.add_argument("--data", required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--arm", choices=("full", "causal"), default="causal")
    parser.add_argument("--work", type=Path, required=True, help="folder of the trainings")
    parser.add_argument("--num", type=int, default=NUM, help="series of each network")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    {"train": train, "measure": measure}[arguments.task](arguments)


if __name__ == "__main__":
    main()
