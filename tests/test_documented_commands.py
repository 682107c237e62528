"""Commands in the documents run as written: the command line takes them, and scripts and targets exist."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2crf_core.cli import parser
from e2crf_core.errors import LabError
from tests.test_documents import DOCUMENTS, ROOT

TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))


def commands(text: str) -> Iterator[tuple[list[str], bool]]:
    """Yield the commands of a document as words, and whether they are to be copied: those in blocks."""
    for block, span in re.findall(r"```sh\n(.*?)```|`([^`]+)`", text, re.S):
        for line in block.splitlines() or [span]:
            if re.search(r"(?:^|\s)(?:e2crf|python3? -m|make|pip) ", line):
                words = [word for word in shlex.split(line, comments=True) if word != "&"]
                while words and re.fullmatch(r"\w+=\S*|sudo", words[0]):
                    words.pop(0)
                if words:
                    yield [words[0].rpartition("/")[2], *words[1:]], bool(block)


def check_own(words: list[str], whole: bool) -> None:
    """Parse a command of the lab; one within a sentence may leave out what is required."""
    try:
        parser().parse_args(words)
    except LabError as fault:
        assert not whole and "required" in str(fault), f"{' '.join(words)}: {fault}"


def check_script(words: list[str]) -> None:
    """Check a module of the repository and the options that it is given."""
    path = ROOT / (words[0].replace(".", "/") + ".py")
    source = path.read_text(encoding="utf-8")
    for option in (word for word in words[1:] if word.startswith("--")):
        assert f'"{option}"' in source, f"{words[0]} has no option {option}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_run_as_written(document: Path) -> None:
    for (name, *words), whole in commands(document.read_text(encoding="utf-8")):
        if "--help" in words or name == "COMMAND":
            continue
        if name == "e2crf":
            check_own(words, whole)
        elif name.startswith("python") and words[:2] == ["-m", "e2crf_core"]:
            check_own(words[2:], whole)
        elif name.startswith("python") and words[1].startswith("benchmarks."):
            check_script(words[1:])
        elif name == "make":
            assert {word for word in words if "=" not in word} <= TARGETS, words
        elif name == "pip":
            # A name at an index is nobody's promise: the package is installed from its folder.
            assert not any(word.startswith("e2crf-lab") for word in words), words


def test_documents_name_many_commands() -> None:
    found = [words for path in DOCUMENTS for words, _ in commands(path.read_text(encoding="utf-8"))]
    assert len(found) > 50 and {"e2crf", "python", "make"} <= {words[0] for words in found}
