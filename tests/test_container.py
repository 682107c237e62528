"""Kept ready for deployment: Dockerfile, compose file, locked requirements, bill of materials.

No container engine is needed: the Dockerfile is parsed, and its steps are done in an empty folder as far as they
concern our files. What pip and the base image do is not tested here.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires, version
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from dockerfile_parse import DockerfileParser
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.served import LAB, ROOT, free_port, started
from tests.test_package import pins
from tests.tiny import tiny_assets
from tests.waiting import until

LOCKS = ("requirements.lock", "requirements-cuda.lock")


def steps() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile with their values."""
    with (ROOT / "Dockerfile").open("rb") as file:
        parsed = DockerfileParser(fileobj=file).structure
    return [(step["instruction"], step["value"]) for step in parsed if step["instruction"] != "COMMENT"]


def values(instruction: str) -> list[str]:
    return [value for name, value in steps() if name == instruction]


def command(value: str) -> list[str]:
    """Return a command in JSON form, with this interpreter for the image's."""
    name, *rest = json.loads(value)
    assert name == "python"
    return [sys.executable, *rest]


@pytest.fixture(scope="module")
def copied(tmp_path_factory) -> Path:
    """Provide a folder with exactly what the Dockerfile copies from what .dockerignore admits."""
    folder = tmp_path_factory.mktemp("image") / "lab"
    folder.mkdir()
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    admitted = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines
    for value in values("COPY"):
        *sources, target = value.split()
        for source in sources:
            assert source in admitted, f".dockerignore hides {source}"
            goal = folder / target / (source if target.endswith("/") else "")
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, goal, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, goal)
    return folder


def test_the_lab_starts_from_the_copied_files_alone_and_its_health_check_passes(copied, tmp_path):
    port = free_port()
    options, check = values("HEALTHCHECK")[0].split("CMD", 1)
    assert "--interval" in options
    start = command(values("CMD")[-1])
    assert start[1:] == [*LAB[1:5]]
    environment = {
        "PYTHONPATH": "",
        "E2CRF_HOME": str(tmp_path),
        "E2CRF_ASSETS": str(tiny_assets(tmp_path / "assets", ("ecg",))),
        "STREAMLIT_SERVER_HEADLESS": "true",
        "STREAMLIT_SERVER_PORT": str(port),
    }
    probe = command(check.replace(":8501", f":{port}"))
    with started(start, port, tmp_path / "log", cwd=copied, environment=environment):
        # A container engine, too, asks several times before it gives up.
        until(lambda: subprocess.run(probe, capture_output=True).returncode == 0)
    assert subprocess.run(probe, capture_output=True).returncode != 0  # nobody answers now


def test_the_copied_files_hold_the_command_line_and_what_ships(copied, tmp_path):
    hidden = ("PYTHONPATH", "E2CRF_ASSETS", "E2CRF_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    listed = subprocess.run(
        [sys.executable, "-m", "e2crf_core", "info"],
        cwd=copied,
        env=environment | {"E2CRF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert listed.returncode == 0, listed.stderr
    assert {"ecg", "household", "stocks", "wind"} <= set(re.findall(r"^  (\w+)", listed.stdout, re.M))


def test_the_image_runs_without_privileges_and_installs_locked_files_only():
    users = values("USER")
    assert users and users[-1] not in ("root", "0")
    names = [name for name, _ in steps()]
    assert names.index("USER") > max(i for i, name in enumerate(names) if name == "RUN")
    for line in values("RUN"):
        for install in re.findall(r"pip install[^;]*", line):
            assert "--require-hashes" in install
    with (ROOT / "pyproject.toml").open("rb") as file:
        supported = tomllib.load(file)["project"]["requires-python"].removeprefix(">=")
    assert values("FROM")[0].startswith(f"python:{supported}")
    assert "DEVICE=cpu" in values("ARG")


@pytest.mark.parametrize(
    ("device", "files"), [("cpu", ["requirements.lock"]), ("cuda", list(LOCKS)), ("tpu", None)]
)
def test_the_device_decides_which_locked_files_are_installed(tmp_path, device, files):
    """The step itself is run, with a program in place of pip that prints its arguments."""
    (step,) = [value for value in values("RUN") if "DEVICE" in value]
    (tmp_path / "pip").write_text('#!/bin/sh\necho "$@"\n', encoding="utf-8")
    (tmp_path / "pip").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "DEVICE": device, "TORCH_INDEX": "INDEX"}
    done = subprocess.run(["sh", "-c", step], env=environment, capture_output=True, text=True)
    if files is None:
        assert done.returncode != 0 and "cpu or cuda" in done.stdout
    else:
        words = done.stdout.split()
        given = [file for option, file in pairwise(words) if option == "--requirement"]
        assert done.returncode == 0 and given == files and ("INDEX" in words) == (device == "cpu")


def test_the_compose_file_publishes_the_lab_on_this_machine_only():
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    open_to_others = [
        name for name, one in services.items() if any("127.0.0.1:" not in p for p in one.get("ports", []))
    ]
    assert open_to_others == ["proxy"] and services["proxy"]["profiles"]
    for name in ("lab", "serve"):
        assert services[name]["cap_drop"] == ["ALL"] and services[name]["read_only"]
    (mounted,) = [volume for volume in services["proxy"]["volumes"] if "Caddyfile" in volume]
    file = ROOT / mounted.split(":")[0]
    used = set(re.findall(r"{\$(\w+)", file.read_text(encoding="utf-8")))
    assert set(services["proxy"]["environment"]) <= used


# ---- locked requirements


def locked() -> list[tuple[Requirement, int]]:
    """Return every requirement of the lock files with the number of its hashes."""
    text = "".join((ROOT / name).read_text(encoding="utf-8") for name in LOCKS)
    assert "://" not in text and "--index-url" not in text
    blocks = re.findall(r"^([^#\s].*?) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text, re.M)
    assert len(blocks) == len(re.findall(r"^[^#\s]", text, re.M))
    return [(Requirement(head), hashes.count("--hash")) for head, hashes in blocks]


def test_the_lock_satisfies_the_requirements_with_a_hash_for_every_file():
    pinned = {canonicalize_name(one.name): one.specifier for one, hashes in locked() if hashes}
    for name, requirement in pins("requirements.txt").items():
        assert pinned[canonicalize_name(name)] == requirement.specifier
    assert all(str(specifier).startswith("==") for specifier in pinned.values())


def test_the_lock_is_complete():
    """Everything that a locked package requires here is locked, in a version that it allows."""
    here = {canonicalize_name(r.name): r for r, _ in locked() if r.marker is None or r.marker.evaluate()}
    for name in here:
        try:
            needs = requires(name) or []
        except PackageNotFoundError:  # the CUDA libraries, beside a CPU build
            continue
        for line in needs:
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                (pin,) = here[canonicalize_name(need.name)].specifier
                assert need.specifier.contains(pin.version, prereleases=True), f"{name} needs {line}"


def test_the_tests_run_with_the_locked_versions():
    for one, _ in locked():
        if one.marker is None and not one.name.startswith(("cuda", "nvidia", "triton")):
            assert one.specifier.contains(version(one.name).partition("+")[0]), one.name


def test_the_bill_of_materials_names_every_locked_package_with_its_license():
    bom = json.loads((ROOT / "docs" / "sbom.json").read_text(encoding="utf-8"))
    assert bom["bomFormat"] == "CycloneDX"
    listed = {f"{one['name']}=={one['version']}": one for one in bom["components"]}
    assert listed.keys() == {f"{one.name}{one.specifier}" for one, _ in locked()}
    for name, one in listed.items():
        everywhere = not name.startswith(("cuda", "nvidia", "triton", "colorama"))
        assert one["purl"] == f"pkg:pypi/{name.replace('==', '@')}" and ("licenses" in one or not everywhere)
