"""The command line: every command ends with exit code 0 and its result, or 2 and one line that says why not.

A command that is a gate (`check`) ends with 1 when what it guards has failed.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from e2crf_core.commands import (
    ask,
    cluster,
    data,
    deploy,
    evaluate,
    export_lessons,
    export_run,
    fourierdiffusion,
    info,
    localize,
    own_network,
    sample,
    serve,
    train,
    tune,
)
from e2crf_core.errors import Cancelled, LabError
from e2crf_core.io.userfiles import clean_home

COMMANDS = (
    sample,
    ask,
    info,
    train,
    localize,
    evaluate,
    tune,
    deploy,
    serve,
    cluster,
    data,
    export_lessons,
    export_run,
    fourierdiffusion,
    own_network,
)


class _Parser(argparse.ArgumentParser):
    """A parser that reports a wrong command line in one line and knows the option of each field."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        self.options: dict[str, str] = {}
        super().__init__(*args, **settings)

    def add_argument(self, *names: Any, **settings: Any) -> argparse.Action:
        """Add an argument and record its name under the field it sets; `fields` lists other such fields."""
        fields = settings.pop("fields", ())
        action = super().add_argument(*names, **settings)
        name = max(action.option_strings, key=len, default=action.dest)
        self.options |= dict.fromkeys((action.dest, *fields), name)
        return action

    def parse_known_args(self, *args: Any, **settings: Any) -> Any:
        """Parse, and keep the options of the innermost command in the namespace."""
        namespace, rest = super().parse_known_args(*args, **settings)
        if not hasattr(namespace, "options"):
            namespace.options = self.options
        return namespace, rest

    def error(self, message: str) -> NoReturn:
        raise LabError(f"{message} (see '{self.prog} --help')")


def worded(fault: LabError, options: Mapping[str, str]) -> str:
    """Word an error for the command line: its field is named as the option that sets it."""
    name = options.get(fault.field or "")
    text = str(fault)
    if name is None or name in text:
        return text
    field = f"{fault.field} "
    return f"{name} {text.removeprefix(field)}" if text.startswith(field) else f"{name}: {text}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    options: Mapping[str, str] = {}
    try:
        arguments = parser().parse_args(argv)
        options = arguments.options
        clean_home()
        command: Callable[[argparse.Namespace], int | None] = arguments.command
        return command(arguments) or 0
    except LabError as fault:
        print(f"error: {worded(fault, options)}", file=sys.stderr)
        return 2
    except OSError as fault:
        print(f"error: {fault.strerror or fault}: {fault.filename or ''}".rstrip(": "), file=sys.stderr)
        return 2
    except (KeyboardInterrupt, Cancelled):
        print("stopped", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands. It raises LabError for a wrong command line."""
    whole = _Parser(prog="e2crf", description=__doc__.splitlines()[0] if __doc__ else None)
    commands = whole.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    for module in COMMANDS:
        module.add(commands)
    return whole
