"""Where studies are stored: messages name the remedy and no password; queued trials survive a kill."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import optuna
import pytest

from benchmarks.dashboard import faults, polled
from e2crf_core import LabError
from e2crf_core.tuning.record import StudyReader
from e2crf_core.tuning.storage import STORE, open_storage, shown
from e2crf_core.tuning.study import Study
from tests.studies import MODEL, SPACE, SPEC, study, toy
from tests.waiting import until

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


def test_a_study_waits_for_whoever_holds_the_lock_of_its_database(tmp_path: Path) -> None:
    storage = open_storage(tmp_path / "study", None)
    assert isinstance(storage, optuna.storages.RDBStorage)
    with storage.engine.connect() as connection:
        (milliseconds,) = connection.exec_driver_sql("PRAGMA busy_timeout").one()
    assert milliseconds == 60_000


def test_a_study_ends_whole_while_optuna_dashboard_reads_and_writes_its_database(tmp_path: Path) -> None:
    """The short form of `python -m benchmarks.dashboard`."""
    watched = study(tmp_path / "study")
    with polled(tmp_path / "study" / "study.db", pause=0.01) as requests:
        list(watched.run(max_trials=3))
        until(
            lambda: requests["trials: 200"] >= 3 and any(name.startswith("note") for name in list(requests))
        )
        list(watched.run(max_trials=2))
    assert faults(tmp_path / "study" / "study.db", {point.number for point in watched.points}) == []
    assert len(watched.points) == 5 and not any("Error" in name or ": 5" in name for name in requests), (
        requests
    )


@pytest.mark.skipif(POSTGRES is None, reason="E2CRF_TEST_POSTGRES names no database")
def test_a_study_in_postgresql_goes_on(tmp_path: Path) -> None:
    out = tmp_path / uuid4().hex
    list(study(out, storage=POSTGRES).run(max_trials=2))
    resumed = study(out, storage=POSTGRES)
    assert [p.number for p in resumed.points] == [0, 1] and resumed.reference is not None
    assert [p.number for p in resumed.run(max_trials=1)] == [2]


def measured(folder: Path, trials: int = 2) -> Path:
    list(study(folder).run(max_trials=trials))
    return folder


def test_a_renamed_or_copied_folder_still_is_that_study(tmp_path: Path) -> None:
    before = measured(tmp_path / "old")
    points = study(before).points
    copy = Path(shutil.copytree(before, tmp_path / "copy"))
    renamed = before.rename(tmp_path / "new")
    for folder in (copy, renamed):
        record = StudyReader(folder).read()
        assert record is not None and list(record.points) == points
        assert study(folder).points == points


def test_a_folder_with_its_storage_elsewhere_keeps_its_study_when_renamed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'all.db'}"
    list(study(tmp_path / "old", storage=url).run(max_trials=1))
    (tmp_path / "old").rename(tmp_path / "new")
    assert [p.number for p in study(tmp_path / "new", storage=url).points] == [0]


def test_a_study_is_not_resumed_on_other_data_but_its_data_set_may_be_renamed(tmp_path: Path) -> None:
    folder = measured(tmp_path / "study", 1)
    data = toy()
    renamed = Study(MODEL, replace(data, name="other"), folder, SPEC, space=SPACE)
    assert [p.number for p in renamed.points] == [0]
    with pytest.raises(LabError, match="differs in data"):
        Study(MODEL, replace(data, x=data.x + 1), folder, SPEC, space=SPACE)


def numbers(folder: Path) -> object:
    """Return what is shown and learned of a study, without clocks and the process that works on it."""
    record = StudyReader(folder).read()
    assert record is not None
    return replace(record, driver=None), study(folder).points


@pytest.mark.parametrize(
    "change",
    [
        "update trial_values set value = value * 1.0001 where trial_id = 1",
        "update trial_params set param_value = param_value + 1 where trial_id = 1",
        "update trial_params set distribution_json = replace(distribution_json, '0.', '1.')",
        "update trial_user_attributes set key = 'poins' where key = 'point' and trial_id = 2",
        "update trial_user_attributes set value_json = replace(value_json, '\"quality\": ', '\"quality\": 1')",
        "update study_user_attributes set key = 'referense' where key = 'reference'",
        "update study_user_attributes set value_json = replace(value_json, '\"value\": ', '\"value\": 1') "
        "where key = 'floor'",
        "update trials set state = 'PRUNED' where trial_id = 1",
        "update trials set study_id = 3 where trial_id = 1",
    ],
)
def test_a_changed_value_is_refused(tmp_path: Path, base: Path, change: str) -> None:
    folder = Path(shutil.copytree(base, tmp_path / "study"))
    before = numbers(folder)
    with closing(sqlite3.connect(folder / STORE)) as database, database:
        assert database.execute(change).rowcount
    try:
        assert numbers(folder) == before, "a changed value was taken for good"
    except LabError as fault:
        assert "\n" not in str(fault) and "damaged" in str(fault)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return measured(tmp_path_factory.mktemp("study") / "base", 4)


def test_a_queued_trial_that_was_changed_is_not_measured(tmp_path: Path, base: Path) -> None:
    folder = Path(shutil.copytree(base, tmp_path / "study"))
    with closing(sqlite3.connect(folder / STORE)) as database, database:
        rows = database.execute("select trial_system_attribute_id, value_json from trial_system_attributes")
        for row, text in rows.fetchall():
            text = text.replace('"steps": ', '"steps": 1')
            database.execute(
                "update trial_system_attributes set value_json = ? where trial_system_attribute_id = ?",
                (text, row),
            )
    with pytest.raises(LabError, match="damaged"):
        list(study(folder).run(max_trials=1))
