"""The checks of `make lint` find the faults that they are meant to find, planted in a copy of the code."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COPIED = ("e2crf_core", "pages", "docs", ".ci", "app.py", "Makefile", "pyproject.toml", "biome.json")
RULES = {
    "imports upward": (
        "lint-imports",
        "e2crf_core/io/arrays.py",
        "\nimport e2crf_core.runs.run\n",
        "downward only BROKEN",
    ),
    "a page imports a command": (
        "lint-imports",
        "pages/live.py",
        "\nimport e2crf_core.commands.info\n",
        "not its commands BROKEN",
    ),
    "a wing imports a wing": (
        "lint-imports",
        "pages/ui/live/socket.py",
        "\nimport pages.ui.tune.study_form\n",
        "jobs only BROKEN",
    ),
    "a file of 401 lines": (
        "lint-sizes",
        "e2crf_core/io/planted.py",
        "pass\n" * 401,
        "planted.py: 401 lines",
    ),
    "a script of 401 lines": (
        "lint-sizes",
        "pages/ui/front/planted.js",
        "f();\n" * 401,
        "planted.js: 401 lines",
    ),
    "a function of 61 lines": (
        "lint-sizes",
        "e2crf_core/io/planted.py",
        "def long():\n" + "    pass\n" * 60,
        "long has 61 lines",
    ),
    "a docstring without a sentence": (
        "lint-python",
        "e2crf_core/io/planted.py",
        '"""Half a sentence that goes on\n\nbehind a blank line.\n"""\n',
        "planted.py:1:1: D415",
    ),
    "British spelling": ("lint-spelling", "e2crf_core/io/planted.py", "col" + "our = 1\n", "planted.py"),
    "an import that the drawing lacks": (
        "lint-docs",
        "e2crf_core/report/charts.py",
        "\nimport e2crf_core.quality.distances\n",
        "does not show the imports",
    ),
    "unsorted imports in a script": (
        "lint-front",
        "pages/ui/front/planted.js",
        'import { z } from "./z.js";\nimport { a } from "./a.js";\n\nexport const both = [a, z];\n',
        "planted.js:1:1 assist/source/organizeImports",
    ),
}


def lint(folder: Path, target: str) -> subprocess.CompletedProcess[str]:
    """Run one check of the Makefile on a copy, with the tools installed next to this interpreter."""
    return subprocess.run(
        ["make", "--no-print-directory", target, f"BIN={Path(sys.executable).parent}"],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Provide a git repository with a copy of the code."""
    folder = tmp_path / "copy"
    folder.mkdir()
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, folder / name)
    subprocess.run(["git", "add", "--all"], cwd=folder, check=True)
    return folder


def test_make_lint_runs_every_check():
    listing = subprocess.run(["make", "-n", "lint"], cwd=ROOT, capture_output=True, text=True).stdout
    for tool in (
        "ruff check",
        "ruff format --check",
        "mypy",
        "lint-imports",
        ".ci/sizes.py",
        "codespell",
        "biome ci",
    ):
        assert tool in listing


@pytest.mark.parametrize(("target", "path", "text", "message"), RULES.values(), ids=RULES)
def test_a_planted_fault_is_reported(copy, target, path, text, message):
    before = lint(copy, target)
    assert message not in before.stdout + before.stderr
    file = copy / path
    file.write_text((file.read_text() if file.exists() else "") + text)
    subprocess.run(["git", "add", "--all"], cwd=copy, check=True)
    after = lint(copy, target)
    assert after.returncode != 0
    assert message in after.stdout + after.stderr


def test_a_planted_circle_is_reported(copy):
    for name, other in (("first", "second"), ("second", "first")):
        (copy / f"e2crf_core/io/{name}.py").write_text(f"import e2crf_core.io.{other}\n")
    after = lint(copy, "lint-imports")
    assert after.returncode != 0
    assert "No circles BROKEN" in after.stdout
