"""Where studies are stored: messages name the remedy and no password; queued trials survive a kill."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from uuid import uuid4

import optuna
import pytest

from e2crf_core import LabError
from e2crf_core.tuning.storage import open_storage, shown
from tests.studies import study

POSTGRES = os.environ.get("E2CRF_TEST_POSTGRES")
"""URL of a database, for the test that needs a server."""


@pytest.mark.parametrize(
    ("url", "module", "package"),
    [
        ("postgresql+psycopg://lab:secret@localhost/studies", "psycopg", "psycopg[binary]"),
        ("postgresql+psycopg2://lab:secret@localhost/studies", "psycopg2", "psycopg2-binary"),
        ("mysql+pymysql://lab:secret@localhost/studies", "pymysql", "pymysql"),
    ],
)
def test_a_missing_driver_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(LabError, match="not installed") as caught:
        open_storage(tmp_path / "study", url)
    assert f'pip install "{package}"' in str(caught.value)
    assert "secret" not in str(caught.value) and not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    "url",
    [
        "nosuchdb://lab:secret@localhost/x",
        "lab:secret@localhost",
        "postgresql+psycopg://lab:secret@[::1/x",
        "sqlite:////nowhere/at/all/study.db",
        "journal:/nowhere/at/all/study.log",
    ],
)
def test_what_cannot_be_opened_is_told_in_one_line_without_a_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(LabError, match="cannot be opened") as caught:
        open_storage(tmp_path / "study", url)
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)
    assert not (tmp_path / "study").exists()


def test_an_address_is_shown_without_its_password() -> None:
    assert shown("postgresql://lab:secret@host/x") == "postgresql://lab:***@host/x"
    assert shown("journal:/tmp/a.log") == "journal:/tmp/a.log"


def test_a_starting_point_killed_before_it_was_read_is_tried_again(tmp_path: Path) -> None:
    """A process can be killed between taking a trial from the queue and storing its setting."""
    first = study(tmp_path)
    list(first.run(max_trials=1))
    asked = first.study.trials[first.study.ask().number]
    wanted = asked.system_attrs["fixed_params"]
    assert "setting" not in asked.user_attrs and wanted
    resumed = study(tmp_path)
    waiting = [t for t in resumed.study.trials if t.state == optuna.trial.TrialState.WAITING]
    again = [t for t in waiting if t.system_attrs["fixed_params"] == wanted]
    assert len(again) == 1 and again[0].user_attrs["origin"] == asked.user_attrs["origin"]


@pytest.mark.skipif(POSTGRES is None, reason="E2CRF_TEST_POSTGRES names no database")
def test_a_study_in_postgresql_goes_on(tmp_path: Path) -> None:
    out = tmp_path / uuid4().hex
    list(study(out, storage=POSTGRES).run(max_trials=2))
    resumed = study(out, storage=POSTGRES)
    assert [p.number for p in resumed.points] == [0, 1] and resumed.reference is not None
    assert [p.number for p in resumed.run(max_trials=1)] == [2]
