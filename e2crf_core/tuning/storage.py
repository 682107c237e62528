"""Open a study by the folder and address of its storage, and show an address without its password."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import optuna
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from e2crf_core.errors import LabError
from e2crf_core.io.json_files import read_json, write_json
from e2crf_core.io.sets import settle

STORE = "study.db"
PACKAGES = {
    "psycopg": "psycopg[binary]",
    "psycopg2": "psycopg2-binary",
    "pymysql": "pymysql",
    "mysqldb": "mysqlclient",
}
"""Packages of drivers that have another name or more than one package."""

BUSY_S = 60.0
"""Seconds that a study waits for a lock that another process holds on its SQLite file."""


def shown(url: str) -> str:
    """Return the address without its password, for messages. An unreadable one loses all after its scheme."""
    if url.startswith("journal:"):
        return url
    try:
        return make_url(url).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        scheme, colon, _ = url.partition(":")
        return f"{scheme}:..." if colon else url


def missing_driver(url: str) -> str:
    """Return which driver a database URL needs, and how to install it."""
    try:
        driver = make_url(url).get_driver_name()
    except Exception:  # a dialect that SQLAlchemy does not know
        return "its database driver is not installed"
    return f'the driver {driver} is not installed: pip install "{PACKAGES.get(driver, driver)}"'


def open_storage(out: Path, url: str | None) -> optuna.storages.BaseStorage:
    """Open SQLite in `out` by default, a `journal:FILE`, or any SQLAlchemy URL (PostgreSQL, SQLite).

    Raises LabError, without the URL's password, if it cannot be opened or its driver is not installed.
    """
    if url is None:
        out.mkdir(parents=True, exist_ok=True)
        url = f"sqlite:///{(out / STORE).resolve()}"
    try:
        if url.startswith("journal:"):
            backend = JournalFileBackend(url.removeprefix("journal:"))
            return optuna.storages.JournalStorage(backend)
        # A dashboard that reads may hold SQLite's lock for a while: the study waits for it instead of ending.
        patience = {"connect_args": {"timeout": BUSY_S}} if url.startswith("sqlite") else None
        return optuna.storages.RDBStorage(url, engine_kwargs=patience)
    except ImportError:
        raise LabError(f"study storage {shown(url)!r} cannot be opened: {missing_driver(url)}") from None
    except Exception as fault:  # drivers raise what they like; the way out is the same
        reason = " ".join(str(fault).split())[:200]
        url = shown(url)
        raise LabError(f"study storage {url!r} cannot be opened: {type(fault).__name__}: {reason}") from None


def open_study(out: Path, url: str | None) -> tuple[optuna.Study, optuna.storages.BaseStorage]:
    """Return the study of a folder, stored or new, and its storage at `url` or in the folder.

    Raises LabError like `open_storage`, or for a damaged database.
    """
    if out.is_dir():
        settle(out)
    if url is None:
        check_database(out / STORE)
    storage = open_storage(out, url)
    name = _only_study(storage, out) if url is None else _kept_name(out)
    study = optuna.create_study(
        storage=storage, study_name=name, directions=["minimize", "minimize"], load_if_exists=True
    )
    return study, storage


def stored_study(folder: Path) -> optuna.Study:
    """Return the study that SQLite holds in `folder`. Raises LabError, or optuna's errors for a damaged one."""
    check_database(folder / STORE)
    storage = open_storage(folder, None)
    return optuna.load_study(study_name=_only_study(storage, folder), storage=storage)


def check_database(path: Path) -> None:
    """Check the structure of an SQLite file, if there is one. Raises LabError."""
    if not path.is_file() or not path.stat().st_size:
        return
    try:
        with closing(connect(path)) as database:
            faults = database.execute("pragma integrity_check(1)").fetchall()
            orphans = database.execute("pragma foreign_key_check").fetchall()
    except sqlite3.Error as fault:
        raise LabError(f"{path} is damaged: {fault}") from None
    if faults != [("ok",)] or orphans:
        detail = (
            " ".join(str(faults[0][0]).split())[:100] if faults != [("ok",)] else "rows without their owner"
        )
        raise LabError(f"{path} is damaged: {detail}")


def connect(path: Path) -> sqlite3.Connection:
    """Open an SQLite file that exists, completing or undoing what a killed process was writing."""
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=30)


def _new_name(folder: Path) -> str:
    return f"e2crf-{folder.resolve().name}"


def _only_study(storage: optuna.storages.BaseStorage, folder: Path) -> str:
    """Return the name of the study in a folder's own database, whatever the folder is called by now."""
    return next(iter(optuna.get_all_study_names(storage)), _new_name(folder))


def _kept_name(folder: Path) -> str:
    """Return the name of a folder's study in a database of many. The folder may be renamed or copied."""
    path = folder / "storage.json"
    if path.is_file():
        kept = read_json(path)
        if isinstance(kept, dict) and isinstance(kept.get("study"), str):
            return kept["study"]
        raise LabError(f"{path} is damaged: it does not name the study")
    name = _new_name(folder)
    write_json(path, {"study": name})
    return name
