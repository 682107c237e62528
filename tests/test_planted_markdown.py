"""No text from a file, in any kind of name or note, makes a page load an image or show a link."""

import json
import re
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from e2crf_core.models.checkpoints import save_checkpoint
from e2crf_core.models.training import TrainSpec
from e2crf_core.runs.archive import save
from tests.conftest import make_model
from tests.damaged_home import IMAGE, write
from tests.fuzz.valid import ROOT
from tests.localized import localized
from tests.tiny import tiny_assets, tiny_demo
from tests.visits import opened

RENDERED = ("body", "label", "help", "caption", "text", "placeholder")
LISTS = {key: [IMAGE] for key in ("triggers", "fields", "solvers", "grids")}
CALLING = re.compile(r"(?<!\\)\[[^]\\]*\]\(http://evil")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted")
    assets = tiny_assets(folder / "assets", ("ecg",))
    demo, own = tiny_demo(assets), folder / "home"
    model = replace(make_model(dtype=torch.float32), dataset=IMAGE, channels=(IMAGE, "b"))
    save_checkpoint(model, own / "checkpoints" / "own")
    card = own / "checkpoints" / "own" / "card.json"
    write(card, json.dumps({**json.loads(card.read_text()), "title": IMAGE}).encode())
    _data(own)
    note = replace(demo, name="note", note=IMAGE, versions={**demo.versions, IMAGE: IMAGE})
    (own / "runs").mkdir()
    save(
        replace(note, status=IMAGE, model={**note.model, "dataset": IMAGE, "digest": "0"}),
        own / "runs" / "note.zip",
    )
    _jobs(own)
    _results(own / "results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("E2CRF_ASSETS", str(assets))
        patch.setenv("E2CRF_HOME", str(own))
        patch.setenv("E2CRF_RESULTS", str(own / "results"))
        yield own


def _data(own):
    (own / "data" / "own").mkdir(parents=True)
    x = np.random.default_rng(0).standard_normal((12, 24, 2)).astype(np.float32)
    names = {
        "channels": np.array([IMAGE, "b"]),
        "group": np.array([IMAGE] * 6 + ["g"] * 6),
        "license": np.array(IMAGE),
    }
    np.savez(
        own / "data" / "own" / "dataset.npz", X=x, start=np.arange(12) * 24, source=np.array(IMAGE), **names
    )
    texts = {name: IMAGE for name in ("title", "domain", "source", "license", "about", "origin")}
    lists = {name: [IMAGE] for name in ("notes", "traps", "attribution")} | {"units": [IMAGE, ""]}
    words = {name: {"text": IMAGE} for name in ("window", "sampling", "split", "gaps")}
    write(own / "data" / "own" / "card.json", json.dumps({**texts, **lists, **words}).encode())


def _jobs(own):
    state = {"status": "failed", "error": IMAGE, "note": IMAGE, "step": 1, "steps": 9}
    order = {"spec": asdict(TrainSpec(IMAGE, steps=9)), "threads": 1}
    job = own / "checkpoints" / "own" / "training"
    write(job / "job.json", json.dumps(order).encode())
    for folder in (job, own / "studies" / "own" / "jobs" / "search"):
        write(folder / "progress.json", json.dumps(state).encode())
    search = {
        "checkpoint": IMAGE,
        "spec": {"num": 8, "batch": 2},
        "space": {"steps": [4, 8], **LISTS},
    }
    write(own / "studies" / "own" / "jobs" / "search" / "job.json", json.dumps(search).encode())


def _results(folder):
    folder.mkdir()
    results = ROOT / "benchmarks" / "results"
    solved = json.loads((results / "solver_study_cpu.json").read_text())
    table = next(iter(solved.values()))
    table |= {"dataset": IMAGE, "reading": [IMAGE], "machine": {IMAGE: IMAGE}}
    table["titles"] = {name: f"{title} {IMAGE}" for name, title in table["titles"].items()}
    write(folder / "solver_study_cpu.json", json.dumps({IMAGE: table}).encode())
    triggers = json.loads((results / "trigger_study.json").read_text())
    write(
        folder / "trigger_study.json",
        json.dumps({IMAGE: {**next(iter(triggers.values())), "dataset": IMAGE}}).encode(),
    )
    write(folder / "localization_cpu.json", json.dumps(localized(IMAGE, IMAGE)).encode())
    write(
        folder / "paper_tables_full.md",
        f"# Tables\n\n{IMAGE}\n\n![x][y]\n\n[y]: http://evil.example/y.png\n".encode(),
    )


def rendered(node):
    """Yield every text under a node of a page that Streamlit renders as Markdown."""
    if type(node).__name__ == "Json":
        return
    for field, value in node.ListFields() if hasattr(node, "ListFields") else ():
        if isinstance(value, str) and field.name in RENDERED:
            yield value
        elif hasattr(value, "ListFields"):
            yield from rendered(value)
    if hasattr(node, "proto"):
        yield from rendered(node.proto)
    for child in getattr(node, "children", {}).values():
        yield from rendered(child)


@pytest.mark.parametrize(
    ("page", "query", "shows"),
    [
        ("data", {"set": "own"}, True),
        ("models", {"checkpoint": "own"}, False),
        ("training", {"job": "own"}, True),
        ("tune", {"study": "own"}, True),
        ("runs", {"run": "note"}, False),
        ("anatomy", {"run": "note"}, True),
        ("evidence", {"view": "solvers"}, True),
        ("evidence", {"view": "triggers"}, True),
        ("evidence", {"view": "tables"}, True),
        ("evidence", {"view": "bands"}, True),
        ("compare", {"v": IMAGE}, True),
        ("lessons", {"lesson": "1", "dataset": IMAGE}, True),
        (None, {"run": IMAGE, "policy": f'{{"trigger":"{IMAGE}"}}'}, True),
        (None, {"checkpoint": "own"}, False),
    ],
)
def test_text_from_files_and_addresses_calls_nobody(home, page, query, shows):
    at = opened(page, **query)
    texts = [text for part in (at.main, at.sidebar) for text in rendered(part)]
    assert not [text for text in texts if CALLING.search(text)]
    assert not [text for text in texts if re.search(r"(?m)^\[[^]]*\]: http://evil", text)]
    assert any("evil" in text for text in texts) or not shows
