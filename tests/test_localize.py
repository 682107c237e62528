"""Localize: a checkpoint with full attention becomes a causal one and reports the loss of quality."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from e2crf_core import Dataset, LabError, ScoreModel, load_checkpoint
from e2crf_core.errors import Cancelled
from e2crf_core.models.localize import localize as localize_fully
from e2crf_core.models.training import Trainer
from tests.test_training import SPEC, toy

localize = partial(localize_fully, num=24)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Provide short square waves."""
    return toy(80)


@pytest.fixture(scope="module")
def trained(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> ScoreModel:
    """Provide a small network with full attention."""
    trainer = Trainer(replace(SPEC, steps=40, learning_rate=5e-3), dataset, tmp_path_factory.mktemp("full"))
    list(trainer.run())
    return trainer.save()


def test_a_checkpoint_becomes_causal_and_states_its_price(
    trained: ScoreModel, dataset: Dataset, tmp_path: Path
) -> None:
    done: list[tuple[int, int]] = []
    causal, change = localize(
        trained,
        dataset,
        tmp_path / "out",
        steps=30,
        bands=(2, 4),
        progress=lambda d, t: done.append((d, t)),
    )
    assert causal.network.edges == (2, 4, 9) and trained.network.edges == ()
    loaded = load_checkpoint(tmp_path / "out", device="cpu")
    assert loaded.digest() == causal.digest()
    stated = loaded.meta["localized"]
    assert stated["digest"] == trained.digest() and "--bands 2,4" in loaded.meta["command"]
    assert set(stated["change"]["loss"]) == {"before", "after"}
    for entry in stated["change"]["distances"].values():
        assert entry["before"] > 0 and entry["floor"] > 0
    assert stated["change"]["verdict"] == change.judgment.verdict
    for part in stated["change"]["change"].values():
        assert part["low"] <= part["value"] <= part["high"]
    # One piece of work: progress never falls, and its total never changes.
    assert [d for d, _ in done] == sorted(d for d, _ in done)
    assert {t for _, t in done} == {done[-1][0]}


def test_the_same_weights_are_where_it_starts(trained: ScoreModel, dataset: Dataset, tmp_path: Path) -> None:
    """Fine-tuning for very few steps hardly moves the weights."""
    causal, _ = localize(trained, dataset, tmp_path / "out", steps=1, bands=(2, 4))
    moved = sum(
        float((a - b).abs().sum())
        for a, b in zip(causal.network.parameters(), trained.network.parameters(), strict=True)
    )
    size = sum(float(b.abs().sum()) for b in trained.network.parameters())
    assert moved < 0.1 * size


def test_what_cannot_be_localized_is_rejected(trained: ScoreModel, dataset: Dataset, tmp_path: Path) -> None:
    causal, _ = localize(trained, dataset, tmp_path / "out", steps=1, bands=(2, 4))
    with pytest.raises(LabError, match="causal already") as fault:
        localize(causal, dataset, tmp_path / "again", steps=1)
    assert fault.value.field == "checkpoint"
    with pytest.raises(LabError, match="length and channels"):
        localize(trained, toy(80, 24), tmp_path / "other", steps=1)
    with pytest.raises(LabError, match="do not cut"):
        localize(trained, dataset, tmp_path / "edges", steps=1, bands=(4, 2))


def test_it_can_be_called_off_and_resumes(trained: ScoreModel, dataset: Dataset, tmp_path: Path) -> None:
    asked = iter([False] * 26 + [True] * 100)
    with pytest.raises(Cancelled):
        localize(trained, dataset, tmp_path / "cut", steps=30, bands=(2, 4), cancelled=lambda: next(asked))
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    resumed, _ = localize(trained, dataset, tmp_path / "cut", steps=30, bands=(2, 4))
    whole, _ = localize(trained, dataset, tmp_path / "whole", steps=30, bands=(2, 4))
    assert resumed.digest() == whole.digest()
