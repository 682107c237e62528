"""Start the lab and `e2crf serve` as users do, each in a process of its own, and see where they listen."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.waiting import PATIENCE_S, until

ROOT = Path(__file__).parents[1]
LAB = (sys.executable, "-m", "streamlit", "run", "app.py", "--server.headless", "true")
SERVE = (sys.executable, "-m", "e2crf_core", "serve", "--device", "cpu")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Return whether anybody listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def started(
    command: Sequence[str | Path],
    port: int,
    log: Path,
    *,
    cwd: Path = ROOT,
    environment: Mapping[str, str] | None = None,
) -> Iterator[int]:
    """Run a server until the block ends; yields its process id once it listens on `port`."""
    with log.open("w") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: process.poll() is not None or answers(port))
        assert process.poll() is None, log.read_text()
        yield process.pid
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def listening(pid: int) -> set[str]:
    """Return the addresses that a process listens on, as Linux writes them: 0100007F is 127.0.0.1."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            if found := re.fullmatch(r"socket:\[(\d+)\]", os.readlink(entry)):
                inodes.add(found[1])
    rows = [line.split() for name in ("tcp", "tcp6") for line in table(pid, name)]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and row[9] in inodes}


def table(pid: int, name: str) -> list[str]:
    """Return the rows of a kernel table of sockets; a machine without IPv6 has no second one."""
    path = Path(f"/proc/{pid}/net/{name}")
    return path.read_text().splitlines()[1:] if path.exists() else []
