"""The files of a study: its record, the advice on its trials, its policy cards. Independent of Streamlit."""

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from e2crf_core.errors import LabError
from e2crf_core.io.sets import read_set
from e2crf_core.io.userfiles import user_folder
from e2crf_core.models.checkpoints import list_checkpoints
from e2crf_core.tuning.choice import importance
from e2crf_core.tuning.record import STORE, Record, StudyReader, begun
from e2crf_core.tuning.warnings import Caution, Inert
from pages.ui.common import library
from pages.ui.jobs.job import read_file, write_file

ADVICE = "result.json"
REPORT = "study.json"


class Advice(BaseModel):
    """What was measured for the warnings of one trial."""

    model_config = ConfigDict(frozen=True)

    inert: tuple[Inert, ...]
    warnings: tuple[Caution, ...]


class ReportChoice(BaseModel):
    """The trial that a report is about."""

    number: int


class Report(Advice):
    """The part of the summary of the command line that the pages show."""

    choice: ReportChoice


def study_folder(name: str) -> Path:
    """Return the folder of a study. Raises LabError for a name that could escape."""
    return user_folder("studies", name)


def advice_job(trial: int) -> str:
    """Return the name of the job that measures the warnings of a trial."""
    return f"advice-{trial}"


def card_job(trial: int) -> str:
    """Return the name of the job that measures the policy card of a trial."""
    return f"card-{trial}"


def card_folder(study: Path, trial: int) -> Path:
    """Return the folder of the policy card of a trial."""
    return study / "cards" / f"trial-{trial}"


@lru_cache(maxsize=4)
def _reader(folder: Path, _: int) -> StudyReader:
    return StudyReader(folder)


@lru_cache(maxsize=16)
def _importance(reader: StudyReader, _: int) -> dict[str, dict[str, float]]:
    return importance(reader.study)


def forget_readers() -> None:
    """Close all open studies, so that a folder can be deleted."""
    _reader.cache_clear()
    _importance.cache_clear()


def _reader_of(name: str) -> StudyReader | None:
    folder = study_folder(name)
    return _reader(folder, (folder / STORE).stat().st_ino) if begun(folder) else None


def record_of(name: str) -> Record | None:
    """Return the record of a study, or None before there is one. Raises LabError if it is damaged."""
    reader = _reader_of(name)
    return None if reader is None else reader.read()


def importance_of(name: str, ended: int) -> dict[str, dict[str, float]]:
    """Return which parameters matter (see `importance`), measured again when more trials have `ended`."""
    reader = _reader_of(name)
    return {} if reader is None else _importance(reader, ended)


def checkpoint_of(digest: str) -> str | None:
    """Return the name of the checkpoint with these weights, or None."""
    for name in list_checkpoints():
        with suppress(LabError):
            if _has_digest(name, library.model_stamp(name), digest):
                return name
    return None


@lru_cache(maxsize=64)
def _has_digest(name: str, _: library.Stamp, digest: str) -> bool:
    return library.model(name).has_digest(digest)


def advice_of(name: str, trial: int) -> Advice | None:
    """Return the advice measured for a trial, by the pages or by the command line; None when there is none."""
    folder = study_folder(name)
    advice = read_file(folder / "jobs" / advice_job(trial) / ADVICE, Advice)
    if advice is not None:
        return advice
    report = None
    with suppress(LabError):
        report = read_set(folder, [REPORT], lambda: read_file(folder / REPORT, Report))
    return report if report is not None and report.choice.number == trial else None


def keep_advice(job: Path, inert: Sequence[Inert], warnings: Sequence[Caution]) -> None:
    """Write advice where `advice_of` looks for it."""
    write_file(job / ADVICE, Advice(inert=tuple(inert), warnings=tuple(warnings)))


def card_of(name: str, trial: int) -> Path | None:
    """Return the folder with the policy card of a trial, None when there is none."""
    folder = card_folder(study_folder(name), trial)
    return folder if (folder / "card.json").is_file() else None
