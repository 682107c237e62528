"""Check that files have at most 400 lines and functions at most 60: what is longer holds more than one idea.

    python .ci/sizes.py [FILE ...]

Without arguments every Python, JavaScript and CSS file that git knows is checked. Exit status 1 means a fault.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

FILE_LINES, FUNCTION_LINES = 400, 60
SUFFIXES = (".py", ".js", ".css")

# Declared tables: functions that only list what a thing consists of, one entry after another. Path::function.
TABLES: frozenset[str] = frozenset()


def faults(path: Path) -> Iterator[str]:
    """Yield one line for each fault of a file, with its place and the limit."""
    text = path.read_text(encoding="utf-8")
    count = len(text.splitlines())
    if count > FILE_LINES:
        yield f"{path}: {count} lines; the limit is {FILE_LINES}"
    if path.suffix != ".py":
        return
    for node in ast.walk(ast.parse(text, str(path))):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if length > FUNCTION_LINES and f"{path.as_posix()}::{node.name}" not in TABLES:
            yield f"{path}:{node.lineno}: {node.name} has {length} lines; the limit is {FUNCTION_LINES}"


def tracked() -> list[Path]:
    """Return the code files that git tracks or would add, relative to the working directory."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    )
    return [
        path for path in map(Path, listing.stdout.splitlines()) if path.suffix in SUFFIXES and path.exists()
    ]


def main(arguments: Sequence[str]) -> int:
    """Check the named files, or all; return the exit status."""
    lines = [line for path in (map(Path, arguments) if arguments else tracked()) for line in faults(path)]
    for line in lines:
        print(line)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
