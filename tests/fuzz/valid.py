"""Make one valid file of each kind, from which damaged ones are made; read-only afterwards."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from e2crf_core.caching.policy import CachePolicy
from e2crf_core.data.importing import import_file
from e2crf_core.deploy.card import PolicyCard
from e2crf_core.deploy.html import save_card
from e2crf_core.deploy.measure import make_card
from e2crf_core.evaluation.shards import Shard
from e2crf_core.models.checkpoints import load_checkpoint, save_checkpoint
from e2crf_core.models.training import Trainer, TrainSpec
from e2crf_core.runs.archive import of_handle, save
from e2crf_core.runs.run import RunSpec
from e2crf_core.sampling.config import SamplerConfig
from tests.conftest import make_model
from tests.rates import rates
from tests.studies import study, toy
from tests.tiny import ended

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
CASES = ROOT / "tests" / "cases"
POLICY = CachePolicy(trigger="paper", tau=0.3, k_low=1, probe_share=0.1, refresh_every=7)
TRAINING = TrainSpec(data="toy", width=16, layers=1, heads=2, hidden=16, steps=4, batch=8, evaluate_every=2)


def make(folder: Path) -> None:
    """Fill `folder` with a checkpoint, a policy card, a run, a data set, a study, a training, shards, tables."""
    model = replace(make_model(dtype=torch.float32), name="model", dataset="")
    save_checkpoint(model, folder / "model")
    _card(folder)
    spec = RunSpec("model", 2, 3, SamplerConfig(POLICY, 12, "ddim"), "cpu", watch=1)
    save(of_handle(ended(spec, model), note="a note"), folder / "run.zip")
    _tables(folder / "tables")
    import_file(folder / "tables" / "rates.csv", window=16, stride=8, out=folder / "data")
    searched = study(folder / "study", reference_steps=12, minutes=1)
    list(searched.run(max_trials=1))
    trainer = Trainer(TRAINING, toy(), folder / "training")
    list(trainer.run())
    _evaluation(folder / "evaluation")


def _card(folder: Path) -> None:
    card = make_card(
        "../model",
        load_checkpoint(folder / "model", "cpu"),
        SamplerConfig(POLICY, 10, "ddim", batch=2),
        num=2,
    )
    assert isinstance(card, PolicyCard)
    save_card(card, folder / "card")


def _evaluation(out: Path) -> None:
    (out / "shards").mkdir(parents=True)
    shard = Shard(np.zeros((2, 24, 2), np.float32), 1.0, 0.5, 0.5, 1e6, "0a", {"cores": 2})
    meta = json.dumps({name: value for name, value in asdict(shard).items() if name != "series"})
    np.savez(out / "shards" / "000-r000.npz", series=shard.series, meta=np.array(meta))
    (out / "evaluation.json").write_text('{"schema": 2, "num": 2, "seed": 0}')
    row = {
        "name": "a",
        "solver": "ddim",
        "grid": "linear",
        "steps": 20,
        "policy": {"trigger": "paper", "tau": 0.3},
    }
    rows = [row, {**row, "name": "b", "policy": "fast"}, {**row, "name": "c", "policy": None}]
    (out / "configs.json").write_text(json.dumps(rows))


def _tables(folder: Path) -> None:
    """Write a small file of every format that the importer reads, and the cases that people really have."""
    folder.mkdir()
    table = rates(60, 3, holes=0.02)
    table.to_csv(folder / "rates.csv", index=False)
    table.to_csv(folder / "rates.tsv", index=False, sep="\t")
    table.iloc[:, 1:].to_csv(folder / "spaces.txt", index=False, sep=" ", na_rep="nan")
    table.to_parquet(folder / "rates.parquet")
    odd = table.assign(flag=True, when=pd.Timestamp("2020-01-01"), text="x", kind=pd.Categorical(["a"] * 60))
    odd.to_parquet(folder / "odd.parquet")
    rng = np.random.default_rng(0)
    walk = rng.standard_normal((60, 2)).cumsum(0)
    np.save(folder / "walk.npy", walk)
    np.save(folder / "windows.npy", rng.standard_normal((8, 16, 2)).astype(">f4"))
    np.savez(folder / "columns.npz", a=walk[:, 0], b=walk[:, 1])
    np.savez(folder / "windows.npz", X=rng.standard_normal((8, 16, 2)))
    series = "\n".join(
        ":".join(",".join(f"{v:.3f}" for v in walk[:16, c]) for c in (0, 1)) + f":{i}" for i in range(6)
    )
    (folder / "series.ts").write_text(f"# c\n@problemName x\n@classLabel true a b\n@data\n{series}\n")
    for path in CASES.iterdir():
        if path.suffix in (".csv", ".tsv", ".txt", ".npy", ".npz", ".parquet"):
            shutil.copy(path, folder)
