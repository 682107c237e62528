"""Write requirements.lock, requirements-cuda.lock and docs/sbom.json from requirements.txt.

Licenses come from the packages' own metadata, so run it where the requirements are installed: `make lock`.
"""

import json
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

ROOT = Path(__file__).parents[1]
CUDA = ("cuda-", "nvidia-", "triton")
"""Beginnings of names of the packages that only the CUDA build of PyTorch needs."""

CPU_BUILDS = {
    "torch==2.13.0": (
        "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",  # Python 3.11, x86_64
        "84453b69508ec79902f899c5ed9495acb9e2bbe9fda5f1d5d6f19e3c3842e1a7",  # Python 3.11, aarch64
    )
}
"""SHA-256 of PyTorch's CPU builds, which its own index serves: uv sees the CUDA builds only."""

HEAD = "# Written by `make lock` from requirements.txt. {use}\n"
USES = {
    "requirements.lock": "For CUDA, install requirements-cuda.lock with it; else use the CPU build of torch.",
    "requirements-cuda.lock": "What the CUDA build of torch needs beyond requirements.lock.",
}


def resolved() -> list[str]:
    """Return one block for each package that the requirements need: its pin, its marker, and its hashes."""
    command = [str(Path(sys.executable).with_name("uv")), "pip", "compile", "--quiet", "--universal"]
    command += ["--python-version", "3.11", "--generate-hashes", "--no-annotate", "--no-header"]
    lines = subprocess.run(
        [*command, "requirements.txt"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return re.findall(r"^\S.*(?:\n .*)*", lines.stdout, re.M)


def with_cpu_build(block: str) -> str:
    """Return the block with the hashes of PyTorch's CPU build, if it is PyTorch's."""
    pin = block.split()[0]
    if block.startswith("torch==") and pin not in CPU_BUILDS:
        raise SystemExit(f"{pin}: enter the hashes of its CPU builds in .ci/lock.py")
    return block + "".join(f" \\\n    --hash=sha256:{digest}" for digest in CPU_BUILDS.get(pin, ()))


def license_of(name: str) -> str | None:
    """Return what an installed package states as its license, or None."""
    try:
        stated = metadata(name)
    except PackageNotFoundError:
        return None
    classifiers = [line for line in stated.get_all("Classifier", []) if line.startswith("License ::")]
    text = stated.get("License-Expression") or next(iter(classifiers), stated.get("License", ""))
    return text.rpartition(" :: ")[2].splitlines()[0] if text else None


def component(block: str) -> Component:
    """Return a package as a component of the bill of materials."""
    name, version = block.split()[0].split("==")
    stated = license_of(name)
    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=version,
        bom_ref=f"{name}@{version}",
        purl=PackageURL("pypi", None, name, version),
        licenses=[LicenseFactory().make_from_string(stated)] if stated else [],
    )


def main() -> None:
    """Write the files."""
    blocks = [with_cpu_build(block) for block in resolved()]
    for file, use in USES.items():
        cuda = file == "requirements-cuda.lock"
        chosen = [block for block in blocks if block.startswith(CUDA) == cuda]
        (ROOT / file).write_text(HEAD.format(use=use) + "\n".join(chosen) + "\n", encoding="utf-8")
    bom = json.loads(JsonV1Dot6(Bom(components=map(component, blocks))).output_as_string())
    # The same requirements give the same file.
    bom.pop("serialNumber"), bom["metadata"].pop("timestamp")
    text = json.dumps(bom, indent=1, ensure_ascii=False)
    (ROOT / "docs" / "sbom.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
