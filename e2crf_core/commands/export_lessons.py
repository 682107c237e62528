"""Implement `export-lessons`: write the lessons as static pages that need no server."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser("export-lessons", help="write the lessons as static pages for any web space")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; its index.html comes first")
    parser.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> None:
    """Make all pages, then write them; print the folder and its size."""
    from e2crf_core.commands.terminal import ProgressLine, check_out_folder, interruptible
    from e2crf_core.io.files import replace_file, text_writer
    from e2crf_core.lessons.pages import lesson_pages

    check_out_folder(arguments.out)
    with interruptible() as stopped:
        pages = lesson_pages(ProgressLine("lessons"), stopped)
    for name, page in pages.items():
        replace_file(arguments.out / name, text_writer(page))
    size = sum(len(page.encode()) for page in pages.values())
    print(json.dumps({"folder": str(arguments.out), "pages": len(pages), "bytes": size}))
