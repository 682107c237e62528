"""Messages of the command line: options for fields, progress with and without a terminal, missing extras."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from e2crf_core.cli import main, worded
from e2crf_core.commands.terminal import ProgressLine
from e2crf_core.errors import LabError
from e2crf_core.io.extras import require

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = {"window": "--window", "num": "--max-num", "file": "file"}


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (LabError("it is too long", field="window", remedy="cut it"), "--window: it is too long: cut it"),
        (LabError("window 3: too short", field="window"), "--window 3: too short"),
        (LabError("num 0: too few", field="num"), "--max-num 0: too few"),
        (LabError("empty", field="file"), "file: empty"),
        (LabError("stop using --window", field="window"), "stop using --window"),
        (LabError("no such thing", field="elsewhere"), "no such thing"),
        (LabError("plain"), "plain"),
    ],
)
def test_a_field_is_named_as_the_option_that_sets_it(fault: LabError, text: str) -> None:
    assert worded(fault, OPTIONS) == text


def test_the_options_are_those_of_the_command_that_ran(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "--policy", "nope", "--out", "x.npz"]) == 2
    assert capsys.readouterr().err.startswith("error: --policy: unknown policy 'nope'")


def test_without_a_terminal_progress_is_a_few_lines() -> None:
    stream = io.StringIO()
    line = ProgressLine("measuring", stream)
    for done in range(1, 101):
        line(done, 100)
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("measuring   1%  1/100") and lines[-1].startswith("measuring 100%  100/100")
    assert len(lines) < 20


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_progress_is_drawn_in_place_or_in_lines_without_tqdm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = Terminal()
    line = ProgressLine("measuring", drawn)
    for done in (1, 2, 3):
        line(done, 3)
    assert "\r" in drawn.getvalue() and "3/3" in drawn.getvalue()
    monkeypatch.setitem(sys.modules, "tqdm", None)
    plain = Terminal()
    ProgressLine("measuring", plain)(3, 3)
    assert plain.getvalue().startswith("measuring 100%") and "\r" not in plain.getvalue()


def test_a_missing_extra_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    require("serve", "serve", "json")
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert main(["serve"]) == 2
    told = capsys.readouterr().err
    assert told == "error: serve needs the extra [serve]: pip install 'e2crf-lab[serve]'\n"


def test_the_core_and_its_command_line_import_without_any_extra() -> None:
    """The modules of extras are made to fail; info must still list what is available."""
    extras = (
        "pandas",
        "pyarrow",
        "jinja2",
        "fastapi",
        "optuna",
        "ray",
        "plotly",
        "streamlit",
        "tqdm",
        "sqlalchemy",
    )
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({extras!r}))\n"
        "import e2crf_core\n"
        "from e2crf_core.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, "info"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "ecg" in done.stdout, done.stderr
