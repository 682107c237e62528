"""Watch one input being read: its outcome, where it writes, what it runs, and how long it computes."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2crf_core.errors import Cancelled, LabError

CPU_S = 5.0
"""Seconds of computing, not of waiting, after which an input counts as a hang: other processes do not matter."""
LONGEST_MESSAGE = 4200

_WRITES: dict[str, tuple[tuple[int, int | None], ...]] = {
    "os.rename": ((0, 2), (1, 3)),
    "os.link": ((1, 3),),
    "os.symlink": ((1, 2),),
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.mkdir": ((0, 2),),
    "os.chmod": ((0, 2),),
    "os.truncate": ((0, None),),
}
"""Audit events that change files: where their paths are, and the folder that each path is relative to."""
_ACTS = frozenset(
    {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.startfile", "pickle.find_class"}
)
_HARMLESS = ("/dev/null", "/dev/tty")


class Hang(BaseException):
    """An input took too long; no handler of exceptions may swallow it."""


class Unfit(Exception):
    """What was accepted breaks a promise, such as that it can be used."""


class ServerError(Exception):
    """An answer of 5xx."""


@dataclass(frozen=True)
class Outcome:
    """The fate of an input: `kind` is accepted, refused, or the kind of a fault that `detail` describes."""

    kind: str
    detail: str = ""

    @property
    def good(self) -> bool:
        """Return whether this is no fault."""
        return self.kind in ("accepted", "refused")


class Watch:
    """A watch over this process. Only one may be made, because audit hooks cannot be removed."""

    def __init__(self) -> None:
        self._folder: str | None = None
        self._seen: list[str] = []
        sys.addaudithook(self._audit)
        signal.signal(signal.SIGPROF, self._late)

    def over(self, folder: Path, action: Callable[[], object]) -> Outcome:
        """Run an action that may write in `folder` only, and return what became of it."""
        try:
            with self._watching(folder):
                action()
            outcome = Outcome("accepted")
        except (LabError, Cancelled) as fault:
            outcome = _refusal(str(fault))
        except Hang:
            outcome = Outcome("hang", f"over {CPU_S:g} s of computing: {_place()}")
        except ServerError as fault:
            outcome = Outcome("5xx", str(fault))
        except Unfit as fault:
            outcome = Outcome("unfit", str(fault))
        except Exception as fault:
            outcome = Outcome("traceback", f"{type(fault).__name__}: {str(fault)[:200]} at {_place()}")
        if self._seen:
            outcome = Outcome("outside", "; ".join(dict.fromkeys(self._seen)))
        return outcome

    @contextmanager
    def _watching(self, folder: Path) -> Iterator[None]:
        self._seen, self._folder = [], os.path.realpath(folder)
        signal.setitimer(signal.ITIMER_PROF, CPU_S)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            self._folder = None

    @staticmethod
    def _late(*_: object) -> None:
        raise Hang

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if self._folder is None:
            return
        if event == "open":
            path, mode, flags = args
            writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
            if isinstance(path, str | bytes) and (
                set(str(mode or "")) & set("wax+") or (flags or 0) & writes
            ):
                self._wrote(event, path)
        elif event in _WRITES:
            for path, folder in _WRITES[event]:
                self._wrote(event, args[path], -1 if folder is None else args[folder])
        elif event in _ACTS and not _own_cache():
            self._seen.append(f"{event} {str(args)[:120]}")
        elif event == "socket.connect" and not _loopback(args[1]):
            self._seen.append(f"{event} {args[1]!r}")

    def _wrote(self, event: str, path: Any, folder: int = -1) -> None:
        if isinstance(path, int):
            return
        base = os.readlink(f"/proc/self/fd/{folder}") if folder >= 0 else os.getcwd()
        real = os.path.realpath(os.path.join(base, os.fsdecode(path)))
        if real not in _HARMLESS and not f"{real}/".startswith(f"{self._folder}/"):
            self._seen.append(f"{event} {real}")


def _own_cache() -> bool:
    """Return whether Streamlit reads from its cache in memory, which it pickles."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if "streamlit/runtime/caching" in frame.f_code.co_filename:
            return True
    return False


def _loopback(address: Any) -> bool:
    return not isinstance(address, tuple) or str(address[0]) in ("127.0.0.1", "::1", "localhost")


def _refusal(text: str) -> Outcome:
    """Check that a message is one that every front can show."""
    if not text.strip():
        return Outcome("message", "an empty message")
    if len(text.splitlines()) != 1 or not text.isprintable():
        return Outcome("message", f"not one printable line: {text[:300]!r}")
    if len(text) > LONGEST_MESSAGE:
        return Outcome("message", f"{len(text)} characters: {text[:200]!r}")
    return Outcome("refused", text)


def _place() -> str:
    """Return where the current exception was raised, innermost of our files last."""
    frames = traceback.extract_tb(sys.exc_info()[2])
    ours = [f for f in frames if "site-packages" not in f.filename and "/fuzz/" not in f.filename]
    return " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(ours[-4:]))
