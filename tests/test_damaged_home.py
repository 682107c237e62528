"""A home full of foreign and damaged files breaks no page, and viewing the pages changes no file."""

import re
from dataclasses import replace

import pytest

from e2crf_core.io.userfiles import user_names
from e2crf_core.runs.store import RunStore
from tests.damaged_home import IMAGE, fill
from tests.tiny import tiny_assets, tiny_demo
from tests.visits import PAGES, opened, text

ADDRESSES = (None, *PAGES)


@pytest.fixture(scope="module")
def assets(tmp_path_factory):
    folder = tiny_assets(tmp_path_factory.mktemp("assets"), ("ecg",))
    return folder, tiny_demo(folder)


@pytest.fixture(autouse=True)
def home(monkeypatch, assets, tmp_path):
    folder = assets[0]
    monkeypatch.setenv("E2CRF_ASSETS", str(folder))
    monkeypatch.setenv("E2CRF_HOME", str(tmp_path))
    fill(tmp_path, folder / "demo" / "run.zip", folder / "checkpoints" / "ecg" / "card.json")
    return tmp_path


def snapshot(home):
    return {str(path): path.read_bytes() for path in home.rglob("*") if path.is_file()}


@pytest.mark.parametrize("page", ADDRESSES)
def test_every_page_opens(page, home):
    before = snapshot(home)
    at = opened(page)
    assert not at.exception
    after = snapshot(home)
    assert {path: after.get(path) for path in before} == before


@pytest.mark.parametrize(
    ("page", "key", "kind", "marker"),
    [
        ("data", "set", "data", "dataset.npz"),
        ("models", "checkpoint", "checkpoints", "model.safetensors"),
        ("training", "job", "checkpoints", "training/job.json"),
        ("tune", "study", "studies", "study.db"),
        ("tune", "study", "studies", "jobs/search/job.json"),
        ("lessons", "checkpoint", "checkpoints", "model.safetensors"),
    ],
)
def test_every_damaged_thing_opens_as_damaged(page, key, kind, marker):
    names = user_names(kind, marker)
    assert names
    for name in names:
        query = {key: name} | ({"lesson": "4"} if page == "lessons" else {})
        at = opened(page, **query)
        assert not at.exception, name
        assert len(at.error) + len(at.warning) + len(at.info) + len(at.markdown) > 0


def test_damaged_things_are_marked_in_lists_and_good_ones_are_still_there():
    options = opened("data").selectbox(key="set").options
    assert "deep (damaged)" in options and any(o.startswith("wind: ") for o in options)
    options = opened("models").selectbox(key="checkpoint").options
    assert "layers (damaged)" in options and "ecg" in options
    assert "ecg" in opened().selectbox(key="checkpoint").options


def test_damaged_runs_are_left_out_of_the_list_and_explained_when_linked(assets, home):
    RunStore().add(replace(assets[1], name="good"))
    assert list(opened("runs").dataframe[0].value["Checkpoint"]) == ["ecg"]
    for path in sorted((home / "runs").glob("*.zip")):
        if path.stem != "good":
            at = opened("anatomy", run=path.stem)
            assert at.error and "Choose another run" in text(at), path.stem


def test_text_from_files_is_shown_and_not_interpreted(assets):
    RunStore().add(replace(assets[1], name="note", note=IMAGE + "\n# Title"))
    for at in (
        opened("anatomy", run="note"),
        opened("models", checkpoint="image"),
        opened("runs", run="note"),
    ):
        assert not re.search(r"(?<!\\)!\[", text(at)) and "# Title" not in text(at).replace(r"\# Title", "")
    assert r"\!\[x\]" in text(opened("anatomy", run="note"))
