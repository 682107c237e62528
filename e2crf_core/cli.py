"""The command line: every command ends with exit code 0 and its result, or 2 and one line that says why not.

A command that is a gate (`check`) ends with 1 when what it guards has failed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from e2crf_core.commands import (
    cluster,
    data,
    deploy,
    evaluate,
    fourierdiffusion,
    info,
    localize,
    sample,
    serve,
    train,
    tune,
)
from e2crf_core.errors import LabError


class _Parser(argparse.ArgumentParser):
    """Reports a wrong command line in one line."""

    def error(self, message: str) -> NoReturn:
        raise LabError(f"{message} (see '{self.prog} --help')")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    try:
        arguments = _parser().parse_args(argv)
        command: Callable[[argparse.Namespace], int | None] = arguments.command
        return command(arguments) or 0
    except LabError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 2
    except OSError as fault:
        print(f"error: {fault.strerror or fault}: {fault.filename or ''}".rstrip(": "), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m e2crf_core", description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    for module in (
        sample,
        info,
        train,
        localize,
        evaluate,
        tune,
        deploy,
        serve,
        cluster,
        data,
        fourierdiffusion,
    ):
        module.add(commands)
    return parser
