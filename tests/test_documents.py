"""The documents: links work, equations are where the text says they are, README stays short."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "benchmarks" / "README.md"])


def anchors(text: str) -> set[str]:
    """Return the anchors of a document's headings as GitHub generates them."""
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings_that_exist(document):
    # Indexing followed by a call, in a block of code, is no link.
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), f"{link} leads nowhere"
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{link}: no such heading"


def test_readme_has_at_most_700_words():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 700


def test_readme_leads_to_the_equation_of_e5_in_code_in_one_click():
    assert "](e2crf_core/e2crf.py)" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert "E5" in (ROOT / "e2crf_core" / "e2crf.py").read_text(encoding="utf-8").split('"""')[1]


def test_every_equation_of_the_method_stands_in_the_code():
    method = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    tags = re.findall(r"^## (E\d):", method, re.M)
    assert tags == [f"E{i}" for i in range(1, 9)]
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "e2crf_core").rglob("*.py"))
    for tag in tags:
        assert re.search(rf"\b{tag}\b", code)


def test_the_architecture_shows_the_imports_of_the_code():
    drawn = subprocess.run([sys.executable, ".ci/architecture.py"], cwd=ROOT, capture_output=True, text=True)
    assert drawn.returncode == 0, drawn.stdout + drawn.stderr


def test_no_two_public_classes_share_a_name():
    """One type for each idea: a name says which."""
    places: dict[str, list[str]] = {}
    for path in [
        *ROOT.glob("e2crf_core/**/*.py"),
        *ROOT.glob("pages/**/*.py"),
        *ROOT.glob("benchmarks/*.py"),
    ]:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}
