"""Open a study's storage by address, show it without its password, and check whether a process uses it."""

from __future__ import annotations

import os
from pathlib import Path

import optuna
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from e2crf_core.errors import LabError

PACKAGES = {
    "psycopg": "psycopg[binary]",
    "psycopg2": "psycopg2-binary",
    "pymysql": "pymysql",
    "mysqldb": "mysqlclient",
}
"""Packages of drivers that have another name or more than one package."""


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
        url = f"sqlite:///{(out / 'study.db').resolve()}"
    try:
        if url.startswith("journal:"):
            backend = JournalFileBackend(url.removeprefix("journal:"))
            return optuna.storages.JournalStorage(backend)
        return optuna.storages.RDBStorage(url)
    except ImportError:
        raise LabError(f"study storage {shown(url)!r} cannot be opened: {missing_driver(url)}") from None
    except Exception as fault:  # drivers raise what they like; the way out is the same
        reason = " ".join(str(fault).split())[:200]
        url = shown(url)
        raise LabError(f"study storage {url!r} cannot be opened: {type(fault).__name__}: {reason}") from None


def study_name(folder: Path) -> str:
    """Return the name of a folder's study in its storage."""
    return f"e2crf-{folder.resolve().name}"


def stored_study(folder: Path) -> optuna.Study:
    """Return the optuna study that SQLite holds in `folder`. Raises optuna's errors for a damaged one."""
    return optuna.load_study(study_name=study_name(folder), storage=open_storage(folder, None))


def process_alive(pid: int) -> bool:
    """Return whether a process on this machine is running."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
