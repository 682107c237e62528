"""Training: it learns, resumes as if never stopped, and refuses what cannot train."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from e2crf_core import LabError, Sampler, load_checkpoint
from e2crf_core.caching.policy import PRESETS
from e2crf_core.data.datasets import Dataset
from e2crf_core.models.training import Trainer, TrainSpec

SPEC = TrainSpec(
    data="toy", width=16, layers=1, heads=2, hidden=16, steps=60, batch=16, evaluate_every=10, seed=3
)


def toy(windows: int = 60, length: int = 16) -> Dataset:
    rng = np.random.default_rng(0)
    phase = rng.uniform(0, 6, (windows, 1))
    x = np.sign(np.sin(phase + np.arange(length) * 0.8))[..., None] + 0.05 * rng.standard_normal(
        (windows, length, 1)
    )
    split = np.zeros(windows, np.uint8)
    split[::4] = 1
    return Dataset(
        name="toy",
        title="toy",
        domain="test",
        x=x.astype(np.float32),
        channels=("x",),
        units=("",),
        group=np.array(["g"] * windows),
        start=np.arange(windows),
        split=split,
        license="",
        source="",
    )


def weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.flatten() for _, p in sorted(trainer.network.state_dict().items())])


def test_training_beats_the_gaussian_denoiser(tmp_path: Path) -> None:
    """F = 0 has a held-out loss of about 1 on data whose Gaussian part is all there is; square waves have more."""
    trainer = Trainer(replace(SPEC, steps=300, learning_rate=5e-3, evaluate_every=100), toy(400), tmp_path)
    before = trainer.heldout_loss()
    events = list(trainer.run())
    assert events[-1].step == 300 and events[-1].best < 0.9 * before
    assert all(e.seconds_left >= 0 for e in events)


def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = Trainer(SPEC, toy(), tmp_path / "whole")
    list(whole.run())
    stop = iter([False] * 30 + [True] * 100)
    cut = Trainer(SPEC, toy(), tmp_path / "cut")
    list(cut.run(cancelled=lambda: next(stop)))
    assert cut.step == 30
    resumed = Trainer(SPEC, toy(), tmp_path / "cut")
    assert resumed.step == 30
    reports: list[tuple[int, int]] = []
    list(resumed.run(progress=lambda done, total: reports.append((done, total))))
    assert reports == [(done, 30) for done in range(1, 31)]
    assert torch.equal(weights(whole), weights(resumed))
    assert whole.best == resumed.best
    assert all(torch.equal(p, resumed.best_weights[k]) for k, p in whole.best_weights.items())


KILLED = """
import sys, torch
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.test_training import SPEC, toy
from e2crf_core.models.training import Trainer
torch.set_num_threads(1)
for event in Trainer(SPEC, toy(), Path({out!r})).run():
    print(event.step, flush=True)
"""


def test_kill_minus_nine_and_resume(tmp_path: Path) -> None:
    root = str(Path(__file__).resolve().parent.parent)
    code = KILLED.format(root=root, out=str(tmp_path / "cut"))
    victim = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert victim.stdout is not None
    for line in victim.stdout:
        if int(line) >= 20:
            os.kill(victim.pid, signal.SIGKILL)
            break
    victim.wait()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        whole = Trainer(SPEC, toy(), tmp_path / "whole")
        list(whole.run())
        resumed = Trainer(SPEC, toy(), tmp_path / "cut")
        assert 20 <= resumed.step < 60
        list(resumed.run())
    finally:
        torch.set_num_threads(before)
    assert torch.equal(weights(whole), weights(resumed))


def test_a_checkpoint_comes_back_as_it_was_and_samples(tmp_path: Path) -> None:
    dataset = toy()
    trainer = Trainer(replace(SPEC, steps=20), dataset, tmp_path / "model")
    list(trainer.run())
    saved = trainer.save()
    loaded = load_checkpoint(tmp_path / "model", device="cpu")
    assert loaded.digest() == saved.digest() and loaded.channels == ("x",)
    a = Sampler(saved, PRESETS["fast"], steps=15).sample(3, seed=1)
    b = Sampler(loaded, PRESETS["fast"], steps=15).sample(3, seed=1)
    np.testing.assert_array_equal(a.series, b.series)


def test_a_resume_with_other_settings_is_refused(tmp_path: Path) -> None:
    list(Trainer(replace(SPEC, steps=10), toy(), tmp_path).run())
    with pytest.raises(LabError, match="other settings"):
        Trainer(replace(SPEC, steps=10, learning_rate=1e-4), toy(), tmp_path)


def test_minutes_fix_the_number_of_steps_once(tmp_path: Path) -> None:
    first = Trainer(replace(SPEC, steps=0, minutes=0.02), toy(), tmp_path)
    assert first.spec.steps >= 50
    first.save_state()
    again = Trainer(replace(SPEC, steps=0, minutes=0.02), toy(), tmp_path)
    assert again.spec.steps == first.spec.steps


@pytest.mark.parametrize("wrong", [{"steps": -1}, {"batch": 0}, {"learning_rate": 0.0}, {"truncation": 2.0}])
def test_settings_that_cannot_train_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(LabError, match=next(iter(wrong))):
        replace(SPEC, **wrong)


def test_damaged_checkpoints_are_refused_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    trainer = Trainer(replace(SPEC, steps=10), toy(), folder)
    list(trainer.run())
    trainer.save()
    good = (folder / "model.safetensors").read_bytes()
    card = (folder / "card.json").read_text()
    for weights_bytes, text in (
        (good[:100], card),
        (b"", card),
        (good, "{"),
        (good, card.replace('"schema": 1', '"schema": 7')),
        (good, card.replace('"width": 16', '"width": 32')),
        (good, card.replace('"length": 16', '"length": 40')),
    ):
        (folder / "model.safetensors").write_bytes(weights_bytes)
        (folder / "card.json").write_text(text)
        with pytest.raises(LabError) as caught:
            load_checkpoint(folder, device="cpu")
        assert "\n" not in str(caught.value)
