"""Imported data and trained models are found by name, and no name leads outside the user's folder."""

import shutil
import subprocess
import sys

import pytest

from e2crf_core.data.datasets import list_datasets, load_dataset
from e2crf_core.data.importing import import_file
from e2crf_core.errors import LabError
from e2crf_core.io.sets import DIGESTS, write_set
from e2crf_core.io.userfiles import check_name, clean_home, free_name, user_folder
from e2crf_core.models.checkpoints import checkpoint_folder, list_checkpoints, load_checkpoint, read_card
from tests.tiny import tiny_assets


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("E2CRF_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def imported(tmp_path, name):
    file = tmp_path / "numbers.csv"
    file.write_text("a,b\n" + "".join(f"{i % 7},{i % 5}\n" for i in range(200)))
    import_file(file, window=10, out=user_folder("data", name))


def test_an_imported_set_is_listed_after_the_shipped_ones_and_loads_by_name(tmp_path):
    shipped = list_datasets()
    imported(tmp_path, "mine")
    assert list_datasets() == [*shipped, "mine"]
    assert load_dataset("mine").x.shape[1:] == (10, 2)


def test_a_shipped_name_is_not_imported_and_wins_over_an_old_one(tmp_path, home):
    with pytest.raises(LabError, match="ships with the lab"):
        imported(tmp_path, "ecg")
    assert not (home / "data" / "ecg").exists()
    imported(tmp_path, "own")
    (home / "data" / "own").rename(home / "data" / "ecg")
    assert list_datasets().count("ecg") == 1 and load_dataset("ecg").length == 187


def test_a_trained_checkpoint_is_found_by_name_beside_the_shipped_ones(tmp_path, monkeypatch, home):
    assets = tiny_assets(tmp_path / "assets", datasets=("ecg",))
    monkeypatch.setenv("E2CRF_ASSETS", str(assets))
    shutil.copytree(assets / "checkpoints" / "ecg", home / "checkpoints" / "my-ecg")
    assert list_checkpoints() == ["ecg", "my-ecg"]
    assert checkpoint_folder("my-ecg") == home / "checkpoints" / "my-ecg"
    assert read_card("my-ecg")["dataset"] == "ecg" and load_checkpoint("my-ecg").name == "my-ecg"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/etc", "a\\b", ".hidden", "ä", "x" * 49, "a\n"]
)
def test_names_that_could_lead_elsewhere_are_refused(name):
    with pytest.raises(LabError, match="cannot be used"):
        user_folder("data", name)


def test_folders_with_other_names_are_not_listed(home):
    (home / "data" / "not ours").mkdir(parents=True)
    (home / "data" / "not ours" / "dataset.npz").touch()
    assert "not ours" not in list_datasets()


@pytest.mark.parametrize("wanted", ["Prices 2024.csv", "../../etc", "", "ÄÖÜ", "a" * 99, "--x--"])
def test_a_free_name_is_always_safe_and_new(wanted):
    first = check_name(free_name(wanted, []))
    second = check_name(free_name(wanted, [first]))
    assert second != first and check_name(free_name(wanted, [first, second])) not in (first, second)


WRITER = "import sys, pathlib, e2crf_core.io.files as f; f.temporary_folder(pathlib.Path(sys.argv[1]), 'set')"


def test_what_killed_processes_left_is_gone_after_the_next_start(home):
    folder = home / "checkpoints" / "mine"
    write_set(folder, {"card.json": lambda path: path.write_text("old")})
    subprocess.run([sys.executable, "-c", WRITER, str(folder)], check=True)
    assert list(folder.glob(".set.*"))
    (folder / ".committed").mkdir()
    (folder / ".committed" / "card.json").write_text("new")
    clean_home()
    assert sorted(path.name for path in folder.iterdir()) == ["card.json", DIGESTS]
    assert (folder / "card.json").read_text() == "new"
