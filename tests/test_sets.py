"""Files that belong together are written as one set; a set that is not what was written is refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from e2crf_core import LabError
from e2crf_core.data.datasets import load_dataset, shipped_datasets
from e2crf_core.io.resources import assets_dir
from e2crf_core.io.sets import DIGESTS, read_set, settle, write_set
from e2crf_core.models.checkpoints import load_checkpoint, shipped_checkpoints

NAMES = ("a.txt", "b.txt")


def write(folder: Path, text: str, names: tuple[str, ...] = NAMES, beside: tuple[str, ...] = ()) -> None:
    write_set(folder, {name: lambda path: path.write_text(text) for name in names}, beside)


def read(folder: Path) -> tuple[str, ...]:
    return read_set(folder, NAMES, lambda: tuple((folder / name).read_text() for name in NAMES))


def test_a_set_comes_back_and_leaves_nothing_else(tmp_path: Path) -> None:
    for text in ("old", "new"):
        write(tmp_path, text)
        assert read(tmp_path) == (text, text)
    assert sorted(p.name for p in tmp_path.iterdir()) == [*NAMES, DIGESTS]


def test_a_writer_that_fails_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, "old")

    def fail(path: Path) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        write_set(tmp_path, {"a.txt": lambda path: path.write_text("new"), "b.txt": fail})
    assert read(tmp_path) == ("old", "old")
    assert sorted(p.name for p in tmp_path.iterdir()) == [*NAMES, DIGESTS]


@pytest.mark.parametrize("moves", range(4))
def test_a_committed_set_is_completed_by_the_next_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    """The writer dies after the commit and so many moves: at none of them is a file of the old set read."""
    write(tmp_path, "old")
    replace, done = os.replace, []

    def dying(source: Path, target: Path) -> None:
        if len(done) == moves:
            raise KeyboardInterrupt
        done.append(target)
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying)
        if moves < 3:
            with pytest.raises(KeyboardInterrupt):
                write(tmp_path, "new")
        else:
            write(tmp_path, "new")
    assert read(tmp_path) == ("new", "new")
    assert sorted(p.name for p in tmp_path.iterdir()) == [*NAMES, DIGESTS]


@pytest.mark.parametrize("name", [*NAMES, DIGESTS])
def test_every_flipped_bit_of_a_set_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path, "content")
    path, good = tmp_path / name, (tmp_path / name).read_bytes()
    for place in range(0, 8 * len(good), 7):
        damaged = bytearray(good)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            # White space in digests.json means nothing.
            assert read(tmp_path) == ("content", "content") and name == DIGESTS
        except LabError as fault:
            assert "\n" not in str(fault) and (fault.remedy or "").startswith("restore")
    path.write_bytes(good)
    assert read(tmp_path) == ("content", "content")


def test_a_file_of_another_set_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "one", "one")
    write(tmp_path / "two", "two")
    shutil.copy(tmp_path / "two" / "a.txt", tmp_path / "one" / "a.txt")
    with pytest.raises(LabError, match=r"a\.txt is damaged or was changed"):
        read(tmp_path / "one")
    (tmp_path / "one" / "a.txt").unlink()
    with pytest.raises(LabError, match="missing"):
        read(tmp_path / "one")


def test_files_of_the_first_release_have_no_digests_and_get_them_with_the_next_change(tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / name).write_text("old")
    assert read(tmp_path) == ("old", "old")
    write(tmp_path, "new", ("b.txt",), beside=("a.txt",))
    assert read(tmp_path) == ("old", "new")
    (tmp_path / "a.txt").write_text("other")
    with pytest.raises(LabError, match="damaged"):
        read(tmp_path)


def test_a_set_that_changes_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    write(tmp_path, "old")
    rest = iter((True, False))

    def slow() -> tuple[str, str]:
        first = (tmp_path / "a.txt").read_text()
        if next(rest):
            write(tmp_path, "new")
        return first, (tmp_path / "b.txt").read_text()

    assert read_set(tmp_path, NAMES, slow) == ("new", "new")


def test_a_commit_that_leads_elsewhere_is_left_alone(tmp_path: Path) -> None:
    """A folder from a stranger may hold a link to files of its new owner."""
    private, folder = tmp_path / "private", tmp_path / "folder"
    write(private, "mine")
    folder.mkdir()
    (folder / ".committed").symlink_to(private)
    settle(folder)
    assert read(private) == ("mine", "mine")


def test_the_shipped_files_are_what_their_digests_say() -> None:
    """After an intended change: `python assets/seal.py`."""
    for folder in (assets_dir() / "data", *(assets_dir() / "checkpoints").iterdir()):
        assert (folder / DIGESTS).is_file()
    data = {name: load_dataset(name).digest for name in shipped_datasets()}
    for name in shipped_checkpoints():
        model = load_checkpoint(name, "cpu")
        assert model.meta["data_digest"] == data[model.dataset]
