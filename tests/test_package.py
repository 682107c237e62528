"""The built wheel works on its own, in a new virtual environment outside the checkout."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
SOURCES = ("e2crf_core", "assets", "pages", "pyproject.toml", "setup.py", "README.md", "LICENSE", "NOTICE")
FOUR = {"ecg", "household", "stocks", "wind"}
ABSENT = ("streamlit", "plotly", "pandas", "pyarrow", "optuna", "fastapi", "ray", "tqdm")


def run(command: Sequence[str | Path], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, without the variables that would lead it back to the checkout."""
    hidden = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "E2CRF_ASSETS", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    return subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True
    )


def done(command: Sequence[str | Path], folder: Path) -> str:
    """Run a command that must succeed; return what it printed."""
    result = run(command, folder)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    return result.stdout


def snippet() -> str:
    """README's program, with fewer steps and samples."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", text, re.S)
    assert code is not None
    small = code[1].replace("steps=1000", "steps=20").replace("num=64", "num=2")
    assert small != code[1]
    return small


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provide the program folder of a new environment with only the wheel and its requirements."""
    folder = tmp_path_factory.mktemp("package")
    source, wheels, venv = folder / "source", folder / "wheels", folder / "venv"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    done([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", wheels, source], folder)
    (wheel,) = wheels.glob("*.whl")
    done([sys.executable, "-m", "venv", venv], folder)
    pip = [venv / "bin/python", "-m", "pip", "install", "--quiet", "--no-compile"]
    done([*pip, wheel, "--constraint", ROOT / "requirements.txt"], folder)
    shutil.rmtree(source)
    return venv / "bin"


def test_the_wheel_needs_five_packages_and_brings_no_more(installed):
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    names = {Requirement(line).name for line in project["dependencies"]}
    assert names == {"torch", "numpy", "scipy", "safetensors", "pydantic"}
    probe = f"import importlib.util as u; print([n for n in {ABSENT!r} if u.find_spec(n)])"
    assert done([installed / "python", "-c", probe], installed).strip() == "[]"


def test_info_lists_what_ships(installed, tmp_path):
    for command in ([installed / "e2crf"], [installed / "python", "-m", "e2crf_core"]):
        sections = re.split(r"^(?=\w)", done([*command, "info"], tmp_path), flags=re.M)
        names = {part.split()[0]: set(re.findall(r"^  (\w+)", part, re.M)) for part in sections if part}
        assert names["checkpoints"] == names["datasets"] == FOUR


def test_the_snippet_of_the_readme_draws_heartbeats(installed, tmp_path):
    (tmp_path / "snippet.py").write_text(
        snippet() + "\nprint(samples.shape, bool((samples.std((1, 2)) > 0).all()))\n", encoding="utf-8"
    )
    assert done([installed / "python", "snippet.py"], tmp_path).splitlines()[-1] == "(2, 187, 1) True"


def test_the_command_line_samples(installed, tmp_path):
    sample = "sample --checkpoint ecg --steps 10 --num 1 --policy fast --seed 0 --out samples.npz"
    done([installed / "e2crf", *sample.split()], tmp_path)
    assert (tmp_path / "samples.npz").exists()


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("serve --checkpoint ecg", "serve"),
        ("tune --checkpoint ecg --minutes 1 --out study", "tune"),
        ("data import series.csv --window 8 --out own", "data"),
    ],
)
def test_a_missing_extra_is_named_in_one_line(installed, tmp_path, command, extra):
    (tmp_path / "series.csv").write_text("a\n" + "1\n2\n" * 40)
    refused = run([installed / "e2crf", *command.split()], tmp_path)
    assert refused.returncode == 2
    assert re.fullmatch(rf"error: .*e2crf-lab\[{extra}\].*\n", refused.stderr), refused.stderr


def test_the_package_is_typed_and_holds_the_demo_run(installed, tmp_path):
    probe = (
        "from importlib.resources import files; from e2crf_core.io.resources import assets_dir; "
        "print((files('e2crf_core') / 'py.typed').is_file(), (assets_dir() / 'demo/run.zip').is_file())"
    )
    assert done([installed / "python", "-c", probe], tmp_path).strip() == "True True"


def pins(name: str) -> dict[str, Requirement]:
    """Return the requirements of a file and of the files it includes, by lowercase name."""
    listed: dict[str, Requirement] = {}
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("-r "):
            listed |= pins(line[3:].strip())
        elif line.strip() and not line.startswith("#"):
            requirement = Requirement(line)
            listed[requirement.name.lower()] = requirement
    return listed


def test_every_requirement_of_the_project_is_pinned_to_a_version_that_it_allows():
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    extras = project["optional-dependencies"]
    app, every = pins("requirements.txt"), pins("requirements-dev.txt")
    lines = [*project["dependencies"], *extras["app"], *extras["tune"], *extras["serve"], *extras["data"]]
    for line, listed in [*((line, app) for line in lines), *((line, every) for line in extras["dev"])]:
        needed = Requirement(line)
        if needed.name == "e2crf-lab":
            continue
        (pin,) = listed[needed.name.lower()].specifier
        assert pin.operator == "==" and needed.specifier.contains(pin.version), line
