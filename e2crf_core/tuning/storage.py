"""What to say of a study's storage: its address without a password, and the driver that a database needs."""

from __future__ import annotations

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

PACKAGES = {
    "psycopg": "psycopg[binary]",
    "psycopg2": "psycopg2-binary",
    "pymysql": "pymysql",
    "mysqldb": "mysqlclient",
}
"""The package that brings a driver, where it has another name or more than one."""


def shown(url: str) -> str:
    """The address without its password, fit for a message. One that cannot be read loses all after its scheme."""
    if url.startswith("journal:"):
        return url
    try:
        return make_url(url).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        scheme, colon, _ = url.partition(":")
        return f"{scheme}:..." if colon else url


def missing_driver(url: str) -> str:
    """Which driver a database URL asks for, and how to install it."""
    try:
        driver = make_url(url).get_driver_name()
    except Exception:  # a dialect that SQLAlchemy does not know
        return "its database driver is not installed"
    return f'the driver {driver} is not installed: pip install "{PACKAGES.get(driver, driver)}"'
