"""Training learns, resumes as if never stopped, and rejects data that it cannot train on."""

import os
import shutil
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
from e2crf_core.data.datasets import Dataset, load_dataset
from e2crf_core.data.importing import import_file
from e2crf_core.io.resources import assets_dir
from e2crf_core.models.training import Trainer, TrainSpec
from e2crf_core.models.training_data import training_data
from tests.edited import edit

ROOT = Path(__file__).resolve().parent.parent
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
    """F = 0 has a held-out loss of about 1 on purely Gaussian data; square waves have more to learn."""
    trainer = Trainer(replace(SPEC, steps=300, learning_rate=5e-3, evaluate_every=100), toy(400), tmp_path)
    before = trainer.heldout_loss()
    events = list(trainer.run())
    assert events[-1].step == 300 and events[-1].best < 0.9 * before
    assert all(e.seconds_left >= 0 for e in events)


def test_training_in_bfloat16_learns_and_keeps_float32_weights(tmp_path: Path) -> None:
    trainer = Trainer(replace(SPEC, bf16=True), toy(), tmp_path / "model")
    losses = [event.heldout for event in trainer.run()]
    assert losses[-1] < losses[0]
    trainer.save()
    model = load_checkpoint(tmp_path / "model", "cpu")
    assert model.dtype == torch.float32
    assert np.isfinite(Sampler(model, None, steps=12).sample(2).series).all()


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
    code = KILLED.format(root=str(ROOT), out=str(tmp_path / "cut"))
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
        edit(folder / "card.json", text)
        with pytest.raises(LabError) as caught:
            load_checkpoint(folder, device="cpu")
        assert "\n" not in str(caught.value)


def test_a_resume_on_other_data_is_refused(tmp_path: Path) -> None:
    """A new import under the same name must not mix old weights with new statistics."""
    list(Trainer(replace(SPEC, steps=10), toy(), tmp_path).run())
    for other in (toy(64), toy(length=20)):
        with pytest.raises(LabError, match="other data") as caught:
            Trainer(replace(SPEC, steps=10), other, tmp_path)
        assert caught.value.field == "out" and "\n" not in str(caught.value)


def test_a_damaged_state_is_refused_in_one_line(tmp_path: Path) -> None:
    list(Trainer(replace(SPEC, steps=10), toy(), tmp_path).run())
    state = tmp_path / "training" / "state.pt"
    state.write_bytes(state.read_bytes()[:500])
    with pytest.raises(LabError, match="cannot be resumed") as caught:
        Trainer(replace(SPEC, steps=10), toy(), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("unit", [1e-15, 1e-12, 1.0, 1e12])
def test_a_series_trains_alike_in_every_unit(tmp_path: Path, unit: float) -> None:
    """Tesla, picoamperes, plain numbers and hertz differ by a factor; nothing else may differ."""
    plain, scaled = toy(), replace(toy(), x=(toy().x * unit).astype(np.float32))
    np.testing.assert_allclose(scaled.standardize(scaled.x), plain.standardize(plain.x), rtol=1e-3, atol=1e-5)
    trainers = [
        Trainer(replace(SPEC, steps=20), data, tmp_path / d) for d, data in (("a", plain), ("b", scaled))
    ]
    losses = [list(trainer.run())[-1].heldout for trainer in trainers]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_a_constant_channel_divides_safely() -> None:
    data = toy()
    for value in (0.0, 5.0, -3e-13):
        flat = replace(data, x=np.full_like(data.x, value))
        assert np.abs(flat.standardize(flat.x)).max() < 2


def run_command(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run an `e2crf_core` command in `folder`; return its exit code and last line."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "E2CRF_HOME": str(folder / "home")}
    done = subprocess.run(
        [sys.executable, "-m", "e2crf_core", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    return done.returncode, (done.stderr.strip().splitlines() or [""])[-1]


@pytest.fixture
def sine_file(tmp_path: Path) -> Path:
    t = np.arange(1200)
    path = tmp_path / "sine.npy"
    np.save(path, (np.sin(t / 3) + 0.1 * np.cos(t))[:, None])
    return path


def test_a_data_set_in_another_folder_serves_training_and_sampling(tmp_path: Path, sine_file: Path) -> None:
    import_file(sine_file, window=16, out=tmp_path / "sets" / "rates")
    small = ("--steps", "5", "--batch", "4", "--threads", "1")
    assert run_command(tmp_path, "train", "--data", "sets/rates", *small, "--out", "model")[0] == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    model = str(tmp_path / "model")
    code, line = run_command(
        elsewhere, "sample", "--checkpoint", model, "--num", "2", "--steps", "10", "--out", "s.npz"
    )
    assert code == 0, line
    assert (elsewhere / "s.npz").is_file()


def test_a_data_set_that_was_imported_anew_is_not_taken_for_that_of_its_model(
    tmp_path: Path, sine_file: Path
) -> None:
    folder = tmp_path / "rates"
    import_file(sine_file, window=16, out=folder)
    trainer = Trainer(replace(SPEC, steps=5), load_dataset(folder), tmp_path / "model")
    list(trainer.run())
    trainer.save()
    model = load_checkpoint(tmp_path / "model", "cpu")
    assert training_data(model).digest == model.meta["data_digest"]
    np.save(sine_file, np.random.default_rng(0).normal(size=(1200, 1)))
    import_file(sine_file, window=16, out=folder)
    with pytest.raises(LabError, match="is not what checkpoint 'model' was trained on"):
        training_data(model)
    shutil.rmtree(folder)
    with pytest.raises(LabError, match="data set of checkpoint 'model' cannot be used"):
        training_data(model)


def test_a_moved_data_set_resumes_its_training_but_a_lone_checkpoint_is_not_overwritten(
    tmp_path: Path,
) -> None:
    spec, out = replace(SPEC, steps=10), tmp_path / "model"
    first = Trainer(spec, toy(), out)
    list(first.run())
    first.save()
    moved = Trainer(replace(spec, data="/elsewhere/toy"), toy(), out)
    assert moved.step == 10 and moved.spec.data == "/elsewhere/toy"
    shutil.rmtree(out / "training")
    with pytest.raises(LabError, match="only the checkpoint is left"):
        Trainer(spec, toy(), out)


def test_too_few_held_out_windows_are_refused_before_training(tmp_path: Path, sine_file: Path) -> None:
    import_file(sine_file, window=100, out=tmp_path / "few")
    code, line = run_command(tmp_path, "train", "--data", "few", "--steps", "5", "--out", "model")
    assert code == 2 and "held-out windows" in line
    assert not (tmp_path / "model").exists()


def test_a_shipped_checkpoint_is_neither_shadowed_nor_overwritten(tmp_path: Path, sine_file: Path) -> None:
    import_file(sine_file, window=16, out=tmp_path / "own")
    card = (assets_dir() / "checkpoints" / "stocks" / "card.json").read_bytes()
    code, line = run_command(tmp_path, "train", "--data", "own", "--steps", "5", "--out", "stocks")
    assert code == 2 and "ships with the lab" in line
    assert not (tmp_path / "stocks").exists()
    assert (assets_dir() / "checkpoints" / "stocks" / "card.json").read_bytes() == card
