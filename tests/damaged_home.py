"""A home folder of foreign and damaged files: data sets, checkpoints, trainings, studies, cards and runs."""

import json
import sqlite3
import zipfile
from pathlib import Path

import numpy as np

HUGE = b'{"schema": 1, "x": 1' + b"0" * 400 + b"}"
JSON = {
    "empty": b"",
    "binary": b"\x00\xff\xfe",
    "list": b"[]",
    "text": b'"card"',
    "null": b"null",
    "nan": b'{"schema": 1, "length": NaN}',
    "deep": b"[" * 3000,
    "huge": HUGE,
    "surrogate": b'{"schema": 1, "dataset": "\\ud800"}',
    "half": b'{"schema": 1, "kind": "e2crf-tr',
    "none": b'{"schema": 1}',
    "newer": b'{"schema": 99}',
    "nulls": b'{"schema": 1, "kind": null, "network": null, "channels": null, "dataset": null, "length": null}',
    "types": b'{"schema": 1, "kind": 3, "network": [], "channels": {}, "dataset": 5, "length": "x"}',
}
IMAGE = "![x](http://evil.example/x.png)"


def write(path: Path, body: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)


def npz(path: Path, **arrays) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)


def fill(home: Path, demo: Path, card: Path) -> None:
    """Fill `home`; `demo` is a valid run and `card` a valid model card, from which damaged ones are made."""
    data, checkpoints, studies, runs = (home / name for name in ("data", "checkpoints", "studies", "runs"))
    for name, body in JSON.items():
        npz(data / name / "dataset.npz", x=np.zeros((4, 3, 1)))
        write(data / name / "card.json", body)
        write(checkpoints / name / "model.safetensors", b"?")
        write(checkpoints / name / "card.json", body)
        write(checkpoints / f"job-{name}" / "training" / "job.json", body)
        write(checkpoints / f"progress-{name}" / "training" / "progress.json", body)
        order = {"spec": {"data": "wind", "steps": 9}, "threads": 1}
        write(checkpoints / f"progress-{name}" / "training" / "job.json", json.dumps(order).encode())
        write(checkpoints / f"progress-{name}" / "training" / "previews.npz", body)
        write(studies / name / "jobs" / "search" / "job.json", body)
        write(studies / name / "study.json", body)
        write(studies / f"store-{name}" / "study.db", body)
        write(studies / f"store-{name}" / "cards" / "trial-0" / "card.json", body)
        write(runs / f"{name}.zip", body)
        with zipfile.ZipFile(runs / f"manifest-{name}.zip", "w") as zipped:
            zipped.writestr("run.json", body)
    for size in (0, 20, 400, demo.stat().st_size - 200):
        write(runs / f"cut-{size}.zip", demo.read_bytes()[:size])
    sizes = json.loads(card.read_text())
    for name, changes in {
        "layers": {"network": {**sizes["network"], "layers": 100_000}},
        "long": {"length": 2**40},
        "image": {"dataset": IMAGE},
    }.items():
        write(checkpoints / name / "card.json", json.dumps({**sizes, **changes}).encode())
        write(checkpoints / name / "model.safetensors", b"?" * 100)
    npz(data / "arrays" / "dataset.npz", x=np.full((4, 3, 1), np.nan), other=np.array(["a"]))
    write(data / "cut" / "dataset.npz", b"PK\x03\x04half")
    (studies / "folder" / "study.db").mkdir(parents=True)
    sqlite3.connect(studies / "folder" / "other.db").close()
    foreign = studies / "foreign" / "study.db"
    foreign.parent.mkdir(parents=True)
    with sqlite3.connect(foreign) as database:
        database.execute("create table photos (name text)")
    database.close()
    for kind in (data, checkpoints, studies, runs):
        write(kind / "a file", b"x")
        write(kind / "Name with spaces" / "card.json", b"{}")
        (kind / "loop").symlink_to(kind / "loop")
    (runs / "folder.zip").mkdir()
    write(home / "notes.txt", b"mine")
