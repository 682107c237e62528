"""A complete set of assets with a small random network: pages and runs take a fraction of the time."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from e2crf_core.caching.policy import CachePolicy
from e2crf_core.data.datasets import load_dataset
from e2crf_core.diffusion.score_model import ScoreModel
from e2crf_core.io.resources import assets_dir
from e2crf_core.models.checkpoints import save_checkpoint
from e2crf_core.models.training import Trainer, TrainSpec
from e2crf_core.runs.archive import Archive, of_handle, save
from e2crf_core.runs.run import RunHandle, RunSpec
from e2crf_core.sampling.config import SamplerConfig
from tests.waiting import PATIENCE_S

TINY = {"width": 16, "layers": 2, "heads": 2, "hidden": 32}


def tiny_assets(folder: Path, datasets: tuple[str, ...] = ("ecg", "wind"), **sizes: int) -> Path:
    """Fill `folder` with the shipped data and an untrained checkpoint for each of `datasets`; returns it.

    Weights are random, so that the network's output is not zero and caching it makes a difference.
    """
    shutil.copytree(assets_dir() / "data", folder / "data")
    for name in datasets:
        spec = TrainSpec(name, steps=1, **(sizes or TINY))
        model = Trainer(spec, load_dataset(name), folder / "training" / name).model()
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in model.network.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        save_checkpoint(model, folder / "checkpoints" / name)
    return folder


def ended(
    spec: RunSpec,
    model: ScoreModel,
    change: CachePolicy | None = None,
    *,
    after: int = 11,
    seconds: float = 60,
) -> RunHandle:
    """Run `model` to the end, changing the policy once `after` steps are recorded."""
    run = RunHandle(spec, load=lambda name, device: model)
    if change is not None:
        for _ in range(after):
            run.step_once()
        while run.recorder is None or run.recorder.count < after:
            run.wait(0.01)
        run.set_policy(change)
    run.start()
    assert run.wait(seconds) and run.status == "done", run.error
    return run


DEMO_POLICY = CachePolicy(trigger="paper", tau=0.3, k_low=1, probe_share=0.05, refresh_every=20)


def tiny_demo(assets: Path, steps: int = 40) -> Archive:
    """Record a short run of the small ECG network as the demo of these assets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("E2CRF_ASSETS", str(assets))
        run = RunHandle(RunSpec("ecg", 3, 5, SamplerConfig(DEMO_POLICY, steps), "cpu", watch=1))
        run.start()
        assert run.wait(PATIENCE_S) and run.status == "done", run.error
        archive = replace(of_handle(run), name="demo")
    save(archive, assets / "demo" / "run.zip")
    return archive
