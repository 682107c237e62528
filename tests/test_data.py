"""Shipped data sets: the cards are correct, and no part of a held-out window is used for training."""

import json

import numpy as np
import pytest

from e2crf_core.data.datasets import block_split, list_datasets, load_dataset
from e2crf_core.errors import LabError
from e2crf_core.io.resources import assets_dir

SHIPPED = ("ecg", "household", "stocks", "wind")


@pytest.fixture(params=SHIPPED)
def dataset(request):
    return load_dataset(request.param)


def spans(dataset):
    """Return (group, first, last) of every window, in days for dates and in samples for heartbeats."""
    if dataset.start.dtype.kind in "US":
        first = dataset.start.astype("datetime64[D]").astype(float)
        return np.zeros(len(first)), first, first + dataset.card["split"]["span"]
    group = np.unique(dataset.group, return_inverse=True)[1].astype(float)
    return group, dataset.start.astype(float), dataset.start + dataset.length


def test_four_are_shipped():
    assert tuple(list_datasets()) == SHIPPED


def test_no_heldout_window_overlaps_a_training_window(dataset):
    group, first, last = spans(dataset)
    train, held = dataset.train, dataset.heldout
    overlap = (
        (group[held, None] == group[train])
        & (first[held, None] < last[train])
        & (first[train] < last[held, None])
    )
    assert not overlap.any()


def test_enough_is_held_out_to_judge_by(dataset):
    assert len(dataset.heldout) >= 60
    assert len(dataset.train) > 3 * len(dataset.heldout)


def test_standardization_is_of_the_training_windows_and_inverts(dataset):
    z = dataset.standardize(dataset.x)
    train = z[dataset.train].astype(np.float64)
    np.testing.assert_allclose(train.mean((0, 1)), 0, atol=1e-3)
    np.testing.assert_allclose(train.std((0, 1)), 1, atol=1e-3)
    back = z * dataset.std + dataset.mean
    np.testing.assert_allclose(back, dataset.x, atol=2e-5 * np.abs(dataset.x).max())


def test_card_numbers_are_those_of_the_array(dataset):
    card, measured = dataset.card, dataset.card["measured"]
    assert (measured["windows"], measured["steps"]) == dataset.x.shape[:2]
    assert measured["train"] == len(dataset.train)
    assert measured["heldout"] == len(dataset.heldout)
    assert sum(measured["groups"].values()) == len(dataset.x)
    assert len(card["units"]) == len(dataset.channels)
    for entry in measured["energy_below"].values():
        shares = dataset.localization[entry["frequencies"] - 1]
        np.testing.assert_allclose(entry["share"], shares, atol=1e-4)


def test_localization_rises_to_all_of_the_energy(dataset):
    shares = dataset.localization
    assert shares.shape == (dataset.length // 2 + 1, len(dataset.channels))
    assert (np.diff(shares, axis=0) >= -1e-12).all()
    np.testing.assert_allclose(shares[-1], 1.0)


MUST_BE_NAMED = {
    "ecg": (
        "MIT-BIH Arrhythmia Database v1.0.0",
        "ODC Attribution License",
        "PLUX Wireless Biosignals",
        "Pedro Gomes",
    ),
    "stocks": ("Quandl WIKI Prices", "public domain"),
    "wind": ("ENGIE, La Haute Borne, updated 9 October 2019", "Licence Ouverte / Open Licence 2.0"),
    "household": ("Hebrail & Berard", "UCI Machine Learning Repository (235)", "CC BY 4.0"),
}


def test_every_source_is_attributed_in_file_and_card(dataset):
    text = " ".join((assets_dir() / "data" / "ATTRIBUTION.md").read_text(encoding="utf-8").split())
    card = " ".join(dataset.card["attribution"])
    assert dataset.card["license"]
    for words in MUST_BE_NAMED[dataset.name]:
        assert words in text
        assert words in card


def test_known_values_survive_the_packing():
    wind = load_dataset("wind")
    assert wind.channels == ("P_avg", "Ws_avg", "Ba_avg", "Ot_avg")
    assert -50 < wind.x[..., 0].min() < 0 and 2000 < wind.x[..., 0].max() < 2200  # kW of a 2 MW turbine
    assert load_dataset("ecg").x.min() == pytest.approx(0, abs=1e-4)


def test_split_holds_out_whole_stretches_per_group():
    group = np.repeat(["a", "b"], 100)
    start = np.tile(np.arange(100), 2)
    split = block_split(group, start, span=3, share=0.2, blocks=2)
    for part in (split[:100], split[100:]):
        held = np.flatnonzero(part == 1)
        assert 10 <= len(held) <= 20
        assert (np.diff(held) > 1).sum() == 1, "two blocks make two stretches"
    # A window that starts before a stretch and reaches into it belongs to neither side.
    first = np.flatnonzero(split[:100] == 1)[0]
    assert (split[first - 2 : first] == 2).all()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda z: z.pop("group"), "group"),
        (lambda z: z.update(X=z["X"][0]), "shape"),
        (lambda z: z.update(start=z["start"][:-1]), "start"),
        (lambda z: z.pop("offset"), "offset"),
        (lambda z: z.update(channels=np.array(["x"] * 9)), "channels"),
    ],
)
def test_a_file_that_is_no_data_set_is_refused(tmp_path, change, word):
    with np.load(assets_dir() / "data" / "ecg.npz") as stored:
        arrays = dict(stored)
    change(arrays)
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(LabError, match=word):
        load_dataset(tmp_path / "mine.npz")


def test_damaged_cards_and_unknown_names_are_refused(tmp_path):
    with pytest.raises(LabError, match="ecg, household, stocks, wind"):
        load_dataset("weather")
    source = assets_dir() / "data" / "ecg.npz"
    (tmp_path / "dataset.npz").write_bytes(source.read_bytes())
    (tmp_path / "card.json").write_text("{not json")
    with pytest.raises(LabError, match="card"):
        load_dataset(tmp_path)
    (tmp_path / "card.json").write_text(json.dumps({"units": ["a", "b"]}))
    with pytest.raises(LabError, match="card"):
        load_dataset(tmp_path)
    (tmp_path / "dataset.npz").write_bytes(source.read_bytes()[:2000])
    with pytest.raises(LabError, match="cannot be read"):
        load_dataset(tmp_path)
