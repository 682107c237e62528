"""Find, name and read the result files in `benchmarks/results`. Independent of Streamlit.

The files come with the checkout, but users may add others. Each is checked when it is read, and
a damaged one is reported by name without affecting the rest.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from e2crf_core.errors import LabError
from e2crf_core.io.json_files import faults_text, read_json

Model = TypeVar("Model", bound=BaseModel)
Result = TypeVar("Result")
ROOT = Path(__file__).resolve().parents[3]
LIMIT_BYTES = 50_000_000
QUICK = "quick"


class Stored(BaseModel):
    """A part of a result file; unknown fields are ignored, numbers are finite."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


def results_folder() -> Path:
    """Return the folder of results: E2CRF_RESULTS, or `benchmarks/results` of this checkout."""
    return Path(os.environ.get("E2CRF_RESULTS") or ROOT / "benchmarks" / "results")


def result_files(stem: str, suffix: str = ".json") -> list[Path]:
    """Return the files called `stem`*`suffix`, full measurements before quick ones."""
    paths = sorted(results_folder().glob(f"{stem}*{suffix}"))
    return sorted(paths, key=lambda path: QUICK in path.stem)


def file_label(path: Path, stem: str) -> str:
    """Return what distinguishes a result file, in words: `quick` for `trigger_study_quick`."""
    extra = path.stem.removeprefix(stem).strip("_").replace("_", " ")
    return extra or "full"


def read_text(path: Path) -> str:
    """Read a text file. Raises LabError that names it."""
    try:
        if path.stat().st_size > LIMIT_BYTES:
            raise LabError(
                f"{path.name} is larger than {LIMIT_BYTES // 1_000_000} MB, so it is not a result file"
            )
        return path.read_text(encoding="utf-8")
    except OSError as fault:
        raise LabError(f"{path.name} cannot be read: {fault.strerror}") from None
    except UnicodeDecodeError:
        raise LabError(f"{path.name} is not UTF-8 text") from None


def read_each(
    path: Path,
    command: str,
    kind: type[Model],
    make: Callable[[str, Model], Result],
    *,
    part: str | None = None,
) -> dict[str, Result]:
    """Read a file's objects by name (those under `part`, if given) and turn each into a result.

    Raises LabError that names the file and the command that writes it.
    """
    with _named(path, command):
        stored = read_json(path, limit=LIMIT_BYTES)
        if part is not None and isinstance(stored, dict):
            stored = stored.get(part)
        if not isinstance(stored, dict) or not stored:
            raise ValueError("it holds no data set")
        return {name: make(name, kind.model_validate(part)) for name, part in stored.items()}


def read_whole(path: Path, command: str, kind: type[Model]) -> Model:
    """Read a file that is one object. Raises LabError like `read_each`."""
    with _named(path, command):
        return kind.model_validate(read_json(path, limit=LIMIT_BYTES))


@contextmanager
def _named(path: Path, command: str) -> Iterator[None]:
    """Turn any fault into a LabError that names the file and the command that writes it."""
    try:
        yield
    except Exception as fault:  # whatever is wrong with a result file, the remedy is the same
        reason = faults_text(fault) if isinstance(fault, ValidationError) else str(fault)
        raise LabError(
            f"{path.name} is damaged ({reason[:120]})",
            remedy=f"run `{command}` again, or take the file from the repository",
        ) from None


def demoted(text: str) -> str:
    """Return Markdown without its title and with other headings two levels lower: pages have their own title."""
    lines = text.splitlines()
    if lines and lines[0].startswith("# "):
        lines = lines[1:]
    return "\n".join("##" + line if line.startswith("#") else line for line in lines)
