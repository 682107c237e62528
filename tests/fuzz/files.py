"""Targets that read binary files and tables: imports, runs, foreign models, trainings, studies, shards."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import sqlite3
import zipfile
from pathlib import Path
from random import Random
from typing import Any

from e2crf_core.data.datasets import load_dataset
from e2crf_core.data.importing import import_file
from e2crf_core.data.survey import survey_file
from e2crf_core.errors import LabError
from e2crf_core.evaluation.shards import Task, claim, read_shard
from e2crf_core.models.fourierdiffusion import import_fourierdiffusion
from e2crf_core.models.training import Trainer
from e2crf_core.runs.archive import load, save
from e2crf_core.runs.store import RunStore
from e2crf_core.sampling.config import SamplerConfig
from e2crf_core.tuning.choice import pick
from e2crf_core.tuning.record import StudyReader
from pages.ui.tune.study_values import words
from tests.fuzz.cards import MODEL, of_bytes, use_dataset
from tests.fuzz.cards import forged as forged_npz
from tests.fuzz.mutate import (
    NUMBERS,
    TEXTS,
    any_value,
    changed_array,
    changed_bytes,
    changed_members,
    changed_table,
    changed_value,
    json_bytes,
)
from tests.fuzz.target import Input, Place, Target
from tests.fuzz.valid import GOLDEN, POLICY, TRAINING
from tests.fuzz.watch import Unfit
from tests.studies import toy

WHOLE = tuple(number for number in NUMBERS if isinstance(number, int))
TABLES = (".csv", ".tsv", ".txt", ".ts")


# ---- files to import


def _import(rng: Random, valid: Path) -> Input:
    path = rng.choice(sorted((valid / "tables").iterdir()))
    body = path.read_bytes()
    if path.suffix in TABLES and rng.random() < 0.8:
        body = changed_table(rng, body.decode("utf-8", "replace"))
    elif path.suffix == ".npy" and rng.random() < 0.6:
        body = changed_array(rng, body)
    elif path.suffix == ".npz" and rng.random() < 0.6:
        body = changed_members(rng, body)
    elif rng.random() < 0.7:
        body = changed_bytes(rng, body)
    suffix = (
        path.suffix if rng.random() < 0.9 else rng.choice((*TABLES, ".npy", ".npz", ".parquet", ".xlsx", ""))
    )
    options: dict[str, Any] = {"window": rng.choice((16, 8, 4, 5, 24) if rng.random() < 0.95 else WHOLE)}
    for name in rng.sample(sorted(_OPTIONS), rng.choice((0, 0, 1, 1, 2, 4))):
        options[name] = rng.choice(_OPTIONS[name])
    return Input(body, {"name": f"table{suffix}", **options})


_WORDS = (*TEXTS, "date", "time", "FX0", "value", "c1", "Date")
_OPTIONS: dict[str, tuple[Any, ...]] = {
    "stride": (*WHOLE, 4),
    "gaps": ("drop", "interpolate", *TEXTS),
    "max_gap": WHOLE,
    "resample": (*TEXTS, "1d", "1h", "10000000d", "1e-9", "1ns", "1e12", "-1d", "1M", "0.1us"),
    "ignore_calendar": (True,),
    "title": TEXTS,
    "group": _WORDS,
    "time": _WORDS,
    "missing": tuple([text] for text in TEXTS),
    "channels": tuple([text] for text in _WORDS),
    "decimal": (".", ",", "x"),
    "date_order": ("dmy", "mdy", "x"),
    "tz": ("UTC", "Europe/Berlin", "Mars/Olympus", *TEXTS),
    "skip": WHOLE,
    "header": WHOLE,
    "axes": ("NM", "MN", "SN", "SNM", "SMN", "x"),
}


def imports(case: Input, place: Place) -> None:
    """Survey a file and import it; a refusal leaves nothing, and what was imported can be used."""
    options = dict(case.options)
    path, out = place.write(options.pop("name"), case.body), place.folder / "out"
    reading = {name: options[name] for name in _SURVEYED if name in options}
    try:
        whole = isinstance(options["window"], int)
        survey_file(path, window=options["window"] if whole else None, **reading)
    except LabError as fault:
        _one_line(fault)
    try:
        import_file(path, out=out, **options)
    except LabError:
        if out.exists():
            raise Unfit("a refused import left a folder") from None
        raise
    use_dataset(load_dataset(out))


_SURVEYED = ("group", "time", "missing", "channels", "decimal", "date_order", "tz", "skip", "header", "axes")


def _one_line(fault: LabError) -> None:
    if not str(fault).isprintable():
        raise Unfit(f"a survey's message is not one printable line: {str(fault)[:200]!r}")


# ---- runs


def _runs(rng: Random, valid: Path) -> Input:
    body = (valid / "run.zip").read_bytes()
    return Input(changed_bytes(rng, body) if rng.random() < 0.3 else forged(rng, body))


def forged(rng: Random, body: bytes) -> bytes:
    """Return an archive whose manifest or arrays were changed and whose digests fit: a forgery, no damage."""
    with zipfile.ZipFile(io.BytesIO(body)) as zipped:
        members = {name: zipped.read(name) for name in zipped.namelist()}
    manifest = json.loads(members.pop("run.json"))
    if rng.random() < 0.4:
        name = rng.choice(sorted(members))
        members[name] = changed_bytes(rng, members[name])
    if rng.random() < 0.1:
        members[rng.choice((*TEXTS[:20], "../x.npy", "columns/x.npy", "a.pkl"))] = b"x"
    manifest["digests"] = {name: hashlib.sha256(part).hexdigest() for name, part in members.items()}
    if rng.random() < 0.8:
        manifest = changed_value(rng, manifest)
    out = io.BytesIO()
    with zipfile.ZipFile(
        out, "w", zipfile.ZIP_BZIP2 if rng.random() < 0.03 else zipfile.ZIP_DEFLATED
    ) as zipped:
        for name, part in members.items():
            zipped.writestr(name.replace("\x00", "0") or "empty", part)
        zipped.writestr("run.json", json.dumps(manifest))
    return out.getvalue()


def runs(case: Input, place: Place) -> None:
    """Open an archive, write it again, and bring it into a store."""
    path = place.write("given.zip", case.body)
    archive = load(path)
    save(archive, place.folder / "again.zip")
    store = RunStore(place.folder / "store")
    brought = store.bring(path)
    store.annotate(brought.name, "seen")
    if [entry.name for entry in store.list()] != [brought.name]:
        raise Unfit("a run that was brought in is not in the list")
    archive.policy_at(0)


# ---- foreign models, trainings, shards


def _lightning(rng: Random, valid: Path) -> Input:
    file = rng.choice((("ckpt", "ckpt"), ("npz", "npz"), ("ckpt", "forged")))
    body = (GOLDEN / f"fourierdiffusion_wind_144x4.{file[0]}").read_bytes()
    if file[1] == "forged":
        with zipfile.ZipFile(io.BytesIO(body)) as zipped:
            members = {name: zipped.read(name) for name in zipped.namelist()}
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as zipped:
            for name, part in members.items():
                zipped.writestr(name, changed_bytes(rng, part) if name.endswith(".pkl") else part)
        body = out.getvalue()
    else:
        body = changed_bytes(rng, body)
    return Input(body, {"file": file[0]})


def lightning(case: Input, place: Place) -> None:
    """Import a checkpoint of the FourierDiffusion library; a refusal leaves nothing."""
    files = {name: GOLDEN / f"fourierdiffusion_wind_144x4.{name}" for name in ("ckpt", "npz")}
    files[case.options["file"]] = place.write(f"given.{case.options['file']}", case.body)
    out = place.folder / "out"
    try:
        import_fourierdiffusion(files["ckpt"], files["npz"], out)
    except LabError:
        if out.exists():
            raise Unfit("a refused import left a folder") from None
        raise


def training(case: Input, place: Place) -> None:
    """Resume a training from a foreign state; a refusal leaves the state as it is."""
    out = place.folder / "training"
    shutil.copytree(place.valid / "training", out)
    state = next(path for path in out.rglob(str(case.options["file"])))
    state.write_bytes(case.body)
    try:
        trainer = Trainer(TRAINING, toy(), out)
    except LabError:
        if state.read_bytes() != case.body:
            raise Unfit("a refused training changed its state") from None
        raise
    trainer.model().digest()


def shard(case: Input, place: Place) -> None:
    """Read a shard of an evaluation."""
    read_shard(place.write("000-r000.npz", case.body))


def _evaluation(rng: Random, valid: Path) -> Input:
    return Input(json_bytes(rng, {"schema": 2, "num": 2, "seed": 0}), {"file": "evaluation.json"})


def evaluation(case: Input, place: Place) -> None:
    """Go on with an evaluation whose folder holds a foreign description."""
    place.write("out/evaluation.json", case.body)
    task = Task(MODEL, toy(), {"a": SamplerConfig(POLICY, 4, "ddim")}, num=2, repeats=1)
    claim(place.folder / "out", task)
    raise Unfit("a foreign evaluation was taken for ours")


# ---- studies


def _studies(rng: Random, valid: Path) -> Input:
    return Input(changed_study(rng, valid))


def changed_study(rng: Random, valid: Path) -> bytes:
    """Return a database like that of a study, with bytes or entries changed."""
    body = (valid / "study" / "study.db").read_bytes()
    if rng.random() < 0.3:
        return changed_bytes(rng, body)
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        database.deserialize(body)
        _forge(database, rng)
        return database.serialize()


def study(case: Input, place: Place) -> None:
    """Read a study whose database is foreign, and show its points."""
    folder = place.folder / "study"
    shutil.copytree(place.valid / "study", folder)
    (folder / "study.db").write_bytes(case.body)
    record = StudyReader(folder).read()
    if record is None:
        return
    if record.reference is not None:
        for point in record.known:
            words(point, record.reference)
        pick(record.known, record.reference, cost=record.spec.cost, quality=record.spec.quality)


def _forge(database: sqlite3.Connection, rng: Random) -> None:
    """Change one to three of the JSON values, numbers, or texts in the database of a study."""
    for _ in range(rng.choice((1, 1, 3))):
        table = rng.choice(("study_user_attributes", "trial_user_attributes", "trials", "trial_values"))
        rows = database.execute(f"select rowid, * from {table}").fetchall()
        names = [row[1] for row in database.execute(f"pragma table_info({table})")]
        if not rows:
            continue
        row, column = rng.choice(rows), rng.randrange(len(names))
        value: Any = row[column + 1]
        if names[column] == "value_json":
            value = json.dumps(changed_value(rng, json.loads(value)))
        else:
            value = rng.choice((None, *NUMBERS[:8], *TEXTS[:12], json.dumps(any_value(rng))))
        with contextlib.suppress(sqlite3.Error, OverflowError, UnicodeEncodeError):
            database.execute(f"update {table} set {names[column]} = ? where rowid = ?", (value, row[0]))
    database.commit()


TARGETS = (
    Target("imports", _import, imports, 26),
    Target("runs", _runs, runs, 10),
    Target("foreign models", _lightning, lightning, 2),
    Target("trainings", of_bytes("training/training/state.pt"), training, 2),
    Target("shards", forged_npz("evaluation/shards/000-r000.npz"), shard, 3),
    Target("evaluations", _evaluation, evaluation, 2),
    Target("studies", _studies, study, 4),
)
